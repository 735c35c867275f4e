"""Correlate: between scores of tasks over source x restart points (Pruksachatkun et al. 2020, section 4.3)."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from layover.errors import ObservationsError, Problem, did_you_mean
from layover.metrics import Array
from layover.stats.arms import Points, one_of, points, with_sources
from layover.stats.clustered import Method, arranged, coefficient, leave_one_out, orders, permutation_p, t_test
from layover.stats.judge import LEVEL, adjust
from layover.stats.paired import compare, select
from layover.stats.table import check

if TYPE_CHECKING:
    from pandas import DataFrame

Family = Literal["targets-x-probing", "targets-x-all"]
FAMILIES = ("targets-x-probing", "targets-x-all")
METHODS = ("spearman", "pearson")


@dataclass(frozen=True)
class Part:
    """The correlation over a part of the points; `p_adjusted` is corrected over the same part of every cell."""

    r: float | None
    p: float | None
    p_adjusted: float | None
    n: int


@dataclass(frozen=True)
class Correlation:
    """The scores of a target against those of another task, over `n` points.

    `p` is of t and takes points as independent, as the paper does; `p_clustered` deals sources out as blocks. Both are
    corrected by Holm over the family. `low` and `high` are the range of r with one source left out.
    `without_degenerate` is over points of which neither run collapsed; `positive` over sources whose mean transfer to
    the target is positive.
    """

    target: str
    probe: str
    r: float | None
    p: float | None
    p_adjusted: float | None
    significant: bool
    n: int
    low: float | None
    high: float | None
    p_clustered: float | None
    p_clustered_adjusted: float | None
    significant_clustered: bool
    significant_as_published: bool
    without_degenerate: Part
    positive: Part


@dataclass(frozen=True)
class Square:
    """Correlations [tasks, tasks] of all tasks with all, targets first (Figures 4 and 5)."""

    tasks: tuple[str, ...]
    r: tuple[tuple[float | None, ...], ...]
    p: tuple[tuple[float | None, ...], ...]
    n: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Correlations:
    """The cells of one family of tests, of one encoder and strategy.

    `orders` is how many orders of the sources a clustered p-value is made of, `exact` whether these are all.
    """

    encoder: str
    strategy: str
    against: str
    method: Method
    family: Family
    sources: int
    orders: int
    exact: bool
    cells: tuple[Correlation, ...]
    square: Square

    @property
    def significant(self) -> int:
        """How many cells are significant at 0.05 after Holm's correction, points taken as independent."""
        return sum(cell.significant for cell in self.cells)

    def to_json(self, square: bool = False) -> dict[str, Any]:
        """The family as plain data, with the square matrix where it is asked for; what is not known is null."""
        counts = {
            "significant": self.significant,
            "significant_with_itself": sum(c.significant and c.target == c.probe for c in self.cells),
            "significant_clustered": sum(cell.significant_clustered for cell in self.cells),
            "significant_as_published": sum(cell.significant_as_published for cell in self.cells),
            "significant_without_degenerate": sum(_below(cell.without_degenerate.p_adjusted) for cell in self.cells),
        }
        about = {name: getattr(self, name) for name in ("encoder", "strategy", "against", "sources", "orders", "exact")}
        cells = [_cell_json(cell) for cell in self.cells]
        found = {"method": self.method, "family": self.family, "cells": cells, **counts, **about}
        return {**found, "square": asdict(self.square)} if square else found


def correlations(
    observations: DataFrame | Iterable[Mapping[str, Any]],
    method: Method = "spearman",
    family: Family = "targets-x-probing",
    strategy: str | None = None,
    encoder: str | None = None,
    against: str = "direct",
    metric: str | None = None,
) -> Correlations:
    """Correlations between the scores of targets and of probing tasks, over all restarts of all sources.

    Pruksachatkun et al. 2020, section 4.3 and Figures 3 to 5: the baseline is left out, a restart of a source is a
    point, and p-values are corrected by Holm over the family. "targets-x-probing" holds every pair of a target and a
    probing task; "targets-x-all", the paper's, every pair of a target and a task of either role, which counts a target
    with itself and every pair of targets twice. The paper's cut, `significant_as_published`, is level / (n + 1 - i) for
    the i-th smallest of n p-values, counted from 0, where Holm has level / (n - i).

    `against` names the baseline from which positive transfer is told; without its rows nothing is said of that. Raises
    ObservationsError where there is no pair of tasks to correlate, or the encoder or strategy has to be chosen.
    """
    for word, value, choices in (("method", method, METHODS), ("family", family, FAMILIES)):
        if value not in choices:
            raise ObservationsError(Problem(word, f"there is no {word} {value!r}", did_you_mean(value, choices)))
    frame = one_of(select(check(observations), metric), "encoder", encoder)
    rows = one_of(with_sources(frame.loc[frame["strategy"] != against]), "strategy", strategy)
    name, found = str(rows["strategy"].iloc[0]), points(rows)
    pairs = _pairs(found, family)
    gains = _gains(frame, name, against)
    bare = [_correlation(found, target, probe, method, gains) for target, probe in pairs]
    dealt, exact = orders(len(found.sources))
    named = str(rows["encoder"].iloc[0]), name, against, method, family
    return Correlations(*named, len(found.sources), len(dealt), exact, _judged(bare), _square(found, method))


