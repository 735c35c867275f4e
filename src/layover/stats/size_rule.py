"""Size rule: joint training where the target is the smaller task, else a stop (Weller et al. 2022, section 4)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from layover.stats.rivals import Rival

THRESHOLDS = range(20)
CellsOf = Literal["significant", "all", "verdict"]
Side = Literal["multitask", "stilts"]


def preferred(ratio: float | None, threshold: float = 1) -> Side | None:
    """What the rule says of a source that is `ratio` times as large as the target.

    None where it says nothing: the ratio is not known, or both are of one size.
    """
    return None if ratio in (None, 1) else "multitask" if ratio > threshold else "stilts"


@dataclass(frozen=True)
class HitRate:
    """How often a rule is right, with its 95 % interval of Clopper and Pearson, for which cells are independent.

    They are not: cells share targets, sources and runs. `lowest` and `highest` are the rates with one task left out.
    """

    hits: int
    cells: int
    rate: float | None
    low: float | None
    high: float | None
    lowest: float | None
    highest: float | None


@dataclass(frozen=True)
class Rule:
    """The rule of size on one choice of cells, and the best threshold that a search of ratios 0 to 19 finds there.

    `held_out` is what the search is worth: for each target, the threshold that is best on the others.
    """

    cells: CellsOf
    size: HitRate
    threshold: int | None
    searched: HitRate
    held_out: HitRate


def judged(cells: Sequence[Rival]) -> tuple[Rule, ...]:
    """The rule on significant cells, on all, and on those beyond noise; where it says nothing a cell does not count."""
    kinds: dict[CellsOf, Callable[[Rival], bool]] = {
        "significant": lambda cell: cell.significant,
        "all": lambda _: True,
        "verdict": lambda cell: cell.verdict in ("helps", "hurts"),
    }
    return tuple(
        _rule(kind, [cell for cell in cells if chosen(cell) and cell.choice() and cell.winner])
        for kind, chosen in kinds.items()
    )


def _rule(kind: CellsOf, cells: list[Rival]) -> Rule:
    searched = {t: best for t in {c.target for c in cells} if (best := _search(c for c in cells if c.target != t))
                is not None}  # fmt: skip
    best = _search(cells)
    return Rule(
        kind,
        _rate(cells, _hit),
        best,
        _rate(cells if best is not None else [], lambda cell: _hit(cell, best or 0)),
        _rate([cell for cell in cells if cell.target in searched], lambda cell: _hit(cell, searched[cell.target])),
    )


def _search(cells: Iterable[Rival]) -> int | None:
    """The smallest of the thresholds that are right most often."""
    among = list(cells)
    return max(THRESHOLDS, key=lambda one: (sum(_hit(cell, one) for cell in among), -one)) if among else None


def _rate(cells: Sequence[Rival], right: Callable[[Rival], bool]) -> HitRate:
    hits, n = sum(map(right, cells)), len(cells)
    if n == 0:
        return HitRate(0, 0, None, None, None, None, None)
    from scipy.stats import binomtest

    low, high = binomtest(hits, n).proportion_ci(0.95, method="exact")
    parts = [[cell for cell in cells if task not in (cell.target, cell.source)] for task in _tasks(cells)]
    without = [sum(map(right, part)) / len(part) for part in parts if part]
    return HitRate(hits, n, hits / n, float(low), float(high), min(without, default=None), max(without, default=None))


def _tasks(cells: Iterable[Rival]) -> set[str]:
    return {task for cell in cells for task in (cell.target, cell.source)}


def _hit(cell: Rival, threshold: float = 1) -> bool:
    return cell.choice(threshold) == cell.winner
