"""Metrics of numbers: correlations."""

from __future__ import annotations

import numpy as np

from layover.metrics.metric import Array, metric
from layover.predictions import Predictions


def _pearson(gold: Array, predicted: Array) -> float:
    if np.ptp(gold) == 0 or np.ptp(predicted) == 0:  # the mean of equal numbers need not equal them
        return 0.0
    left, right = gold - gold.mean(), predicted - predicted.mean()
    spread = float(np.sqrt((left**2).sum()) * np.sqrt((right**2).sum()))
    return 100 * min(1.0, max(-1.0, float((left * right).sum()) / spread)) if spread > 0 else 0.0


@metric("spearman", ("value",))
def spearman(predictions: Predictions) -> float:
    """Spearman rank correlation; 0 where either side is constant."""
    from scipy.stats import rankdata

    return _pearson(rankdata(predictions.gold), rankdata(predictions.predicted))


@metric("pearson", ("value",))
def pearson(predictions: Predictions) -> float:
    """Pearson correlation; 0 where either side is constant."""
    return _pearson(predictions.gold, predictions.predicted)
