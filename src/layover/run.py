"""Run: run_steps(steps, store, places) does steps, a cohort of trainings together; it is all that a worker knows."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import time
import traceback
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

from layover import pulse, trust
from layover.claims import Claim, told
from layover.disk import NO_ROOM
from layover.errors import StepError, StoreError
from layover.kinds import WORK
from layover.kinds.common import recipe_of
from layover.places import Places
from layover.recipe import Recipe
from layover.secrets import redacted
from layover.step import Step, Train, key_of
from layover.store import Store

Attempt = Generator[Any, Any, "Outcome"]
SHARED = ("batch_size", "max_length", "precision")  # of the recipes of a cohort


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended: "finished", "failed" with its error, "claimed" (somebody else is at it), or "stopped".

    One that was asked to stop has left its checkpoint, and is to be gone on with.
    """

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
    hung = store.hung(key_of(steps[0][0]))
    trust.allow(places.trust_remote_code)
    with store.writing(), pulse.watched(places.timeout, hung):
        return _together([_attempt(step, store, places, keep) for step, keep in steps])


def _together(attempts: Sequence[Attempt]) -> list[Outcome]:
    """Drive attempts to their ends, and fit the trainings among them together."""
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


def _attempt(step: Step, store: Store, places: Places, keep: bool) -> Attempt:
    """One attempt at a step. A training asks whoever drives it to fit its job."""
    key, started = key_of(step), time.monotonic()
    store.refresh([key, *step.parents])
    if store.holds(key, keep):
        return Outcome(key, "finished")
    progress: dict[str, Any] = {}
    with store.writing():
        claim = Claim(store.slot(key), lambda: told(progress))
        if not claim.take():
            return Outcome(key, "claimed")
        attempt = store.attempt(key)
    with claim, store.keeping(key), store.writing():
        store.refresh([key])
        if store.holds(key, keep):  # somebody else published it and gave the claim back just now
            shutil.rmtree(attempt, ignore_errors=True)
            return Outcome(key, "finished", time.monotonic() - started)
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
            if isinstance(error, pulse.Stopped):
                shutil.rmtree(attempt, ignore_errors=True)
                return Outcome(key, "stopped", time.monotonic() - started)
            if store.holds(key, keep):
                # somebody else published it meanwhile, and took this attempt's folder away
                store.discard(key)  # a checkpoint written since
                return Outcome(key, "finished", time.monotonic() - started)
            store.failed(key, attempt, f"{redacted(traceback.format_exc())}\n{_in_one_line(error)}\n")
            return Outcome(key, "failed", time.monotonic() - started, _in_one_line(error))
    return Outcome(key, "finished", time.monotonic() - started)


def cohort(step: Step, store: Store) -> Step | None:
    """What the steps have in common that can be trained together with this one; None where none can.

    Restarts and cells of a sweep: the same encoder, task, data and shape of batches. Where they start from, seeds and
    the rest of their recipes may differ.
    """
    if not isinstance(step, Train) or step.surgery or step.head != "new":
        return None
    if (step.task.declaration or {}).get("format") == "text":
        return None  # the heads of plain text, which is always a study's own, share their encoders' word vectors
    recipe = recipe_of(step, store)
    if not recipe.plain:
        return None
    shared = Recipe(**{name: getattr(recipe, name) for name in SHARED})
    return dataclasses.replace(step, recipe=shared, seed=0, start=None, recipe_from=None)


def prepare(places: Places) -> None:
    """Make this process a warm one: import what trainings need, and load the encoders that they start from."""
    from layover.train import warm

    trust.allow(places.trust_remote_code)
    warm.prepare(places.encoders.values())


def lost(key: str, store: Store, error: StepError) -> Outcome:
    """The outcome of a step whose worker was lost; its error is kept where that of any failed attempt is."""
    hung = store.hung(key)
    told = f"StepError: gave no sign of life in time (timeout in [placement]); where it hung: {hung}"
    told = told if hung.is_file() and hung.stat().st_size else _in_one_line(error)
    with store.writing():
        store.failed(key, store.attempt(key), f"{told}\n")
    return Outcome(key, "failed", error=told)


def _system_error(error: BaseException) -> int:
    """The number of the system's error behind another, 0 where there is none. safetensors has it in its words only."""
    if isinstance(error, OSError):
        return error.errno or 0
    found = re.search(r"\(os error (\d+)\)", str(error)) if type(error).__name__ == "SafetensorError" else None
    return int(found[1]) if found else 0


def _in_one_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [""]
    return redacted(f"{type(error).__name__}: {lines[0]}")
