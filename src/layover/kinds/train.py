"""Train: one training on one task, from its data to its files."""

from __future__ import annotations

import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

from layover.errors import StepError
from layover.kinds.common import Report, data_of, location_of, recipe_of, weights_of, write_run
from layover.places import Places
from layover.step import Train, key_of
from layover.store import Store


def train(
    step: Train, store: Store, places: Places, attempt: Path, keep: bool, report: Report
) -> Generator[Any, Any, None]:
    """Train, predict the validation set, and write what is known about the run."""
    from layover.train import work  # torch is imported here, on the worker, and nowhere above

    clocks = time.monotonic(), time.process_time()
    recipe = recipe_of(step, store)
    data = data_of(step.task, store, places, recipe.selects)
    start, location = weights_of(step.start, store), location_of(step.encoder, places)
    resume = store.resume_folder(key_of(step))
    before = _before(step.start, store, places) if recipe.ewc else None
    carried = "matched" if step.head == "matched" else step.head == "carried"
    result = yield from work.training(
        data, recipe, step.seed, location, start, places, resume, report, carried, step.surgery, before
    )
    write_run(attempt, data, step.task, recipe, result, clocks, attempt / "weights" if keep else None)


def _before(key: str | None, store: Store, places: Places) -> Any:
    """What the step that a run starts from was trained on; raises StepError where that is no one task."""
    from layover.train.fisher import Before

    start = store.step(key) if key else None
    if not isinstance(start, Train):
        raise StepError("ewc needs a start that was trained on one task")
    recipe = recipe_of(start, store)
    return Before(data_of(start.task, store, places, recipe.selects), recipe)
