"""Load: find a task's data, read and check all of it, and divide it into train, selection and validation."""

from __future__ import annotations

import hashlib
import itertools
from array import array
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from layover import files as content
from layover.errors import Problem, TaskError, raise_all
from layover.tasks import readers
from layover.tasks.divide import Portion, held_out, limited, portions
from layover.tasks.example import Example
from layover.tasks.fields import FieldError
from layover.tasks.hub import hub_rows
from layover.tasks.readers import SPLITS, layout
from layover.tasks.task import Task

SHOWN_PROBLEMS = 20


@dataclass(frozen=True)
class Source:
    """Where a task's data is. The digest is identity; the files are not, and there are none for Hub data."""

    digest: str
    files: Mapping[str, Path]


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


def locate(task: Task, data: Sequence[Path], files: Mapping[str, Path] | None = None) -> Source:
    """Find a task's data: the user's own files, a generator, the data directories in order, then the Hub.

    A data directory holds the task's folder itself, or one level down; where several of its folders hold the task,
    the one with the largest files is taken (GLUE's whole CoLA, not its in-domain part). Raises TaskError where a
    directory does not exist, a folder has one split only, or there is no data.
    """
    missing = [Problem(str(path), "the data directory does not exist") for path in data if not path.is_dir()]
    raise_all(TaskError, missing)
    if files:
        return _source(_checked(task, files))
    if task.generate:
        return Source(f"generated:{task.name}@{task.version}", {})
    for folders in (level for directory in data for level in _levels(directory, task.name)):
        if held := [found for folder in folders if (found := _splits_in(task, folder))]:
            return _source(max(held, key=_bytes))  # max keeps the first of equals
    if task.hub:
        config = f"/{task.hub.config}" if task.hub.config else ""
        return Source(f"hub:{task.hub.repo}{config}@{task.hub.revision}", {})
    looked = f"it is in none of {', '.join(map(str, data))}" if data else "no data directory was given"
    message = f"its data was not found: {looked}, and it is not on the Hub"
    raise TaskError(Problem(f"task {task.name!r}", message, f"pass --data DIR with {layout(task)}"))


def resolved(task: Task, source: Source) -> Task:
    """The task with its labels: of one whose labels are those in the data, all that its splits have, sorted.

    Numbers are sorted as numbers. Raises TaskError where a row has no label, or there are fewer than two.
    """
    if not task.labels_in_data or task.labels:
        return task
    found: set[str] = set()
    problems: list[Problem] = []
    for split in source.files or SPLITS:
        for place, row in _rows(task, source, split):
            try:
                found.update([] if isinstance(row, Problem) else task.written_labels(row))
            except FieldError as error:
                problems.append(Problem(place, str(error), error.hint))
    raise_all(TaskError, shortened(problems))
    if len(found) < 2:
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


def examples(task: Task, source: Source, split: str, rows: Container[int] | None = None) -> Iterator[Example]:
    """The examples of a split one by one, those of some `rows` alone where asked.

    Raises, at its end, one TaskError that lists what is wrong with the rows.
    """
    problems: list[Problem] = []
    found = False
    for index, (place, row) in enumerate(_rows(task, source, split)):
        if rows is not None and index not in rows:
            continue
        if isinstance(row, Problem):
            problems.append(row)
            continue
        try:
            made = task.examples(index, row)
        except FieldError as error:
            problems.append(Problem(place, str(error), error.hint))
            continue
        found = found or bool(made)
        yield from made
    raise_all(TaskError, shortened(problems))
    if not found:
        raise TaskError(Problem(f"task {task.name!r}", f"its {split} split has no rows"))


def survey(task: Task, source: Source) -> Survey:
    """Read and check every row; raises TaskError with what is wrong with them, or where the files change meanwhile."""
    task = resolved(task, source)
    found = {split: _numbers(examples(task, source, split)) for split in source.files or SPLITS}
    _check_unchanged(task, source)
    return Survey(task, found)


