"""Metrics: functions from gold and predicted values to a score in points (0-100).

A metric has two forms that a test holds equal: `score` for one set of predictions, and one for thousands
of resamples at once, which is `from_counts` (confusion counts) for classes and `from_weights` (how often each
example was drawn) for real numbers. The last class is the positive one (GLUE's 1 = equivalent, duplicate,
acceptable; BoolQ's true).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from layover.errors import Problem, TaskError, did_you_mean

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Metric:
    """A score in points.

    `score(gold, predicted, n_classes)` takes two arrays of shape [n]: class indices for a metric of
    classes, real numbers otherwise (`n_classes` is then 0). `from_counts(counts)` takes confusion counts
    [..., gold, predicted] and returns an array [...]; it is None for metrics of real numbers.
    `from_weights(gold, predicted, weights)` takes two arrays [n] and the times each example counts [resamples, n]
    and returns [resamples]. A metric without either is scored one resample at a time.
    """

    name: str
    score: Callable[[Array, Array, int], float]
    from_counts: Callable[[Array], Array] | None = None
    from_weights: Callable[[Array, Array, Array], Array] | None = None


METRICS: dict[str, Metric] = {}


def metric(
    name: str,
    from_counts: Callable[[Array], Array] | None = None,
    from_weights: Callable[[Array, Array, Array], Array] | None = None,
):
    """Register a scoring function that returns points under `name`."""

    def register(score: Callable[[Array, Array, int], float]) -> Callable[[Array, Array, int], float]:
        METRICS[name] = Metric(name, score, from_counts, from_weights)
        return score

    return register


def get_metric(name: str, place: str = "") -> Metric:
    """The metric called `name`; raises TaskError with the choices where there is none."""
    if name not in METRICS:
        raise TaskError(Problem(place, f"there is no metric called {name!r}", did_you_mean(name, METRICS)))
    return METRICS[name]


def fitting(output: str, n_classes: int = 0) -> list[str]:
    """The metrics that suit a task's output: classes, choice or value. `n_classes` is 0 where it is not known."""
    if output == "choice":
        return ["accuracy"]  # the positions of choices are not classes
    names = [m.name for m in METRICS.values() if (m.from_counts is None) == (output == "value")]
    return [name for name in names if n_classes in (0, 2) or name not in ("f1", "accuracy_f1")]


def _ratio(top: Array, bottom: Array) -> Array:
    """Top / bottom, and 0 where bottom is 0 (scikit-learn's zero_division=0)."""
    return np.divide(top, bottom, out=np.zeros_like(top, dtype=float), where=bottom != 0)


def _accuracy_counts(counts: Array) -> Array:
    return 100 * _ratio(np.trace(counts, axis1=-2, axis2=-1), counts.sum((-2, -1)))


def _f1_per_class(counts: Array) -> Array:
    hits = np.diagonal(counts, axis1=-2, axis2=-1)
    return 100 * _ratio(2.0 * hits, counts.sum(-1) + counts.sum(-2))


def _mcc_counts(counts: Array) -> Array:
    """Matthews correlation for any number of classes (Gorodkin 2004)."""
    counts = np.asarray(counts, dtype=np.float64)  # the fourth power of 60,000 overflows an integer
    total, hits = counts.sum((-2, -1)), np.trace(counts, axis1=-2, axis2=-1)
    gold, predicted = counts.sum(-1), counts.sum(-2)
    covariance = hits * total - (gold * predicted).sum(-1)
    spread = (total**2 - (predicted**2).sum(-1)) * (total**2 - (gold**2).sum(-1))
    return 100 * _ratio(covariance, np.sqrt(spread))


def _pearson_weights(gold: Array, predicted: Array, weights: Array) -> Array:
    """Pearson correlation per row of weights; `gold` and `predicted` are [n] or [resamples, n]."""
    total = weights.sum(-1, keepdims=True)
    left = gold - (weights * gold).sum(-1, keepdims=True) / total
    right = predicted - (weights * predicted).sum(-1, keepdims=True) / total
    spread = np.sqrt((weights * left**2).sum(-1) * (weights * right**2).sum(-1))
    covariance = (weights * left * right).sum(-1)
    # A resample that holds one value only has a spread of rounding errors; its correlation is 0, as for one run.
    floor = 1e-12 * total[..., 0] * (1 + np.abs(gold).max() * np.abs(predicted).max())
    return 100 * np.divide(covariance, spread, out=np.zeros_like(spread), where=spread > floor)


