"""Outputs: the tables and figures of a report as files, for a paper."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from layover.report import figures, tables
from layover.report.facts import ReportInputs


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
    return [
        path
        for name, chart in charts.items()
        if chart is not None
        for path in figures.write_chart(chart, folder / name)
    ]
