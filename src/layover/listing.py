"""Listing: tasks and strategies as rows, for people and as JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from layover.errors import UserError
from layover.strategies import STRATEGIES
from layover.tasks import TASKS, Task
from layover.tasks.load import load, locate


def list_tasks(data: Sequence[Path]) -> list[dict[str, Any]]:
    """One row per task of the catalogue."""
    return [
        {
            "name": task.name,
            "format": type(task.format).__name__,
            "output": task.output,
            "primary": task.primary,
            "data": where(task, data),
            "about": task.about,
        }
        for task in TASKS
    ]


def where(task: Task, data: Sequence[Path]) -> str:
    """Where a task's data would come from."""
    try:
        source = locate(task, data)
    except UserError:
        return "not found"
    if source.files:
        return str(source.files["train"].parent)
    return source.digest if source.digest.startswith("hub:") else "generated"


def describe_task(name: str, data: Sequence[Path]) -> dict[str, Any]:
    """Everything about one task; with data on this machine, also its counts."""
    task = TASKS.get(name)
    facts = {
        "version": task.version,
        "about": task.about,
        "source": task.source,
        "format": repr(task.format),
        "labels": ", ".join(task.labels) or task.output,
        "metrics": ", ".join(task.metrics),
        "hub": str(task.hub or ""),
        "data": where(task, data),
    }
    if facts["data"] not in ("not found",) and not facts["data"].startswith("hub:"):
        found = load(
            task, locate(task, data), limit_train=None, limit_validation=None, selection="holdout", holdout=0.1
        )
        facts |= {"train": found.n_train_total, "validation": found.n_validation_total}
        facts["first row"] = repr(found.train[0].inputs)[:400]
    return facts


def list_strategies() -> list[dict[str, str]]:
    """One row per strategy: its kind, its settings, and the first line of its documentation."""
    return [
        {
            "kind": strategy.kind,
            "settings": ", ".join(f"{f.name}: {f.type}" for f in dataclasses.fields(strategy)),  # type: ignore[arg-type]
            "what": (strategy.__doc__ or "").strip().splitlines()[0],
        }
        for strategy in STRATEGIES
    ]
