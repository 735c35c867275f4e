"""Task: a data set pinned to a revision, an input format, labels and metrics."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from layover.errors import did_you_mean
from layover.tasks.example import Example, Omitted, Output
from layover.tasks.fields import FieldError, Row, label_text, spelt
from layover.tasks.formats import Choice, Cloze, Pair, PassageAnswers, Single
from layover.tasks.release import Release
from layover.tasks.spans import Coreference, EdgeProbing, Span, Tagging, WordInContext
from layover.tasks.text import Text

Format = (
    Single | Pair | Choice | PassageAnswers | Cloze | Span | Tagging | EdgeProbing | WordInContext | Coreference | Text
)


@dataclass(frozen=True)
class Hub:
    """A data set on the Hugging Face Hub at a pinned revision, and the names of its splits.

    `together` is the field of which equal values mark the rows, one after another, that are one row of the release:
    they are read as one with a list of them, `rows`. `load` gives the splits where a package makes them of the data
    set, and `by` is that package with its version; only then may `revision` be a branch, or "" for the newest, until
    `hub.pinned` makes a commit of it.
    """

    repo: str
    config: str | None
    revision: str
    train: str = "train"
    validation: str = "validation"
    together: str = ""
    load: Callable[[Hub], Mapping[str, Any]] | None = None
    by: str = ""

    @property
    def digest(self) -> str:
        """What the data is, for identity."""
        made = f"+{self.by}" if self.by else ""
        return f"hub:{self._name}@{self.revision or 'newest'}{made}"

    @property
    def _name(self) -> str:
        return f"{self.repo}/{self.config}" if self.config else self.repo

    def __str__(self) -> str:
        return f"{self._name}@{self.revision[:12] or 'newest'}"


@dataclass(frozen=True)
class Task:
    """A data set, an input format, labels and metrics.

    `labels` are the classes as strings, in the order of the release's integers; empty for choices, real numbers and
    answers in a passage, and with `labels_in_data`, where they are all labels that the data has, sorted. `label` is the
    path of the label. `spellings` maps other ways of writing a label to its name. `bounds` are the lowest and highest
    value of a regression. `prepare` makes a release's row fit the format where a path cannot, or divides it into the
    parts that ask one thing each; `Omitted` stands for a part of which no example is made. `release` says how the
    release's own files lie in a data directory. `licence` says, of a corpus that is not free, what it is, where it is
    licensed and how its files are made. `family` is what listings show for many tasks that differ by a number alone.
    `published` are the questions (most rows ask one thing) that the release or the papers count in train and
    validation.
    The first metric is the primary one. `version` goes up when the meaning of the declaration changes:
    it is part of every key, the declaration itself is not.
    """

    name: str
    version: int
    format: Format
    metrics: tuple[str, ...]
    labels: tuple[str, ...] = ()
    label: str = "label"
    labels_in_data: bool = False
    spellings: Mapping[str, str] = field(default_factory=dict)
    bounds: tuple[float, float] | None = None
    hub: Hub | None = None
    release: Release = field(default_factory=Release)
    prepare: Callable[[Row], Row | Sequence[Row | Omitted]] | None = None
    generate: Callable[[], dict[str, list[dict[str, Any]]]] | None = None
    about: str = ""
    source: str = ""
    licence: str = ""
    family: str = ""
    published: tuple[int, int] | None = None

    @property
    def primary(self) -> str:
        """The metric that decides."""
        return self.metrics[0]

    @property
    def output(self) -> Output:
        """What the head predicts."""
        return self.format.output

    def parts(self, row: Row | Omitted) -> Sequence[Row | Omitted]:
        """What a row asks: the row itself, or as many rows as it asks things."""
        if isinstance(row, Omitted):
            return (row,)
        prepared = self.prepare(row) if self.prepare else row
        return (prepared,) if isinstance(prepared, Mapping) else prepared

    def examples(self, index: int, row: Row | Omitted) -> list[Example]:
        """The examples in `row`, none or more; raises FieldError where a field is missing or wrong."""
        return list(self._examples(index, row))

    def _examples(self, index: int, row: Row | Omitted) -> Iterator[Example]:
        for part, asked in enumerate(self.parts(row)):
            if not isinstance(asked, Omitted):
                yield from self.format.examples(index, part, asked, self)

    def written_labels(self, row: Row | Omitted) -> Iterator[str]:
        """The labels of a row by name, for a task whose labels are those in the data."""
        for asked in self.parts(row):
            if not isinstance(asked, Omitted):
                for raw in self.format.labels(asked, self):
                    written = label_text(raw)
                    if not written or not isinstance(raw, str | int | float):
                        raise FieldError(self.label, f"holds {raw!r:.60}, which cannot be a label")
                    yield self.spellings.get(written, written)

    def fields(self) -> str:
        """The fields that a row needs, for messages: 'premise' or 'sentence1', 'label'."""
        paths = self.release.fields or self.format.paths()
        unlabelled = self.format.scored in ("text", "tokens")  # the answers are in the passage, or the text itself
        label = () if unlabelled or self.label in paths else (self.label,)
        return ", ".join(map(spelt, (*paths, *label)))

    def read_label(self, raw: Any, n_inputs: int = 1) -> float:
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
