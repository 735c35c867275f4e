"""Maps: matrices that are not of transfer, as squares with a number, a colour and words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from layover.report.heat import Square, painted
from layover.report.words import MINUS, interval, p_value, points
from layover.stats.correlate import Correlation, Correlations
from layover.stats.rivals import Rival, Rivalry


@dataclass(frozen=True)
class Map:
    """A matrix: `rows` are (name, squares), a square for each of `columns`, None where there is none."""

    name: str
    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Square | None]]]


def correlation_map(found: Correlations) -> Map:
    """Targets down, other tasks across; bold is what stays significant with the restarts of a source together."""
    cells = {(cell.target, cell.probe): cell for cell in found.cells}
    targets, probes = (sorted({key[place] for key in cells}) for place in (0, 1))
    rows = [(target, [_correlated(cells.get((target, probe))) for probe in probes]) for target in targets]
    return Map(f"{found.encoder} × {found.strategy}", probes, rows)


def _correlated(cell: Correlation | None) -> Square | None:
    if cell is None:
        return None
    verdict = "helps" if cell.significant_clustered else "within noise"
    text = decimal(cell.r) + ("*" if cell.significant else "")
    label = (
        f"{cell.target} and {cell.probe}: r {decimal(cell.r)}, adjusted p {p_value(cell.p_adjusted)}, with restarts of "
        f"a source together {p_value(cell.p_clustered_adjusted)}; one source left out: {decimal(cell.low)} to "
        f"{decimal(cell.high)}; {cell.n} points"
    )
    return painted(None, cell.probe, text, label, cell.r, verdict, 1.0)


def rival_map(found: Rivalry) -> Map:
    """Multitask training less a stop: targets down, the other task across; bold is beyond noise."""
    cells = {(cell.target, cell.source): cell for cell in found.cells}
    targets, sources = (sorted({key[place] for key in cells}) for place in (0, 1))
    limit = max([1.0, *(abs(cell.delta) for cell in found.cells)])
    rows = [(target, [_rival(cells.get((target, source)), limit) for source in sources]) for target in targets]
    return Map(f"{found.encoder}: {found.multitask} − {found.stilts}", sources, rows)


def _rival(cell: Rival | None, limit: float) -> Square | None:
    if cell is None:
        return None
    said = f"95% {interval(cell.low, cell.high)}, {cell.verdict}; the paper's t-test p {p_value(cell.p)}"
    label = f"{cell.target} with {cell.source}: {points(cell.delta)} points, {said}"
    text = points(cell.delta) + ("*" if cell.significant else "")
    return painted(None, cell.source, text, label, cell.delta, cell.verdict, limit)


def decimal(value: float | None) -> str:
    """A correlation: .98, −.12; a dash where it is not known."""
    if value is None:
        return "–"
    text = f"{abs(value):.2f}"
    return (MINUS if value < 0 and float(text) else "") + (text[1:] if text.startswith("0") else text)
