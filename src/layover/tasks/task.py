"""Task: a data set pinned to a revision, an input format, labels and metrics.

A format turns one row of a release into the segments that an encoder reads. Fields are named by paths:
`question.stem` goes into an object, `choices[].text` collects over a list, and `premise|sentence1` takes
the first field that the row has (releases of one data set differ in their names).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from layover.errors import did_you_mean

Row = Mapping[str, Any]
Segment = tuple[str, ...]
"""Pieces of one segment, joined by a space when encoded; one piece may be cut to fit."""
Input = tuple[Segment, Segment | None]
"""What the encoder reads at once: one segment, or two with the tokenizer's own separator."""
Output = Literal["classes", "choice", "value"]

MAX_CHARACTERS = 100_000  # an encoder reads at most a few thousand; a longer row is a broken file


@dataclass(frozen=True)
class Example:
    """One row, ready to encode.

    `row` is its position in its split's file, from 0: with it, predictions of two runs are paired.
    `inputs` holds one input, or one per choice. `label` is an index into the task's classes, the index
    of the right choice, or a real number.
    """

    row: int
    inputs: tuple[Input, ...]
    label: float


@dataclass(frozen=True)
class Hub:
    """A data set on the Hugging Face Hub at a pinned revision, and the names of its splits."""

    repo: str
    config: str | None
    revision: str
    train: str = "train"
    validation: str = "validation"

    def __str__(self) -> str:
        return f"{self.repo}{f'/{self.config}' if self.config else ''}@{self.revision[:12]}"


@dataclass(frozen=True)
class Single:
    """One text."""

    text: str
    output: Output = "classes"
    cut: Literal["text"] = "text"

    def inputs(self, row: Row) -> tuple[Input, ...]:
        """The one text."""
        return (((text_at(row, self.text),), None),)

    def paths(self) -> tuple[str, ...]:
        """The fields that are read."""
        return (self.text,)


@dataclass(frozen=True)
class Pair:
    """Two texts. `cut` says which one loses its end where both do not fit: the longest, or always the first."""

    first: str
    second: str
    output: Output = "classes"
    cut: Literal["longest", "first"] = "longest"

    def inputs(self, row: Row) -> tuple[Input, ...]:
        """The two texts."""
        return (((text_at(row, self.first),), (text_at(row, self.second),)),)

    def paths(self) -> tuple[str, ...]:
        """The fields that are read."""
        return (self.first, self.second)


@dataclass(frozen=True)
class Choice:
    """A context, perhaps a question, and choices of which one is right.

    Each choice is read as the pair (context question, choice). Where that does not fit, the context loses
    its end and the question stays (cutting the joined text would lose the question: papers.md 1.5).
    `choices` are the fields of the choices, or one path that yields a list of them.
    """

    context: str
    choices: tuple[str, ...]
    question: str | None = None
    output: Output = "choice"
    cut: Literal["first"] = "first"

    def inputs(self, row: Row) -> tuple[Input, ...]:
        """One input per choice."""
        first: Segment = (text_at(row, self.context),)
        if self.question is not None:
            first += (text_at(row, self.question),)
        return tuple((first, (text,)) for text in self._texts(row))

    def paths(self) -> tuple[str, ...]:
        """The fields that are read."""
        question = () if self.question is None else (self.question,)
        return (self.context, *question, *self.choices)

    def _texts(self, row: Row) -> list[str]:
        path, *others = self.choices
        if others:
            return [text_at(row, path) for path in self.choices]
        texts = value_at(row, path)
        if not isinstance(texts, list) or len(texts) < 2:
            raise FieldError(path, f"is {texts!r:.60}, not a list of two or more choices")
        return [checked_text(path, text) for text in texts]


Format = Single | Pair | Choice


