"""Cache: data sets read and encoded once, kept memory-mapped in the store, and shared by all runs and processes.

An entry is keyed by everything that its content depends on: the task's declaration, the digest of its data, which
examples, the tokenizer's content, the longest input, and the code that reads and encodes. It says all of that itself
and is compared with what is asked for, so that it is never taken for another. No entry is part of a step's identity: a
lost or damaged one is made again, and costs time alone.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from layover import arrays, identity, tasks
from layover.errors import Problem, StoreError
from layover.files import digest
from layover.store import ENCODED, Store
from layover.tasks.divide import Portion, held_out, portions
from layover.tasks.load import Source, Survey, TaskData, survey, surveyed
from layover.tasks.task import Task
from layover.train import encode, masking, tokens
from layover.train.encode import Encoded


@dataclass(frozen=True)
class Splits:
    """A step's data as it is trained on; `selection` is None where the step never looks at one."""

    train: Encoded
    selection: Encoded | None
    validation: Encoded


@dataclass(frozen=True, eq=False)
class Located:
    """A step's data where it was found, every row of it checked, and how it is divided.

    `held` says which examples of train are the selection set; without it, validation serves as one if `selects`.
    """

    store: Store
    source: Source
    survey: Survey
    train: Portion
    validation: Portion
    held: NDArray[np.bool_] | None
    selects: bool

    @property
    def task(self) -> Task:
        """The task, with the labels that its data has."""
        return self.survey.task


def located(
    store: Store,
    task: Task,
    source: Source,
    *,
    limit_train: int | None,
    limit_validation: int | None,
    selection: Literal["holdout", "validation"] | None,
    holdout: float,
    drawn: int | None = None,
) -> Located:
    """Check every row of a task's data, unless this store has seen them, and divide them as `tasks.load.load` does.

    A step without a `selection` set trains on all rows. Raises TaskError with what is wrong with the rows.
    """
    found = _surveyed_once(store, task, source)
    train, validation = portions(found.examples, len(found.task.labels), limit_train, limit_validation, drawn)
    rows = found.examples[train.file][train.kept, 0]
    held = held_out(rows, holdout, len(found.task.labels)) if selection == "holdout" else None
    return Located(store, source, found, train, validation, held, selection is not None)


def splits(data: Located | TaskData, tokenizer: Any, max_length: int) -> Splits:
    """A step's data encoded: out of the store where it has been encoded before, and in memory for examples at hand."""
    if isinstance(data, TaskData):
        return _in_memory(data, tokenizer, max_length)
    train, validation = encoded(data, (data.train, data.validation), tokenizer, max_length)
    if data.held is None:
        return Splits(train, validation if data.selects else None, validation)
    return Splits(train.take(np.flatnonzero(~data.held)), train.take(np.flatnonzero(data.held)), validation)


def _in_memory(data: TaskData, tokenizer: Any, max_length: int) -> Splits:
    train, validation = (
        encode.encode(examples, data.task, tokenizer, max_length) for examples in (data.train, data.validation)
    )
    if data.selection is data.validation:
        return Splits(train, validation, validation)
    selection = encode.encode(data.selection, data.task, tokenizer, max_length) if data.selection else None
    return Splits(train, selection, validation)


def _surveyed_once(store: Store, task: Task, source: Source) -> Survey:
    made_of = {"kind": "survey", "task": _declaration(task), "data": source.digest, "code": _code(task)}

    def write() -> tuple[dict[str, Any], Iterable[arrays.Columns]]:
        found = survey(task, source)
        return {"labels": list(found.task.labels)}, [found.examples]

    found = once(store, made_of, write)
    return Survey(replace(task, labels=tuple(found.facts["labels"])), found.columns)


