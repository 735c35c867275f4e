"""LogME: how probable the labels are under a linear model on a source's features, at its best prior and noise.

You et al. 2021 ("LogME: practical assessment of pre-trained models for transfer learning", ICML): targets y [n] are
F w + noise of precision beta, with w of precision alpha around 0; the score is max over alpha and beta of
log p(y | F) / n, in nats per row, the mean over classes, each against all others. Any real number.

What is maximised here. With s the eigenvalues of F'F, t = alpha / beta, and E(t) = y'y - y'F (F'F + t)^-1 F'y, the
best beta is n / E, and log p / n = (log(n / E) - 1 - log 2 pi + sum log(t / (t + s)) / n) / 2. The paper's fixed point
of alpha and beta is one of t: t = g |y - Fw|^2 / ((n - g) |w|^2), with g = sum s / (s + t). Evidence may have several
maxima; here it is the largest, where the paper's iteration ends in one that depends on the scale of the features.

What it costs. No source needs an eigenvector: F'F is made tridiagonal (or FF', where that is smaller), its eigenvalues
are found, and with each t one tridiagonal system is solved, for all classes of all sources at once. Where the features
of sources are linear maps of one matrix X (ESM), the triangular factor of X is computed once and F'F from that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from layover.select.estimator import Array, Evidence, Labels, Needs, OfFeatures

SMALLEST, LARGEST = 1e-12, 1e8  # t, times the largest eigenvalue: below it is rounding, above it nothing changes
CLOSE = 1e-7  # of log t: evidence is flat at its maximum, so that it is known to far more digits
GRID = 21  # values of t that are tried first: a decade apart
STEPS = 60
AT_ONCE = 1024  # columns that are solved together: at width 1024, 8 MB for each of some ten arrays


@dataclass(frozen=True, eq=False)
class Reduced:
    """The linear model of one source: F'F (or, where `dual`, FF') as a tridiagonal matrix of m rows.

    `diagonal` [m] and `off` [m], whose last is 0, `eigenvalues` [m], and `right` [m, k]: F'y, or y, in its basis.
    """

    diagonal: Array
    off: Array
    eigenvalues: Array
    right: Array
    dual: bool


def logme(features: Iterable[Array], targets: Array) -> Array:
    """LogME of each of many features [n, d] for targets [n, k]."""
    return _scores((_of(one, targets) for one in features), targets)


def esm_logme(plain: Array, maps: Iterable[Array], targets: Array) -> Array:
    """LogME for targets [n, k] of features that are linear maps [d + 1, d'] of one matrix [n, d], their offset last."""
    extended = np.column_stack([plain, np.ones(len(plain))])
    small = len(extended) <= extended.shape[1]
    factor = extended if small else np.linalg.qr(extended, mode="r")  # its Gram matrix is that of `extended`
    moments = extended.T @ targets

    def reduced() -> Iterator[Reduced]:
        for one in maps:
            if len(plain) < one.shape[1]:
                yield _of(extended @ one, targets)
            else:
                half = factor @ one
                yield _reduced(half.T @ half, one.T @ moments, dual=False)

    return _scores(reduced(), targets)


def _of(features: Array, targets: Array) -> Reduced:
    """The model of features [n, d], by their smaller Gram matrix."""
    if len(features) < features.shape[1]:
        return _reduced(features @ features.T, targets, dual=True)
    return _reduced(features.T @ features, features.T @ targets, dual=False)


def _reduced(gram: Array, right: Array, dual: bool) -> Reduced:
    """A Gram matrix [m, m] made tridiagonal by reflections, and the right-hand sides [m, k] by the same."""
    from scipy.linalg import lapack as compiled

    lapack: Any = compiled  # its functions are in no source that a type checker reads
    if len(gram) == 1:
        return Reduced(gram[0], np.zeros(1), gram[0], right, dual)
    work = int(lapack.dsytrd_lwork(len(gram), lower=1)[0])
    packed, diagonal, off, tau, _ = lapack.dsytrd(gram, lower=1, lwork=work)
    eigenvalues, failed = lapack.dsterf(diagonal, off)
    if failed:
        raise np.linalg.LinAlgError("the eigenvalues of a tridiagonal matrix were not found")
    below = np.asfortranarray(packed[1:, :-1])
    turned, _, _ = lapack.dormqr("L", "T", below, tau, right[1:], max(64, 64 * right.shape[1]))
    return Reduced(diagonal, np.append(off, 0.0), np.maximum(eigenvalues, 0), np.concatenate([right[:1], turned]), dual)


def _scores(models: Iterable[Reduced], targets: Array) -> Array:
    """The mean evidence over columns of `targets` [n, k], of each model."""
    waiting: list[Reduced] = []
    found: list[Array] = []
    n_columns = targets.shape[1]
    for model in models:
        waiting.append(model)
        if (len(waiting) + 1) * n_columns > AT_ONCE:
            found.append(_evidence(waiting, targets))
            waiting = []
    if waiting:
        found.append(_evidence(waiting, targets))
    return np.concatenate([one.mean(1) for one in found]) if found else np.empty(0)


def _evidence(models: list[Reduced], targets: Array) -> Array:
    """The largest evidence [models, k], in nats per row.

    It may have several maxima. The best of a grid of t lies beside the largest, and from there log t goes where the
    fixed point says, then by secants, always inside the interval that is known to hold the maximum: the sign of a step
    of the fixed point is that of the evidence's slope.
    """
    system = _System.of(models, targets)
    largest = system.eigenvalues.max(0)
    grid = np.log(np.where(largest > 0, largest, 1)) + np.linspace(np.log(SMALLEST), np.log(LARGEST), GRID)[:, None]
    best, columns = np.argmax([system.evidence(log_t) for log_t in grid], axis=0), np.arange(len(largest))
    low, now, high = (grid[np.clip(best + i, 0, GRID - 1), columns] for i in (-1, 0, 1))
    step, before, step_before = system.step(now), now, np.zeros_like(now)
    for _ in range(STEPS):
        low, high = np.where(step > 0, now, low), np.where(step > 0, high, now)
        moved = now != before
        slope = (step - step_before) / np.where(moved, now - before, 1)
        secant = moved & (slope < 0)
        following = now + np.where(secant, -step / np.where(secant, slope, 1), step)
        following = np.where((following > low) & (following < high), following, (low + high) / 2)
        following = np.where((step == 0) | (high - low < CLOSE), now, following)
        if np.abs(following - now).max() < CLOSE:
            break
        before, step_before, now = now, step, following
        step = system.step(now)
    return system.evidence(now).reshape(len(models), -1)


@dataclass(frozen=True, eq=False)
class _System:
    """Many tridiagonal systems [m, columns] side by side, one for each target of each model; smaller ones end in 0."""

    diagonal: Array
    off: Array
    eigenvalues: Array
    right: Array
    dual: Array
    total: Array
    n: int

    @classmethod
    def of(cls, models: list[Reduced], targets: Array) -> _System:
        size, k = max(len(model.diagonal) for model in models), targets.shape[1]

        def beside(parts: Iterable[Array]) -> Array:
            padded = [np.pad(part, [(0, size - len(part)), (0, 0)]) for part in parts]
            return np.concatenate([np.broadcast_to(part, (size, k)) for part in padded], axis=1)

        names = ("diagonal", "off", "eigenvalues")
        diagonal, off, eigenvalues = (beside(getattr(model, name)[:, None] for model in models) for name in names)
        dual = np.repeat([model.dual for model in models], k)
        total = np.tile((targets**2).sum(0), len(models))
        right = beside(model.right for model in models)
        return cls(diagonal, off, eigenvalues, right, dual, total, len(targets))

    def factors(self, t: Array) -> tuple[Array, Array, Array]:
        """Of an LDL' factorization: the pivots D, the ratios below them, and the right-hand sides, solved for L."""
        pivots, ratios, forward = self.diagonal + t, np.zeros_like(self.off), self.right.copy()
        for i in range(1, len(pivots)):
            np.divide(self.off[i - 1], pivots[i - 1], out=ratios[i - 1])
            pivots[i] -= ratios[i - 1] * self.off[i - 1]
            forward[i] -= ratios[i - 1] * forward[i - 1]
        return pivots, ratios, forward

    def step(self, log_t: Array) -> Array:
        """How far the fixed point moves log t."""
        t, tiny = np.exp(log_t), np.finfo(float).tiny
        pivots, ratios, forward = self.factors(t)
        solution = forward / pivots
        product = (forward * solution).sum(0)
        for i in range(len(pivots) - 2, -1, -1):
            solution[i] -= ratios[i] * solution[i + 1]
        square = (solution**2).sum(0)
        weights = np.where(self.dual, product - t * square, square)
        error = np.where(self.dual, t * t * square, self.total - product - t * square)
        fitted = (self.eigenvalues / (self.eigenvalues + t)).sum(0)
        free = self.n - len(self.eigenvalues) + (t / (self.eigenvalues + t)).sum(0)
        up, down = np.maximum(fitted * error, tiny), np.maximum(weights * free, tiny)
        return np.log(up) - np.log(down) - log_t

    def evidence(self, log_t: Array) -> Array:
        """The evidence at t, with the noise that suits it best, in nats per row."""
        t = np.exp(log_t)
        pivots, _, forward = self.factors(t)
        product = (forward * forward / pivots).sum(0)
        least = self.total * t / (t + self.eigenvalues.max(0))  # what no fit goes below, but by rounding
        rest = np.maximum(np.where(self.dual, t * product, self.total - product), least)
        shrunk = np.log(t / (t + self.eigenvalues)).sum(0)
        return (np.log(self.n / rest) - 1 - np.log(2 * np.pi) + shrunk / self.n) / 2


@dataclass(frozen=True)
class OfMaps:
    """LogME of features that small linear maps foretell: one pass of the plain encoder for all sources.

    Schulte et al. 2024 ("Less is more: parameter-efficient selection of intermediate tasks for transfer learning",
    EMNLP): an embedding space map [d + 1, d] of each source turns the plain encoder's vectors into nearly what the
    source's encoder gives. It is of the last layer.
    """

    name: str
    reference: str
    needs: Needs = "maps"
    labels: bool = True

    def score(self, evidence: Evidence) -> Array:
        """How good every source [sources] is for the target; nan for one without a map."""
        found = np.full(evidence.sources, np.nan)
        if evidence.lacks(self) or evidence.plain is None or evidence.maps is None:
            return found
        there = [number for number, one in enumerate(evidence.maps) if one is not None]
        maps = (one.astype(np.float64) for one in evidence.maps if one is not None)
        found[there] = esm_logme(evidence.plain[-1].astype(np.float64), maps, evidence.gold.targets)
        return found


def _rate(features: Iterator[Array], labels: Labels) -> Array:
    return logme(features, labels.targets)


LOGME = OfFeatures("logme", "You et al. 2021, LogME (ICML)", _rate, values=True)
ESM_LOGME = OfMaps("esm_logme", "Schulte et al. 2024, embedding space maps (EMNLP); You et al. 2021, LogME (ICML)")
