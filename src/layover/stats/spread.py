"""Spread: a mean of a few runs with its interval, and how their values are distributed."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

PAPER_BAR = 2.667  # Tamkin et al. 2020 draw bars of 2.667 / sqrt(n) population SDs and call them 95 %


@dataclass(frozen=True)
class Spread:
    """A mean in points, its sample SD, the 95 % interval of Student's t over `n` runs, and the bar of Tamkin et al.

    `bar` is to be drawn to either side. None where there is no telling.
    """

    mean: float | None
    sd: float | None
    low: float | None
    high: float | None
    bar: float | None
    n: int


@dataclass(frozen=True)
class Distribution:
    """Values in ascending order, in points, with what a violin or box is drawn from; `sd` is the sample's."""

    values: tuple[float, ...]
    mean: float | None
    sd: float | None
    low: float | None
    quarter: float | None
    median: float | None
    three_quarters: float | None
    high: float | None


def spread_of(values: Iterable[float]) -> Spread:
    """The spread of values, NaN left out; the order of values changes nothing."""
    known = _known(values)
    if not known:
        return Spread(None, None, None, None, None, 0)
    n, mean = len(known), math.fsum(known) / len(known)
    if n == 1:
        return Spread(mean, None, None, None, None, 1)
    from scipy.special import stdtrit

    sd = float(np.std(known, ddof=1))
    half = float(stdtrit(n - 1, 0.975)) * sd / math.sqrt(n)
    return Spread(mean, sd, mean - half, mean + half, PAPER_BAR / math.sqrt(n) * float(np.std(known)), n)


def distribution_of(values: Iterable[float]) -> Distribution:
    """The distribution of values, NaN left out; quartiles are interpolated linearly."""
    known = _known(values)
    if not known:
        return Distribution((), *[None] * 7)
    sd = float(np.std(known, ddof=1)) if len(known) > 1 else None
    return Distribution(
        tuple(known), math.fsum(known) / len(known), sd, *map(float, np.quantile(known, np.arange(5) / 4))
    )


def _known(values: Iterable[float]) -> list[float]:
    return sorted(value for value in values if not math.isnan(value))