def encoded(data: Located, parts: Sequence[Portion], tokenizer: Any, max_length: int) -> list[Encoded]:
    """Parts of a step's data encoded, each once."""
    own = {"kind": "encoded", "tokenizer": tokens.digest(tokenizer), "max_length": max_length}
    return [_encoded(data, part, tokenizer, max_length, own) for part in parts]


def _encoded(data: Located, part: Portion, tokenizer: Any, max_length: int, own: Mapping[str, Any]) -> Encoded:
    made_of = {**examples_of(data, part), **own}

    def write() -> tuple[dict[str, Any], Iterable[arrays.Columns]]:
        examples = surveyed(data.survey, data.source, part)
        return {"examples": int(part.kept.sum())}, encode.columns(examples, data.task, tokenizer, max_length)

    return encode.assembled(once(data.store, made_of, write).columns)


def examples_of(data: Located, part: Portion, *modules: Any) -> dict[str, Any]:
    """Which examples a part of a step's data are, as an entry says it, and the code that makes it (also `modules`)."""
    return {
        "task": _declaration(data.task),
        "data": data.source.digest,
        "file": part.file,
        "kept": hashlib.sha256(part.kept.tobytes()).hexdigest(),
        "code": _code(data.task, *modules),
    }


def once(
    store: Store,
    made_of: Mapping[str, Any],
    write: Callable[[], tuple[Mapping[str, Any], Iterable[arrays.Columns]]],
    private: bool = False,
) -> arrays.Arrays:
    """The entry that is made of this, written first where the store does not have it whole.

    `private` is that of `arrays.opened`.
    """
    folder = store.encoded(identity.key(ENCODED, made_of))
    found = arrays.opened(folder, made_of, private)
    if found is None:
        with store.writing():
            arrays.publish(folder, made_of, *write())
        found = arrays.opened(folder, made_of, private)
    if found is None:
        message = "was written and cannot be read back"
        raise StoreError(Problem(str(folder), message, "check the disk, or name another store with --store"))
    return found


def _declaration(task: Task) -> dict[str, Any]:
    """What of a task decides its examples, as JSON."""
    names = ("name", "version", "label", "labels", "labels_in_data", "spellings", "bounds")
    release = {name: getattr(task.release, name) for name in ("columns", "ragged", "together", "plain")}
    return {
        **{name: identity.canonical(getattr(task, name)) for name in names},
        "format": type(task.format).__name__,
        "fields": identity.canonical(task.format),
        "release": identity.canonical({**release, "hub_together": task.hub.together if task.hub else ""}),
        "functions": [_spelt(function) for function in _functions(task)],
    }


def _functions(task: Task) -> list[Callable[..., Any]]:
    """The functions of a task's own that decide its examples."""
    gathered = task.release.gathered
    others = (gathered.find, gathered.rows) if gathered else ()
    return [made for made in (task.prepare, task.generate, task.hub and task.hub.load, *others) if made]


def _spelt(function: Any) -> str:
    """A function by name, with what is bound to it."""
    if isinstance(function, partial):
        bound = (*function.args, *sorted(function.keywords.items()))
        return f"{_spelt(function.func)}({', '.join(_spelt(one) if callable(one) else repr(one) for one in bound)})"
    return f"{function.__module__}.{getattr(function, '__qualname__', function)}"  # an object by its repr


def _code(task: Task, *others: Any) -> str:
    """A digest of the code that reads and encodes: this package's, that of the task's own functions, and `others`."""
    made = [type(task.format), *(getattr(function, "func", function) for function in _functions(task))]
    modules = [encode, masking, tokens, arrays, *others, *(sys.modules.get(one.__module__) for one in made)]
    files = {file for module in modules if (file := getattr(module, "__file__", None))}
    return _digest_of(tuple(sorted(files | set(map(str, Path(tasks.__file__).parent.glob("*.py"))))))


@lru_cache
def _digest_of(files: tuple[str, ...]) -> str:
    return hashlib.sha256("".join(digest(Path(file)) for file in files).encode("ascii")).hexdigest()
