"""Wording: a study's predictions in words: the names of classes, and what is asked in a row of a validation file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

from layover.errors import UserError
from layover.plan import Plan
from layover.predictions import names
from layover.report.flips import Place, Wording
from layover.step import Member, Probe, Train
from layover.store import Store
from layover.tasks.example import Example, Input
from layover.tasks.load import examples, resolved


def wording(plan: Plan, store: Store, with_texts: bool) -> Wording:
    """How the predictions of a study are put into words, with the texts of its data where they are asked for."""

    @cache
    def named(key: str) -> Sequence[str]:
        return names(store.fetched(key, "predictions.parquet") / "predictions.parquet")

    def texts(task: str, rows: Sequence[int]) -> Mapping[Place, str]:
        return texts_of(plan, task, rows)

    return Wording(lambda key: _task(plan, key), named, texts if with_texts else None)


def texts_of(plan: Plan, name: str, rows: Sequence[int]) -> dict[Place, str]:
    """What some rows of a task's validation file ask, one text for each of what is asked; none where it cannot be read.

    A user's task without a validation file takes its validation examples from its train file.
    """
    task, source, wanted = plan.tasks[name], plan.sources[name], set(rows)
    split = "validation" if "validation" in source.splits else "train"
    found: dict[Place, list[str]] = {}
    try:
        for example in examples(resolved(task, source), source, split, wanted):
            found.setdefault((example.row, example.part), []).append(_text(example))
    except UserError:  # the data has moved since the study was run: the page then shows row numbers alone
        return {}
    return {place: " / ".join(dict.fromkeys(parts)) for place, parts in found.items()}


def _text(example: Example) -> str:
    return " | ".join(_of_input(one) for one in example.inputs)


def _of_input(one: Input) -> str:
    return " — ".join(" ".join(segment) for segment in one if segment)


def _task(plan: Plan, key: str) -> str:
    step = plan.steps[key]
    return step.task.name if isinstance(step, Train | Probe | Member) else ""
