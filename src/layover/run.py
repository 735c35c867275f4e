"""Run: run_steps(steps, store, places) does steps, a cohort of trainings together; it is all that a worker knows."""

from __future__ import annotations

import dataclasses
import os
import re
import time
import traceback
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from layover.claims import Claim
from layover.errors import Problem, StepError, StoreError, TaskError
from layover.files import write_json, write_jsonl, write_text
from layover.metrics import get_metric
from layover.provenance import provenance_now
from layover.step import Choose, Places, Recipe, Step, TaskRef, Train, key_of
from layover.store import NO_ROOM, Store
from layover.tasks import TASKS, Task
from layover.tasks.load import locate
from layover.tasks.own import from_declaration
from layover.train.cache import Located, located

SHARED = ("batch_size", "max_length", "precision")  # of the recipes of a cohort


@dataclass(frozen=True)
class Outcome:
    """How an attempt at a step ended: "finished", "claimed" (somebody else is at it) or "failed" with its error."""

    key: str
    status: str
    seconds: float = 0.0
    error: str = ""


def run_step(step: Step, store: Store, places: Places, keep_weights: bool = False) -> Outcome:
    """Do one step and publish it: `run_steps` of one."""
    return run_steps([(step, keep_weights)], store, places)[0]


def run_steps(steps: Sequence[tuple[Step, bool]], store: Store, places: Places) -> list[Outcome]:
    """Do steps and publish them, each with its weights if so asked; trainings among them are fitted together.

    Steps must not depend on each other, and several trainings must be of one `cohort`. A step that is finished, or that
    somebody else is doing, is left alone. A step that raises keeps its attempt's folder with log and traceback, and is
    simply not finished; the others go on. Raises StoreError where the store cannot be written: nothing else could be
    done either.
    """
    attempts = [_attempt(step, store, places, keep) for step, keep in steps]
    outcomes: dict[int, Outcome] = {}
    waiting: dict[int, Any] = {}  # jobs by the number of their attempt

    def go(number: int, ended: Any) -> None:
        try:
            waiting[number] = attempts[number].send(ended)
        except StopIteration as done:
            outcomes[number] = done.value

    try:
        for number in range(len(attempts)):
            go(number, None)
        if waiting:
            from layover.train.cohort import fit_together

            numbers = {id(job): number for number, job in waiting.items()}
            for ended in fit_together(list(waiting.values())):
                go(numbers[id(ended.job)], ended)
    finally:
        for attempt in attempts:
            attempt.close()
    return [outcomes[number] for number in range(len(attempts))]


def _attempt(step: Step, store: Store, places: Places, keep: bool) -> Generator[Any, Any, Outcome]:
    """One attempt at a step. A training asks whoever drives it to fit its job."""
    key, started = key_of(step), time.monotonic()
    if store.holds(key, keep):
        return Outcome(key, "finished")
    progress: dict[str, Any] = {}
    with store.writing():
        claim = Claim(store.claim(key), lambda: dict(progress))
        if not claim.take():
            return Outcome(key, "claimed")
        attempt = store.attempt(key)
    with claim, store.writing():
        try:
            work = WORK[type(step)](step, store, places, attempt, keep, progress.update)
            if work is not None:
                yield from work
            store.publish(step, attempt)
        except Exception as error:
            if isinstance(error, StoreError):
                raise
            if (number := _system_error(error)) in NO_ROOM:
                raise OSError(number, os.strerror(number)) from error
            if store.holds(key, keep):
                # somebody else published it meanwhile, and took this attempt's folder away
                return Outcome(key, "finished", time.monotonic() - started)
            write_text(attempt / "error.txt", f"{traceback.format_exc()}\n{_in_one_line(error)}\n")
            return Outcome(key, "failed", time.monotonic() - started, _in_one_line(error))
    return Outcome(key, "finished", time.monotonic() - started)


def cohort(step: Step, store: Store) -> Step | None:
    """What the steps have in common that can be trained together with this one; None where none can.

    Restarts and cells of a sweep: the same encoder, task, data and shape of batches. Where they start from, seeds and
    the rest of their recipes may differ.
    """
    if not isinstance(step, Train) or (step.task.declaration or {}).get("format") == "text":
        return None  # the heads of plain text, which is always a study's own, share their encoders' word vectors
    recipe = recipe_of(step, store)
    shared = Recipe(**{name: getattr(recipe, name) for name in SHARED})
    return dataclasses.replace(step, recipe=shared, seed=0, start=None, recipe_from=None)


def prepare(places: Places) -> None:
    """Make this process a warm one: import what trainings need, and load the encoders that they start from."""
    from layover.train import warm

    warm.prepare(places.encoders.values())


def lost(key: str, store: Store, error: StepError) -> Outcome:
    """The outcome of a step whose worker was lost; its error is kept where that of any failed attempt is."""
    with store.writing():
        write_text(store.attempt(key) / "error.txt", f"{_in_one_line(error)}\n")
    return Outcome(key, "failed", error=_in_one_line(error))


def task_of(ref: TaskRef) -> Task:
    """The task that a step names; raises TaskError where this installation has another version of it."""
    if ref.declaration is not None:
        return from_declaration(ref.name, {**ref.declaration, "metrics": [ref.select_by]})
    task = TASKS.get(ref.name, error=TaskError)
    if task.version != ref.version:
        message = f"the step was planned with version {ref.version}, this installation has version {task.version}"
        raise TaskError(Problem(ref.name, message, "install the same layover on both machines"))
    return task


