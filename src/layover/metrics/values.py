"""Metrics of numbers: correlations, also of numbers that occur several times."""

from __future__ import annotations

import numpy as np

from layover.metrics.metric import Array, metric
from layover.predictions import Predictions


def _pearson_weights(gold: Array, predicted: Array, weights: Array) -> Array:
    """Pearson correlation per row of weights; `gold` and `predicted` are [n] or [resamples, n]."""
    total = weights.sum(-1, keepdims=True)
    left = gold - (weights * gold).sum(-1, keepdims=True) / total
    right = predicted - (weights * predicted).sum(-1, keepdims=True) / total
    spread = np.sqrt(_squares(gold, left, weights) * _squares(predicted, right, weights))
    return 100 * np.divide((weights * left * right).sum(-1), spread, out=np.zeros_like(spread), where=spread > 0)


def _squares(values: Array, deviations: Array, weights: Array) -> Array:
    """The sum of squared deviations per row of weights; 0 where a resample holds one value and they are rounding."""
    squares = (weights * deviations**2).sum(-1)
    rounding = (1e-13 * np.abs(values).max()) ** 2 * weights.sum(-1)
    return np.where(squares > rounding, squares, 0.0)


def _weighted_ranks(values: Array, weights: Array) -> Array:
    """Mid-ranks [resamples, n] of values [n] that occur weights [resamples, n] times."""
    _, group = np.unique(values, return_inverse=True)
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    sizes = np.add.reduceat(weights[:, order], starts, axis=1)
    return (np.cumsum(sizes, axis=1) - (sizes - 1) / 2)[:, group]


def _spearman_weights(gold: Array, predicted: Array, weights: Array) -> Array:
    return _pearson_weights(_weighted_ranks(gold, weights), _weighted_ranks(predicted, weights), weights)


def _pearson(gold: Array, predicted: Array) -> float:
    if np.ptp(gold) == 0 or np.ptp(predicted) == 0:  # the mean of equal numbers need not equal them
        return 0.0
    left, right = gold - gold.mean(), predicted - predicted.mean()
    spread = float(np.sqrt((left**2).sum()) * np.sqrt((right**2).sum()))
    return 100 * min(1.0, max(-1.0, float((left * right).sum()) / spread)) if spread > 0 else 0.0


@metric("spearman", ("value",), from_weights=_spearman_weights)
def spearman(predictions: Predictions) -> float:
    """Spearman rank correlation; 0 where either side is constant."""
    from scipy.stats import rankdata

    return _pearson(rankdata(predictions.gold), rankdata(predictions.predicted))


@metric("pearson", ("value",), from_weights=_pearson_weights)
def pearson(predictions: Predictions) -> float:
    """Pearson correlation; 0 where either side is constant."""
    return _pearson(predictions.gold, predictions.predicted)
