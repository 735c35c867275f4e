"""Metrics of what is predicted in sets: the labels of a target, the answers to a question."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from layover.metrics.classes import last_class
from layover.metrics.metric import counted, f1_of, positives, share, summed
from layover.predictions import Predictions

Sums = NDArray[Any]


@summed("micro_f1", ("labels",), f1_of)
def micro_f1(predictions: Predictions) -> Sums:
    """F1 over all labels of all targets together (edge probing, Tenney et al. 2019)."""
    return positives(predictions.gold > 0, predictions.predicted > 0)


@summed("last_label_f1", ("labels",), f1_of)
def last_label_f1(predictions: Predictions) -> Sums:
    """F1 of the last label (Tenney et al. 2019 score coreference by its positive label alone)."""
    return positives(predictions.gold[:, -1] > 0, predictions.predicted[:, -1] > 0)


@summed("exact_labels", ("labels",), share)
def exact_labels(predictions: Predictions) -> Sums:
    """Share of targets whose set of labels is predicted exactly."""
    return counted((predictions.gold == predictions.predicted).all(1))


@summed("f1a", ("answers",), f1_of, binary=True)
def f1a(predictions: Predictions) -> Sums:
    """F1 of the answers that are right, over the answers of all questions (MultiRC, Khashabi et al. 2018)."""
    return last_class(predictions)


@summed("group_em", ("answers",), share)
def group_em(predictions: Predictions) -> Sums:
    """Share of questions of which every answer is classified rightly (MultiRC's exact match)."""
    question = predictions.questions()
    wrong = np.bincount(question, predictions.gold != predictions.predicted)
    _, first = np.unique(question, return_index=True)
    found = np.zeros((len(question), 2))
    found[first] = counted(wrong == 0)  # a question counts where its first answer stands
    return found


@summed("f1a_em", ("answers",), lambda sums: (f1_of(sums[..., :3]) + share(sums[..., 3:])) / 2, binary=True)
def f1a_em(predictions: Predictions) -> Sums:
    """Mean of `f1a` and `group_em` (Pruksachatkun et al. 2020)."""
    return np.concatenate([f1a(predictions), group_em(predictions)], axis=1)
