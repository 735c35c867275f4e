"""Joint: one training on several tasks, and a folder with the files of each for its member."""

from __future__ import annotations

import time
from collections.abc import Generator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from layover.errors import StepError
from layover.files import write_json, write_jsonl
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
from layover.step import Joint, TaskRef, key_of
from layover.store import Store


def joint(
    step: Joint, store: Store, places: Places, attempt: Path, keep: bool, report: Report
) -> Generator[Any, Any, None]:
    """Train on all tasks at once, predict each one's validation set, and write what became of each.

    `tasks/<number>/` holds what a training on the task alone would hold, and `weights/<number>/` its best weights.
    """
    from layover.train import joint as training  # torch is imported here, on the worker, and nowhere above

    started, cpu = time.monotonic(), time.process_time()
    recipe = recipe_of(step, store)
    data = [data_of(ref, store, places, recipe.selects) for ref in step.tasks]
    alone = [score_of(store, key, ref) for key, ref in zip(step.alone, step.tasks, strict=False)]
    start, location = weights_of(step.start, store), location_of(step.encoder, places)
    resume = store.resume_folder(key_of(step))
    state, results = yield from training.training(
        data, step.mixture, alone, recipe, step.seed, location, start, places, resume, report
    )
    rows: list[dict[str, Any]] = []
    facts: dict[str, Any] = {}
    for number, (ref, one, result) in enumerate(zip(step.tasks, data, results, strict=True)):
        folder, weights = attempt / "tasks" / str(number), attempt / "weights" / str(number)
        for made in (folder, weights.parent) if keep else (folder,):
            made.mkdir(parents=True, exist_ok=True)
        scores = write_result(folder, one.task, ref.select_by, result, weights if keep else None)
        rows += [{"task": ref.name, **score} for score in scores]
        facts = facts_of(result, one, recipe)
        write_json(folder / "facts.json", {"task": ref.name, **facts}, durable=False)
    write_jsonl(attempt / "observations.jsonl", rows, durable=False)
    write_jsonl(attempt / "curve.jsonl", state.curve, durable=False)
    shared = ("max_length", "tokens", "steps", "stopped", "recipe", "device", "threads", "micro_tokens",
              "processes")  # fmt: skip
    own = {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(time.monotonic() - started, 3),
        "cpu_seconds": round(time.process_time() - cpu, 3),
        "tasks": [ref.name for ref in step.tasks],
        **{name: facts[name] for name in shared if name in facts},
    }
    write_facts(attempt, own, state.curve)


def score_of(store: Store, key: str, ref: TaskRef) -> float:
    """How a training by itself did on its task, from 0 to 1: on the selection set, as a joint training is measured."""
    found = [row for row in store.read(key, "observations.jsonl") if row["split"] == "selection"]
    if not found:
        raise StepError(f"step {key} has no selection score on {ref.name}: the dynamic sampler measures by it")
    return float(found[0]["value"]) / 100
