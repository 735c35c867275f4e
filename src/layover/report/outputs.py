"""Outputs: the tables and figures of a report as files, for a paper."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from layover.report import figures, figures_papers, tables
from layover.report.analyses import ranked
from layover.report.facts import ReportInputs
from layover.report.maps import correlation_map, rival_map


def write_tables(inputs: ReportInputs, folder: Path) -> list[Path]:
    """Write the tables of a report as CSV, LaTeX and Markdown into `folder`."""
    return tables.write_tables(inputs, folder)


def write_figures(inputs: ReportInputs, folder: Path) -> list[Path]:
    """Write the figures of a report as SVG, PNG and PDF into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    charts: dict[str, Any] = {}
    for one in inputs.transfer:
        suffix = "-without-degenerate" if one.without_degenerate else ""
        for name, matrix in tables.named(one.matrices):
            charts[f"heatmap-{name}{suffix}"] = figures.heatmap(matrix)
            charts[f"intervals-{name}{suffix}"] = figures.forest(matrix)
    charts |= {"curves-selection": figures.curves(inputs.runs, "selection")}
    charts |= {"curves-loss": figures.curves(inputs.runs, "loss")}
    charts |= _papers(inputs)
    return [
        path
        for name, chart in charts.items()
        if chart is not None
        for path in figures.write_chart(chart, folder / name)
    ]


def _papers(inputs: ReportInputs) -> dict[str, Any]:
    """The figures of the papers' analyses, by name of file."""
    found = inputs.analyses
    charts: dict[str, Any] = {}
    for place, one in enumerate(ranked(inputs.transfer[0]) if inputs.transfer else [], start=1):
        charts[f"ranks-{place}-{tables.plain_name(f'{one.strategy}-{one.role}')}"] = figures_papers.rank_chart(one)
    for place, one in enumerate(found.correlations, start=1):
        charts[f"correlations-{place}-{tables.plain_name(one.strategy)}"] = figures_papers.map_chart(
            correlation_map(one)
        )
    for place, one in enumerate(found.rivals, start=1):
        charts[f"rivals-{place}-{tables.plain_name(one.multitask)}"] = figures_papers.map_chart(rival_map(one))
    if found.sizes:
        charts |= {f"sizes-{axis}": chart for axis, chart in figures_papers.size_curves(found.sizes)}
    if found.layers:
        charts |= {f"layers-{kind}": chart for kind, chart in figures_papers.layer_curves(found.layers)}
    return charts | ({"grid-trials": figures_papers.trials(found.grids)} if found.grids else {})
