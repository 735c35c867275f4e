"""Common: what several kinds of steps need: their task, data, recipe and start, and the files that any step leaves."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from layover.errors import Problem, StepError, TaskError
from layover.files import write_json, write_jsonl, write_text
from layover.integrity import damage
from layover.metrics import get_metric
from layover.places import Places
from layover.provenance import provenance_now
from layover.recipe import Recipe
from layover.step import Joint, Probe, TaskRef, Train
from layover.store import Store
from layover.tasks import TASKS, Task
from layover.tasks.load import locate
from layover.tasks.own import from_declaration
from layover.train.cache import Located, located

Report = Callable[[dict[str, Any]], None]


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
        drawn=ref.drawn,
    )


def recipe_of(step: Train | Joint | Probe, store: Store) -> Recipe:
    """The recipe that a step trains with: its own, with the swept fields as its sweep chose them."""
    if step.recipe_from is None:
        return step.recipe
    chosen = store.read(step.recipe_from, "choice.json")["chosen"]
    return Recipe(**{**step.recipe.__dict__, **chosen})


def location_of(encoder: str, places: Places) -> str:
    """The directory or Hub id of an encoder; raises StepError where no place is known for it."""
    location = places.encoders.get(encoder)
    if location is None:
        raise StepError(f"no place is known for encoder {encoder}")
    return location


def weights_of(key: str | None, store: Store) -> Path | None:
    """The weights that a step starts from, None for the plain encoder; raises StepError where they are gone."""
    if key is None:
        return None
    found = store.weights(key)
    if found is None:
        raise StepError(f"the weights of step {key}, from which this one starts, are not in the store")
    if wrong := _damage_once(found, found.stat().st_ino):
        path, what = wrong[0]
        raise StepError(f"the weights of step {key}, from which this one starts, are damaged: {path.name} {what}")
    return found


@lru_cache(maxsize=1024)
def _damage_once(folder: Path, _: int) -> list[tuple[Path, str]]:
    """What is wrong with weights, which a process need not read more than once while it is the same folder."""
    return damage(folder)


def write_facts(attempt: Path, facts: Mapping[str, Any], curve: list[dict[str, Any]] | None = None) -> None:
    """Write `provenance.json` and, for people, `log.txt`, with a line for each point of the curve."""
    write_json(attempt / "provenance.json", {**provenance_now(), **facts}, durable=False)
    lines = [f"{name}: {value}" for name, value in facts.items() if name != "recipe"]
    lines += [", ".join(f"{name} {value}" for name, value in point.items()) for point in curve or []]
    write_text(attempt / "log.txt", "".join(f"{line}\n" for line in lines), durable=False)


def scores_of(task: Task, select_by: str, result: Any) -> list[dict[str, Any]]:
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


def write_result(folder: Path, task: Task, select_by: str, result: Any, weights: Path | None) -> list[dict[str, Any]]:
    """Write what a training found out about a task, and its weights where a place is named; returns the scores."""
    from layover.train import work

    work.write_predictions(folder / "predictions.parquet", task, result)
    scores = scores_of(task, select_by, result)
    write_jsonl(folder / "observations.jsonl", scores, durable=False)
    write_jsonl(folder / "curve.jsonl", result.state.curve, durable=False)
    if weights is not None:
        work.write_weights(weights, task, result)
        # where a finished step was redone, these are published alone: what they score goes with them
        write_jsonl(weights / "observations.jsonl", scores, durable=False)
    return scores


def facts_of(result: Any, data: Located, recipe: Recipe) -> dict[str, Any]:
    """What is known about a training on a task, for `provenance.json`, but for when and how long."""
    return {
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
        **({"processes": result.processes} if result.processes > 1 else {}),
    }


def write_run(
    attempt: Path, data: Located, ref: TaskRef, recipe: Recipe, result: Any, clocks: tuple[float, float],
    weights: Path | None = None, more: Mapping[str, Any] | None = None,
) -> None:  # fmt: skip
    """Write all files of a training on one task, its weights where a place is named.

    `clocks` are the monotonic and the processor's time at its start; `more` are facts that other runs do not have.
    """
    started, cpu = clocks
    write_result(attempt, data.task, ref.select_by, result, weights)
    facts = {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round((time.monotonic() - started) / result.runs, 3),
        "cpu_seconds": round((time.process_time() - cpu) / result.runs, 3),
        **facts_of(result, data, recipe),
        **(more or {}),
    }
    write_facts(attempt, facts, result.state.curve)
