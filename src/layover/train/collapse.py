"""Collapse: how a run that learned nothing is recognised, so that it is marked and not taken for transfer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layover.tasks.task import Task

AT_PRIOR = 0.99  # share of the label entropy below which training loss must have fallen


def collapse(
    task: Task,
    stopped: str,
    predicted: NDArray[np.float64],
    gold: NDArray[np.float64],
    labels: NDArray[np.float64],
    n_inputs: NDArray[np.int64],
    curve: Sequence[dict[str, Any]],
) -> str:
    """Why a finished run is degenerate, or "" where it is not.

    A loss that became NaN; one and the same prediction for every validation example (where the gold labels differ);
    or a training loss that never fell below what knowing only the label frequencies gives (ln C where classes
    are balanced). `labels` and `n_inputs` [n] are the training set's labels and choices per example.
    """
    if stopped == "nan":
        return "loss became NaN"
    if len(predicted) > 1 and np.ptp(predicted) < 1e-6 and np.ptp(gold) > 0:
        return "constant prediction"
    losses = [point["loss"] for point in curve]
    prior = _prior_loss(task, labels, n_inputs)
    if losses and prior > 0 and min(losses) >= AT_PRIOR * prior:
        return "loss never left the label prior"
    return ""


def _prior_loss(task: Task, labels: NDArray[np.float64], n_inputs: NDArray[np.int64]) -> float:
    """The training loss of the best prediction that ignores the input."""
    if task.output == "choice":
        return float(np.log(n_inputs).mean())
    if task.output == "value":
        low, high = task.bounds or (0.0, 1.0)
        return float((labels / (high - low)).var())
    shares = np.bincount(labels.astype(int)) / len(labels)
    return float(-(shares[shares > 0] * np.log(shares[shares > 0])).sum())
