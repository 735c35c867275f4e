"""Load: read and check all of a task's data, and divide it into train, selection and validation."""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from layover.errors import Problem, TaskError, raise_all
from layover.tasks import readers
from layover.tasks.divide import Portion, held_out, limited, portions
from layover.tasks.example import Example
from layover.tasks.fields import FieldError
from layover.tasks.gathered import together
from layover.tasks.hub import hub_rows
from layover.tasks.locate import Source, digest_of, file_problem, locate
from layover.tasks.task import Task

__all__ = ["Source", "TaskData", "file_problem", "in_order", "limit", "load", "locate", "read", "resolved", "shortened",
           "split_holdout", "survey", "surveyed"]  # fmt: skip

SHOWN_PROBLEMS = 20


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


@dataclass(frozen=True, eq=False)
class Survey:
    """What one reading of all rows found.

    `task` has the labels of its data; `examples` [n, 2] are the row and part of each, by file.
    """

    task: Task
    examples: Mapping[str, NDArray[np.int64]]


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
    return list(examples(resolved(task, source), source, split))


def examples(task: Task, source: Source, split: str, wanted: Container[int] | None = None) -> Iterator[Example]:
    """The examples of a split one by one, those of the rows that are `wanted` alone where that is said.

    Raises, at its end, one TaskError that lists what is wrong with the rows.
    """
    problems: list[Problem] = []
    first: Example | None = None
    for index, (place, row) in enumerate(rows(task, source, split)):
        if wanted is not None and index not in wanted:
            continue
        if isinstance(row, Problem):
            problems.append(row)
            continue
        try:
            made = task.examples(index, row)
            if made:
                first = first or made[0]
                _check_number(task, made[0], first)
        except FieldError as error:
            problems.append(Problem(place, str(error), error.hint))
            continue
        yield from made
    raise_all(TaskError, shortened(problems))
    if first is None:
        raise TaskError(Problem(f"task {task.name!r}", f"its {split} split has no rows"))


def _check_number(task: Task, example: Example, first: Example) -> None:
    """Raise FieldError where an example has another number of choices than the first of its file."""
    if task.output == "choice" and len(example.inputs) != len(first.inputs):
        message = f"holds {len(example.inputs)} choices, but that of the first row {len(first.inputs)}"
        raise FieldError(task.format.paths()[-1], message, "every row of a task has the same number of choices")


def survey(task: Task, source: Source) -> Survey:
    """Read and check every row; raises TaskError with what is wrong with them, or where the files change meanwhile."""
    task = resolved(task, source)
    found = {split: _numbers(examples(task, source, split)) for split in source.splits}
    _check_unchanged(task, source)
    return Survey(task, found)


def surveyed(found: Survey, source: Source, portion: Portion) -> Iterator[Example]:
    """The examples of a portion, read again; raises TaskError where the files have changed at the end."""
    numbers = found.examples[portion.file][:, 0]
    wanted = np.unique(numbers[portion.kept])
    read_again = examples(found.task, source, portion.file, set(wanted.tolist()))
    yield from itertools.compress(read_again, portion.kept[np.isin(numbers, wanted)])
    _check_unchanged(found.task, source)


def _numbers(found: Iterable[Example]) -> NDArray[np.int64]:
    flat = array("q", (number for example in found for number in (example.row, example.part)))
    return np.frombuffer(flat, np.int64).reshape(-1, 2)


def _check_unchanged(task: Task, source: Source) -> None:
    if source.files and digest_of(source.files, again=True) != source.digest:
        raise TaskError(Problem(f"task {task.name!r}", "its files changed while they were read", "run it again"))


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
    read_once = {split: read(task, source, split) for split in source.splits}
    numbers = {split: _numbers(examples) for split, examples in read_once.items()}
    parts = portions(numbers, len(task.labels), limit_train, limit_validation)
    train, validation = (list(itertools.compress(read_once[part.file], part.kept)) for part in parts)
    n_train, n_validation = (part.n_total for part in parts)
    if selection == "validation":
        return TaskData(task, tuple(train), tuple(validation), tuple(validation), n_train, n_validation)
    train, selected = split_holdout(train, holdout, len(task.labels))
    return TaskData(task, tuple(train), tuple(selected), tuple(validation), n_train, n_validation)


def limit(examples: Sequence[Example], n: int | None, salt: str = "limit") -> list[Example]:
    """The examples of a random subset of `n` questions, in their order: see `limited`."""
    return list(itertools.compress(examples, limited(_numbers(examples), n, salt)))


def split_holdout(
    examples: Sequence[Example], share: float, n_classes: int = 1, salt: str = "holdout"
) -> tuple[list[Example], list[Example]]:
    """Carve the examples of a random `share` of the rows out: (the rest, the share), both in order: see `held_out`."""
    held = held_out(_numbers(examples)[:, 0], share, n_classes, salt)
    return list(itertools.compress(examples, ~held)), list(itertools.compress(examples, held))


def rows_in(task: Task, path: Path) -> Iterator[tuple[str, Any]]:
    """(place, row or problem) of a task's file."""
    found = readers.rows(path, task.release)
    placed = ((readers.place(path, line), row) for line, row in found)
    return together(placed, task.release.together) if task.release.together else placed


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
