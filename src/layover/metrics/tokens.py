"""Metrics of hidden tokens: how many are found, and how probable the right ones were (masked language modelling)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from layover.metrics.classes import hits
from layover.metrics.metric import counted, share, summed
from layover.predictions import Predictions

summed("masked_accuracy", ("tokens",), from_sums=share)(hits)


def _mean(sums: NDArray[Any]) -> NDArray[np.float64]:
    return share(sums) / 100


@summed("masked_loss", ("tokens",), from_sums=_mean, lower_is_better=True)
def losses(predictions: Predictions) -> NDArray[Any]:
    """The cross-entropy of each hidden token in nats, and 1 [n, 2]; its mean is the log of the perplexity."""
    assert predictions.log_probabilities is not None
    return counted(-predictions.log_probabilities)
