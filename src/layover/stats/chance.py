"""Chance: what a metric gives for predictions that know nothing of the text."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np

from layover.metrics import Metric
from layover.predictions import Predictions

SHUFFLES = 50
SEED = 20_200_711


def chance(predictions: Predictions, metric: Metric) -> float:
    """The score in points of the right answers dealt out at random: the mean over shuffles of the examples.

    Of texts with several right answers the first one is dealt out.
    """
    rng = np.random.default_rng(SEED)
    answers = predictions.gold
    if predictions.kind == "text":
        answers = np.array([golds[0] for golds in predictions.gold], dtype=object)
    dealt = (replace(predictions, predicted=answers[rng.permutation(len(answers))]) for _ in range(SHUFFLES))
    return float(np.mean([metric.score(one) for one in dealt]))


def best_constant(predictions: Predictions, metric: Metric) -> float | None:
    """The best score in points of one and the same answer throughout; None for numbers and texts.

    Of sets of labels, each label alone and, where it does better, all of them at once.
    """
    if predictions.kind in ("value", "text"):
        return None
    if predictions.kind == "labels":
        single = np.eye(predictions.n_classes, dtype=np.uint8)
        common = np.argsort(predictions.gold.sum(0))[-3:]
        constants = [*single[common], np.ones(predictions.n_classes, np.uint8)]
    else:
        most = 1 if predictions.kind == "tokens" else None  # there are thousands, and accuracy is all that counts them
        constants = [np.float64(label) for label, _ in Counter(predictions.gold.tolist()).most_common(most)]
    shape = predictions.gold.shape
    return max(metric.score(replace(predictions, predicted=np.broadcast_to(c, shape).copy())) for c in constants)