def _pairs(found: Points, family: Family) -> list[tuple[str, str]]:
    """A family's pairs of a target and another task; raises ObservationsError where there are none."""
    targets, probes = found.tasks("target"), found.tasks("probing")
    if family == "targets-x-all":
        probes = targets + probes
    if not targets or not probes:
        which = "target" if not targets else "probing"
        hint = "say role = target or probing in a column role, or correlate targets too: --family targets-x-all"
        raise ObservationsError(Problem("role", f"no row with a source has the role {which}", hint))
    return [(target, probe) for target in targets for probe in probes]


def _gains(frame: DataFrame, strategy: str, against: str) -> dict[str, set[str]]:
    """The sources of positive mean transfer to each target."""
    gains: dict[str, set[str]] = {}
    for one in compare(frame, [strategy], against):
        gains.setdefault(one.target, set()).update({one.source} if one.complete and one.deltas.mean() > 0 else ())
    return gains


def _correlation(found: Points, target: str, probe: str, method: Method, gains: dict[str, set[str]]) -> Correlation:
    """One cell, before any correction."""
    y, x = found.values[target], found.values[probe]
    sound = ~(found.degenerate[target] | found.degenerate[probe])
    gaining = np.array([source in gains.get(target, ()) for source in found.sources])[:, None]
    without, positive = (_part(np.where(kept, y, np.nan), x, method) for kept in (sound, gaining))
    y, x = arranged(y, x)
    r, n = coefficient(y, x, method)
    low, high = leave_one_out(y, x, method)
    p_clustered = permutation_p(y, x, method)
    return Correlation(
        target, probe, r, t_test(r, n), None, False, n, low, high, p_clustered, None, False, False, without,
        positive,
    )  # fmt: skip


def _part(y: Array, x: Array, method: Method) -> Part:
    y, x = arranged(y, x)
    r, n = coefficient(y, x, method)
    return Part(r, t_test(r, n), None, n)


def _judged(cells: list[Correlation]) -> tuple[Correlation, ...]:
    """The cells with p-values corrected over all of them."""
    p, clustered, without, positive = (
        adjust(values, "holm")
        for values in zip(*((c.p, c.p_clustered, c.without_degenerate.p, c.positive.p) for c in cells), strict=True)
    )
    published = _published([cell.p for cell in cells])
    judged = []
    for i, cell in enumerate(cells):
        changes = {
            "p_adjusted": p[i], "significant": _below(p[i]), "p_clustered_adjusted": clustered[i],
            "significant_clustered": _below(clustered[i]), "significant_as_published": published[i],
            "without_degenerate": Part(**{**asdict(cell.without_degenerate), "p_adjusted": without[i]}),
            "positive": Part(**{**asdict(cell.positive), "p_adjusted": positive[i]}),
        }  # fmt: skip
        judged.append(Correlation(**{**cell.__dict__, **changes}))
    return tuple(judged)


def _published(p_values: list[float | None]) -> list[bool]:
    """What the paper's code calls significant: from the smallest p on, as long as p < level / (n + 1 - i)."""
    tested = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    passed: set[int] = set()
    for rank, (p, i) in enumerate(tested):
        if p >= LEVEL / (len(tested) + 1 - rank):
            break
        passed.add(i)
    return [i in passed for i in range(len(p_values))]


def _square(found: Points, method: Method) -> Square:
    tasks = found.tasks("target", "probing")
    cells: dict[tuple[str, str], tuple[float | None, int]] = {}
    for one, other in itertools.combinations_with_replacement(tasks, 2):
        y, x = arranged(found.values[one], found.values[other])
        cells[one, other] = cells[other, one] = coefficient(y, x, method)
    r, n = (tuple(tuple(cells[a, b][part] for b in tasks) for a in tasks) for part in (0, 1))
    p = tuple(tuple(t_test(*cells[a, b]) for b in tasks) for a in tasks)
    return Square(tuple(tasks), r, p, n)  # type: ignore[arg-type]


def _below(p: float | None) -> bool:
    return p is not None and p < LEVEL


def _cell_json(cell: Correlation) -> dict[str, Any]:
    words = asdict(cell)
    left_out = [words.pop("low"), words.pop("high")]
    return {**words, "leave_one_source_out": left_out}
