"""Decode: what a head predicts, as what a task is scored by: classes, numbers, sets of labels, or texts."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layover.predictions import Array, Predictions, texts
from layover.tasks.task import Task
from layover.train.encode import Encoded


@dataclass(frozen=True, eq=False)
class Raw:
    """A head's predictions for every target, in order: `predicted` [n], [n, classes] or [n, 2], `scores` [n, outputs].

    Targets that were cut off have class -1, no labels, or an empty stretch, and scores of -inf.
    """

    predicted: Array
    scores: Array


@dataclass(frozen=True, eq=False)
class Decoded:
    """Predictions as metrics take them, and what the head gave each of them, one array per prediction."""

    predictions: Predictions
    scores: Sequence[NDArray[np.float64]]


def decode(task: Task, encoded: Encoded, raw: Raw, n_classes: int) -> Decoded:
    """The predictions of a task's examples; `n_classes` counts classes, labels, or choices at most."""
    if task.format.scored == "text":
        return _extents(encoded, raw) if task.output == "extent" else _best_candidates(encoded, raw)
    owner = encoded.example_of_target()
    found = Predictions(
        rows=encoded.rows[owner],
        gold=np.asarray(encoded.labels),
        predicted=raw.predicted,
        n_classes=n_classes,
        kind=task.format.scored,
        parts=encoded.parts[owner],
        log_probabilities=raw.scores[:, 0] if task.output == "tokens" else None,
    )
    return Decoded(found, [row[np.isfinite(row)] for row in raw.scores])


def _extents(encoded: Encoded, raw: Raw) -> Decoded:
    """The text of each predicted stretch of tokens, widened to whole words, which gold answers consist of."""
    assert encoded.chars is not None
    begins = encoded.offsets[encoded.groups[:-1], 0]
    found = []
    for begin, (first, end), text in zip(begins, raw.predicted.astype(int), encoded.texts.to_pylist(), strict=True):
        chars = encoded.chars[begin + first : begin + end]
        chars = chars[chars[:, 1] > chars[:, 0]]
        found.append(whole_words(text, int(chars[0, 0]), int(chars[-1, 1])) if len(chars) else "")
    predictions = Predictions(encoded.rows, _golds(encoded.golds), texts(found), 0, "text", encoded.parts)
    return Decoded(predictions, [row[np.isfinite(row)] for row in raw.scores])


def whole_words(text: str, begin: int, end: int) -> str:
    """The characters [begin, end) of a text, and what belongs to the same words: up to the next blanks.

    Blanks at the ends are not part of it: in some families a token holds the blank before its word.
    """
    while begin < end and text[begin].isspace():
        begin += 1
    while begin < end and text[end - 1].isspace():
        end -= 1
    while 0 < begin < end and not text[begin - 1].isspace():
        begin -= 1
    while begin < end < len(text) and not text[end].isspace():
        end += 1
    return text[begin:end]


def _best_candidates(encoded: Encoded, raw: Raw) -> Decoded:
    """Of the examples of each question, the text of the one that is most probably right."""
    right = raw.scores[:, -1] - raw.scores[:, 0]
    _, first = np.unique(encoded.questions(), return_index=True)
    bounds = [*first.tolist(), len(encoded)]
    best = [begin + int(right[begin:end].argmax()) for begin, end in itertools.pairwise(bounds)]
    predictions = Predictions(
        rows=encoded.rows[first],
        gold=_golds(encoded.golds.take(first)),
        predicted=texts(encoded.texts.take(best).to_pylist()),
        n_classes=0,
        kind="text",
        parts=encoded.parts[first],
    )
    return Decoded(predictions, [right[begin:end] for begin, end in itertools.pairwise(bounds)])


def _golds(golds: Any) -> Array:
    return texts([tuple(answers) for answers in golds.to_pylist()])
