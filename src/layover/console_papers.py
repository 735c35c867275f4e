"""Console tables of what `layover analyze` finds beside transfer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from layover.console import say, show_table

if TYPE_CHECKING:
    from layover.stats.correlate import Correlations


def show_correlations(found: Correlations, square: bool = False) -> None:
    """Print the correlations of a family as a matrix, what is left of them, and all with all where asked."""
    named = " · ".join(filter(None, [found.encoder, found.strategy]))
    say(f"{named}: {found.method} over {found.sources} sources with all their restarts; without {found.against}")
    cells = {(cell.probe, cell.target): cell for cell in found.cells}
    targets = list(dict.fromkeys(target for _, target in cells))
    rows = []
    for probe in dict.fromkeys(probe for probe, _ in cells):
        row = [cells[probe, target] for target in targets]
        marks = [("*" if cell.significant else "") + ("†" if cell.significant_clustered else "") for cell in row]
        rows.append([probe, *(f"{number(cell.r)}{mark}" for cell, mark in zip(row, marks, strict=True))])
    show_table(["probe", *targets], rows)
    facts, tests = found.to_json(), sum(cell.p is not None for cell in found.cells)
    floor = f"{'all' if found.exact else 'drawn'} {found.orders:,} orders, so no p is below {1 / found.orders:.2g}"
    say(f"* {found.significant} of {tests} significant at 0.05 after Holm over {found.family}, points as independent")
    say(f"  {facts['significant_as_published']} by the paper's cut, "
        f"{facts['significant_without_degenerate']} without degenerate runs")  # fmt: skip
    say(f"† {facts['significant_clustered']} with the restarts of a source kept together ({floor} before correction)")
    if square:
        say()
        tasks = found.square.tasks
        lines = [[task, *map(number, row)] for task, row in zip(tasks, found.square.r, strict=True)]
        show_table(["", *tasks], lines, right=tasks)


def number(value: float | None) -> str:
    """A correlation with two decimals and no leading zero, as the papers print them; a dash where there is none."""
    return "–" if value is None else f"{value:.2f}".replace("0.", ".", 1)
