"""Rivals: training on both tasks at once against a stop at one, and the rule of size (Weller et al. 2022)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from layover.errors import ObservationsError, Problem, did_you_mean, raise_all
from layover.stats.arms import one_of
from layover.stats.contrast import contrast
from layover.stats.paired import Cell, Correction, Lookup, Verdict, select
from layover.stats.size_rule import Rule, Side, judged, preferred
from layover.stats.spread import Spread, spread_of
from layover.stats.table import check

if TYPE_CHECKING:
    from pandas import DataFrame

PAPER_LEVEL = 0.1


@dataclass(frozen=True)
class Rival:
    """Multitask training less a stop, on one target with one source, in points.

    `delta` is the difference of the means over all seeds and `p` the paper's: Student's t with equal variances, from
    means and SDs, two-sided. `paired`, `low`, `high`, `p_adjusted` and `verdict` are layover's, over common seeds.
    `ratio` is the source's size over the target's; the rule prefers multitask where it is above 1.
    """

    target: str
    source: str
    multitask: Spread
    stilts: Spread
    delta: float
    p: float | None
    significant: bool
    paired: float | None
    low: float | None
    high: float | None
    p_adjusted: float | None
    verdict: Verdict
    ratio: float | None

    @property
    def winner(self) -> Side | None:
        """Which is better in the mean; None where they are equal."""
        return None if self.delta == 0 else "multitask" if self.delta > 0 else "stilts"

    def choice(self, threshold: float = 1) -> Side | None:
        """What the rule of size says; None where it says nothing: a size is not known, or both are the same."""
        return preferred(self.ratio, threshold)


@dataclass(frozen=True)
class Everything:
    """One target trained with all tasks at once, beside means over its partners: stilts, multitask, the better of the
    two, what the rule of size chooses, and the best partner of all (the oracle). In points.
    """  # fmt: skip

    target: str
    partners: int
    direct: float | None
    together: float | None
    stilts: float
    multitask: float
    better: float
    by_size: float | None
    oracle: float


@dataclass(frozen=True)
class Rivalry:
    """One multitask strategy against stilts. `everything` has a row per target, then the mean over them."""

    encoder: str
    multitask: str
    stilts: str
    together: str | None
    sizes: dict[str, int]
    cells: tuple[Rival, ...]
    rules: tuple[Rule, ...]
    everything: tuple[Everything, ...]

    def to_json(self) -> dict[str, Any]:
        """The rivalry as plain data; what is not known is null."""
        cells = [{**asdict(cell), "winner": cell.winner, "rule": cell.choice()} for cell in self.cells]
        return {**asdict(self), "cells": cells}


def rivals(
    observations: DataFrame | Iterable[Mapping[str, Any]],
    multitask: Sequence[str] = ("multitask",),
    stilts: str = "stilts",
    together: str | None = None,
    against: str = "direct",
    sizes: Mapping[str, int] | None = None,
    predictions: Lookup | None = None,
    encoder: str | None = None,
    metric: str | None = None,
    correct: Correction = "holm",
    without_degenerate: bool = False,
) -> tuple[Rivalry, ...]:
    """Each strategy in `multitask` against `stilts`: the matrix of Figure 1, the rule of size, and MTL-ALL.

    Weller et al. 2022, sections 3 and 4: a cell is significant where p < 0.1, uncorrected, and the rule (multitask
    where the target is smaller than the supporting task, else a stop) is judged on these cells. Here also on all, and
    on those that `contrast` finds after correction. In the paper's code an epoch of joint training ends with the
    shorter task: with two multitask strategies, whose epochs end otherwise, it is seen whether the rule survives that.
    `together` is the strategy that trains on all tasks, by default multitask_all where there is one. `sizes` are
    training examples by task; without, those of the table. Raises ObservationsError for a strategy without rows, or
    where none of its cells has both.
    """
    frame = one_of(select(checked := check(observations), metric, without_degenerate), "encoder", encoder)
    known = set(frame["strategy"])
    asked = [*multitask, stilts, *([together] if together else [])]
    raise_all(ObservationsError, [
        Problem("strategy", f"no row has strategy {name!r}", did_you_mean(name, known))
        for name in asked if name not in known
    ])  # fmt: skip
    named = str(frame["encoder"].iloc[0])
    checked = checked.loc[checked["encoder"] == named]
    found = _sizes(checked) | dict(sizes or {})
    together = together or ("multitask_all" if "multitask_all" in known else None)
    values = {
        key: spread
        for key, rows in frame.groupby(["strategy", "source", "target"])["value"]
        if (spread := spread_of(rows)).n
    }
    results = []
    for name in multitask:
        ours = contrast(checked, [name], stilts, predictions, correct, metric, without_degenerate).rows
        cells = tuple(_rivals(values, name, stilts, found, {(cell.target, cell.source): cell for cell in ours}))
        if not cells:
            told = f"no target has runs of {name!r} and of {stilts!r} with the same source"
            raise ObservationsError(Problem("strategy", told, "name two strategies with the same sources"))
        results.append(
            Rivalry(named, name, stilts, together, found, cells, judged(cells),
                    tuple(_everything(values, cells, together, against)))
        )  # fmt: skip
    return tuple(results)


Values = Mapping[Any, Spread]
"""By strategy, source and target."""


def _sizes(frame: DataFrame) -> dict[str, int]:
    """How many examples each task is trained on, as far as the table says: as a target, and as a source."""
    found: dict[str, int] = {}
    plain = frame.loc[(frame["condition"] == "") & (frame["rows"] == 0)]
    for task, column in (("source", "source_size"), ("target", "size")):
        known = plain.loc[(plain[column] > 0) & (plain[task] != "")]
        found |= {str(name): int(size) for name, size in known.groupby(task)[column].max().items()}
    return found


def _rivals(
    values: Values, multitask: str, stilts: str, sizes: Mapping[str, int], paired: Mapping[tuple[str, str], Cell]
) -> Iterable[Rival]:
    """Every cell with runs of both; a task is no partner of itself."""
    for target, source in sorted((key[2], key[1]) for key in values if key[0] == multitask):
        if not source or source == target or (stilts, source, target) not in values:
            continue
        both, stop = values[multitask, source, target], values[stilts, source, target]
        p, ours = _student(both, stop), paired[target, source]
        ratio = sizes[source] / sizes[target] if source in sizes and target in sizes else None
        yield Rival(
            target, source, both, stop, _known(both) - _known(stop), p, p is not None and p < PAPER_LEVEL, ours.delta,
            ours.low, ours.high, ours.p_adjusted, ours.verdict, ratio,
        )  # fmt: skip


def _student(one: Spread, other: Spread) -> float | None:
    """Two-sided p of Student's t with equal variances, from means and SDs; None where no run repeats another."""
    if one.sd is None or other.sd is None or (one.sd == 0 and other.sd == 0):
        return None
    from scipy.stats import ttest_ind_from_stats

    return float(ttest_ind_from_stats(one.mean, one.sd, one.n, other.mean, other.sd, other.n).pvalue)


