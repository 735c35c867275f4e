"""Load: read and check all of a task's data, and divide it into train, selection and validation.

Subsets are drawn by position alone, from a random order that depends on the number of rows and a name:
the same rows on every machine, and a smaller subset is part of a larger one.
"""

from __future__ import annotations

import hashlib
import itertools
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from layover.errors import Problem, TaskError, raise_all
from layover.tasks import readers
from layover.tasks.example import Example
from layover.tasks.fields import FieldError
from layover.tasks.hub import hub_rows
from layover.tasks.locate import Source, file_problem, locate
from layover.tasks.task import Task

__all__ = ["Source", "TaskData", "file_problem", "in_order", "limit", "load", "locate", "read", "resolved", "shortened",
           "split_holdout"]  # fmt: skip

SHOWN_PROBLEMS = 20
OWN_VALIDATION = 0.2  # share of train that stands in where a user's task has no validation file


@dataclass(frozen=True)
class TaskData:
    """The examples of a task as a step uses them, and the task with the labels that its data has.

    `n_train_total` and `n_validation_total` count the questions before any limit (most rows ask one thing); where a
    user's task has no validation file they are counted after a part of train became validation.
    """

    task: Task
    train: tuple[Example, ...]
    selection: tuple[Example, ...]
    validation: tuple[Example, ...]
    n_train_total: int
    n_validation_total: int


def resolved(task: Task, source: Source) -> Task:
    """The task with its labels: of one whose labels are those in the data, all that its splits have, sorted.

    Numbers are sorted as numbers. Raises TaskError where a row has no label, or there are fewer than two.
    """
    if not task.labels_in_data or task.labels:
        return task
    found: set[str] = set()
    problems: list[Problem] = []
    unread: list[Problem] = []  # `read` names these with whatever else is wrong
    for split in source.splits:
        for place, row in rows(task, source, split):
            if isinstance(row, Problem):
                unread.append(row)
                continue
            try:
                found.update(task.written_labels(row))
            except FieldError as error:
                problems.append(Problem(place, str(error), error.hint))
    raise_all(TaskError, shortened(problems))
    if len(found) < 2:
        raise_all(TaskError, shortened(unread))
        raise TaskError(Problem(f"task {task.name!r}", f"its data has {len(found)} different labels", "two are needed"))
    return replace(task, labels=tuple(in_order(found)))


def in_order(labels: Iterable[str]) -> list[str]:
    """Labels sorted: as numbers where all of them are."""
    names = list(labels)
    numbers = all(name.isdecimal() for name in names)
    return sorted(names, key=lambda name: (int(name), name) if numbers else (0, name))


def read(task: Task, source: Source, split: str) -> list[Example]:
    """All examples of a split; raises one TaskError that lists what is wrong with its rows."""
    task = resolved(task, source)
    examples: list[Example] = []
    problems: list[Problem] = []
    for index, (place, row) in enumerate(rows(task, source, split)):
        if isinstance(row, Problem):
            problems.append(row)
            continue
        try:
            made = task.examples(index, row)
            if task.output == "choice" and made and examples:
                _same_number(task, made[0], examples[0])
        except FieldError as error:
            problems.append(Problem(place, str(error), error.hint))
            continue
        examples += made
    raise_all(TaskError, shortened(problems))
    if not examples:
        raise TaskError(Problem(f"task {task.name!r}", f"its {split} split has no rows"))
    return examples


def _same_number(task: Task, example: Example, first: Example) -> None:
    """Raise FieldError where an example has another number of choices than the first of its file."""
    if len(example.inputs) != len(first.inputs):
        message = f"holds {len(example.inputs)} choices, but that of the first row {len(first.inputs)}"
        raise FieldError(task.format.paths()[-1], message, "every row of a task has the same number of choices")


def shortened(problems: Sequence[Problem]) -> list[Problem]:
    """The first problems and how many more there are."""
    more = len(problems) - SHOWN_PROBLEMS
    return [*problems[:SHOWN_PROBLEMS], *([Problem("", f"and {more:,} more")] if more > 0 else [])]


