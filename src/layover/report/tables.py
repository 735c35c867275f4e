"""Tables: the matrices and contrasts of a report as CSV, LaTeX and Markdown."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layover.files import write_text
from layover.markdown import plain, table
from layover.report import words
from layover.report.forgetting import COLUMNS, forgetting_rows
from layover.stats.paired import Cell
from layover.stats.transfer import Matrix

if TYPE_CHECKING:
    from layover.report.facts import ReportInputs

CELL_COLUMNS = (
    "encoder", "strategy", "against", "degenerate_runs", "source", "target", "role", "metric", "delta", "low", "high",
    "p", "p_adjusted", "n", "degenerate", "basis", "verdict",
)  # fmt: skip


def write_tables(inputs: ReportInputs, folder: Path) -> list[Path]:
    """Write cells.csv, contrasts.csv, observations.csv, and every matrix as CSV, LaTeX and Markdown.

    And forgetting.csv, where a study measures it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    cells = [
        _cell(cell, one.against, "left out" if one.without_degenerate else "kept")
        for one in inputs.transfer
        for matrix in one.matrices
        for cell in matrix.cells.values()
    ]
    declared = [_cell(row, one.against, "kept") for one in inputs.contrasts for row in one.rows]
    files = {"cells.csv": _csv(CELL_COLUMNS, cells), "contrasts.csv": _csv(CELL_COLUMNS, declared)}
    for one in inputs.transfer:
        suffix = "-without-degenerate" if one.without_degenerate else ""
        for name, matrix in named(one.matrices):
            files[f"matrix-{name}{suffix}.csv"] = _csv(*_matrix(matrix))
            files[f"matrix-{name}{suffix}.tex"] = latex(matrix, one.against)
            files[f"matrix-{name}{suffix}.md"] = markdown(matrix, one.against)
    if forgotten := forgetting_rows(inputs.observations):
        files["forgetting.csv"] = _csv(COLUMNS, forgotten)
    files["observations.csv"] = inputs.observations.to_csv(index=False)
    for name, text in files.items():
        write_text(folder / name, text)
    return [folder / name for name in files]


def named(matrices: Iterable[Matrix]) -> list[tuple[str, Matrix]]:
    """Each matrix with a file name of its own; an encoder may be called after a path."""
    found: dict[str, Matrix] = {}
    for matrix in matrices:
        first = plain_name(f"{matrix.encoder}-{matrix.strategy}")
        name, number = first, 2
        while name in found:
            name, number = f"{first}-{number}", number + 1
        found[name] = matrix
    return list(found.items())


def plain_name(name: str) -> str:
    """A name as a part of a file's name: letters, digits and dashes."""
    return re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-").lower()[:60] or "all"


def _cell(cell: Cell, against: str, degenerate_runs: str) -> dict[str, Any]:
    values = {name: getattr(cell, name, "") for name in CELL_COLUMNS}
    return values | {"against": against, "degenerate_runs": degenerate_runs}


def _csv(columns: Sequence[str], rows: Iterable[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})
    return text.getvalue()


def _matrix(matrix: Matrix) -> tuple[list[str], list[dict[str, Any]]]:
    """Targets down, sources across: baseline, then differences; the averages of each role last."""
    columns = ["role", "target", "baseline", *(source or matrix.strategy for source in matrix.sources)]
    rows = []
    for role in matrix.roles:
        for target in matrix.targets(role):
            cells = {s: matrix.cells.get((s, target)) for s in matrix.sources}
            deltas = {s or matrix.strategy: c.delta if c else None for s, c in cells.items()}
            rows.append({"role": role, "target": target, "baseline": matrix.baseline.get(target)} | deltas)
        means = {s or matrix.strategy: matrix.averages.get((role, s)) for s in matrix.sources}
        rows.append(
            {"role": role, "target": "average"} | {s: mean.delta if mean else None for s, mean in means.items()}
        )
    return columns, rows


def latex(matrix: Matrix, against: str) -> str:
    """The matrix as a booktabs table: baseline scores and differences in points, those beyond noise in bold."""
    sources = matrix.sources
    head = " & ".join([r"", _tex(against), *(_tex(source or matrix.strategy) for source in sources)])
    lines = [r"% needs \usepackage{booktabs}", rf"\begin{{tabular}}{{l{'r' * (len(sources) + 1)}}}", r"\toprule"]
    lines.append(head + r" \\")
    for role in matrix.roles:
        lines.append(r"\midrule")
        for target in matrix.targets(role):
            cells = [_tex_cell(matrix.cells.get((source, target))) for source in sources]
            lines.append(" & ".join([_tex(target), words.score(matrix.baseline.get(target)), *cells]) + r" \\")
        means = [matrix.averages.get((role, source)) for source in sources]
        numbers = [_tex_number(mean.delta, mean.verdict) if mean else "" for mean in means]
        lines.append(" & ".join([f"Average ({_tex(role)})", "", *numbers]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def markdown(matrix: Matrix, against: str) -> str:
    """The matrix as a Markdown table: baseline scores and differences in points, those beyond noise in bold."""
    names = ["", against, *(source or matrix.strategy for source in matrix.sources)]
    rows = []
    for role in matrix.roles:
        for target in matrix.targets(role):
            cells = [matrix.cells.get((source, target)) for source in matrix.sources]
            numbers = [_md_number(cell.delta, cell.verdict) + "†" * bool(cell.degenerate) if cell else ""
                       for cell in cells]  # fmt: skip
            rows.append([plain(target), words.score(matrix.baseline.get(target)), *numbers])
        means = [matrix.averages.get((role, source)) for source in matrix.sources]
        averages = [_md_number(mean.delta, mean.verdict) if mean else "" for mean in means]
        rows.append([plain(f"Average ({role})"), "", *averages])
    shown = table([plain(name) for name in names], rows, numbers=True)
    return f"{shown}\n\nBold: beyond noise. †: degenerate runs take part.\n"


def _md_number(delta: float | None, verdict: str) -> str:
    return f"**{words.points(delta)}**" if verdict in ("helps", "hurts") else words.points(delta)


def _tex_cell(cell: Cell | None) -> str:
    if cell is None:
        return ""
    return _tex_number(cell.delta, cell.verdict) + (r"$^\dagger$" if cell.degenerate else "")


def _tex_number(delta: float | None, verdict: str) -> str:
    if delta is None:
        return "--"
    number = words.points(delta).replace(words.MINUS, "-")
    return rf"$\mathbf{{{number}}}$" if verdict in ("helps", "hurts") else f"${number}$"


def _tex(text: str) -> str:
    special = {c: rf"\{c}" for c in "&%$#_{}"} | {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    special |= {"\\": r"\textbackslash{}", "<": r"\textless{}", ">": r"\textgreater{}"}
    return "".join(special.get(character, character) for character in text)