def _everything(values: Values, cells: Sequence[Rival], together: str | None, against: str) -> Iterable[Everything]:
    """A row per target, and where there are several the mean over them, a column at a time where all are known."""
    rows = []
    for target in sorted({cell.target for cell in cells}):
        partners = [cell for cell in cells if cell.target == target]
        sides = [{"multitask": _known(cell.multitask), "stilts": _known(cell.stilts)} for cell in partners]
        choices = [side[choice] for side, cell in zip(sides, partners, strict=True) if (choice := cell.choice())]
        alone, whole = (values.get((name, "", target)) for name in (against, together))
        rows.append(Everything(
            target, len(partners), alone.mean if alone else None, whole.mean if whole else None,
            _mean(side["stilts"] for side in sides), _mean(side["multitask"] for side in sides),
            _mean(max(side.values()) for side in sides),
            _mean(choices) if len(choices) == len(sides) else None, max(max(side.values()) for side in sides),
        ))  # fmt: skip
    yield from rows
    if len(rows) > 1:
        columns = list(zip(*(list(asdict(row).values())[2:] for row in rows), strict=True))
        means = [None if None in column else _mean(column) for column in columns]
        yield Everything("mean", sum(row.partners for row in rows), *means)  # type: ignore[arg-type]


def _known(spread: Spread) -> float:
    assert spread.mean is not None
    return spread.mean


def _mean(values: Iterable[Any]) -> float:
    found = sorted(values)
    return math.fsum(found) / len(found)
