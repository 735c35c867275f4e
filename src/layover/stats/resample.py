"""Resample: the interval and p-value of a paired difference, from seeds and validation examples.

A hierarchical paired bootstrap. Seeds (pairs of runs) and validation examples are crossed: each resample draws
seeds with replacement, and examples with replacement, the same examples for both arms and all seeds. Examples that
no run tells apart (same gold, same predictions everywhere) are scored as one that counts several times.

Of S seeds the plain bootstrap sees a variance that is too small by (S-1)/S, so with `seeds="bootstrap"` deviations
between seeds are inflated by sqrt(S/(S-1)). That mends the variance and not the tails: measured on tables without any
effect, 5 % tests of three seeds reject 18 % without examples, 15 % with 5,000 examples and noisy seeds, and 0 to 5 %
with 277 examples (where the noise of examples is seen between seeds too, so it counts twice). `seeds="student"`, the
default, draws the seed part from Student's t after taking away what examples explain: 5 %, 7 % and 3 to 9 %.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import numpy as np

from layover.metrics import Array, Metric, Predictions

if TYPE_CHECKING:
    from scipy.sparse import csr_array

SEED = 20_200_711
RESAMPLES = 2_000
BLOCK = 2_000  # resamples held in memory at once; each block has its own stream, so more resamples extend fewer

SeedNoise = Literal["bootstrap", "student"]
Basis = Literal["seeds and examples", "seeds", "examples", "none"]


@dataclass(frozen=True)
class Effect:
    """A mean paired difference in points, its 95 % interval and two-sided p; None where there is no telling."""

    delta: float | None
    low: float | None
    high: float | None
    p: float | None
    basis: Basis


@dataclass(frozen=True)
class Aligned:
    """Runs of one task on the same examples: `gold` [n], `predicted` [runs, n], `unit` [n] (what is drawn together)."""

    gold: Array
    predicted: Array
    unit: np.ndarray
    n_classes: int


def align(runs: Sequence[Predictions | None], metric: Metric) -> Aligned | None:
    """The examples that all runs share; None where runs cannot be paired by example."""
    if not runs or any(run is None for run in runs):
        return None
    found = [run for run in runs if run is not None]
    common = set(found[0].rows.tolist()).intersection(*(run.rows.tolist() for run in found[1:]))
    rows, gold, predicted = zip(*(_shared(run, np.array(sorted(common))) for run in found), strict=True)
    classes = found[0].n_classes
    same = all(np.array_equal(r, rows[0]) and np.array_equal(g, gold[0]) for r, g in zip(rows, gold, strict=True))
    if len(common) < 2 or not same or any(run.n_classes != classes for run in found):
        return None
    table = np.stack([gold[0], *predicted])
    if not np.isfinite(table).all():
        return None
    if metric.from_counts is not None:
        classes = classes or int(table.max()) + 1  # choices have positions, not classes
        if table.min() < 0 or table.max() >= classes or (table != np.round(table)).any():
            return None
    _, unit = np.unique(rows[0], return_inverse=True)
    return Aligned(gold[0], np.stack(predicted), unit, classes)


def _shared(run: Predictions, common: np.ndarray) -> tuple[np.ndarray, Array, Array]:
    order = np.argsort(run.rows, kind="stable")
    order = order[np.isin(run.rows[order], common)]
    return run.rows[order], np.asarray(run.gold[order], float), np.asarray(run.predicted[order], float)


def example_scores(aligned: Aligned, metric: Metric, stream: str, resamples: int) -> Array:
    """Scores [resamples, runs] on resampled examples. `stream` names the random numbers: one task, one stream."""
    kinds, members = _kinds(aligned)
    units = int(aligned.unit.max()) + 1
    blocks = []
    for block, start in enumerate(range(0, resamples, BLOCK)):
        drawn = _drawn(stream, units, block)[:, : resamples - start]
        weights = (members @ drawn.astype(np.float32)).T.astype(float)
        blocks.append(np.stack([_score(metric, kinds, run, weights) for run in range(len(kinds.predicted))], axis=1))
    return np.concatenate(blocks)


@lru_cache(maxsize=4)
def _drawn(stream: str, units: int, block: int) -> np.ndarray:
    """How often each unit is drawn, uint8 [units, BLOCK]: the same for every cell of a task."""
    rng = np.random.default_rng([SEED, zlib.crc32(stream.encode()), block])
    drawn = np.empty((BLOCK, units), dtype=np.uint8)
    for row in drawn:
        row[:] = np.bincount(rng.integers(units, size=units), minlength=units)
    return np.ascontiguousarray(drawn.T)


def _kinds(aligned: Aligned) -> tuple[Aligned, csr_array]:
    """One example of each kind, and how many examples of each kind each unit holds [kinds, units]."""
    from scipy.sparse import csr_array

    kinds, kind = np.unique(np.vstack([aligned.gold, aligned.predicted]), axis=1, return_inverse=True)
    count = kinds.shape[1]
    members = csr_array((np.ones(len(kind), np.float32), (kind, aligned.unit)), (count, int(aligned.unit.max()) + 1))
    return Aligned(kinds[0], kinds[1:], np.arange(count), aligned.n_classes), members


def _score(metric: Metric, aligned: Aligned, run: int, weights: Array) -> Array:
    gold, predicted, classes = aligned.gold, aligned.predicted[run], aligned.n_classes
    if metric.from_counts is not None:
        return _from_counts(metric, gold, predicted, classes, weights)
    if metric.from_weights is not None:
        return metric.from_weights(gold, predicted, weights)
    items = (np.repeat(np.arange(len(gold)), row) for row in weights.astype(int))
    return np.array([metric.score(gold[item], predicted[item], classes) for item in items])


def _from_counts(metric: Metric, gold: Array, predicted: Array, classes: int, weights: Array) -> Array:
    from scipy.sparse import csr_array

    assert metric.from_counts is not None
    codes, code = np.unique((gold * classes + predicted).astype(int), return_inverse=True)
    of_code = csr_array((np.ones(len(code)), (code, np.arange(len(code)))), shape=(len(codes), len(code)))
    seen = (of_code @ weights.T).T
    step = max(1, 2**24 // classes**2)
    scores = []
    for start in range(0, len(weights), step):
        part = seen[start : start + step]
        counts = np.zeros((len(part), classes * classes))
        counts[:, codes] = part
        scores.append(metric.from_counts(counts.reshape(-1, classes, classes)))
    return np.concatenate(scores)


def full_scores(aligned: Aligned, metric: Metric) -> Array:
    """Scores [runs] on the examples as they are."""
    ones = np.ones((1, len(aligned.gold)))
    return np.array([_score(metric, aligned, run, ones)[0] for run in range(len(aligned.predicted))])


def differences(
    deltas: Array, aligned: Aligned | None, metric: Metric | None, stream: str, resamples: int = RESAMPLES
) -> Array:
    """Differences [resamples, seeds] between two arms on resampled examples, around `deltas` [seeds] of the table.

    `aligned` holds the runs of the first arm, then those of the second, seeds in the same order; where it is
    None, only seeds vary.
    """
    if aligned is None or metric is None:
        return np.broadcast_to(deltas, (resamples, len(deltas)))
    around = example_scores(aligned, metric, stream, resamples) - full_scores(aligned, metric)
    seeds = len(deltas)
    return deltas + around[:, :seeds] - around[:, seeds:]


def mean_draws(drawn: Array, deltas: Array, seeds: SeedNoise = "student", stream: str = "") -> Array:
    """Draws [resamples] of the mean difference, from differences [resamples, seeds] around `deltas` [seeds].

    Both kinds of seed noise are sums of deviations between seeds, so the mean of several tasks' differences can
    be passed as one task is, and what tasks share by seed is kept. Draws that are to be averaged as independent
    ones need a `stream` of their own each.
    """
    resamples, count = drawn.shape
    mean = drawn.mean(1)
    if count == 1:
        return mean
    rng = np.random.default_rng([SEED, count, *stream.encode()])
    if seeds == "bootstrap":
        times = rng.multinomial(count, np.full(count, 1 / count), size=resamples)
        weights = np.sqrt(count / (count - 1)) * (times / count)
        return mean + (weights * (drawn - mean[:, None])).sum(1)
    deviations = deltas - deltas.mean()
    spread = float((deviations**2).sum())
    explained = float((drawn - mean[:, None]).var(0).sum())  # what examples add to the deviations between seeds
    if spread <= explained:
        return mean
    student = rng.standard_normal((resamples, count)) / np.sqrt(rng.chisquare(count - 1, (resamples, 1)) / (count - 1))
    return mean + np.sqrt(1 - explained / spread) * (student @ deviations) / np.sqrt(count * (count - 1))


def effect(delta: float | None, draws: Array | None, basis: Basis) -> Effect:
    """The effect that draws [resamples] around `delta` show; p has a +1 in count and total, so it is never 0."""
    if delta is None or draws is None:
        return Effect(delta, None, None, None, "none")
    low, high = np.percentile(draws, [2.5, 97.5])
    rounding = 1e-9  # a difference of exactly 0 counts for both sides
    below, above = int((draws <= rounding).sum()), int((draws >= -rounding).sum())
    p = min(1.0, 2 * (min(below, above) + 1) / (len(draws) + 1))
    return Effect(delta, float(low), float(high), p, basis)
