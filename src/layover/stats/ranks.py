"""Ranks: which sources differ, over all targets together (Demsar 2006, sections 3.2.2 and 3.2.4).

On each target the sources, and the baseline as one of them, are ranked by what they add. The targets are the sample:
the question is about targets like these, and what restarts and examples make of a single cell does not enter.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from layover.metrics import Array
from layover.stats.interval import LEVEL
from layover.stats.transfer import Matrix, Transfer

DIGITS = 9  # differences that agree so far are ties: the rest is rounding


@dataclass(frozen=True)
class Ranks:
    """Mean ranks of the sources (1 adds most) over targets of one role, best first; the baseline is one of them.

    `chi2` is Friedman's statistic, `f` Iman and Davenport's form of it, infinite where all targets agree, and `p` its
    p-value. Two whose mean ranks differ by `critical_difference` or more (Nemenyi, 5 %) can be told apart; `groups` are
    the largest sets in which no two can. The numbers are None with fewer than two targets. `left_out` are targets of
    which a cell is missing.
    """

    encoder: str
    strategy: str
    role: str
    against: str
    ranks: dict[str, float]
    targets: tuple[str, ...]
    left_out: tuple[str, ...]
    chi2: float | None
    f: float | None
    p: float | None
    critical_difference: float | None
    groups: tuple[tuple[str, ...], ...]

    def to_json(self) -> dict[str, Any]:
        """The fields as plain data; an infinite F is null."""
        plain = asdict(self)
        return plain | {"f": None if self.f is None or math.isinf(self.f) else self.f}


def ranks(found: Transfer) -> list[Ranks]:
    """The ranks of the sources of each matrix and role."""
    return [_ranked(found.against, matrix, role) for matrix in found.matrices for role in matrix.roles]


def _ranked(against: str, matrix: Matrix, role: str) -> Ranks:
    from scipy.stats import rankdata

    known = {pair: cell.delta for pair, cell in matrix.cells.items() if cell.role == role}
    sources = sorted({source for source, _ in known})
    columns = {target: [known.get((source, target)) for source in sources] for target in matrix.targets(role)}
    whole = {target: column for target, column in columns.items() if None not in column}
    left_out = tuple(target for target in columns if target not in whole)
    names = [against, *(source or matrix.strategy for source in sources)]
    table = np.array([[0.0, *column] for column in whole.values()], float).reshape(-1, len(names))
    placed = rankdata(-table.round(DIGITS), axis=1) if len(table) else table
    means = placed.mean(0) if len(table) else np.full(len(names), math.nan)
    order = np.argsort(means, kind="stable")
    best_first = {names[i]: float(means[i]) for i in order} if len(table) else {}
    chi2 = f = p = difference = None
    if len(table) > 1:
        chi2, f, p = friedman(placed)
        difference = critical_difference(len(names), len(table))
    return Ranks(matrix.encoder, matrix.strategy, role, against, best_first, tuple(whole), left_out,
                 chi2, f, p, difference, groups(best_first, difference))  # fmt: skip


def friedman(placed: Array) -> tuple[float, float, float]:
    """Friedman's chi-squared of ranks [targets, sources], corrected for ties, with Iman and Davenport's F and its p.

    Where all targets agree, F is infinite and p that of drawing one order again and again.
    """
    from scipy.special import fdtrc

    targets, sources = placed.shape
    middle = (sources + 1) / 2
    spread = float(((placed - middle) ** 2).sum())
    if spread == 0:  # every target ties all of them
        return 0.0, 0.0, 1.0
    between = targets * float(((placed.mean(0) - middle) ** 2).sum())
    chi2 = targets * (sources - 1) * between / spread
    rest = targets * (sources - 1) - chi2
    least = math.exp(-(targets - 1) * math.lgamma(sources + 1))
    if rest < 1e-9:
        return chi2, math.inf, least
    f = (targets - 1) * chi2 / rest
    return chi2, f, max(least, float(fdtrc(sources - 1, (sources - 1) * (targets - 1), f)))


def critical_difference(sources: int, targets: int, level: float = LEVEL) -> float:
    """The difference of mean ranks by which two of so many sources can be told apart on so many targets (Nemenyi)."""
    from scipy.stats import studentized_range

    q = float(studentized_range.isf(level, sources, math.inf)) / math.sqrt(2)
    return q * math.sqrt(sources * (sources + 1) / (6 * targets))


def groups(best_first: dict[str, float], difference: float | None) -> tuple[tuple[str, ...], ...]:
    """The largest sets of two or more neighbours by rank that lie within the critical difference."""
    if difference is None:
        return ()
    names: Sequence[str] = list(best_first)
    found: list[tuple[str, ...]] = []
    end = 0
    for start, first in enumerate(names):
        last = max(i for i in range(start, len(names)) if best_first[names[i]] - best_first[first] < difference)
        if last > max(start, end):
            found.append(tuple(names[start : last + 1]))
        end = max(end, last)
    return tuple(found)
