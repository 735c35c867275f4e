"""Formats: how a row becomes examples. Here: texts, pairs, choices, answers about a passage, and cloze queries.

A format is a frozen dataclass of the fields that it reads. Its `output`, `reads` and `scored` choose the head and the
metrics, `cut` says what loses its end where an input is too long; `examples` raises FieldError where a field is missing
or wrong, `labels` gives a row's labels as they are written, for tasks whose labels are those in the data, and `paths`
the fields that are read besides the label.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from layover.tasks.example import Example, Input, Output, Reads, Scored, Segment, Target
from layover.tasks.fields import FieldError, Row, checked_text, text_at, value_at

if TYPE_CHECKING:
    from layover.tasks.task import Task

Cut = Literal["text", "longest", "first"]
"""What loses its end where an input is too long: the only text, the longer of two, or the first piece of the first."""


@dataclass(frozen=True)
class Single:
    """One text."""

    reads: ClassVar[Reads] = Reads()
    cut: ClassVar[Cut] = "text"

    text: str
    output: Literal["classes", "value"] = "classes"

    @property
    def scored(self) -> Scored:
        """Classes or numbers, as the head predicts them."""
        return self.output

    def examples(self, index: int, part: int, row: Row, task: Task) -> Iterator[Example]:
        """One example."""
        yield _plain(index, part, (((text_at(row, self.text),), None),), row, task)

    def labels(self, row: Row, task: Task) -> list[Any]:
        """The label."""
        return [value_at(row, task.label)]

    def paths(self) -> tuple[str, ...]:
        """The fields that are read."""
        return (self.text,)


@dataclass(frozen=True)
class Pair:
    """Two texts. `cut` says which one loses its end where both do not fit: the longest, or always the first.

    `blank` says whether the second may be empty: the first is then read alone.
    """

    reads: ClassVar[Reads] = Reads()

    first: str
    second: str
    output: Literal["classes", "value"] = "classes"
    cut: Literal["longest", "first"] = "longest"
    blank: bool = False

    @property
    def scored(self) -> Scored:
        """Classes or numbers, as the head predicts them."""
        return self.output

    def examples(self, index: int, part: int, row: Row, task: Task) -> Iterator[Example]:
        """One example."""
        alone = self.blank and value_at(row, self.second) == ""
        texts: Input = ((text_at(row, self.first),), None if alone else (text_at(row, self.second),))
        yield _plain(index, part, (texts,), row, task)

    def labels(self, row: Row, task: Task) -> list[Any]:
        """The label."""
        return [value_at(row, task.label)]

    def paths(self) -> tuple[str, ...]:
        """The fields that are read."""
        return (self.first, self.second)


@dataclass(frozen=True)
class Choice:
    """A context, perhaps a question, and choices of which one is right.

    Each choice is read as the pair (context question, choice), or alone where there is no context or an empty one.
    Where that does not fit, the context loses its end and the question stays (cutting the joined text would lose the
    question: papers.md 1.5). `choices` are the fields of the choices, or one path that yields a list of them.
    """

    output: ClassVar[Output] = "choice"
    scored: ClassVar[Scored] = "choice"
    reads: ClassVar[Reads] = Reads()
    cut: ClassVar[Cut] = "first"

    context: str | None
    choices: tuple[str, ...]
    question: str | None = None

    def examples(self, index: int, part: int, row: Row, task: Task) -> Iterator[Example]:
        """One example with an input per choice."""
        first: Segment = ()
        if self.context is not None and value_at(row, self.context) != "":
            first = (text_at(row, self.context),)
        if self.question is not None:
            first += (text_at(row, self.question),)
        inputs: list[Input] = [(first, (text,)) if first else ((text,), None) for text in self._texts(row)]
        yield _plain(index, part, tuple(inputs), row, task)

    def labels(self, row: Row, task: Task) -> list[Any]:
        """The right choice."""
        return [value_at(row, task.label)]

    def paths(self) -> tuple[str, ...]:
        """The fields that are read."""
        return tuple(path for path in (self.context, self.question, *self.choices) if path is not None)

    def _texts(self, row: Row) -> list[str]:
        path, *others = self.choices
        if others:
            return [text_at(row, path) for path in self.choices]
        texts = value_at(row, path)
        if not isinstance(texts, list) or len(texts) < 2:
            raise FieldError(path, f"is {texts!r:.60}, not a list of two or more choices")
        return [checked_text(path, text) for text in texts]


@dataclass(frozen=True)
class PassageAnswers:
    """A passage, a question, and answers of which any number are right, as in MultiRC (Khashabi et al. 2018).

    `blank` says whether an answer may be empty, as three of MultiRC's are: the question is then read alone.
    Every answer is an example of its own, the pair (passage, question answer), with one of two classes; metrics look at
    the answers of a question together. `answers` is a path that yields a list of texts, and the task's label path one
    that yields a list of labels. Where a pair does not fit, the passage loses its end.
    """

    output: ClassVar[Output] = "classes"
    scored: ClassVar[Scored] = "answers"
    reads: ClassVar[Reads] = Reads()
    cut: ClassVar[Cut] = "first"

    passage: str
    question: str
    answers: str
    blank: bool = False

    def examples(self, index: int, part: int, row: Row, task: Task) -> Iterator[Example]:
        """One example per answer."""
        passage, question = text_at(row, self.passage), text_at(row, self.question)
        answers, labels = value_at(row, self.answers), value_at(row, task.label)
        if not isinstance(answers, list) or not answers:
            raise FieldError(self.answers, f"is {answers!r:.60}: a question needs a list of answers")
        if not isinstance(labels, list) or len(labels) != len(answers):
            raise FieldError(task.label, f"is {labels!r:.60}, not one label for each of {len(answers)} answers")
        for text, raw in zip(answers, labels, strict=True):
            asked = (question,) if self.blank and not text else (question, checked_text(self.answers, text))
            yield Example(index, (((passage,), asked),), (Target((task.read_label(raw),)),), part)

    def labels(self, row: Row, task: Task) -> list[Any]:
        """The labels of all answers."""
        return list(value_at(row, task.label))

    def paths(self) -> tuple[str, ...]:
        """The fields that are read."""
        return (self.passage, self.question, self.answers)


@dataclass(frozen=True)
class Cloze:
    """A passage and a query with a gap, which one of several candidates fills, as in ReCoRD (Zhang et al. 2018).

    Every candidate is put into the gap and becomes an example of its own, the pair (passage, query), with the classes
    wrong and right; the candidate that is most probably right is the prediction, scored as a text against any of the
    answers. `candidates` and `answers` are paths that yield lists of texts. The task has no label path of its own.
    """

    output: ClassVar[Output] = "classes"
    scored: ClassVar[Scored] = "text"
    reads: ClassVar[Reads] = Reads()
    cut: ClassVar[Cut] = "first"

    passage: str
    query: str
    candidates: str
    answers: str
    gap: str = "@placeholder"

    def examples(self, index: int, part: int, row: Row, task: Task) -> Iterator[Example]:
        """One example per candidate, each text once."""
        passage, query = text_at(row, self.passage), text_at(row, self.query)
        if self.gap not in query:
            raise FieldError(self.query, f"has no {self.gap}: {query!r:.60}")
        golds = tuple(dict.fromkeys(_texts_at(row, self.answers)))
        for text in dict.fromkeys(_texts_at(row, self.candidates)):
            pair: Input = ((passage,), (query.replace(self.gap, text),))
            yield Example(index, (pair,), (Target((float(text in golds),)),), part, text, golds)

    def labels(self, row: Row, task: Task) -> list[Any]:
        """None are written."""
        return []

    def paths(self) -> tuple[str, ...]:
        """The fields that are read."""
        return (self.passage, self.query, self.candidates, self.answers)


def _plain(index: int, part: int, inputs: tuple[Input, ...], row: Row, task: Task) -> Example:
    return Example(index, inputs, (Target((task.read_label(value_at(row, task.label), len(inputs)),)),), part)


def _texts_at(row: Row, path: str) -> list[str]:
    texts = value_at(row, path)
    if not isinstance(texts, list) or not texts:
        raise FieldError(path, f"is {texts!r:.60}, not a list of texts")
    return [checked_text(path, text) for text in texts]
