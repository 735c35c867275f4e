"""Interval: the 95 % interval and p-value of a mean paired difference, from seeds and validation examples.

Seeds (pairs of runs) and examples are crossed, so a mean over S seeds and N examples varies by what seeds add (u), by
what examples add (e), and by how the two interact (g): u/S + g/(S N) + e/N. The squared deviations between seeds tell
the first two together, on S-1 degrees of freedom. The deviations between examples tell the last two; what they say of g
is taken away, so that it does not count twice.

An error that is partly known from few seeds and partly from many examples has no exact test. The p-value here is that
of Student's t with S-1 degrees of freedom and that with N-1, each weighted by its part of the variance. So the limits
are exact: one seed leaves the examples' interval, and no predictions leave Student's t over seeds. What was measured in
between, and of other ways, is in docs/statistics.md.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from layover.metrics import Array

LEVEL = 0.05
SMALLEST = 1e-16  # no p is smaller: that far out nobody knows the tails
ROUNDING = 1e-9  # points

Basis = Literal["seeds and examples", "seeds", "examples", "none"]


@dataclass(frozen=True, eq=False)
class Paired:
    """Differences of one task [seeds] in points, and what each row adds to them [rows, seeds] where that is known."""

    seeds: tuple[int, ...]
    deltas: Array
    influences: Array | None


@dataclass(frozen=True)
class Noise:
    """The variance of a mean difference, in points squared, with the degrees of freedom on which each part is known.

    `seeds` holds `interaction`, the part of seeds and examples together; `examples` does not.
    """

    seeds: float
    seeds_df: float
    examples: float
    examples_df: float
    interaction: float

    @property
    def rows(self) -> int:
        """The number of examples; 0 where there are no predictions."""
        return max(0, round(self.examples_df) + 1)

    @property
    def error(self) -> float:
        """The standard error in points."""
        return math.sqrt(self.seeds + self.examples)

    def p(self, ratio: float) -> float:
        """The two-sided p-value of a difference of so many standard errors."""
        from scipy.special import stdtr

        total = self.seeds + self.examples
        parts = ((self.seeds, self.seeds_df), (self.examples, self.examples_df))
        return sum(part / total * 2 * float(stdtr(df, -abs(ratio))) for part, df in parts if part > 0)

    def critical(self, level: float = LEVEL) -> float:
        """The difference in standard errors of which the p-value is `level`."""
        from scipy.optimize import brentq
        from scipy.special import stdtrit

        dfs = [df for part, df in ((self.seeds, self.seeds_df), (self.examples, self.examples_df)) if part > 0]
        single = [float(stdtrit(df, 1 - level / 2)) for df in dfs]
        if len(single) == 1 or single[0] == single[1]:
            return single[0]
        low, high = 0.99 * min(single), 1.01 * max(single)
        return float(brentq(lambda ratio: self.p(ratio) - level, low, high))  # pyright: ignore[reportArgumentType]


@dataclass(frozen=True)
class Effect:
    """A mean paired difference in points, its 95 % interval and two-sided p; None where there is no telling.

    `noise` is what the interval was made from.
    """

    delta: float | None
    low: float | None
    high: float | None
    p: float | None
    basis: Basis
    noise: Noise | None = None


def noise(tasks: Sequence[Paired]) -> Noise:
    """What makes the mean over tasks vary, each task weighing the same and its seeds too; one task is a cell.

    Runs of one seed share their intermediate run, so deviations are added up by seed before they are squared.
    """
    seeds, df = _seed_noise(tasks)
    found = [_example_noise(task.influences) for task in tasks if task.influences is not None]
    whole = sum(whole for whole, _, _ in found) / len(tasks) ** 2
    interaction = sum(both for _, both, _ in found) / len(tasks) ** 2
    if seeds <= ROUNDING**2:  # seeds that agree by chance say nothing of the interaction
        seeds, interaction = 0.0, 0.0
    return Noise(seeds, df, max(0.0, whole - interaction), min((n for *_, n in found), default=0) - 1, interaction)


def _seed_noise(tasks: Sequence[Paired]) -> tuple[float, float]:
    """The variance between seeds of the mean over tasks, and its degrees of freedom.

    Seeds that tasks share are one group, of which they are a sample; groups are combined as by Satterthwaite (1946).
    """
    around: dict[int, float] = defaultdict(float)
    groups: list[set[int]] = []
    for task in tasks:
        count = len(task.deltas)
        if count < 2:
            continue
        scale = 1 / (len(tasks) * math.sqrt(count * (count - 1)))
        for seed, deviation in zip(task.seeds, task.deltas - task.deltas.mean(), strict=True):
            around[seed] += scale * float(deviation)
        touched = [group for group in groups if group & set(task.seeds)]
        groups = [group for group in groups if group not in touched] + [set(task.seeds).union(*touched)]
    parts = [(sum(around[seed] ** 2 for seed in group), len(group) - 1) for group in groups]
    total = sum(part for part, _ in parts)
    if total == 0:
        return 0.0, 0.0
    return total, total**2 / sum(part**2 / df for part, df in parts)


def _example_noise(influences: Array) -> tuple[float, float, int]:
    """What examples add to the variance of the mean over seeds, how much of that is interaction, and their number."""
    rows, seeds = influences.shape
    mean = influences.mean(1)
    whole = float(mean.var(ddof=1)) / rows
    if seeds == 1:
        return whole, 0.0, rows
    apart = (influences - mean[:, None]).var(axis=0, ddof=1).sum()
    return whole, float(apart) / (rows * seeds * (seeds - 1)), rows


def effect(delta: float, tasks: Sequence[Paired], basis: Basis) -> Effect:
    """The effect that differences show around their mean `delta`; p is under 0.05 where 0 lies outside the interval."""
    if basis == "none":
        return Effect(delta, None, None, None, basis)
    known = noise(tasks)
    if known.error <= ROUNDING:
        if abs(delta) <= ROUNDING:
            return Effect(delta, delta, delta, 1.0, basis, known)
        known = _as_if_one_had_shown_none(delta, tasks)
    half = known.critical() * known.error
    return Effect(delta, delta - half, delta + half, max(SMALLEST, known.p(delta / known.error)), basis, known)


def _as_if_one_had_shown_none(delta: float, tasks: Sequence[Paired]) -> Noise:
    """The noise of a difference that never varied: of n examples (of n seeds, without) one had shown none."""
    rows = [len(task.influences) for task in tasks if task.influences is not None]
    count = min(rows) if rows else min(len(task.deltas) for task in tasks)
    return Noise((delta / count) ** 2, count - 1, 0.0, 0.0, 0.0)
