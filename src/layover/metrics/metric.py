"""Metric: what a score is, its two forms, and how one is found by name.

`score` takes one set of predictions. To score them without each row in turn there is a second form, which a test holds
equal to it: a function of sums over what is predicted (`summands`, `from_sums`). Correlations do without. The last
class is the positive one (GLUE's 1 = equivalent, duplicate, acceptable; BoolQ's true). A class of -1, like an empty
text, is no prediction and counts as wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layover.errors import Problem, TaskError, did_you_mean
from layover.predictions import Predictions
from layover.tasks.example import Scored

Array = NDArray[np.float64]
Score = Callable[[Predictions], float]
Summands = Callable[[Predictions], NDArray[Any]]
FromSums = Callable[[NDArray[Any]], Array]


@dataclass(frozen=True)
class Metric:
    """A score in points, or, where `lower_is_better`, a loss in nats.

    `kinds` are the predictions that it suits; `binary` says that it needs two classes. `summands` gives an array
    [n, k], counts or shares of each prediction, and `from_sums` takes sums of its rows [..., k] and returns scores
    [...]. A metric has both or neither.
    """

    name: str
    kinds: tuple[Scored, ...]
    score: Score
    summands: Summands | None = None
    from_sums: FromSums | None = None
    binary: bool = False
    lower_is_better: bool = False


METRICS: dict[str, Metric] = {}


def metric(
    name: str,
    kinds: Sequence[Scored],
    summands: Summands | None = None,
    from_sums: FromSums | None = None,
    binary: bool = False,
    lower_is_better: bool = False,
) -> Callable[[Score], Score]:
    """Register a scoring function under `name`, with its other form."""

    def register(score: Score) -> Score:
        METRICS[name] = Metric(name, tuple(kinds), score, summands, from_sums, binary, lower_is_better)
        return score

    return register


def summed(
    name: str, kinds: Sequence[Scored], from_sums: FromSums, binary: bool = False, lower_is_better: bool = False
) -> Callable[[Summands], Summands]:
    """Register the summands of a metric whose score is a function of their sums, and nothing else."""

    def register(summands: Summands) -> Summands:
        def score(predictions: Predictions) -> float:
            return float(from_sums(summands(predictions).sum(0)))

        metric(name, kinds, summands, from_sums, binary=binary, lower_is_better=lower_is_better)(score)
        return summands

    return register


def get_metric(name: str, place: str = "") -> Metric:
    """The metric called `name`; raises TaskError with the choices where there is none."""
    if name not in METRICS:
        raise TaskError(Problem(place, f"there is no metric called {name!r}", did_you_mean(name, METRICS)))
    return METRICS[name]


def fitting(kind: Scored, n_classes: int = 0) -> list[str]:
    """The metrics that suit what a task is scored by. `n_classes` is 0 where it is not known."""
    suiting = [metric for metric in METRICS.values() if kind in metric.kinds]
    return [metric.name for metric in suiting if n_classes in (0, 2) or not metric.binary]


def ratio(top: NDArray[Any], bottom: NDArray[Any]) -> Array:
    """Top / bottom in points, and 0 where bottom is 0 (scikit-learn's zero_division=0)."""
    top, bottom = np.asarray(top, float), np.asarray(bottom, float)
    return 100 * np.divide(top, bottom, out=np.zeros_like(top), where=bottom != 0)


def share(sums: NDArray[Any]) -> Array:
    """The first sum as a share of the second."""
    return ratio(sums[..., 0], sums[..., 1])


def f1_of(sums: NDArray[Any]) -> Array:
    """F1 of (true positives, gold positives, predicted positives)."""
    return ratio(2 * sums[..., 0], sums[..., 1] + sums[..., 2])


def counted(values: NDArray[Any]) -> NDArray[Any]:
    """`values` [n], of which `share` is to be the mean: each beside a 1 [n, 2]."""
    return np.stack([values, np.ones(len(values))], axis=1)


def positives(gold: NDArray[Any], predicted: NDArray[Any]) -> NDArray[Any]:
    """Of truth values [n] or [n, labels]: true, gold and predicted positives [n, 3], as `f1_of` takes them."""
    each = [side.reshape(len(side), -1).sum(1) for side in (gold & predicted, gold, predicted)]
    return np.stack(each, axis=1)
