"""Metrics of classes, and of choices."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from layover.metrics.metric import Array, counted, f1_of, metric, positives, ratio, share
from layover.predictions import Predictions

Sums = NDArray[Any]


def hits(predictions: Predictions) -> Sums:
    """Whether each prediction is right, and 1 [n, 2]."""
    return counted(predictions.gold == predictions.predicted)


def last_class(predictions: Predictions) -> Sums:
    """True, gold and predicted positives of the last class [n, 3]."""
    last = predictions.n_classes - 1
    return positives(predictions.gold == last, predictions.predicted == last)


def every_class(predictions: Predictions) -> Sums:
    """True, gold and predicted positives of every class [n, 3 * classes]; truth values, since classes may be many."""
    classes = np.arange(predictions.n_classes)
    gold, predicted = predictions.gold[:, None] == classes, predictions.predicted[:, None] == classes
    return np.concatenate([gold & predicted, gold, predicted], axis=1)


def _macro_f1_of(sums: Sums) -> Array:
    right, gold, predicted = np.split(sums, 3, axis=-1)
    return ratio(2 * right, gold + predicted).mean(-1)


def _mcc_of(sums: Sums) -> Array:
    """Matthews correlation for any number of classes (Gorodkin 2004); no prediction is a class that is never right."""
    right, gold, predicted = np.split(np.asarray(sums, float), 3, axis=-1)  # integers of this size would overflow
    total = gold.sum(-1)
    none = total - predicted.sum(-1)
    covariance = right.sum(-1) * total - (gold * predicted).sum(-1)
    spread = (total**2 - (predicted**2).sum(-1) - none**2) * (total**2 - (gold**2).sum(-1))
    return ratio(covariance, np.sqrt(spread))


@metric("accuracy", ("classes", "answers", "choice"), summands=hits, from_sums=share)
def accuracy(predictions: Predictions) -> float:
    """Share of right predictions."""
    from sklearn.metrics import accuracy_score

    return 100 * float(accuracy_score(predictions.gold, predictions.predicted))


@metric("f1", ("classes",), summands=last_class, from_sums=f1_of, binary=True)
def f1(predictions: Predictions) -> float:
    """F1 of the last class."""
    from sklearn.metrics import f1_score

    gold, predicted = (values == predictions.n_classes - 1 for values in (predictions.gold, predictions.predicted))
    return 100 * float(f1_score(gold, predicted, zero_division=0.0))  # pyright: ignore[reportArgumentType]


@metric("macro_f1", ("classes", "answers"), summands=every_class, from_sums=_macro_f1_of)
def macro_f1(predictions: Predictions) -> float:
    """Mean of the F1 of every class."""
    from sklearn.metrics import f1_score

    labels, gold, predicted = range(predictions.n_classes), predictions.gold, predictions.predicted
    return 100 * float(f1_score(gold, predicted, labels=labels, average="macro", zero_division=0.0))  # pyright: ignore[reportArgumentType]


@metric(
    "accuracy_f1",
    ("classes",),
    summands=lambda predictions: np.concatenate([hits(predictions), last_class(predictions)], axis=1),
    from_sums=lambda sums: (share(sums[..., :2]) + f1_of(sums[..., 2:])) / 2,
    binary=True,
)
def accuracy_f1(predictions: Predictions) -> float:
    """Mean of accuracy and the F1 of the last class (GLUE's figure for MRPC and QQP)."""
    return (accuracy(predictions) + f1(predictions)) / 2


@metric("mcc", ("classes", "answers"), summands=every_class, from_sums=_mcc_of)
def mcc(predictions: Predictions) -> float:
    """Matthews correlation coefficient; 0 where either side is constant."""
    from sklearn.metrics import matthews_corrcoef

    gold, predicted = predictions.gold, predictions.predicted
    if np.ptp(gold) == 0:  # scikit-learn says 0 too, but warns where both sides hold the same class alone
        return 0.0
    return 100 * float(matthews_corrcoef(gold, predicted))