@dataclass(frozen=True)
class Task:
    """A data set, an input format, labels and metrics.

    `labels` are the classes as strings, in the order of the release's integers; empty for choices and real
    numbers. `spellings` maps other ways of writing a label to its name. `bounds` are the lowest and highest
    value of a regression. `prepare` makes a release's row fit the format where a path cannot.
    The first metric is the primary one. `version` goes up when the meaning of the declaration changes:
    it is part of every key, the declaration itself is not.
    """

    name: str
    version: int
    format: Format
    metrics: tuple[str, ...]
    labels: tuple[str, ...] = ()
    label: str = "label"
    spellings: Mapping[str, str] = field(default_factory=dict)
    bounds: tuple[float, float] | None = None
    hub: Hub | None = None
    prepare: Callable[[Row], Row] | None = None
    generate: Callable[[], dict[str, list[dict[str, Any]]]] | None = None
    about: str = ""
    source: str = ""

    @property
    def primary(self) -> str:
        """The metric that decides."""
        return self.metrics[0]

    @property
    def output(self) -> Output:
        """What the head predicts: classes, the right choice, or a real number."""
        return self.format.output

    def example(self, index: int, row: Row) -> Example:
        """The example in `row`; raises FieldError where a field is missing or wrong."""
        row = self.prepare(row) if self.prepare else row
        inputs = self.format.inputs(row)
        return Example(index, inputs, self.read_label(value_at(row, self.label), len(inputs)))

    def fields(self) -> str:
        """The fields that a row needs, for messages: 'premise' or 'sentence1', 'label'."""
        return ", ".join(map(spelt, (*self.format.paths(), self.label)))

    def read_label(self, raw: Any, n_inputs: int) -> float:
        """A label as its index or number: spellings first, then names, then the release's integers."""
        if self.output == "value":
            return self._read_number(raw)
        names = self.labels or tuple(str(i) for i in range(n_inputs))
        written = label_text(raw)
        text = self.spellings.get(written, written)
        if text in names and not self._is_renumbered(written):
            return names.index(text)
        # integers stand for positions only where no name is a number: depths 4 to 7 have no label 0
        if text.isdecimal() and int(text) < len(names) and not any(name.isdecimal() for name in names):
            return int(text)
        choices = [name for name in (*names, *self.spellings) if not self._is_renumbered(name)]
        problem = f"holds {raw!r:.60}, which is not a label" if written else "is empty"
        raise FieldError(self.label, problem, did_you_mean(written, choices))

    def _is_renumbered(self, written: str) -> bool:
        """Whether `written` is an integer outside a numbering of the release's own, such as one from 1."""
        return written.isdecimal() and written not in self.spellings and any(map(str.isdecimal, self.spellings))

    def _read_number(self, raw: Any) -> float:
        low, high = self.bounds or (-math.inf, math.inf)
        try:
            number = float(raw)
        except (TypeError, ValueError):
            number = math.nan
        if isinstance(raw, bool) or not math.isfinite(number) or not low <= number <= high:
            raise FieldError(self.label, f"holds {raw!r:.60}, which is not a number from {low:g} to {high:g}")
        return number


class FieldError(Exception):
    """One field of one row is wrong; the reader adds the file and the line."""

    def __init__(self, path: str, message: str, hint: str = "") -> None:
        self.path, self.message, self.hint = path, message, hint
        super().__init__(f"field {spelt(path)} {message}")


def spelt(path: str) -> str:
    """A path as a message shows it: 'label' or 'gold_label'."""
    return " or ".join(repr(alternative) for alternative in path.split("|"))


def label_text(raw: Any) -> str:
    """A label as text: 1 for 1.0, true for True, without blanks around it."""
    if isinstance(raw, bool):
        return str(raw).lower()
    return str(int(raw)) if isinstance(raw, float) and raw.is_integer() else str(raw).strip()


def value_at(row: Any, path: str) -> Any:
    """The value at a path such as `a.b`, `a[].b` or `a|b`; raises FieldError where the row lacks it."""
    if isinstance(row, Mapping) and row.get(path) is not None:
        return row[path]  # a column may be called `body.text`
    for alternative in path.split("|"):
        value = _walk(row, alternative.split("."))
        if value is not None:
            return value
    have = ", ".join(map(str, list(row)[:12])) if isinstance(row, Mapping) else type(row).__name__
    raise FieldError(path, "is missing", f"the row has: {have}")


def text_at(row: Row, path: str) -> str:
    """The text at a path, checked."""
    return checked_text(path, value_at(row, path))


def checked_text(path: str, value: Any) -> str:
    """`value` where it is a text with something in it and of sane length; raises FieldError otherwise."""
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        value = str(value)
    if not isinstance(value, str):
        raise FieldError(path, f"holds {value!r:.60}, not a text")
    if not value.strip():
        raise FieldError(path, "is empty")
    if len(value) >= MAX_CHARACTERS:
        long = f"has {len(value):,} characters (fewer than {MAX_CHARACTERS:,} are read)"
        raise FieldError(path, long, "shorten or split the row, or take it out")
    if not value.isascii() and not _encodes(value):
        half = "holds half a character (a lone surrogate such as \\ud83d), which no tokenizer reads"
        raise FieldError(path, half, "write the file again as UTF-8")
    return value


def _encodes(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _walk(value: Any, parts: list[str]) -> Any:
    for position, part in enumerate(parts):
        if part.endswith("[]"):
            items = _walk(value, [part[:-2]])
            if not isinstance(items, list):
                return None
            rest = parts[position + 1 :]
            found = [_walk(item, rest) if rest else item for item in items]
            return None if any(item is None for item in found) else found
        if not isinstance(value, Mapping) or part not in value:
            return None
        value = value[part]
    return value
