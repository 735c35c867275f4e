"""Heat: the matrix of a page as a table of cells, each with its number, colour and words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from layover.report import words
from layover.report.colours import UNKNOWN, ink, paler, shade
from layover.stats.paired import Cell
from layover.stats.transfer import Average, Matrix

ROLES = {"target": "Targets", "probing": "Probing tasks"}


@dataclass(frozen=True)
class Square:
    """One place of the map; `index` is the cell's place in the matrix, None for an average."""

    index: int | None
    source: str
    text: str
    label: str
    verdict: str
    fill: str
    ink: str


@dataclass(frozen=True)
class HeatRow:
    """A task with its baseline and a square for each source, None where none was planned."""

    name: str
    role: str
    baseline: float | None
    squares: Sequence[Square | None]
    average: bool = False


def heat_rows(matrix: Matrix) -> list[tuple[str, list[HeatRow]]]:
    """The rows of the map by role, each role's average last."""
    known = [abs(cell.delta) for cell in matrix.cells.values() if cell.delta is not None]
    limit = max([*known, 1.0])
    index = {key: number for number, key in enumerate(matrix.cells)}
    groups = []
    for role in matrix.roles:
        rows = []
        for target in matrix.targets(role):
            cells = [matrix.cells.get((source, target)) for source in matrix.sources]
            squares = [_square(cell, index[cell.source, target], limit) if cell else None for cell in cells]
            rows.append(HeatRow(target, role, matrix.baseline.get(target), squares))
        means = [_mean(role, source, matrix.averages.get((role, source)), limit) for source in matrix.sources]
        rows.append(HeatRow("Avg.", role, None, means, average=True))
        groups.append((ROLES.get(role, role), rows))
    return groups


def _square(cell: Cell, index: int, limit: float) -> Square:
    marks = ("†" if cell.degenerate else "") + ("‡" if cell.n < len(cell.pairs) else "")
    text = "–" if cell.delta is None else words.points(cell.delta) + marks
    return painted(index, cell.source, text, words.describe(cell), cell.delta, cell.verdict, limit)


def _mean(role: str, source: str, mean: Average | None, limit: float) -> Square | None:
    if mean is None:
        return None
    over = f"over {words.plural(mean.targets, f'{role} task')}"
    label = f"{source}, {over}: {words.points(mean.delta)} points, 95% {words.interval(mean.low, mean.high)}"
    return painted(None, source, words.points(mean.delta), f"{label}; {mean.verdict}", mean.delta, mean.verdict, limit)


def painted(
    index: int | None, column: str, text: str, label: str, value: float | None, verdict: str, limit: float
) -> Square:
    """A square in the colour of a value, as strong as `limit` at most, and paler where it says nothing."""
    colour = shade(value, limit)
    fill = colour if verdict in ("helps", "hurts", "collapse") or colour == UNKNOWN else paler(colour)
    return Square(index, column, text, label, verdict, fill, ink(fill))
