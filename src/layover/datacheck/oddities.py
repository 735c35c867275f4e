"""Oddities: what is unusual about a row, though it can be read. They are counted by kind."""

from __future__ import annotations

import string
from collections.abc import Iterator, Sequence

from layover.tasks.example import Example
from layover.tasks.fields import Row, text_at, value_at
from layover.tasks.formats import Choice, Cloze, Pair, PassageAnswers
from layover.tasks.spans import Coreference, EdgeProbing, Span
from layover.tasks.task import Task

EDGES = string.punctuation + string.whitespace


def oddities(task: Task, asked: Row, examples: Sequence[Example]) -> Iterator[str]:
    """What is unusual about one question and its examples, one name per time that it occurs."""
    form = task.format
    if isinstance(form, Choice):
        choices = [second or first for first, second in examples[0].inputs]
        if len(set(choices)) < len(choices):
            yield "questions with the same choice twice"
    elif isinstance(form, Pair):
        if any(first == second for example in examples for first, second in example.inputs):
            yield "pairs of equal texts"
    elif isinstance(form, PassageAnswers | Cloze):
        yield from _of_group(form, examples)
    elif isinstance(form, Span):
        # without a place, the first occurrence is taken for the answer
        if form.starts is None and any(example.text.count(gold) > 1 for example in examples for gold in example.golds):
            yield "questions with an answer that occurs more than once in the passage"
    elif isinstance(form, EdgeProbing):
        stretches = [target.marks for example in examples for target in example.targets]
        yield from ["targets about the same stretch as another"] * (len(stretches) - len(set(stretches)))
    elif isinstance(form, Coreference):
        yield from _misplaced(form, asked)


def _of_group(form: PassageAnswers | Cloze, examples: Sequence[Example]) -> Iterator[str]:
    right = {example.label for example in examples}
    if 1.0 not in right:
        yield "questions without a right answer"
    if isinstance(form, PassageAnswers):
        if 0.0 not in right:
            yield "questions without a wrong answer"
        yield from ["empty answers" for example in examples if len(example.inputs[0][1] or ()) == 1]


def _misplaced(form: Coreference, asked: Row) -> Iterator[str]:
    """Stretches of which the text is not what stands at the word that the row names, whatever case and punctuation."""
    words = _plain(text_at(asked, form.text))
    for span_path, word_path in zip(form.spans, form.words, strict=True):
        span, begin = _plain(text_at(asked, span_path)), int(value_at(asked, word_path))
        if words[begin : begin + len(span)] != span:
            yield "stretches that are not at the word that the row names"


def _plain(text: str) -> list[str]:
    return [word.strip(EDGES).casefold() for word in text.split()]
