"""Train: one training on one task, from its data to its files."""

from __future__ import annotations

import time
from collections.abc import Generator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from layover.errors import StepError
from layover.files import write_jsonl
from layover.kinds.common import Report, data_of, location_of, recipe_of, scores_of, weights_of, write_facts
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
    task = data.task
    start, location = weights_of(step.start, store), location_of(step.encoder, places)
    resume = store.resume_folder(key_of(step))
    before = _before(step.start, store, places) if recipe.ewc else None
    result = yield from work.training(
        data, recipe, step.seed, location, start, places, resume, report, step.head == "carried", before
    )
    work.write_predictions(attempt / "predictions.parquet", task, result)
    scores = scores_of(task, step.task.select_by, result)
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
    write_facts(attempt, facts, result.state.curve)


def _before(key: str | None, store: Store, places: Places) -> Any:
    """What the step that a run starts from was trained on; raises StepError where that is no one task."""
    from layover.train.fisher import Before

    start = store.step(key) if key else None
    if not isinstance(start, Train):
        raise StepError("ewc needs a start that was trained on one task")
    recipe = recipe_of(start, store)
    return Before(data_of(start.task, store, places, recipe.selects), recipe)
