"""Mixed: a sum of parts that are each drawn from a normal distribution, and what is left over from Student's t.

    y = mean + sum over parts of (what this level of the part adds) + features x weights + error

Features come in groups, and the weights of a group have one variance: a group that explains nothing goes as a part
does. The variance of each part, of each group's weights and of the error is learnt by restricted maximum likelihood
(Patterson & Thompson 1971). Errors follow Student's t on `FREEDOM` degrees of freedom, as scale mixtures of normal
ones: each round weighs observations by how far off they were (Lange et al. 1989).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from layover.metrics import Array

FREEDOM = 4.0
ROUNDS = 8
SETTLED = 0.02  # weights are about 1
SMALLEST, LARGEST = 1e-6, 1e2  # of the variance of values, what a part's may be
USUAL = 2.0  # points that a pair is off by where too little is known to tell, worth `WORTH` observations
WORTH = 2.0


@dataclass(frozen=True, eq=False)
class Features:
    """A group of features [n, k] on a scale of its own: each in SDs around its mean, 0 where it is not known."""

    scaled: Array
    centre: Array
    scale: Array

    @classmethod
    def of(cls, raw: Array) -> Features:
        """Those of the observations, which set the scale."""
        centre, scale = _moments(raw)
        return cls(_scaled(raw, centre, scale), centre, scale)

    def read(self, raw: Array) -> Array:
        """Others [m, k] on the same scale."""
        return _scaled(raw, self.centre, self.scale)


@dataclass(frozen=True, eq=False)
class Mixed:
    """A fitted sum. `variances` are those of its parts, of its groups of features and of the "error", in squares of
    the values.

    Parts that cannot be told from others that come before, or from the error, are not in it, nor are groups of features
    that do not differ. `own` [n] is the variance of the part that is each observation's own, noise aside.
    """

    variances: Mapping[str, float]
    mean: float
    levels: Mapping[str, Sequence[str]]
    features: Mapping[str, Features]
    inverse: Array
    residual: Array
    own: Array
    freedom: float

    def predict(
        self, levels: Mapping[str, Sequence[str]], features: Mapping[str, Array], same: Mapping[int, int] | None = None
    ) -> tuple[Array, Array]:
        """Means and standard deviations [m] of true values at these levels, new ones included; features [m, k] each.

        `same` are the numbers of those that are the very values of observations, and of these: what such a value is
        off by is not drawn anew, but known as far as its observation tells it from noise.
        """
        read = {name: known.read(features[name]) for name, known in self.features.items()}
        across = self._covariance(levels, read)
        seen = dict(same or {})
        here, there = list(seen), list(seen.values())
        across[here, there] += self.own[there]
        mean = self.mean + across @ self.inverse @ self.residual
        own = np.full(len(mean), sum(self.variances[name] for name in self.levels))
        own += sum(self.variances[name] * (scaled**2).sum(1) for name, scaled in read.items())
        one = np.ones(len(self.residual))
        # what is lost because the mean itself is estimated
        off = 1 - across @ self.inverse @ one
        lost = off**2 / float(one @ self.inverse @ one)
        error = np.full(len(mean), self.variances["error"] * self.freedom / (self.freedom - 2))
        error[here] = self.own[there]
        known = np.einsum("ij,jk,ik->i", across, self.inverse, across)
        return mean, np.sqrt(np.maximum(own + error - known, 0.0) + lost)

    def _covariance(self, levels: Mapping[str, Sequence[str]], read: Mapping[str, Array]) -> Array:
        """That of values at these levels with these features and of the observations [m, n]."""
        found = np.zeros((len(next(iter(levels.values()))), len(self.residual)))
        for name, own in self.levels.items():
            found += self.variances[name] * _same(levels[name], own)
        for name, scaled in read.items():
            found += self.variances[name] * scaled @ self.features[name].scaled.T
        return found

    def positive(self, mean: Array, sd: Array) -> Array:
        """The chance that a value with this mean and sd is positive: with the tails of Student's t."""
        from scipy.special import stdtr

        return stdtr(self.freedom, mean / (sd * self._scale))

    def interval(self, mean: Array, sd: Array, probability: float = 0.95) -> tuple[Array, Array]:
        """Between what a value with this mean and sd lies with a probability, by Student's t."""
        from scipy.special import stdtrit

        reach = stdtrit(self.freedom, (1 + probability) / 2) * sd * self._scale
        return mean - reach, mean + reach

    @property
    def _scale(self) -> float:
        """The scale of Student's t over its standard deviation."""
        return math.sqrt((self.freedom - 2) / self.freedom)


