"""Align: runs of one task on the rows that they share, ready to be scored on any choice of these rows.

A row of the validation file is what is drawn: the answers to questions about one passage, or the targets in one
sentence, depend on each other and stay together (a cluster bootstrap).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layover.metrics import Array, Metric
from layover.metrics.metric import FromSums, FromWeights
from layover.predictions import Predictions

Rows = NDArray[np.int64]
KEPT = 64  # runs of which sums are kept: a baseline is compared with every source, and texts take a while to compare


@dataclass(frozen=True, eq=False)
class Aligned:
    """Runs of one task on the same rows of its validation file.

    `score` takes how often each of the rows counts [resamples, units] and returns scores [resamples, runs].
    """

    units: int
    score: Callable[[NDArray[Any]], Array]


def align(runs: Sequence[Predictions | None], metric: Metric) -> Aligned | None:
    """The rows that all runs share, to be scored by a metric; None where runs cannot be paired by row.

    That is where one has no predictions, they have fewer than two rows in common, were asked different things, or hold
    predictions that are none of their kind or that the metric does not suit.
    """
    found = [run for run in runs if run is not None]
    if not found or len(found) < len(runs) or not all(run.kind in metric.kinds and _sound(run) for run in found):
        return None
    rows = np.unique(found[0].rows, return_index=True)[0]  # with the index it sorts, which is much faster here
    for run in found:
        rows = rows[np.isin(rows, run.rows)]
    orders = [_order(run, rows) for run in found]
    asked = [_asked(run, order) for run, order in zip(found, orders, strict=True)]
    if len(rows) < 2 or not all(_equal(asked[0], other) for other in asked[1:]):
        return None
    if metric.from_weights is not None:
        predicted = [run.predicted[order] for run, order in zip(found, orders, strict=True)]
        gold, unit = found[0].gold[orders[0]], np.searchsorted(rows, found[0].rows[orders[0]])
        return Aligned(len(rows), partial(_weighted_scores, metric.from_weights, gold, predicted, unit))
    assert metric.from_sums is not None
    sums = np.stack([_sums_of(run, metric, rows) for run in found], axis=1)
    whole = bool((sums == np.floor(sums)).all()) and sums.max() * len(rows) < 2**24
    sums = sums.astype(np.float32 if whole else float)  # whole numbers add up without rounding, in half the time
    return Aligned(len(rows), partial(_summed_scores, metric.from_sums, sums))


def _sound(run: Predictions) -> bool:
    """Whether classes are among those that there are, or -1 where nothing was predicted, and numbers are numbers."""
    if run.kind in ("labels", "text"):
        return True
    if run.kind == "value":
        return bool(np.isfinite(run.gold).all() and np.isfinite(run.predicted).all())
    sides = ((run.gold, 0), (run.predicted, -1))
    return all(bool(((v >= low) & (v < run.n_classes) & (v == np.floor(v))).all()) for v, low in sides)


def _order(run: Predictions, rows: Rows) -> Rows:
    """Where the predictions about `rows` stand, by row and by what of it is asked."""
    order = np.lexsort((run.part_of_each(), run.rows))
    return order[np.isin(run.rows[order], rows)]


def _asked(run: Predictions, order: Rows) -> tuple[Any, ...]:
    return run.kind, run.n_classes, run.rows[order], run.part_of_each()[order], run.gold[order]


def _equal(one: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    return all(np.array_equal(left, right) for left, right in zip(one, other, strict=True))


def _sums_of(run: Predictions, metric: Metric, rows: Rows) -> Array:
    known, sums = _row_sums(run, metric)
    return sums[np.searchsorted(known, rows)]


@lru_cache(maxsize=KEPT)
def _row_sums(run: Predictions, metric: Metric) -> tuple[Rows, Array]:
    """The rows of a run, and the sums of a metric's summands over each [rows, k]."""
    assert metric.summands is not None
    order = np.argsort(run.rows, kind="stable")
    rows, starts = np.unique(run.rows[order], return_index=True)
    return rows, np.add.reduceat(metric.summands(run)[order], starts, axis=0, dtype=float)


def _summed_scores(from_sums: FromSums, sums: Array, weights: NDArray[Any]) -> Array:
    """Scores of sums [units, runs, k]."""
    totals = weights.astype(sums.dtype) @ sums.reshape(len(sums), -1)
    return from_sums(totals.reshape(len(weights), *sums.shape[1:]).astype(float))


def _weighted_scores(
    from_weights: FromWeights, gold: Array, predicted: Sequence[Array], unit: Rows, weights: NDArray[Any]
) -> Array:
    """Scores of numbers [n], of which number i is about row `unit[i]`."""
    times = weights[:, unit].astype(float)
    return np.stack([from_weights(gold, one, times) for one in predicted], axis=1)
