"""Check: read the data of tasks, one after the other, and say what is in it and what is wrong with it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from layover.datacheck.facts import DataCheck, TaskFacts
from layover.datacheck.prints import Prints, elsewhere, overlap
from layover.datacheck.tally import Tally
from layover.encoders import ALIASES, find, location_parts
from layover.errors import EncoderError, HubError, Problem, TaskError, UserError
from layover.tasks import TASKS
from layover.tasks.fields import FieldError
from layover.tasks.load import Source, locate, resolved, rows, shortened
from layover.tasks.readers import SPLITS, STEMS, file_of
from layover.tasks.task import Task

DEFAULT_ENCODER = "minilm"
TELL_SECONDS = 0.2
Tell = Callable[[str, int, int, int], None]
"""Told of (task, tasks done, tasks in all, rows of this one read so far)."""
Folders = Mapping[str, Sequence[Path]]
Located = tuple[Task, Source | TaskError]
"""A task with its data, or with what is wrong with the folder that should hold it."""


def check(name: str | None, data: Sequence[Path], encoder: str | None, tell: Tell) -> DataCheck:
    """The facts of one task, or of all that are in the data directories.

    Lengths are measured with the tokenizer of `encoder`; None means minilm where it is installed, and no lengths where
    it is not. What is wrong with one task's data is among its facts, and the others go on. Raises UserError where there
    is nothing to read: no such task, no data of it, no data directory, no such encoder.
    """
    folders = task_folders(data)
    if name is not None:
        task = TASKS.get(name)
        located: list[Located] = [(task, locate(task, data))]
    else:
        located = _located(data)
    named, tokenizer = _tokenizer(encoder)
    found: list[TaskFacts] = []
    prints: tuple[dict[str, Prints], dict[str, Prints]] = {}, {}
    for done, (task, source) in enumerate(located):
        told = partial(tell, task.name, done, len(located))
        told(0)
        facts, read = _check_one(task, source, folders.get(task.name, ()), tokenizer, told)
        found.append(facts)
        for kept, split in zip(prints, read, strict=True):
            kept[task.name] = split
    tell("", len(located), len(located), 0)
    shared = elsewhere(*prints)
    checked = tuple(replace(facts, elsewhere=shared[facts.task]) for facts in found)
    if name is not None:
        return DataCheck(named, checked)
    there = {task.name for task, _ in located}
    absent = {task.name: task.licence for task in _without_families() if task.name not in there and not task.generate}
    known = {name for task in TASKS for name in (task.name, task.release.folder)}
    strangers = tuple(str(path) for folder, paths in folders.items() if folder not in known for path in paths)
    return DataCheck(named, checked, absent, strangers)


def _located(data: Sequence[Path]) -> list[Located]:
    """The catalogue's tasks that are in the data directories; raises TaskError where none is."""
    found: list[Located] = []
    for task in _without_families():
        try:
            source = locate(task, data)
        except TaskError as error:
            if any(Path(problem.place).is_dir() for problem in error.problems):  # the task's folder lacks a part
                found.append((task, error))
        else:
            if source.files:
                found.append((task, source))
    if not found:
        looked = f"no task of the catalogue is in {', '.join(map(str, data))}" if data else "there is no data directory"
        raise TaskError(Problem("--data", looked, "pass --data DIR with DIR/<task>/train.jsonl and validation.jsonl"))
    return found


def _without_families() -> list[Task]:
    """The catalogue without tasks that differ by a number alone, such as folds: they ask about the same rows."""
    return [task for task in TASKS if not task.family]


def task_folders(data: Sequence[Path]) -> Folders:
    """The folders that hold a train or validation file, by name, as `locate` looks for them."""
    found: dict[str, list[Path]] = {}
    for directory in data:
        for folder in _below(directory):
            if any(file_of(folder, STEMS[split]) for split in SPLITS):
                found.setdefault(folder.name, []).append(folder)
    return found


def _below(directory: Path) -> Iterator[Path]:
    """The folders in a directory, then those one level down."""
    folders = [path for path in sorted(directory.iterdir()) if path.is_dir() and not path.name.startswith(".")]
    yield from folders
    for folder in folders:
        yield from (path for path in sorted(folder.iterdir()) if path.is_dir())


def _check_one(
    task: Task, source: Source | TaskError, folders: Sequence[Path], tokenizer: Any | None, tell: Callable[[int], None]
) -> tuple[TaskFacts, tuple[Prints, Prints]]:
    """The facts of one task and the prints of its splits, empty where it cannot be read."""
    others = tuple(map(str, folders))
    facts = TaskFacts(task.name, type(task.format).__name__, len(task.labels), task.source, task.licence, others)
    try:
        if isinstance(source, TaskError):
            raise source
        task = resolved(task, source)
        (train, validation), problems = _tally(task, source, tokenizer, tell)
    except UserError as error:
        return replace(facts, problems=error.problems), (Prints(), Prints())
    names = task.labels or [str(position) for position in range(1, 1 + _most(train, validation))]
    published = task.published or (None, None)
    used = (str(source.folder),) if source.files else ()
    facts = replace(
        facts,
        classes=len(task.labels),
        folders=tuple(dict.fromkeys((*used, *others))),
        digest=source.digest,
        train=train.facts(names, published[0]),
        validation=validation.facts(names, published[1]),
        overlap=overlap(train.prints, validation.prints),
        unseen={names[int(label)]: n for label, n in validation.labels.most_common() if label not in train.labels},
        problems=problems,
    )
    return facts, (train.prints, validation.prints)


def _tally(
    task: Task, source: Source, tokenizer: Any | None, tell: Callable[[int], None]
) -> tuple[tuple[Tally, Tally], tuple[Problem, ...]]:
    """The counts of both splits, and what is wrong with their rows."""
    tallies, problems = (Tally(task, tokenizer), Tally(task, tokenizer)), []
    told = time.monotonic()
    for tally, split in zip(tallies, SPLITS, strict=True):
        for place, row in rows(task, source, split):
            if isinstance(row, Problem):
                tally.add_broken()
                problems.append(row)
                continue
            try:
                tally.add(row)
            except FieldError as error:
                problems.append(Problem(place, str(error), error.hint))
            if time.monotonic() - told > TELL_SECONDS:
                tell(sum(one.rows for one in tallies))
                told = time.monotonic()
        if tally.rows == tally.broken:
            problems.append(Problem(f"task {task.name!r}", f"its {split} split has no row that can be read"))
    return tallies, tuple(shortened(problems))


def _most(train: Tally, validation: Tally) -> int:
    """The highest position of a right choice."""
    return 1 + int(max((*train.labels, *validation.labels), default=0))


def _tokenizer(name: str | None) -> tuple[str, Any | None]:
    """The tokenizer of an encoder and the encoder's name; nothing where none is named and minilm is not installed."""
    if name is None and ALIASES[DEFAULT_ENCODER].directory() is None:
        return "", None
    encoder = find(name or DEFAULT_ENCODER)
    from transformers import AutoTokenizer

    folder, revision = location_parts(encoder.location)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, revision=revision)
    except (OSError, ValueError, KeyError) as error:
        kind = EncoderError if Path(folder).is_dir() else HubError
        raise kind(Problem(encoder.name, f"its tokenizer cannot be loaded: {str(error).splitlines()[0]}")) from error
    if not tokenizer.is_fast:
        raise EncoderError(Problem(encoder.name, "has no fast tokenizer", "convert it with AutoTokenizer"))
    return encoder.name, tokenizer