def fitted(
    values: Array, errors: Array, levels: Mapping[str, Sequence[str]], features: Mapping[str, Array]
) -> Mixed:  # fmt: skip
    """The sum that explains values [n], whose standard errors [n] are known or NaN, best.

    `levels` name the level of each part, [n] each; `features` [n, k] of each group may be NaN, which counts as their
    mean.
    """
    told = _told_apart(levels)
    read = {name: one for name, raw in features.items() if (one := Features.of(raw)).scaled.any()}
    noise = np.nan_to_num(errors) ** 2
    parts = {name: _same(told[name], told[name]) for name in told}
    parts |= {name: one.scaled @ one.scaled.T for name, one in read.items()}
    weights = np.ones(len(values))
    variances = dict.fromkeys([*parts, "error"], max(float(np.var(values)), 1e-12) / (len(parts) + 1))
    for _ in range(ROUNDS):
        variances = _variances(values, noise, parts, weights, variances)
        inverse, mean = _solved(values, noise, parts, weights, variances)
        left = variances["error"] / weights * (inverse @ (values - mean))  # the error's part of what is off
        # the error's own square, and what is not known of it
        unsure = variances["error"] / weights * (1 - variances["error"] / weights * np.diag(inverse))
        before, weights = weights, (FREEDOM + 1) / (FREEDOM + (left**2 + unsure) / variances["error"])
        if np.abs(weights - before).max() < SETTLED:
            break
    inverse, mean = _solved(values, noise, parts, weights, variances)
    return Mixed(variances, mean, told, read, inverse, values - mean, variances["error"] / weights, FREEDOM)


def _told_apart(levels: Mapping[str, Sequence[str]]) -> dict[str, Sequence[str]]:
    """The parts whose levels differ from one observation to another otherwise than those before and than the error."""
    found: dict[str, Sequence[str]] = {}
    seen: set[tuple[int, ...]] = set()
    for name, values in levels.items():
        first = {value: place for place, value in reversed(list(enumerate(values)))}
        groups = tuple(first[value] for value in values)
        if 1 < len(first) < len(values) and groups not in seen:
            found[name] = values
            seen.add(groups)
    return found


def _same(these: Sequence[str], those: Sequence[str]) -> Array:
    """1 where two are of one level [len(these), len(those)]."""
    number = {value: place for place, value in enumerate(dict.fromkeys(those))}
    own = np.array([number.get(value, -1) for value in these])
    return (own[:, None] == np.array([number[value] for value in those])).astype(float)


def _moments(features: Array) -> tuple[Array, Array]:
    """Mean and SD of each feature over what is known of it; a feature that does not vary has an infinite SD."""
    known = ~np.isnan(features)
    count = np.maximum(known.sum(0), 1)
    mean = np.where(known, features, 0.0).sum(0) / count
    sd = np.sqrt((np.where(known, features - mean, 0.0) ** 2).sum(0) / count)
    return mean, np.where(sd > 1e-9, sd, math.inf)


def _scaled(features: Array, centre: Array, scale: Array) -> Array:
    return np.nan_to_num((features - centre) / scale)


def _total(noise: Array, parts: Mapping[str, Array], weights: Array, variances: Mapping[str, float]) -> Array:
    """The covariance of all values [n, n]."""
    spread = np.diag(noise + variances["error"] / weights)
    return spread + sum((variances[name] * matrix for name, matrix in parts.items()), np.zeros_like(spread))


def _solved(
    values: Array, noise: Array, parts: Mapping[str, Array], weights: Array, variances: Mapping[str, float]
) -> tuple[Array, float]:
    """The inverse of the covariance, and the general mean by generalised least squares."""
    inverse: Array = np.linalg.inv(_total(noise, parts, weights, variances)).astype(np.float64, copy=False)
    by = inverse.sum(0)
    return inverse, float(by @ values / by.sum())


def _variances(
    values: Array, noise: Array, parts: Mapping[str, Array], weights: Array, start: Mapping[str, float]
) -> dict[str, float]:
    """The variances of greatest restricted likelihood, from `start`."""
    from scipy.optimize import minimize

    names = [*parts, "error"]
    matrices = [*parts.values(), np.diag(1 / weights)]
    scale = max(float(np.var(values)), 1e-6)
    bounds = [(math.log(SMALLEST * scale), math.log(LARGEST * scale))] * len(names)
    bounds[-1] = (math.log(SMALLEST * scale), math.log(LARGEST * max(scale, USUAL**2)))

    def worse(logs: Array) -> tuple[float, Array]:
        sizes = np.exp(logs)
        total = np.diag(noise) + sum(size * matrix for size, matrix in zip(sizes, matrices, strict=True))
        return _restricted(values, total, sizes, matrices)

    begin = np.clip([math.log(start[name]) for name in names], *np.array(bounds).T)
    found = minimize(worse, begin, jac=True, method="L-BFGS-B", bounds=bounds)
    return dict(zip(names, np.exp(found.x).tolist(), strict=True))


def _restricted(values: Array, total: Array, sizes: Array, matrices: Sequence[Array]) -> tuple[float, Array]:
    """Minus the restricted log likelihood, with a weak prior for the error's variance, and its slope by log size."""
    inverse = np.linalg.inv(total)
    by = inverse.sum(0)
    projected = inverse - np.outer(by, by) / by.sum()
    pulled = projected @ values
    prior = WORTH * (math.log(sizes[-1]) + USUAL**2 / sizes[-1]) / 2
    loss = (np.linalg.slogdet(total)[1] + math.log(by.sum()) + values @ pulled) / 2 + prior
    slope = np.array([size * ((projected * matrix).sum() - pulled @ matrix @ pulled) / 2
                      for size, matrix in zip(sizes, matrices, strict=True)])  # fmt: skip
    slope[-1] += WORTH * (1 - USUAL**2 / sizes[-1]) / 2
    return float(loss), slope