def load(
    task: Task,
    source: Source,
    *,
    selection: Literal["holdout", "validation"],
    holdout: float,
    limit_train: int | None = None,
    limit_validation: int | None = None,
) -> TaskData:
    """Read a task and divide it.

    Train is limited first. Then, with `selection="holdout"`, the share `holdout` of it becomes the selection
    set; with "validation" the validation set serves as both.
    """
    task = resolved(task, source)
    train = read(task, source, "train")
    if "validation" not in source.splits:
        train, validation = split_holdout(train, OWN_VALIDATION, len(task.labels), "own validation")
    else:
        validation = read(task, source, "validation")
    n_train, n_validation = _n_questions(train), _n_questions(validation)
    train, validation = limit(train, limit_train), limit(validation, limit_validation)
    if selection == "validation":
        return TaskData(task, tuple(train), tuple(validation), tuple(validation), n_train, n_validation)
    train, selected = split_holdout(train, holdout, len(task.labels))
    return TaskData(task, tuple(train), tuple(selected), tuple(validation), n_train, n_validation)


def limit(examples: Sequence[Example], n: int | None, salt: str = "limit") -> list[Example]:
    """The examples of a random subset of `n` questions, in their order; that of 10 is part of that of 20.

    A question is what is asked about a row: most rows ask one thing and are one example.
    """
    if n is not None and n < 1:
        raise TaskError(f"a limit of {n} leaves no examples: give 1 or more")
    questions = _numbered((example.row, example.part) for example in examples)
    total = 1 + questions[-1] if questions else 0
    if n is None or n >= total:
        return list(examples)
    kept = set(_order(total, salt)[:n])
    return [example for example, question in zip(examples, questions, strict=True) if question in kept]


def split_holdout(
    examples: Sequence[Example], share: float, n_classes: int = 1, salt: str = "holdout"
) -> tuple[list[Example], list[Example]]:
    """Carve the examples of a random `share` of the rows out: (the rest, the share), both in their order.

    The share has at least one row, and one per class where it can, and never more than half. A row's examples stay
    together: what is asked about one passage is not learnt from and held out at once.
    """
    if not 0 < share < 1:
        raise ValueError(f"a share is between 0 and 1, not {share}")
    rows = _numbered(example.row for example in examples)
    total = 1 + rows[-1] if rows else 0
    if total < 2:
        raise TaskError(f"{total} training example cannot be divided: at least 2 are needed to hold one out")
    size = min(max(int(share * total + 0.5), n_classes, 1), total // 2)
    held = set(_order(total, salt)[:size])
    rest = [example for example, row in zip(examples, rows, strict=True) if row not in held]
    return rest, [example for example, row in zip(examples, rows, strict=True) if row in held]


def _numbered(keys: Iterable[object]) -> list[int]:
    """Each run of equal keys by its number, from 0."""
    return [number for number, (_, same) in enumerate(itertools.groupby(keys)) for _ in same]


def _n_questions(examples: Sequence[Example]) -> int:
    return 1 + _numbered((example.row, example.part) for example in examples)[-1]


def _order(n: int, salt: str) -> list[int]:
    """A random order of n positions. Python promises to keep what random() yields for a seed, and no more."""
    seed = int.from_bytes(hashlib.sha256(f"layover:{salt}:{n}".encode()).digest())
    draw = random.Random(seed)
    keys = [draw.random() for _ in range(n)]
    return sorted(range(n), key=keys.__getitem__)


def rows_in(task: Task, path: Path) -> Iterator[tuple[str, Any]]:
    """(place, row or problem) of a task's file."""
    found = readers.rows(path, task.release.columns, task.release.ragged)
    found = readers.grouped(path, found, task.group) if task.group else found
    return ((readers.place(path, line), row) for line, row in found)


def rows(task: Task, source: Source, split: str) -> Iterable[tuple[str, Any]]:
    """(place, row or problem) from wherever the source points."""
    if source.gathered:
        return source.gathered.rows(source.files, split)
    if source.files:
        return rows_in(task, source.files[split])
    if task.generate:
        made = task.generate()[split]
        return ((f"task {task.name!r}, {split} row {i}", row) for i, row in enumerate(made, 1))
    return hub_rows(task, split)
