"""Load: find a task's data, read and check all of it, and divide it into train, selection and validation.

Subsets are drawn by position alone, from a random order that depends on the number of rows and a name:
the same rows on every machine, and a smaller subset is part of a larger one.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from layover import files as content
from layover.errors import Problem, TaskError, raise_all
from layover.tasks import readers
from layover.tasks.example import Example
from layover.tasks.fields import FieldError
from layover.tasks.hub import hub_rows
from layover.tasks.readers import SPLITS, layout
from layover.tasks.release import Gathered
from layover.tasks.task import Task

SHOWN_PROBLEMS = 20
Found = tuple[Mapping[str, Path], Gathered | None]
OWN_VALIDATION = 0.2  # share of train that stands in where a user's task has no validation file


@dataclass(frozen=True)
class Source:
    """Where a task's data is. The digest is identity; the files are not, and there are none for Hub data.

    `files` are those of the splits, or with `gathered` those that the rows of every split are gathered from.
    """

    digest: str
    files: Mapping[str, Path]
    gathered: Gathered | None = None

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that there are: a user's task may have train alone."""
        return SPLITS if self.gathered or not self.files else tuple(s for s in SPLITS if s in self.files)

    @property
    def folder(self) -> Path:
        """The folder that holds all files."""
        return Path(os.path.commonpath([path.parent for path in self.files.values()]))


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


def locate(task: Task, data: Sequence[Path], files: Mapping[str, Path] | None = None) -> Source:
    """Find a task's data: the user's own files, a generator, the data directories in order, then the Hub.

    A data directory holds the task's folder itself, or one level down, under the task's name or that of its release;
    where several of its folders hold the task, the one with the largest files is taken (GLUE's whole CoLA, not its
    in-domain part). Raises TaskError where a directory does not exist, a folder lacks a part, or there is no data.
    """
    missing = [Problem(str(path), "the data directory does not exist") for path in data if not path.is_dir()]
    raise_all(TaskError, missing)
    if files:
        return _source(_checked(task, files))
    if task.generate:
        return Source(f"generated:{task.name}@{task.version}", {})
    for folders in (level for directory in data for level in _levels(directory, task)):
        if held := [found for folder in folders if (found := _files_in(task, folder))[0]]:
            return _source(*max(held, key=_bytes))  # max keeps the first of equals
    if task.hub:
        config = f"/{task.hub.config}" if task.hub.config else ""
        return Source(f"hub:{task.hub.repo}{config}@{task.hub.revision}", {})
    looked = f"it is in none of {', '.join(map(str, data))}" if data else "no data directory was given"
    message = f"its data was not found: {looked}, and it is not on the Hub"
    licence = f"{task.licence}; then " if task.licence else ""
    raise TaskError(Problem(f"task {task.name!r}", message, f"{licence}pass --data DIR with {layout(task)}"))


def resolved(task: Task, source: Source) -> Task:
    """The task with its labels: of one whose labels are those in the data, all that its splits have, sorted.

    Numbers are sorted as numbers. Raises TaskError where a row has no label, or there are fewer than two.
    """
    if not task.labels_in_data or task.labels:
        return task
    found: set[str] = set()
    problems: list[Problem] = []
    for split in source.splits:
        for place, row in rows(task, source, split):
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


def rows(task: Task, source: Source, split: str) -> Iterable[tuple[str, Any]]:
    """(place, row or problem) from wherever the source points."""
    if source.gathered:
        return source.gathered.rows(source.files, split)
    if source.files:
        path = source.files[split]
        found = readers.rows(path, task.release.columns, task.release.ragged)
        return ((readers.place(path, line), row) for line, row in found)
    if task.generate:
        made = task.generate()[split]
        return ((f"task {task.name!r}, {split} row {i}", row) for i, row in enumerate(made, 1))
    return hub_rows(task, split)


def _source(found: Mapping[str, Path], gathered: Gathered | None = None) -> Source:
    """The source of files: its digest is that of their content."""
    try:
        parts = "".join(f"{name} {content.digest(found[name])}\n" for name in sorted(found))
    except OSError as error:
        raise TaskError(Problem(str(error.filename), f"cannot be read: {error.strerror}")) from error
    return Source(f"sha256:{hashlib.sha256(parts.encode('utf-8')).hexdigest()}", dict(found), gathered)


def _levels(directory: Path, task: Task) -> Iterator[list[Path]]:
    """The folders that may hold a task: those in the directory, then those one level down, its own name first."""
    names = dict.fromkeys((task.name, task.release.folder or task.name))
    below = [child for child in sorted(directory.iterdir()) if child.is_dir() and not child.name.startswith(".")]
    for name in names:
        yield [directory / name]
    for name in names:
        yield [child / name for child in below]


def _bytes(found: Found) -> int:
    return sum(path.stat().st_size for path in found[0].values())


def _files_in(task: Task, folder: Path) -> Found:
    """A task's files in a folder: those that its release gathers rows from, or its two splits, or none.

    Raises TaskError where a part is missing.
    """
    gathered = task.release.gathered
    if gathered and folder.is_dir() and (found := gathered.find(folder)):
        return found, gathered
    return _splits_in(task, folder), None


def _splits_in(task: Task, folder: Path) -> dict[str, Path]:
    """The two splits in a folder, or nothing; raises TaskError where only one is there."""
    shared = folder.name != task.name
    found = {}
    for split, named in zip(SPLITS, task.release.files, strict=True):
        own = tuple(named.split("|")) if named else ()
        found[split] = readers.file_of(folder, own if shared and own else (*readers.STEMS[split], *own))
    absent = [split for split, path in found.items() if path is None]
    if len(absent) == 1 and not (shared and all(task.release.files)):  # another task's folder may lack this one's train
        there = ", ".join(sorted(path.name for path in folder.iterdir()))
        message = f"the {absent[0]} split is missing; the folder holds: {there}"
        raise TaskError(Problem(str(folder), message, f"needed: {layout(task)}"))
    return {} if absent else {split: path for split, path in found.items() if path is not None}


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