def _weighted_ranks(values: Array, weights: Array) -> Array:
    """Mid-ranks [resamples, n] of values [n] that occur weights [resamples, n] times."""
    _, group = np.unique(values, return_inverse=True)
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    sizes = np.add.reduceat(weights[:, order], starts, axis=1)
    return (np.cumsum(sizes, axis=1) - (sizes - 1) / 2)[:, group]


def _spearman_weights(gold: Array, predicted: Array, weights: Array) -> Array:
    return _pearson_weights(_weighted_ranks(gold, weights), _weighted_ranks(predicted, weights), weights)


@metric("accuracy", from_counts=_accuracy_counts)
def accuracy(gold: Array, predicted: Array, n_classes: int) -> float:
    """Share of right predictions."""
    from sklearn.metrics import accuracy_score

    return 100 * float(accuracy_score(gold, predicted))


@metric("f1", from_counts=lambda counts: _f1_per_class(counts)[..., -1])
def f1(gold: Array, predicted: Array, n_classes: int) -> float:
    """F1 of the last class."""
    from sklearn.metrics import f1_score

    positive = n_classes - 1
    return 100 * float(f1_score(gold == positive, predicted == positive, zero_division=0.0))  # pyright: ignore[reportArgumentType]


@metric("macro_f1", from_counts=lambda counts: _f1_per_class(counts).mean(-1))
def macro_f1(gold: Array, predicted: Array, n_classes: int) -> float:
    """Mean of the F1 of every class."""
    from sklearn.metrics import f1_score

    labels = range(n_classes)
    return 100 * float(f1_score(gold, predicted, labels=labels, average="macro", zero_division=0.0))  # pyright: ignore[reportArgumentType]


@metric("accuracy_f1", from_counts=lambda counts: (_accuracy_counts(counts) + _f1_per_class(counts)[..., -1]) / 2)
def accuracy_f1(gold: Array, predicted: Array, n_classes: int) -> float:
    """Mean of accuracy and the F1 of the last class (GLUE's figure for MRPC and QQP)."""
    return (accuracy(gold, predicted, n_classes) + f1(gold, predicted, n_classes)) / 2


@metric("mcc", from_counts=_mcc_counts)
def mcc(gold: Array, predicted: Array, n_classes: int) -> float:
    """Matthews correlation coefficient; 0 where either side is constant."""
    from sklearn.metrics import matthews_corrcoef

    if np.ptp(gold) == 0 or np.ptp(predicted) == 0:  # scikit-learn says 0 too, with a warning
        return 0.0
    return 100 * float(matthews_corrcoef(gold, predicted))


@metric("spearman", from_weights=_spearman_weights)
def spearman(gold: Array, predicted: Array, n_classes: int) -> float:
    """Spearman rank correlation; 0 where either side is constant."""
    from scipy.stats import rankdata

    return pearson(rankdata(gold), rankdata(predicted), n_classes)


@metric("pearson", from_weights=_pearson_weights)
def pearson(gold: Array, predicted: Array, n_classes: int) -> float:
    """Pearson correlation; 0 where either side is constant."""
    if np.ptp(gold) == 0 or np.ptp(predicted) == 0:  # the mean of equal numbers need not equal them
        return 0.0
    left, right = gold - gold.mean(), predicted - predicted.mean()
    spread = float(np.sqrt((left**2).sum()) * np.sqrt((right**2).sum()))
    return 100 * min(1.0, max(-1.0, float((left * right).sum()) / spread)) if spread > 0 else 0.0


@dataclass(frozen=True)
class Predictions:
    """One run's predictions on a validation set: arrays of shape [n].

    `rows` are positions in the validation file, so that two runs are paired by example; `gold` and `predicted`
    are class indices or real numbers; `n_classes` is 0 for real numbers.
    """

    rows: NDArray[np.int64]
    gold: Array
    predicted: Array
    n_classes: int
