"""tasksource: the tasks of the package of that name (Sileo 2024, LREC-COLING), as `tasksource:glue/rte`.

The package declares several hundred English data sets of the Hub as classification, multiple choice or token
classification, and brings each into one of three shapes. Here a declaration becomes a Task. Rows are those that
`tasksource.load_task` gives, so that choices are at most four, as it makes them. Their identity is the commit of the
repository and the version of the package; what its code fetches from elsewhere meanwhile cannot be pinned.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib.metadata import version
from typing import Any

from layover.encoders import COMMIT
from layover.errors import MissingExtra, Problem, TaskError, did_you_mean
from layover.tasks.example import Omitted
from layover.tasks.fields import FieldError, Row, label_text
from layover.tasks.formats import Choice, Pair
from layover.tasks.spans import Tagging
from layover.tasks.task import Format, Hub, Task

PREFIX = "tasksource:"
SOURCE = "tasksource (Sileo 2024, LREC-COLING); the licence is on the data set's card"

Prepared = Row | Sequence[Row | Omitted]


def find(name: str, place: str = "") -> Task:
    """The task called `tasksource:ID`, or `tasksource:ID@COMMIT` at a commit of its repository. Needs no network.

    Raises TaskError where there is none, or where its data has no revision that can be pinned.
    """
    identifier, at, commit = name.removeprefix(PREFIX).partition("@")
    package, declared = _package(name), _declarations(name)
    if identifier not in declared:
        near = did_you_mean(name, [PREFIX + known for known in declared])
        raise TaskError(Problem(place, f"tasksource has no task called {identifier!r}", near))
    if at and not COMMIT.fullmatch(commit):
        raise TaskError(Problem(place, f"{commit!r} is not a commit", "pin one by its 40 hex digits"))
    row, known = declared[identifier], package.task_provenance(identifier)
    repo = known.get("dataset") or next(iter(known.get("data_files_from", ())), None)
    if repo is None:
        where = ", ".join(known.get("source_urls", ()))
        message = f"the data of {identifier!r} is not on the Hub and has no revision to pin: {where}"
        raise TaskError(Problem(place, message, "fetch it and declare it as a task of your own"))
    revision = commit or known.get("revision") or known.get("data_file_revisions", {}).get(repo, "")
    is_files = "dataset" not in known
    hub = Hub(
        repo=repo,
        config=known.get("config"),
        revision=revision,
        load=partial(_splits, identifier, is_files),
        by=f"tasksource-{version('tasksource')}",
    )
    question = row.mapping.question
    about = question if isinstance(question, str) else f"{row.task_type} of {repo}"
    return _task(f"{PREFIX}{identifier}{at}{commit}", row, hub, about)


def _task(name: str, row: Any, hub: Hub, about: str) -> Task:
    """The task of one declaration: its number, its labels where they are declared, else those that its data has."""
    mapping, shape = row.mapping, SHAPES[row.task_type]
    common: dict[str, Any] = {"hub": hub, "label": "labels", "about": about, "source": SOURCE}
    if getattr(mapping, "regression", False):
        number = Pair("sentence1", "sentence2", "value", blank=True)
        bounds = (float(mapping.low), float(mapping.high))
        return Task(name, 1, number, ("spearman", "pearson"), bounds=bounds, prepare=_texts, **common)
    common["prepare"] = shape.prepare
    if row.task_type == "MultipleChoice":
        return Task(name, 1, shape.format, shape.metrics, **common)
    options = getattr(mapping, "options", None)  # of ratings by several people, whose majority is the label
    values = list(mapping.label_values.values()) or (list(options) if isinstance(options, list | tuple) else [])
    labels = tuple(map(label_text, values))
    return Task(name, 1, shape.format, shape.metrics, labels, labels_in_data=not labels, **common)


def _package(name: str) -> Any:
    try:
        import tasksource  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise MissingExtra("tasksource", "tasksource", f"task {name!r}") from None
    return tasksource


def _declarations(name: str) -> dict[str, Any]:
    return {row.id: row for row in _package(name).list_tasks().itertuples()}


@lru_cache(maxsize=1)  # labels and both splits are read one after the other
def _loaded(identifier: str, is_files: bool, repo: str, revision: str) -> Any:
    pin: dict[str, Any] = {"data_file_pins": {repo: revision}} if is_files else {"revision": revision or None}
    return _package(PREFIX + identifier).load_task(identifier, **pin)


def _splits(identifier: str, is_files: bool, hub: Hub) -> Mapping[str, Any]:
    """The splits of a task as tasksource makes them; labels by name."""
    loaded = _loaded(identifier, is_files, hub.repo, hub.revision)
    return {split: Named(rows) for split, rows in loaded.items()}


@dataclass(frozen=True)
class Named:
    """Rows of a split whose labels are names, where the data set has names for classes, else as they are."""

    rows: Any

    def __iter__(self) -> Iterator[Row]:
        feature = self.rows.features["labels"]
        feature = getattr(feature, "feature", feature)
        names = None if "inputs" in self.rows.features else getattr(feature, "names", None)
        for row in self.rows:
            yield row if names is None else {**row, "labels": _named(row["labels"], names)}

    @property
    def cache_files(self) -> list[Any]:
        """The files that the rows are read from."""
        return self.rows.cache_files


def _named(label: Any, names: Sequence[str]) -> Any:
    """The name of a label, or names of several; None for a hidden one (-1)."""
    if isinstance(label, list):
        return [_named(one, names) for one in label]
    return names[label] if label is not None and label >= 0 else None


def _texts(row: Row) -> Prepared:
    texts = [text for text in (row.get("sentence1"), row.get("sentence2")) if _is_there(text)]
    if not texts or row["labels"] is None:
        return [Omitted("no text" if not texts else "no label")]
    return {**row, "sentence1": texts[0], "sentence2": texts[1] if len(texts) == 2 else ""}


def _classes(row: Row) -> Prepared:
    label = row["labels"]
    if isinstance(label, float) and not label.is_integer():
        hint = "declare the data as a task of your own, with range"
        raise FieldError("labels", f"holds {label!r}: numbers, whose range tasksource does not declare", hint)
    return _texts(row)


def _choices(row: Row) -> Prepared:
    names = sorted((key for key in row if re.fullmatch(r"choice\d+", key)), key=lambda key: int(key[6:]))
    choices = [row[name] for name in names]
    while choices and choices[-1] is None:  # rows with fewer choices than others are filled up
        choices.pop()
    if len(choices) < 2 or not all(map(_is_there, choices)):
        return [Omitted("an empty choice")]
    if row["labels"] is None or row["labels"] < 0:
        return [Omitted("no label")]
    context = row["inputs"] if _is_there(row.get("inputs")) else ""
    return {**row, "inputs": context, "choices": choices}


def _words(row: Row) -> Prepared:
    if not row["tokens"] or not all(map(_is_there, row["tokens"])):
        return [Omitted("an empty word")]
    return row if row["labels"] is not None and None not in row["labels"] else [Omitted("no label")]


def _is_there(text: Any) -> bool:
    return text is not None and bool(str(text).strip())


@dataclass(frozen=True)
class Shape:
    """What one of tasksource's templates is here."""

    format: Format
    metrics: tuple[str, ...]
    prepare: Callable[[Row], Prepared]


SHAPES = {
    "Classification": Shape(Pair("sentence1", "sentence2", blank=True), ("accuracy", "macro_f1"), _classes),
    "MultipleChoice": Shape(Choice("inputs", ("choices",)), ("accuracy",), _choices),
    "TokenClassification": Shape(Tagging("tokens"), ("macro_f1", "accuracy"), _words),
}
