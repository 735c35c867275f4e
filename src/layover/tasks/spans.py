"""Formats about stretches of text: answers in a passage, tags, edge probing, words in context, coreference."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from layover.tasks.example import Example, Input, Mark, Output, Reads, Scored, Target
from layover.tasks.fields import FieldError, Row, checked_text, text_at, value_at
from layover.tasks.formats import Cut

if TYPE_CHECKING:
    from layover.tasks.task import Task


@dataclass(frozen=True)
class Span:
    """A passage, a question, and the stretch of the passage that answers it (QAMR, QA-SRL, SQuAD).

    Read as the pair (passage, question); the head scores every token as begin and as end of the answer. `answers` is a
    path to one text or to a list of accepted ones, `starts` one to where they begin, in characters; without it, where
    the text occurs first. Training learns the first answer, and predictions are scored against the best of all; with
    `each`, every answer is an example of its own, scored by itself (Pruksachatkun et al. 2020). Where a pair does not
    fit, the passage loses its end; an answer that is lost with it is not trained on, and counts as not found.
    """

    output: ClassVar[Output] = "extent"
    scored: ClassVar[Scored] = "text"
    reads: ClassVar[Reads] = Reads(sentence=False)
    cut: ClassVar[Cut] = "first"

    passage: str
    question: str
    answers: str
    starts: str | None = None
    each: bool = False

    def examples(self, index: int, part: int, row: Row, task: Task) -> Iterator[Example]:
        """One example, or one per answer."""
        passage = text_at(row, self.passage)
        inputs: tuple[Input, ...] = (((passage,), (text_at(row, self.question),)),)
        found = self._found(row, passage)
        golds = tuple(dict.fromkeys(text for text, _ in found))
        for text, mark in found if self.each else found[:1]:
            yield Example(index, inputs, (Target((0.0,), (mark,)),), part, passage, (text,) if self.each else golds)

    def labels(self, row: Row, task: Task) -> list[Any]:
        """None: the answer is in the passage."""
        return []

    def paths(self) -> tuple[str, ...]:
        """The fields that are read."""
        return (self.passage, self.question, self.answers, *([self.starts] if self.starts else []))

    def _found(self, row: Row, passage: str) -> list[tuple[str, Mark]]:
        texts = _listed(value_at(row, self.answers))
        if not texts:
            raise FieldError(self.answers, "is empty: a question needs an answer")
        starts = _listed(value_at(row, self.starts)) if self.starts else [None] * len(texts)
        if len(starts) != len(texts):
            raise FieldError(self.starts or "", f"holds {len(starts)} places for {len(texts)} answers")
        return [self._place(passage, checked_text(self.answers, t), s) for t, s in zip(texts, starts, strict=True)]

    def _place(self, passage: str, text: str, start: Any) -> tuple[str, Mark]:
        if start is None:
            begin = passage.find(text)
            if begin < 0:
                raise FieldError(self.answers, f"holds {text!r:.60}, which is not in the passage: {passage!r:.60}")
        else:
            begin = whole_number(start, self.starts or "")
            if begin < 0 or passage[begin : begin + len(text)] != text:
                there = passage[max(0, begin) : max(0, begin) + len(text)]
                raise FieldError(self.starts or "", f"is {start!r}: there stands {there!r:.60}, not {text!r:.60}")
        return text, Mark(0, begin, begin + len(text))


@dataclass(frozen=True)
class Tagging:
    """Words, each with a tag, predicted from the word's first sub-token (CCG supertagging, named entities).

    `words` is a path to a list of words or to a text with a blank between words; the task's label path leads to a list
    of as many tags, or a text of them. Tags in a part of the text that was cut are not trained on, and count as wrong.
    """

    output: ClassVar[Output] = "classes"
    scored: ClassVar[Scored] = "classes"
    reads: ClassVar[Reads] = Reads(sentence=False, marks=1, pool="first")
    cut: ClassVar[Cut] = "text"

    words: str

    def examples(self, index: int, part: int, row: Row, task: Task) -> Iterator[Example]:
        """One example with a target per word."""
        raw = value_at(row, self.words)
        words = raw.split() if isinstance(raw, str) else raw
        if not isinstance(words, list) or not words:
            raise FieldError(self.words, f"is {raw!r:.60}, not a list of words")
        words = [checked_text(self.words, word) for word in words]
        tags = self.labels(row, task)
        if len(tags) != len(words):
            raise FieldError(task.label, f"holds {len(tags)} tags for {len(words)} words")
        marks = word_marks(words)
        targets = tuple(Target((task.read_label(t),), (m,)) for t, m in zip(tags, marks, strict=True))
        yield Example(index, (((" ".join(words),), None),), targets, part)

    def labels(self, row: Row, task: Task) -> list[Any]:
        """All tags."""
        tags = value_at(row, task.label)
        return tags.split() if isinstance(tags, str) else list(_listed(tags))

    def paths(self) -> tuple[str, ...]:
        """The fields that are read."""
        return (self.words,)


@dataclass(frozen=True)
class EdgeProbing:
    """A text and any number of targets in it: one or two stretches of words with a set of labels (Tenney et al. 2019).

    `text` has a blank between words. The stretches `[begin, end)`, the fields of a target in `names`, count words of
    `text.split(" ")`. The head projects tokens, pools each stretch with self-attention, and puts a two-layer network
    with a sigmoid per label on top, as in Pruksachatkun et al. 2020; all targets of a text are learnt in one pass. The
    task's label path starts at a target.
    A row without targets gives no example.
    """

    output: ClassVar[Output] = "labels"
    scored: ClassVar[Scored] = "labels"
    cut: ClassVar[Cut] = "text"

    spans: Literal[1, 2]
    text: str = "text"
    targets: str = "targets"
    names: tuple[str, ...] = ("span1", "span2")

    @property
    def reads(self) -> Reads:
        """One or two stretches, projected to 256, and a hidden layer of 256."""
        return Reads(sentence=False, marks=self.spans, pool="attentive", project=256, hidden=256)

    def examples(self, index: int, part: int, row: Row, task: Task) -> Iterator[Example]:
        """One example with all targets of the text."""
        text = text_at(row, self.text)
        marks = word_marks(text.split(" "))
        targets = tuple(self._target(target, marks, task) for target in self._targets(row))
        if targets:
            yield Example(index, (((text,), None),), targets, part)

    def labels(self, row: Row, task: Task) -> list[Any]:
        """The labels of all targets."""
        return [label for target in self._targets(row) for label in _listed(value_at(target, task.label))]

    def paths(self) -> tuple[str, ...]:
        """The fields that are read."""
        return (self.text, *(f"{self.targets}[].{name}" for name in self.names[: self.spans]))

    def _targets(self, row: Row) -> list[Any]:
        targets = value_at(row, self.targets)
        if not isinstance(targets, list):
            raise FieldError(self.targets, f"is {targets!r:.60}, not a list of targets")
        return targets

    def _target(self, target: Any, marks: Sequence[Mark], task: Task) -> Target:
        found = tuple(word_span(value_at(target, name), marks, name) for name in self.names[: self.spans])
        raw = _listed(value_at(target, task.label))
        return Target(tuple(sorted({task.read_label(label) for label in raw})), found)


@dataclass(frozen=True)
class WordInContext:
    """A word in two texts, which means the same in both or not (WiC, Pilehvar and Camacho-Collados 2019).

    The head reads the pair's vector and the mean over the word's tokens in each text. `places` are the four fields with
    the word's begin and end in the first text, then in the second, in characters.
    """

    output: ClassVar[Output] = "classes"
    scored: ClassVar[Scored] = "classes"
    reads: ClassVar[Reads] = Reads(marks=2)
    cut: ClassVar[Cut] = "longest"

    first: str
    second: str
    places: tuple[str, str, str, str]

    def examples(self, index: int, part: int, row: Row, task: Task) -> Iterator[Example]:
        """One example."""
        texts = text_at(row, self.first), text_at(row, self.second)
        marks = tuple(self._mark(row, texts[segment], segment) for segment in (0, 1))
        target = Target((task.read_label(value_at(row, task.label)),), marks)
        yield Example(index, (((texts[0],), (texts[1],)),), (target,), part)

    def labels(self, row: Row, task: Task) -> list[Any]:
        """The label."""
        return [value_at(row, task.label)]

    def paths(self) -> tuple[str, ...]:
        """The fields that are read."""
        return (self.first, self.second, *self.places)

    def _mark(self, row: Row, text: str, segment: Literal[0, 1]) -> Mark:
        begin_path, end_path = self.places[2 * segment : 2 * segment + 2]
        begin, end = (whole_number(value_at(row, path), path) for path in (begin_path, end_path))
        if not 0 <= begin < end <= len(text) or not text[begin:end].strip():
            message = (
                f"the stretch [{begin}, {end}) is not in the text of {len(text)} characters, or empty: {text!r:.60}"
            )
            raise FieldError(end_path, message)
        return Mark(segment, begin, end)


@dataclass(frozen=True)
class Coreference:
    """A text and two stretches in it, which mean the same thing or not (WSC, Levesque et al. 2011, as in SuperGLUE).

    Each stretch is given by its text and by the number of the word of `text.split()` at which it begins. Where the two
    disagree, the occurrence nearest to that word counts. The head projects tokens to 512 and pools both stretches with
    self-attention (Pruksachatkun et al. 2020).
    """

    output: ClassVar[Output] = "classes"
    scored: ClassVar[Scored] = "classes"
    reads: ClassVar[Reads] = Reads(sentence=False, marks=2, pool="attentive", project=512)
    cut: ClassVar[Cut] = "text"

    text: str
    spans: tuple[str, str]
    words: tuple[str, str]

    def examples(self, index: int, part: int, row: Row, task: Task) -> Iterator[Example]:
        """One example."""
        text = text_at(row, self.text)
        marks = tuple(self._mark(row, text, *paths) for paths in zip(self.spans, self.words, strict=True))
        target = Target((task.read_label(value_at(row, task.label)),), marks)
        yield Example(index, (((text,), None),), (target,), part)

    def labels(self, row: Row, task: Task) -> list[Any]:
        """The label."""
        return [value_at(row, task.label)]

    def paths(self) -> tuple[str, ...]:
        """The fields that are read."""
        return (self.text, *self.spans, *self.words)

    def _mark(self, row: Row, text: str, span_path: str, word_path: str) -> Mark:
        span, word = text_at(row, span_path).strip(), whole_number(value_at(row, word_path), word_path)
        words = text.split()
        if not 0 <= word < len(words):
            raise FieldError(word_path, f"is {word}, but the text has {len(words)} words: {text!r:.60}")
        expected = _begin_of_word(text, words, word)
        places = _occurrences(text, span)
        if not places:
            raise FieldError(span_path, f"holds {span!r:.60}, which is not in the text: {text!r:.60}")
        begin, end = min(places, key=lambda place: abs(place[0] - expected))
        return Mark(0, begin, end)


def word_marks(words: Sequence[str]) -> list[Mark]:
    """Where each word is in the words joined by a blank."""
    marks, begin = [], 0
    for word in words:
        marks.append(Mark(0, begin, begin + len(word)))
        begin += len(word) + 1
    return marks


def word_span(raw: Any, marks: Sequence[Mark], path: str) -> Mark:
    """The characters of the words `[begin, end)`; raises FieldError where they are not words of the text."""
    listed = isinstance(raw, list | tuple) and len(raw) == 2
    begin, end = (whole_number(value, path) for value in raw) if listed else (0, 0)
    if not 0 <= begin < end <= len(marks):
        raise FieldError(path, f"is {raw!r:.60}, not [begin, end) in a text of {len(marks)} words")
    return Mark(0, marks[begin].begin, marks[end - 1].end)


def whole_number(raw: Any, path: str) -> int:
    """`raw` as an integer; raises FieldError where it is none."""
    try:
        if isinstance(raw, bool) or int(raw) != float(raw):
            raise ValueError
        return int(raw)
    except (TypeError, ValueError, OverflowError):
        raise FieldError(path, f"holds {raw!r:.60}, not a whole number") from None


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _begin_of_word(text: str, words: Sequence[str], number: int) -> int:
    begin = 0
    for word in words[:number]:
        begin = text.index(word, begin) + len(word)
    return text.index(words[number], begin)


def _occurrences(text: str, part: str) -> list[tuple[int, int]]:
    """Where `part` occurs as whole words, or anywhere where it never does; any blank and any case stand for any."""
    pattern = r"\s+".join(re.escape(word) for word in part.split())
    places = [found.span() for found in re.finditer(pattern, text, re.IGNORECASE)]
    whole = [(i, j) for i, j in places if not text[i - 1 : i].isalnum() and not text[j : j + 1].isalnum()]
    return whole or places
