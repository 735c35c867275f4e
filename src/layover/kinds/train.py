"""Train: one training on one task, from its data to its files."""

from __future__ import annotations

import time
from collections.abc import Generator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from layover.kinds.common import (
    Report,
    data_of,
    facts_of,
    location_of,
    recipe_of,
    weights_of,
    write_facts,
    write_result,
)
from layover.places import Places
from layover.step import Train, key_of
from layover.store import Store


def train(
    step: Train, store: Store, places: Places, attempt: Path, keep: bool, report: Report
) -> Generator[Any, Any, None]:
    """Train, predict the validation set, and write what is known about the run."""
    from layover.train import work  # torch is imported here, on the worker, and nowhere above

    started, cpu = time.monotonic(), time.process_time()
    recipe = recipe_of(step, store)
    data = data_of(step.task, store, places, recipe.selects)
    start, location = weights_of(step.start, store), location_of(step.encoder, places)
    resume = store.resume_folder(key_of(step))
    result = yield from work.training(
        data, recipe, step.seed, location, start, places, resume, report, step.head == "carried"
    )
    write_result(attempt, data.task, step.task.select_by, result, attempt / "weights" if keep else None)
    facts = {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round((time.monotonic() - started) / result.runs, 3),
        "cpu_seconds": round((time.process_time() - cpu) / result.runs, 3),
        **facts_of(result, data, recipe),
    }
    write_facts(attempt, facts, result.state.curve)
