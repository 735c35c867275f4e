"""Figures: heat maps, interval plots and learning curves, as Altair charts and as SVG, PNG or PDF."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from layover.report import words
from layover.report.colours import COLLAPSE, FAINT, INK, LINES, PAPER, VERDICTS, ink, paler, shade
from layover.report.facts import RunFacts
from layover.report.heat import ROLES
from layover.stats.paired import Cell
from layover.stats.transfer import Average, Matrix

if TYPE_CHECKING:
    import altair as alt

Field = Literal["selection", "loss"]
# Text is measured when the figure is made, in a font with Arial's widths; another font in the reader's browser
# may be wider, so texts at the edge get room.
FONT = "Arial, 'Liberation Sans', Helvetica, sans-serif"
CELL_WIDTH, CELL_HEIGHT = 62, 28
MOST_LINES = 240  # learning curves drawn at once; more are a smear and a megabyte


def heatmap(matrix: Matrix) -> alt.VConcatChart:
    """Differences by target (rows) and source (columns), with averages; every number stands in its cell."""
    import altair as alt

    largest = max((abs(cell.delta) for cell in matrix.cells.values() if cell.delta is not None), default=1.0)
    limit = max(largest, 1.0)
    parts = []
    for role in matrix.roles:
        rows = [_heat_row(cell, limit) for cell in matrix.cells.values() if cell.role == role]
        parts.append((ROLES.get(role, role), rows))
    names = [*matrix.targets(), *(f"over {ROLES.get(role, role).lower()}" for role in matrix.roles)]
    average = [_average_row(role, source, mean, limit) for (role, source), mean in matrix.averages.items()]
    parts.append(("Average", average))
    room = extent(names)
    charts = [
        _heat_part(heading, rows, matrix.sources, room, first=not number)
        for number, (heading, rows) in enumerate(parts)
    ]
    return styled(alt.vconcat(*charts, spacing=14))


def _heat_row(cell: Cell, limit: float) -> dict[str, Any]:
    marks = ("†" if cell.degenerate else "") + ("‡" if cell.n < len(cell.pairs) else "")
    text = "missing" if cell.delta is None else f"{words.points(cell.delta)} {marks}".rstrip()
    return _heat(cell.source, cell.target, cell.delta, cell.verdict, text, words.describe(cell), limit)


def _average_row(role: str, source: str, mean: Average, limit: float) -> dict[str, Any]:
    name = f"over {ROLES.get(role, role).lower()}"
    text = "missing" if mean.delta is None else words.points(mean.delta)
    known = f"{words.points(mean.delta)} points, 95% {words.interval(mean.low, mean.high)}; {mean.verdict}"
    return _heat(source, name, mean.delta, mean.verdict, text, f"{source} {name}: {known}", limit)


def _heat(
    source: str, target: str, delta: float | None, verdict: str, text: str, description: str, limit: float
) -> dict[str, Any]:
    beyond = verdict in ("helps", "hurts")
    colour = shade(delta, limit)
    fill = colour if beyond or delta is None or verdict == "collapse" else paler(colour)
    return {
        "source": source,
        "target": target,
        "fill": fill,
        "text": text,
        "description": description,
        "weight": "bold" if beyond else "normal",
        "ink": ink(fill),
        "frame": COLLAPSE if verdict == "collapse" else PAPER,
    }


def _heat_part(heading: str, rows: list[dict[str, Any]], sources: Sequence[str], room: int, first: bool) -> Any:
    import altair as alt

    slanted = any(len(source) > 8 for source in sources)
    top = alt.Axis(
        orient="top", labelAngle=-35 if slanted else 0, labelLimit=220, title=None, domain=False, ticks=False,
        labelAlign="left" if slanted else "center", labelPadding=6,
    )  # fmt: skip
    left = alt.Axis(
        title=None, domain=False, ticks=False, labelLimit=room, minExtent=room, maxExtent=room, labelPadding=8
    )
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X("source:N", sort=list(sources), scale=alt.Scale(domain=list(sources)), axis=top if first else None),
        y=alt.Y("target:N", sort="ascending", axis=left),
        description="description:N",
    )
    filled = base.mark_rect(strokeWidth=2).encode(
        color=alt.Color("fill:N", scale=None),
        stroke=alt.Stroke("frame:N", scale=None),
    )
    numbers = base.mark_text(aria=False, fontSize=12).encode(
        text="text:N", color=alt.Color("ink:N", scale=None), description=alt.value("")
    )
    bold, plain = (
        numbers.transform_filter(f"datum.weight === '{weight}'").mark_text(aria=False, fontSize=12, fontWeight=weight)
        for weight in ("bold", "normal")
    )
    return (filled + bold + plain).properties(
        width=CELL_WIDTH * len(sources),
        height=CELL_HEIGHT * len({row["target"] for row in rows}),
        title=alt.Title(heading, anchor="start", frame="bounds", fontSize=12, color=FAINT, fontWeight="normal"),
    )


def forest(matrix: Matrix) -> alt.VConcatChart | None:
    """Differences with their 95 % intervals, a panel for each target; None where no cell has a value."""
    import altair as alt

    cells = [cell for cell in matrix.cells.values() if cell.delta is not None]
    if not cells:
        return None
    reach = [abs(value) for cell in cells for value in (cell.delta, cell.low, cell.high) if value is not None]
    # An interval of two seeds can be so wide that it flattens all others; such an interval runs off the panel.
    limit = max(2.0, min(max(reach), 4 * max(abs(cell.delta or 0) for cell in cells)))
    room = extent([cell.source or cell.strategy for cell in cells])
    ordered = [(role, target) for role in matrix.roles for target in matrix.targets(role)]
    known = [(role, target) for role, target in ordered if any(c.target == target for c in cells)]
    charts = [
        _forest_part(target, [c for c in cells if c.target == target], limit, room, last=(role, target) == known[-1])
        for role, target in known
    ]
    return styled(alt.vconcat(*charts, spacing=10))


def _forest_part(target: str, cells: list[Cell], limit: float, room: int, last: bool) -> Any:
    import altair as alt

    rows = [
        {
            "name": cell.source or cell.strategy,
            "delta": cell.delta,
            "low": None if cell.low is None else max(cell.low, -limit),
            "high": None if cell.high is None else min(cell.high, limit),
            "verdict": cell.verdict,
            "text": f"{words.points(cell.delta)}  [{words.interval(cell.low, cell.high)}]",
            "description": words.describe(cell),
        }
        for cell in cells
    ]
    scale = alt.Scale(domain=[-limit, limit], nice=False)
    axis = alt.Axis(
        title="points over the baseline" if last else None, labels=last, ticks=last, grid=True, domain=False
    )
    names = alt.Axis(title=None, domain=False, ticks=False, labelLimit=room, minExtent=room, maxExtent=room)
    base = alt.Chart(alt.Data(values=rows)).encode(
        y=alt.Y("name:N", axis=names, scale=alt.Scale(padding=0.3)),
        color=alt.Color(
            "verdict:N", scale=alt.Scale(domain=list(VERDICTS), range=list(VERDICTS.values())), legend=None
        ),
        description="description:N",
    )
    zero = alt.Chart(alt.Data(values=[{"zero": 0}])).mark_rule(color=FAINT, strokeDash=[3, 3], aria=False)
    reach = base.mark_rule(strokeWidth=2, clip=True).encode(x=alt.X("low:Q", scale=scale, axis=axis), x2="high:Q")
    dots = base.mark_point(filled=True, size=60, opacity=1, aria=False, clip=True).encode(
        x=alt.X("delta:Q", scale=scale)
    )
    numbers = base.mark_text(align="left", fontSize=11, aria=False).encode(
        x=alt.value(348), text="text:N", color=alt.value(INK)
    )
    return (zero.encode(x=alt.X("zero:Q", scale=scale)) + reach + dots + numbers).properties(
        width=340,
        height=22 * len(rows),
        title=alt.Title(target, anchor="start", frame="bounds", fontSize=12, color=INK, fontWeight="bold", limit=420),
    )


def curves(runs: Sequence[RunFacts], field: Field) -> alt.FacetChart | None:
    """Learning curves, a panel for each task and a line for each run; None where no run has any."""
    import altair as alt

    rows, chosen = [], []
    for run in [run for run in runs if run.curve][:MOST_LINES]:
        line = {"task": run.task, "through": " → ".join(run.lineage[1:-1]) or "direct", "key": run.key}
        points = [line | {"step": p["step"], "value": p[field]} for p in run.curve if p.get(field) is not None]
        rows += points
        # a line of one point would not be seen
        chosen += [point | {"chosen": True} for point in points if point["step"] == run.best_step or len(points) == 1]
    if not rows:
        return None
    ways = sorted({row["through"] for row in rows}, key=lambda way: (way != "direct", way))
    legend = alt.Legend(title="through", orient="bottom", columns=4, labelLimit=160, columnPadding=36)
    legend = legend if len(ways) > 1 else None
    base = alt.Chart().encode(
        x=alt.X("step:Q", title="step", axis=alt.Axis(tickCount=4, grid=False)),
        y=alt.Y("value:Q", title=None, scale=alt.Scale(zero=False), axis=alt.Axis(tickCount=4)),
        color=alt.Color("through:N", legend=legend, scale=alt.Scale(domain=ways, range=list(LINES))),
        detail="key:N",
    )
    lines = base.mark_line(strokeWidth=1.4, opacity=0.75, aria=False)
    dots = base.mark_point(filled=True, size=34, opacity=1, aria=False).transform_filter("datum.chosen")
    data = alt.Data(values=rows + chosen)
    chart = alt.layer(lines.transform_filter("!datum.chosen"), dots, data=data).properties(width=210, height=130)
    header = alt.Header(title=None, labelFontWeight="bold", labelFontSize=12, labelAnchor="start", labelLimit=210)
    faceted = chart.facet(facet=alt.Facet("task:N", header=header), columns=3)
    return styled(faceted.resolve_scale(y="independent", x="independent"))


def extent(names: Sequence[str]) -> int:
    """The room that names need at the side of a figure, in pixels."""
    return int(min(220, max([60, *(7.2 * len(name) + 8 for name in names)])))


def styled(chart: Any) -> Any:
    """A chart in the type and colours that all figures share."""
    return (
        chart.configure(font=FONT, background="#ffffff", padding={"left": 8, "top": 8, "right": 32, "bottom": 8})
        .configure_view(stroke=None)
        .configure_axis(
            labelColor=INK, titleColor=FAINT, labelFontSize=12, titleFontWeight="normal", gridColor="#e6e8ec"
        )
    )


def svg(chart: Any, prefix: str) -> str:
    """The chart as SVG to put into a page. `prefix` keeps the ids of several charts apart."""
    buffer = io.StringIO()
    chart.save(buffer, format="svg")
    text = re.sub(r'\bid="([^"]*)"', rf'id="{prefix}-\1"', buffer.getvalue())
    text = text.replace("url(#", f"url(#{prefix}-")
    return text[text.index("<svg") :]


def write_chart(chart: Any, stem: Path) -> list[Path]:
    """Write a chart as SVG, PNG and PDF; `stem` is the path without an ending."""
    written = []
    for ending in ("svg", "png", "pdf"):
        path = stem.with_name(f"{stem.name}.{ending}")
        chart.save(str(path), format=ending, **({"scale_factor": 2} if ending == "png" else {}))
        written.append(path)
    return written
