"""Transfer: the matrix of source x target differences to the baseline, with averages and verdicts."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from layover.errors import ObservationsError, Problem, did_you_mean
from layover.stats.judge import adjust, judge, mean_effect, verdict
from layover.stats.paired import Cell, Comparison, Correction, Lookup, Verdict, compare, select
from layover.stats.table import check

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True)
class Average:
    """The mean difference over the targets of one role, in points; `targets` is how many have a value."""

    delta: float | None
    low: float | None
    high: float | None
    p: float | None
    p_adjusted: float | None
    targets: int
    verdict: Verdict


@dataclass(frozen=True)
class Matrix:
    """One encoder and strategy: baseline means by target, cells by (source, target), averages by (role, source)."""

    encoder: str
    strategy: str
    baseline: dict[str, float | None]
    cells: dict[tuple[str, str], Cell]
    averages: dict[tuple[str, str], Average]

    @property
    def sources(self) -> list[str]:
        """Sources in alphabetical order."""
        return sorted({source for source, _ in self.cells})

    def targets(self, role: str | None = None) -> list[str]:
        """Targets in alphabetical order, of one role or of all."""
        return sorted({cell.target for cell in self.cells.values() if role in (None, cell.role)})

    @property
    def roles(self) -> list[str]:
        """Roles that have cells: target, then probing."""
        return sorted({cell.role for cell in self.cells.values()}, reverse=True)

    def to_json(self) -> dict[str, Any]:
        """The matrix as plain data; a number that is not known is null."""
        delta: dict[str, dict[str, Any]] = defaultdict(dict)
        for (source, target), cell in self.cells.items():
            delta[target][source] = {
                "mean": cell.delta, "low": cell.low, "high": cell.high, "p": cell.p, "p_adjusted": cell.p_adjusted,
                "n": cell.n, "degenerate": cell.degenerate,
            }  # fmt: skip
        average: dict[str, dict[str, Any]] = defaultdict(dict)
        for (role, source), mean in self.averages.items():
            average[role][source] = mean.delta
        return {"baseline": self.baseline, "delta": dict(delta), "average": dict(average)}


@dataclass(frozen=True)
class Transfer:
    """Every strategy against one baseline, by encoder and strategy."""

    against: str
    metric: str | None
    correct: Correction
    without_degenerate: bool
    matrices: tuple[Matrix, ...]

    def matrix(self, encoder: str | None = None, strategy: str | None = None) -> Matrix:
        """The one matrix of an encoder and a strategy; each may be left out where there is one only."""
        found = [m for m in self.matrices if encoder in (None, m.encoder) and strategy in (None, m.strategy)]
        if len(found) == 1:
            return found[0]
        choices = ", ".join(f"{m.encoder or '(unnamed)'} × {m.strategy}" for m in self.matrices) or "none"
        problems = []
        for word, value in (("encoder", encoder), ("strategy", strategy)):
            names = {getattr(m, word) for m in self.matrices}
            if value is None and len(names) > 1:
                problems.append(Problem(word, "there are several", f"choose one of: {', '.join(sorted(names))}"))
            elif value is not None and value not in names:
                problems.append(Problem(word, f"there is no {word} {value!r}", did_you_mean(value, names)))
        raise ObservationsError(*problems or [Problem("", "there is no such matrix", f"choices: {choices}")])

    def to_json(self, encoder: str | None = None, strategy: str | None = None) -> dict[str, Any]:
        """`matrix(encoder, strategy)` as plain data."""
        return self.matrix(encoder, strategy).to_json()


def transfer(
    observations: DataFrame | Iterable[Mapping[str, Any]],
    predictions: Lookup | None = None,
    against: str = "direct",
    metric: str | None = None,
    correct: Correction = "holm",
    without_degenerate: bool = False,
) -> Transfer:
    """What each strategy and source adds to each target, in points over the baseline `against`.

    A cell is the mean over common seeds of (value - baseline value). Its interval comes from seeds, and from
    examples too where `predictions(key)` has those of both runs; see `layover.stats.interval`. p-values are
    corrected over all cells of one encoder, strategy and role. Raises ObservationsError.
    """
    frame = select(check(observations, against), metric, without_degenerate)
    strategies = sorted(set(frame["strategy"]) - {against})
    groups: dict[tuple[str, str], list[Comparison]] = defaultdict(list)
    for one in compare(frame, strategies, against, predictions):
        groups[one.encoder, one.strategy].append(one)
    matrices = (
        _matrix(frame, encoder, strategy, against, found, correct) for (encoder, strategy), found in groups.items()
    )
    return Transfer(against, metric, correct, without_degenerate, tuple(matrices))


def _matrix(
    frame: DataFrame, encoder: str, strategy: str, against: str, found: list[Comparison], correct: Correction
) -> Matrix:
    direct = frame[(frame["encoder"] == encoder) & (frame["strategy"] == against)]
    values: dict[str, list[float]] = defaultdict(list)
    for target, value in zip(direct["target"], direct["value"], strict=True):
        values[target] += [] if math.isnan(value) else [value]
    baseline = {target: math.fsum(found) / len(found) if found else None for target, found in sorted(values.items())}
    cells: dict[tuple[str, str], Cell] = {}
    averages: dict[tuple[str, str], Average] = {}
    for role in sorted({one.role for one in found}, reverse=True):
        family = [one for one in found if one.role == role]
        cells |= {(cell.source, cell.target): cell for cell in judge(family, correct)}
        averages |= _averages(role, family, correct)
    return Matrix(encoder, strategy, baseline, cells, averages)


def _averages(role: str, family: list[Comparison], correct: Correction) -> dict[tuple[str, str], Average]:
    """The mean over the role's targets, for each source; the sources are one family of tests."""
    by_source: dict[str, list[Comparison]] = defaultdict(list)
    for one in family:
        by_source[one.source].append(one)
    effects = [mean_effect(rows) for rows in by_source.values()]
    adjusted = adjust([one.p for one in effects], correct)
    return {
        (role, source): Average(
            one.delta, one.low, one.high, one.p, p, sum(bool(row.complete) for row in rows), verdict(one.delta, p)
        )
        for (source, rows), one, p in zip(by_source.items(), effects, adjusted, strict=True)
    }
