"""Probe: a head trained on the features of a frozen encoder, from the store to its files."""

from __future__ import annotations

import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

from layover.kinds.common import Report, data_of, location_of, recipe_of, write_run
from layover.places import Places
from layover.step import Probe, key_of
from layover.store import Store


def probe(
    step: Probe, store: Store, places: Places, attempt: Path, keep: bool, report: Report
) -> Generator[Any, Any, None]:
    """Train the head, predict the validation set, and write what is known about the run; there are no weights."""
    from layover.train import frozen  # torch is imported here, on the worker, and nowhere above
    from layover.train import probe as probing

    clocks = time.monotonic(), time.process_time()
    recipe = recipe_of(step, store).bare  # a sweep may have chosen what only an encoder has
    data = data_of(step.task, store, places, recipe.selects)
    # weights that are gone are missed only where the features are not in the store
    weights = None if step.start is None else store.weights(step.start)
    read = frozen.Frozen(step.encoder, location_of(step.encoder, places), step.start, weights)
    resume = store.resume_folder(key_of(step))
    probed = yield from probing.training(data, read, step.layer, step.head, recipe, step.seed, places, resume, report)
    more = {"layer": step.layer, **probed.mix}
    write_run(attempt, data, step.task, recipe, probed.result, clocks, more=more)
