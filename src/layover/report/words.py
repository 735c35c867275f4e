"""Words: numbers as they are printed, and the answer of a study in sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from layover.stats.paired import Cell
from layover.stats.transfer import Matrix, Transfer

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
    return "–" if value is None else f"{value:.1f}".replace("-", MINUS)


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


def answer(transfer: Transfer | None) -> list[str]:
    """The answer of a study: one sentence for each encoder and strategy."""
    if transfer is None or not transfer.matrices:
        return [f"There is nothing to compare yet: no strategy has been run against {_baseline(transfer)}."]
    several = len(transfer.matrices) > 1
    return [_one_answer(matrix, several) for matrix in transfer.matrices]


def _baseline(transfer: Transfer | None) -> str:
    return transfer.against if transfer else "the baseline"


def _one_answer(matrix: Matrix, several: bool) -> str:
    cells = list(matrix.cells.values())
    helps = sorted((c for c in cells if c.verdict == "helps"), key=lambda c: -(c.delta or 0))
    hurts = sorted((c for c in cells if c.verdict == "hurts"), key=lambda c: c.delta or 0)
    parts = [part for part in (_changes(helps, "helps"), _changes(hurts, "hurts")) if part]
    if not parts:
        parts = [_nothing_found(matrix, cells)]
    parts.append(_rest(cells))
    lead = f"{title(matrix)}: " if several else ""
    return lead + "; ".join(part for part in parts if part) + "."


def title(matrix: Matrix) -> str:
    """What names a matrix: "minilm × stilts"."""
    return f"{matrix.encoder} × {matrix.strategy}" if matrix.encoder else matrix.strategy


def _changes(cells: Sequence[Cell], verb: str) -> str:
    if not cells:
        return ""
    named = [f"{cell.source or cell.strategy} {verb} {cell.target} ({effect(cell)})" for cell in cells[:3]]
    more = [f"{len(cells) - 3} more {'cell' if len(cells) == 4 else 'cells'} {'gain' if verb == 'helps' else 'lose'}"]
    return _and(named + (more if len(cells) > 3 else []))


def _nothing_found(matrix: Matrix, cells: Sequence[Cell]) -> str:
    known = [cell for cell in cells if cell.delta is not None and cell.verdict == "within noise"]
    if not known:
        return f"no effect of {matrix.strategy} can be told from these runs"
    largest = max(known, key=lambda cell: abs(cell.delta or 0))
    where = arrow(largest.source, largest.target)
    return f"{matrix.strategy} changes no target beyond noise; the largest difference is {where} ({effect(largest)})"


def _rest(cells: Sequence[Cell]) -> str:
    count = Counter(cell.verdict for cell in cells)
    total = len(cells)
    parts = []
    for verdict, one, many in (
        ("within noise", "is within noise", "are within noise"),
        ("collapse", "is a collapse (most of its runs are degenerate)", "are collapses (most runs degenerate)"),
        ("untested", "has one pair of runs and no interval", "have one pair of runs and no interval"),
        ("missing", "is missing", "are missing"),
    ):
        number = count[verdict]
        if number:
            of = f"{number} of {total} cells" if not parts else str(number)
            parts.append(f"{of} {one if number == 1 else many}")
    return _and(parts)


def _and(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1] if parts else ""
