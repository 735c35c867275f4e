"""Locate: where a task's data is: a user's own files, a directory of task data, or the Hub."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from layover import files as content
from layover.errors import DataMissing, Problem, TaskError, raise_all
from layover.tasks import readers
from layover.tasks.readers import SPLITS, layout
from layover.tasks.release import Gathered
from layover.tasks.task import Task

Found = tuple[Mapping[str, Path], Gathered | None]


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
        return Source(task.hub.digest, {})
    looked = f"it is in none of {', '.join(map(str, data))}" if data else "no data directory was given"
    message = f"its data was not found: {looked}, and it is not on the Hub"
    licence = f"{task.licence}; then " if task.licence else ""
    raise DataMissing(Problem(f"task {task.name!r}", message, f"{licence}pass --data DIR with {layout(task)}"))


def _source(found: Mapping[str, Path], gathered: Gathered | None = None) -> Source:
    return Source(digest_of(found), dict(found), gathered)


def digest_of(files: Mapping[str, Path], again: bool = False) -> str:
    """The digest of data in files: of their content, by name. `again` reads even what this process has read."""
    try:
        read = content.digest if again else content.digest_once
        parts = "".join(f"{name} {read(files[name])}\n" for name in sorted(files))
    except OSError as error:
        raise TaskError(Problem(str(error.filename), f"cannot be read: {error.strerror}")) from error
    return f"sha256:{hashlib.sha256(parts.encode('utf-8')).hexdigest()}"


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
