"""Listing: tasks and strategies as rows, for people and as JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from layover.errors import UserError
from layover.strategies import STRATEGIES
from layover.tasks import TASKS, Task
from layover.tasks.load import Source, locate, read, resolved


def list_tasks(data: Sequence[Path], families: bool = False) -> list[dict[str, Any]]:
    """One row per task of the catalogue; with `families` one for all that differ by a number alone, such as folds."""
    shown = {(task.family or task.name) if families else task.name: task for task in TASKS}
    return [
        {
            "name": name,
            "format": type(task.format).__name__,
            "output": task.output,
            "primary": task.primary,
            "data": _where(_find(task, data)),
            "about": task.about,
        }
        for name, task in shown.items()
    ]


def _find(task: Task, data: Sequence[Path]) -> Source | None:
    try:
        return locate(task, data)
    except UserError:
        return None


def _where(source: Source | None) -> str:
    """Where a task's data comes from."""
    if source is None:
        return "not found"
    if source.files:
        return str(source.folder)
    return source.digest if source.digest.startswith("hub:") else "generated"


def describe_task(name: str, data: Sequence[Path]) -> dict[str, Any]:
    """Everything about one task; with data on this machine, also its counts."""
    task = TASKS.get(name)
    source = _find(task, data)
    facts = {
        "version": task.version,
        "about": task.about,
        "source": task.source,
        "format": repr(task.format),
        "labels": ", ".join(task.labels) or ("those in the data" if task.labels_in_data else task.output),
        "metrics": ", ".join(task.metrics),
        "hub": str(task.hub or ""),
        "licence": task.licence,
        "data": _where(source),
    }
    if source is not None and not source.digest.startswith("hub:"):
        task = resolved(task, source)
        train, validation = read(task, source, "train"), read(task, source, "validation")
        facts |= {"train": len(train), "validation": len(validation), "first row": repr(train[0].inputs)[:400]}
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
