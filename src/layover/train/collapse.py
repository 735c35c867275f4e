"""Collapse: how a run that learned nothing is recognised, so that it is marked and not taken for transfer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from layover.predictions import Predictions
from layover.tasks.task import Task
from layover.train.encode import Encoded

AT_PRIOR = 0.99  # share of the label entropy below which training loss must have fallen


def collapse(
    task: Task, stopped: str, predictions: Predictions, training: Encoded, curve: Sequence[dict[str, Any]]
) -> str:
    """Why a finished run is degenerate, or "" where it is not.

    A loss that became NaN; one and the same prediction throughout, where the right ones differ; or a training loss that
    never fell below what knowing only the label frequencies gives (ln C where classes are balanced).
    """
    if stopped == "nan":
        return "loss became NaN"
    if len(predictions) > 1 and (constant := _constant(predictions)):
        return constant
    losses = [point["loss"] for point in curve]
    prior = _prior_loss(task, training)
    if losses and prior > 0 and min(losses) >= AT_PRIOR * prior:
        return "loss never left the label prior"
    return ""


def _constant(predictions: Predictions) -> str:
    """What is predicted everywhere, in words; "" where predictions differ, or the right ones do not."""
    gold, predicted = predictions.gold, predictions.predicted
    if predictions.kind == "text":
        # one answer for different passages is chance at work; no answer at all is not
        return "" if any(predicted) else "empty predictions"
    if predictions.kind == "labels":
        for value, words in ((0, "no label predicted"), (1, "every label predicted")):
            if (predicted == value).all() and not (gold == value).all():
                return words
        same = (predicted == predicted[0]).all() and not (gold == gold[0]).all()
        return "constant prediction" if same else ""
    if np.ptp(predicted) >= 1e-6 or np.ptp(gold) == 0:
        return ""
    if predictions.kind == "answers":
        return "every answer predicted wrong" if predicted[0] == 0 else "every answer predicted right"
    return "constant prediction"


def _prior_loss(task: Task, training: Encoded) -> float:
    """The training loss of the best prediction that ignores the input."""
    if task.output == "tokens":  # all alike: who knows how common each is predicts one of them throughout
        assert training.masking is not None
        return float(np.log(len(training.masking.others)))
    known = ~training.lost
    labels = np.asarray(training.labels[known], dtype=float)
    if task.output == "choice":
        return float(np.log(np.diff(training.groups)).mean())
    if task.output == "value":
        low, high = task.bounds or (0.0, 1.0)
        return float((labels / (high - low)).var())
    if task.output == "extent":
        return float(np.log(training.input_lengths).mean())
    if task.output == "labels":
        shares = labels.mean(0)
        return float(np.mean(_entropy(shares) + _entropy(1 - shares)))
    shares = np.bincount(labels.astype(int)) / len(labels)
    return float(_entropy(shares).sum())


def _entropy(shares: Any) -> Any:
    """-p ln p, and 0 where p is 0."""
    return -shares * np.log(np.where(shares > 0, shares, 1.0))