def surveyed(found: Survey, source: Source, portion: Portion) -> Iterator[Example]:
    """The examples of a portion, read again; raises TaskError where the files have changed at the end."""
    numbers = found.examples[portion.file][:, 0]
    rows = set(numbers[portion.kept].tolist())
    read_again = examples(found.task, source, portion.file, rows)
    yield from itertools.compress(read_again, portion.kept[np.isin(numbers, list(rows))])
    _check_unchanged(found.task, source)


def _numbers(found: Iterable[Example]) -> NDArray[np.int64]:
    flat = array("q", (number for example in found for number in (example.row, example.part)))
    return np.frombuffer(flat, np.int64).reshape(-1, 2)


def _check_unchanged(task: Task, source: Source) -> None:
    if source.files and _source(source.files).digest != source.digest:
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
    read_once = {split: read(task, source, split) for split in source.files or SPLITS}
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


def _rows(task: Task, source: Source, split: str) -> Iterable[tuple[str, Any]]:
    """(place, row or problem) from wherever the source points."""
    if source.files:
        path = source.files[split]
        return ((readers.place(path, line), row) for line, row in readers.rows(path))
    if task.generate:
        made = task.generate()[split]
        return ((f"task {task.name!r}, {split} row {i}", row) for i, row in enumerate(made, 1))
    return hub_rows(task, split)


def _source(found: Mapping[str, Path]) -> Source:
    """The source of files: its digest is that of their content."""
    try:
        parts = "".join(f"{split} {content.digest(found[split])}\n" for split in SPLITS if split in found)
    except OSError as error:
        raise TaskError(Problem(str(error.filename), f"cannot be read: {error.strerror}")) from error
    return Source(f"sha256:{hashlib.sha256(parts.encode('ascii')).hexdigest()}", dict(found))


def _levels(directory: Path, name: str) -> Iterator[list[Path]]:
    """The folders that may hold a task: the one in the directory, then those one level down."""
    yield [directory / name]
    yield [child / name for child in sorted(directory.iterdir()) if child.is_dir() and not child.name.startswith(".")]


def _bytes(splits: Mapping[str, Path]) -> int:
    return sum(path.stat().st_size for path in splits.values())


def _splits_in(task: Task, folder: Path) -> dict[str, Path]:
    """The two splits in a folder, or nothing; raises TaskError where only one is there."""
    candidates = {split: [folder / (split + ending) for ending in readers.KINDS] for split in SPLITS}
    found = {split: next((p for p in paths if p.is_file()), None) for split, paths in candidates.items()}
    absent = [split for split, path in found.items() if path is None]
    if len(absent) == 1:
        there = ", ".join(sorted(path.name for path in folder.iterdir()))
        message = f"the {absent[0]} split is missing; the folder holds: {there}"
        raise TaskError(Problem(str(folder), message, f"needed: {layout(task)}"))
    return {split: path for split, path in found.items() if path is not None}


def _checked(task: Task, files: Mapping[str, Path]) -> dict[str, Path]:
    """A user's own files, where they exist and can be read."""
    place = f"task {task.name!r}"
    problems = [Problem(place, "has no train file")] if "train" not in files else []
    for split, path in files.items():
        if split not in SPLITS:
            problems.append(Problem(place, f"there is no split called {split!r}", f"splits: {', '.join(SPLITS)}"))
        elif problem := file_problem(f"{place}, {split}", path):
            problems.append(problem)
    raise_all(TaskError, problems)
    return dict(files)


def file_problem(place: str, path: Path) -> Problem | None:
    """What keeps a data file from being read, if anything."""
    if not path.is_file():
        return Problem(place, f"the file does not exist: {path}")
    if readers.kind(path) is None:
        return Problem(place, f"files of this kind are not read: {path}", f"kinds: {', '.join(readers.KINDS)}")
    return None
