"""Words: numbers, cells and lists as they are printed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from layover.stats.paired import Cell
from layover.stats.transfer import Matrix

MINUS = "\u2212"
CORRECTIONS = {
    "holm": "Holm's correction",
    "bh": "Benjamini and Hochberg's correction",
    "none": "no correction",
}


def points(value: float | None) -> str:
    """A difference in points with its sign: +3.1, −0.4, 0.0; a dash where it is not known."""
    if value is None:
        return "–"
    text = f"{abs(value):.1f}"
    if float(text) == 0:
        return text
    return ("+" if value > 0 else MINUS) + text


def score(value: float | None) -> str:
    """A score in points with one decimal."""
    return "–" if value is None else f"{value:z.1f}".replace("-", MINUS)


def nats(value: float | None) -> str:
    """A loss in nats with three decimals."""
    return "–" if value is None else f"{value:.3f}"


def change(value: float | None) -> str:
    """A change of a loss in nats, with its sign: +0.312, −0.004, 0.000."""
    if value is None:
        return "–"
    text = f"{abs(value):.3f}"
    return text if float(text) == 0 else ("+" if value > 0 else MINUS) + text


def interval(low: float | None, high: float | None) -> str:
    """A 95 % interval: "0.4 to 5.9"; a dash where there is none."""
    return "–" if low is None or high is None else f"{score(low)} to {score(high)}"


def p_value(p: float | None) -> str:
    """A p-value with three decimals, and "< 0.001" under that."""
    if p is None:
        return "–"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def arrow(source: str, target: str) -> str:
    """The way to a target: "mnli → rte", or the target alone where there is no source."""
    return f"{source} → {target}" if source else target


def effect(cell: Cell) -> str:
    """A cell's effect with its interval: "+3.1 points, 95% 0.4 to 5.9"."""
    if cell.delta is None:
        return "no value"
    unit = "point" if points(cell.delta)[1:] == "1.0" else "points"
    known = f", 95% {interval(cell.low, cell.high)}" if cell.low is not None else ", one pair of runs, no interval"
    return f"{points(cell.delta)} {unit}{known}"


def describe(cell: Cell) -> str:
    """One line that names a cell and says its effect; unique in its matrix."""
    seeds = f"{cell.n} seed{'' if cell.n == 1 else 's'}"
    collapsed = f", {cell.degenerate} degenerate" if cell.degenerate else ""
    return f"{arrow(cell.source, cell.target)}: {effect(cell)}; {cell.verdict}; {seeds}{collapsed}"


def title(matrix: Matrix) -> str:
    """What names a matrix: "minilm × stilts"."""
    return f"{matrix.encoder} × {matrix.strategy}" if matrix.encoder else matrix.strategy


def joined(parts: Sequence[str]) -> str:
    """Parts as a list in a sentence: "a, b and c"."""
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1] if parts else ""


def plural(number: int, noun: str) -> str:
    """A number and what it counts: "1 seed", "1,260 runs"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def plain(value: Any) -> str:
    """A value of plain data as text for a reader."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    if isinstance(value, Mapping):
        nested = any(isinstance(item, (Mapping, list, tuple)) for item in value.values())
        return ("; " if nested else ", ").join(f"{name} {plain(item)}" for name, item in value.items()) or "–"
    if isinstance(value, (list, tuple)):
        nested = any(isinstance(item, Mapping) for item in value)
        return (" · " if nested else ", ").join(plain(item) for item in value) or "–"
    return str(value)


def seconds(value: float | None) -> str:
    """A duration: "48 s", "3 min", "1.5 h", "12 days"."""
    if value is None:
        return "–"
    if value < 90:
        return f"{value:.0f} s"
    if value < 5400:
        return f"{value / 60:.0f} min"
    return f"{value / 3600:.1f} h" if value < 72 * 3600 else f"{value / 86400:.1f} days"