def data_of(ref: TaskRef, store: Store, places: Places, selects: bool = True) -> Located:
    """A step's data, every row of it checked; raises TaskError where the data found is not the data planned.

    A recipe that never looks at a selection set (`selects` false) trains on all rows.
    """
    task = task_of(ref)
    source = locate(task, places.data, places.files.get(ref.name))
    if source.digest != ref.data:
        message = f"the data found here ({source.digest[:19]}) is not the data planned ({ref.data[:19]})"
        raise TaskError(Problem(ref.name, message, "name the right directory with --data"))
    return located(
        store,
        task,
        source,
        limit_train=ref.limit_train,
        limit_validation=ref.limit_validation,
        selection=ref.selection if selects else None,
        holdout=ref.holdout,
    )


def _choose(step: Choose, store: Store, places: Places, attempt: Path, keep: bool, report: Callable[..., None]) -> None:
    """Write the swept fields of the best cell: highest selection score among the runs that did not collapse."""
    tried = []
    for key in step.of:
        recipe = store.read(key, "step.json")["step"]["recipe"]
        scores = [row for row in store.read(key, "observations.jsonl") if row["split"] == "selection"]
        if not scores:
            raise StepError(f"step {key} has no selection score: a sweep needs checkpoint = 'best' or a patience")
        fields = {name: recipe[name] for name in step.fields}
        tried.append({"key": key, "recipe": fields, "score": scores[0]["value"], "status": scores[0]["status"]})
    best = max(tried, key=lambda cell: (cell["status"] == "ok", cell["score"]))  # max keeps the first of equals
    write_json(attempt / "choice.json", {"chosen": best["recipe"], "key": best["key"], "tried": tried}, durable=False)
    write_jsonl(attempt / "observations.jsonl", [], durable=False)
    write_json(attempt / "provenance.json", {**provenance_now(), "seconds": 0.0}, durable=False)


def _train(
    step: Train, store: Store, places: Places, attempt: Path, keep: bool, report: Callable[..., None]
) -> Generator[Any, Any, None]:
    """Train, predict the validation set, and write what is known about the run."""
    from layover.train import work  # torch is imported here, on the worker, and nowhere above

    started, cpu = time.monotonic(), time.process_time()
    recipe = recipe_of(step, store)
    data = data_of(step.task, store, places, recipe.selects)
    task = data.task
    start = store.weights(step.start) if step.start else None
    if step.start and start is None:
        raise StepError(f"the weights of step {step.start}, from which this one starts, are not in the store")
    location = places.encoders.get(step.encoder)
    if location is None:
        raise StepError(f"no place is known for encoder {step.encoder}")
    resume = store.resume_folder(key_of(step))
    result = yield from work.training(data, recipe, step.seed, location, start, places, resume, report)
    work.write_predictions(attempt / "predictions.parquet", task, result)
    scores = _scores(task, step.task.select_by, result)
    write_jsonl(attempt / "observations.jsonl", scores, durable=False)
    write_jsonl(attempt / "curve.jsonl", result.state.curve, durable=False)
    if keep:
        work.write_weights(attempt / "weights", task, result)
        # where a finished step was redone, these are published alone: what they score goes with them
        write_jsonl(attempt / "weights" / "observations.jsonl", scores, durable=False)
    facts = {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round((time.monotonic() - started) / result.runs, 3),
        "cpu_seconds": round((time.process_time() - cpu) / result.runs, 3),
        "examples": result.examples,
        "questions": result.questions,
        "available": {"train": data.train.n_total, "validation": data.validation.n_total},
        "truncated": result.truncated,
        "lost": result.lost,
        "max_length": result.max_length,
        "tokens": result.state.tokens,
        "steps": result.state.step,
        "best_step": result.state.best_step,
        "stopped": result.state.stopped,
        "majority": result.majority,
        "recipe": recipe.__dict__,
        "device": result.device,
        "threads": result.threads,
        "micro_tokens": result.micro_tokens,
        **result.cohort,
    }
    write_json(attempt / "provenance.json", {**provenance_now(), **facts}, durable=False)
    write_text(attempt / "log.txt", "".join(f"{line}\n" for line in _log(facts, result.state.curve)), durable=False)


WORK: dict[type, Callable[..., Any]] = {Train: _train, Choose: _choose}


def recipe_of(step: Train, store: Store) -> Recipe:
    """The recipe that a step trains with: its own, with the swept fields as its sweep chose them."""
    if step.recipe_from is None:
        return step.recipe
    chosen = store.read(step.recipe_from, "choice.json")["chosen"]
    return Recipe(**{**step.recipe.__dict__, **chosen})


def _scores(task: Task, select_by: str, result: Any) -> list[dict[str, Any]]:
    """The rows of a step's observations: every metric of its task on validation, and its selection score."""
    status = f"degenerate: {result.collapsed}" if result.collapsed else "ok"
    rows = [
        {
            "split": "validation",
            "metric": name,
            "value": get_metric(name).score(result.decoded.predictions),
            "primary": name == task.primary,
            "status": status,
        }
        for name in task.metrics
    ]
    if result.state.best_score is not None:
        score = {"split": "selection", "metric": select_by, "value": result.state.best_score}
        rows.append({**score, "primary": False, "status": status})
    return rows


def _log(facts: Mapping[str, Any], curve: list[dict[str, Any]]) -> list[str]:
    head = [f"{name}: {value}" for name, value in facts.items() if name != "recipe"]
    return head + [", ".join(f"{name} {value}" for name, value in point.items()) for point in curve]


def _system_error(error: BaseException) -> int:
    """The number of the system's error behind another, 0 where there is none. safetensors has it in its words only."""
    if isinstance(error, OSError):
        return error.errno or 0
    found = re.search(r"\(os error (\d+)\)", str(error)) if type(error).__name__ == "SafetensorError" else None
    return int(found[1]) if found else 0


def _in_one_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"
