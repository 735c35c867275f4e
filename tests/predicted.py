"""Predictions of every kind, made by hand or drawn by hypothesis, and the same with rows that occur several times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, get_args

import numpy as np
from hypothesis import strategies as st

from layover.metrics import METRICS
from layover.predictions import Predictions, texts
from layover.tasks.example import Scored

KINDS: tuple[Scored, ...] = get_args(Scored)
SUITING = [(name, kind) for name, metric in METRICS.items() for kind in metric.kinds]
WORDS = ("The", "cat", "Cat,", "sat", "a", "an", "on", "mat.", "on-the", "-", "CAT")
NUMBERS = st.floats(-5, 5, width=16)
TEXTS = st.lists(st.sampled_from(WORDS), min_size=1, max_size=4).map(" ".join)


def of(
    gold: Any, predicted: Any, n_classes: int = 2, kind: Scored = "classes", rows: Any = None, parts: Any = None
) -> Predictions:
    """Predictions from lists; without `rows`, each is about a row of its own."""
    make = texts if kind == "text" else np.array
    where = np.arange(len(gold)) if rows is None else np.array(rows, np.int64)
    asked = None if parts is None else np.array(parts, np.int64)
    return Predictions(where, make(gold), make(predicted), n_classes, kind, asked)


def score(name: str, *given: Any, **more: Any) -> float:
    """The score of `of(...)`."""
    return METRICS[name].score(of(*given, **more))


@st.composite
def predictions(draw: st.DrawFn, kind: Scored, most: int = 30) -> Predictions:
    """Some rows in any order, about which one or several things are asked."""
    asked = draw(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 2)), min_size=1, max_size=most))
    n_classes = (
        draw(st.integers(2, 5)) if kind in ("classes", "choice", "labels", "tokens") else 2 if kind == "answers" else 0
    )

    def sides(gold: st.SearchStrategy[Any], predicted: st.SearchStrategy[Any]) -> tuple[Any, ...]:
        return tuple(draw(st.lists(each, min_size=len(asked), max_size=len(asked))) for each in (gold, predicted))

    if kind == "value":
        gold, predicted = sides(NUMBERS, NUMBERS)
    elif kind == "text":
        golds = st.lists(TEXTS, min_size=1, max_size=3).map(tuple)
        gold, predicted = sides(golds, st.just("") | TEXTS)
    elif kind == "labels":
        label_set = st.lists(st.integers(0, 1), min_size=n_classes, max_size=n_classes)
        gold, predicted = (np.array(side, np.uint8) for side in sides(label_set, label_set))
    else:
        gold, predicted = sides(st.integers(0, n_classes - 1), st.integers(-1, n_classes - 1))
        gold, predicted = np.array(gold, float), np.array(predicted, float)
    rows, parts = zip(*asked, strict=True)
    found = of(gold, predicted, n_classes, kind, rows, parts)
    if kind == "tokens":
        sure = draw(st.lists(st.floats(-9, 0, width=16), min_size=len(asked), max_size=len(asked)))
        return replace(found, log_probabilities=np.array(sure, float))
    return found


def again(run: Predictions, predicted: Any) -> Predictions:
    """What another run predicted about the same."""
    return replace(run, predicted=texts(predicted) if run.kind == "text" else np.array(predicted, run.predicted.dtype))


def repeated(run: Predictions, rows: Sequence[int]) -> Predictions:
    """The predictions on a file with these rows of `run`'s, some of them several times: each a row of its own."""
    places = [np.flatnonzero(run.rows == row) for row in rows]
    numbers = np.repeat(np.arange(len(rows)), [len(place) for place in places])
    item = np.concatenate(places)
    parts, sure = (None if each is None else each[item] for each in (run.parts, run.log_probabilities))
    more = {"parts": parts, "log_probabilities": sure}
    return replace(run, rows=numbers, gold=run.gold[item], predicted=run.predicted[item], **more)


def equal(one: Predictions, other: Predictions) -> bool:
    """Whether two hold the same, wherever a missing part counts as 0."""
    if (one.kind, one.n_classes) != (other.kind, other.n_classes):
        return False
    arrays = [(run.rows, run.part_of_each(), run.gold, run.predicted) for run in (one, other)]
    return all(np.array_equal(left, right) for left, right in zip(*arrays, strict=True))
