"""Calibration: whether the probabilities and intervals that a forecast states hold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from layover.metrics import Array
from layover.select.truth import Forecast, Truth

BINS = 5


@dataclass(frozen=True)
class Bin:
    """The cells whose stated chance lies from `low` to `high`: their mean chance, and the share that was positive."""

    low: float
    high: float
    n: int
    chance: float | None
    positive: float | None


@dataclass(frozen=True)
class Calibration:
    """Of `n` cells: the Brier score of the chances that a measured difference is positive, 0 best (Brier 1950).

    `reference` is that of always saying the share that was positive, 1/4 at most. `covered80` and `covered95` are the
    shares of measured differences inside the central intervals of that probability, None where a forecast gives none.
    """

    n: int
    brier: float
    reference: float
    bins: tuple[Bin, ...]
    covered80: float | None
    covered95: float | None


def calibration(truth: Truth, forecast: Forecast) -> Calibration | None:
    """The calibration over all cells of all targets; None where the forecast says no chances.

    What is measured has an error of its own, so an interval for it, and the chance that it is positive, take in both:
    sd^2 + error^2, where the error is known. Where it is not, chances are judged as they are stated. A measured
    difference of exactly 0 is half positive.
    """
    spread = None if forecast.sd is None else np.hypot(forecast.sd, np.nan_to_num(truth.error))
    chance = forecast.chance
    if spread is not None and forecast.points:
        normal = _positive(forecast.score, spread)
        chance = normal if chance is None else np.where(np.isnan(truth.error), chance, normal)
    if chance is None:
        return None
    known = ~np.isnan(truth.delta) & ~np.isnan(chance)
    if not known.any():
        return None
    said, happened = chance[known], (np.sign(truth.delta[known]) + 1) / 2
    share = float(happened.mean())
    inside = [None if spread is None else _covered(truth.delta, forecast.score, spread, p) for p in (0.80, 0.95)]
    brier, reference = float(((said - happened) ** 2).mean()), float(((share - happened) ** 2).mean())
    return Calibration(int(known.sum()), brier, reference, _bins(said, happened), *inside)


def _positive(mean: Array, spread: Array) -> Array:
    """The chance that a normal value is positive; 1/2 where it is 0 for certain."""
    from scipy.special import ndtr

    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where((spread == 0) & (mean == 0), 0.5, ndtr(mean / spread))


def _covered(delta: Array, mean: Array, spread: Array, probability: float) -> float | None:
    from scipy.special import ndtri

    known = ~np.isnan(delta) & ~np.isnan(mean) & ~np.isnan(spread)
    half = float(ndtri((1 + probability) / 2)) * spread[known]
    return float((np.abs(delta[known] - mean[known]) <= half).mean()) if known.any() else None


def _bins(said: Array, happened: Array) -> tuple[Bin, ...]:
    """Bins of equal width; a chance on an edge counts in the upper one, 1 in the last."""
    place = np.minimum((said * BINS).astype(int), BINS - 1)
    found = []
    for number in range(BINS):
        here = place == number
        n = int(here.sum())
        means = (float(said[here].mean()), float(happened[here].mean())) if n else (None, None)
        found.append(Bin(number / BINS, (number + 1) / BINS, n, *means))
    return tuple(found)
