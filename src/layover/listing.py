"""Listing: tasks, strategies and studies as rows, for people and as JSON."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from layover.checks import TASK_WORDS
from layover.errors import UserError
from layover.plan import compile_plan
from layover.strategies import STRATEGIES
from layover.study import file_of_study, load_study
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


def study_row(name: str, facts: dict[str, Any]) -> dict[str, Any]:
    """A study as a row: how much is in it, how many switches it has, and how its comment begins."""
    counted = {word: facts[word] for word in ("targets", "probing", "sources", "seeds", "cells", "trainings")}
    return {"name": name, **counted, "switches": len(facts["switches"]), "about": _opening(facts["about"])}


def _opening(text: str) -> str:
    """The first words of a study's comment."""
    first = " ".join(text.split("\n\n")[0].split())
    return first if len(first) <= 90 else f"{first[:88].rsplit(' ', 1)[0]} ..."


def describe_study(name: str) -> dict[str, Any]:
    """What a study is: the comment at its top, its counts, and what each of its switches does.

    Nothing of its data or encoders has to be here. Raises StudyError where it cannot be read.
    """
    study, base = load_study(name)
    plan = compile_plan(study, base, stand_in=True)
    sources = {
        task for table in study.strategies.values() for word in TASK_WORDS for task in _flat(table.get(word, []))
    }
    return {
        "about": _comment(file_of_study(name)),
        "encoders": ", ".join(study.encoders),
        "strategies": ", ".join(f"{n} ({table['kind']})" for n, table in study.strategies.items()),
        "targets": len(study.tasks.target),
        "probing": len(study.tasks.probing),
        "sources": len(sources),
        "seeds": len(study.seeds),
        "trials": len(study.trials()),
        "cells": len(plan.scores),
        "trainings": plan.trainings,
        "shared": plan.requested - plan.trainings,
        "switches": {switch: table["about"] for switch, table in study.switch.items()},
    }


def _comment(path: Path) -> str:
    """The comment at the top of a file, without its signs."""
    lines = itertools.takewhile(lambda line: line.startswith("#"), path.read_text(encoding="utf-8").splitlines())
    return "\n".join(line.lstrip("#").strip() for line in lines)


def _flat(named: Any) -> list[str]:
    return [named] if isinstance(named, str) else [name for item in named for name in _flat(item)]
