"""Align: runs of one task on the rows that they share, and what each of these rows adds to each run's score.

A row of the validation file is what is drawn: the answers to questions about one passage, or the targets in one
sentence, depend on each other and stay together. What a row adds is found by leaving it out (the jackknife: Tukey
1958), which for a mean is the row's own score, and serves F1, correlations and every other smooth metric as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layover.metrics import Array, Metric
from layover.predictions import Predictions

Rows = NDArray[np.int64]
KEPT = 64  # runs of which sums are kept: a baseline is compared with every source, and texts take a while to compare
GROUPS = 500  # rows left out together, for a metric that has to be computed anew each time


def align(runs: Sequence[Predictions | None], metric: Metric) -> Array | None:
    """What each row that all runs share adds to each run's score, in points [rows, runs]; columns have mean 0.

    Scores on as many rows drawn anew vary by the variance of a column over the number of rows. None where runs cannot
    be paired by row: one has no predictions, they have fewer than two rows in common, were asked different things, or
    hold predictions that are none of their kind or that the metric does not suit.
    """
    found = [run for run in runs if run is not None]
    if not found or len(found) < len(runs) or not all(run.kind in metric.kinds and _sound(run) for run in found):
        return None
    rows = np.unique(found[0].rows, return_index=True)[0]  # with the index it sorts, which is much faster here
    for run in found:
        rows = rows[np.isin(rows, run.rows)]
    asked = [_asked(run, rows) for run in found]
    if len(rows) < 2 or not all(_equal(asked[0], other) for other in asked[1:]):
        return None
    without = _summed if metric.from_sums is not None else _computed
    scores = np.stack([without(run, metric, rows) for run in found], axis=1)
    return (len(scores) - 1) * (scores.mean(0) - scores)


def _sound(run: Predictions) -> bool:
    """Whether classes are among those that there are, or -1 where nothing was predicted, and numbers are numbers."""
    if run.kind in ("labels", "text"):
        return True
    if run.kind == "value":
        return bool(np.isfinite(run.gold).all() and np.isfinite(run.predicted).all())
    sides = ((run.gold, 0), (run.predicted, -1))
    return all(bool(((v >= low) & (v < run.n_classes) & (v == np.floor(v))).all()) for v, low in sides)


def _asked(run: Predictions, rows: Rows) -> tuple[Any, ...]:
    """What the predictions about `rows` are, and what they are about, by row and by what of it is asked."""
    order = np.lexsort((run.part_of_each(), run.rows))
    order = order[np.isin(run.rows[order], rows)]
    return run.kind, run.n_classes, run.rows[order], run.part_of_each()[order], run.gold[order]


def _equal(one: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    return all(np.array_equal(left, right) for left, right in zip(one, other, strict=True))


def _summed(run: Predictions, metric: Metric, rows: Rows) -> Array:
    """Scores [rows] without each row, of a metric that is a function of sums."""
    assert metric.from_sums is not None
    known, sums = _row_sums(run, metric)
    sums = sums[np.searchsorted(known, rows)]
    return metric.from_sums(sums.sum(0) - sums)


@lru_cache(maxsize=KEPT)
def _row_sums(run: Predictions, metric: Metric) -> tuple[Rows, Array]:
    """The rows of a run, and the sums of a metric's summands over each [rows, k]."""
    assert metric.summands is not None
    order = np.argsort(run.rows, kind="stable")
    rows, starts = np.unique(run.rows[order], return_index=True)
    return rows, np.add.reduceat(metric.summands(run)[order], starts, axis=0, dtype=float)


def _computed(run: Predictions, metric: Metric, rows: Rows) -> Array:
    """Scores [groups] without each group of rows, dealt out in turn, of a metric that has to be computed anew."""
    return _without_groups(run, metric, rows.tobytes())


@lru_cache(maxsize=KEPT)
def _without_groups(run: Predictions, metric: Metric, shared: bytes) -> Array:
    rows = np.frombuffer(shared, np.int64)
    place = np.searchsorted(rows, run.rows)
    shares = np.isin(run.rows, rows)
    group = np.where(shares, place % GROUPS, -1)
    return np.array([metric.score(_only(run, shares & (group != left))) for left in range(min(GROUPS, len(rows)))])


def _only(run: Predictions, kept: NDArray[np.bool_]) -> Predictions:
    """The predictions that are kept; parts and log probabilities make no difference to a score of pairs of numbers."""
    return replace(
        run, rows=run.rows[kept], gold=run.gold[kept], predicted=run.predicted[kept], parts=None, log_probabilities=None
    )
