"""Figures as in the papers: maps of correlations, curves over sizes and layers with intervals, trials of a grid."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from layover.report.colours import FAINT, INK, LINES, PAPER
from layover.report.figures import CELL_HEIGHT, extent, styled
from layover.report.maps import Map
from layover.stats.layers import LayerCurve, Layers
from layover.stats.ranks import Ranks
from layover.stats.sizes import Sizes

if TYPE_CHECKING:
    import altair as alt

    from layover.stats.grid import GridCell, Grids

WIDTH, HEIGHT = 230, 150
HALF = 0.38  # of a violin's greatest width, in rows
POINTS = 48  # at which its density is drawn
AXES = {"intermediate": "examples of the intermediate task", "target": "examples of the target"}


def map_chart(found: Map) -> alt.LayerChart:
    """A matrix with its number in every square; bold is beyond noise."""
    import altair as alt

    rows = [
        {"row": name, "column": column, "text": one.text, "fill": one.fill, "ink": one.ink, "description": one.label,
         "weight": "bold" if one.verdict in ("helps", "hurts") else "normal"}
        for name, squares in found.rows for column, one in zip(found.columns, squares, strict=True) if one
    ]  # fmt: skip
    room = extent([name for name, _ in found.rows])
    top = alt.Axis(orient="top", labelAngle=-40, labelAlign="left", labelLimit=220, title=None, domain=False,
                   ticks=False)  # fmt: skip
    left = alt.Axis(title=None, domain=False, ticks=False, labelLimit=room, minExtent=room, maxExtent=room)
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X("column:N", sort=list(found.columns), axis=top),
        y=alt.Y("row:N", sort=[name for name, _ in found.rows], axis=left),
        description="description:N",
    )
    squares = base.mark_rect(stroke=PAPER, strokeWidth=2).encode(color=alt.Color("fill:N", scale=None))
    texts = [
        base.transform_filter(f"datum.weight === '{weight}'")
        .mark_text(aria=False, fontSize=11, fontWeight=weight)
        .encode(text="text:N", color=alt.Color("ink:N", scale=None))
        for weight in ("bold", "normal")
    ]
    size = {"width": 44 * len(found.columns), "height": CELL_HEIGHT * len(found.rows)}
    return styled(alt.layer(squares, *texts).properties(**size))


def size_curves(found: Sizes) -> list[tuple[str, alt.ConcatChart]]:
    """Scores over sizes, a panel for each target and a line for each strategy and source, by axis."""
    charts = []
    for axis, title in AXES.items():
        rows = [
            {"panel": " + ".join(curve.targets) if len(curve.targets) == 1 else f"mean of {len(curve.targets)} targets",
             "line": " · ".join(filter(None, (curve.strategy, curve.source))), "x": point.size or point.asked,
             "mean": point.spread.mean, "low": point.spread.low, "high": point.spread.high}
            for curve in found.curves if curve.axis == axis for point in curve.points
            if point.spread.mean is not None and (point.size or point.asked)
        ]  # fmt: skip
        if rows:
            charts.append((axis, _banded(rows, title, logarithmic=True)))
    return charts


def layer_curves(found: Layers) -> list[tuple[str, alt.ConcatChart]]:
    """Scores over layers, a panel for each target, by what was done to the layers; probing is laid over progressive."""
    charts = []
    for kind in dict.fromkeys(curve.kind for curve in found.curves):
        curves = [curve for curve in found.curves if curve.kind == kind]
        probing = [one for curve in curves if (one := found.probing(curve))]
        rows = [row for curve in [*curves, *dict.fromkeys(probing)] for row in _layer_rows(curve)]
        title = "layers kept or read" if kind in ("progressive", "probing") else "layer, or the first of a block"
        charts.append((kind, _banded(rows, title, logarithmic=False)))
    return charts


def _layer_rows(curve: LayerCurve) -> list[dict[str, Any]]:
    name = " · ".join(filter(None, (curve.strategy, curve.source)))
    panel = curve.target.partition(" @ ")[0] if curve.kind == "probing" else curve.target
    rows = [
        {"panel": panel, "line": name, "x": point.position, "mean": point.spread.mean, "low": point.spread.low,
         "high": point.spread.high}
        for point in curve.points if point.spread.mean is not None
    ]  # fmt: skip
    if curve.baseline.mean is not None and curve.kind != "probing":
        ends = sorted({row["x"] for row in rows})
        rows += [{"panel": panel, "line": "the encoder as it is", "x": x, "mean": curve.baseline.mean}
                 for x in (ends[0], ends[-1])] if ends else []  # fmt: skip
    return rows


def _banded(rows: list[dict[str, Any]], title: str, logarithmic: bool) -> alt.ConcatChart:
    """A panel for each target, lines with 95 % intervals."""
    import altair as alt

    lines = list(dict.fromkeys(row["line"] for row in rows))
    color = alt.Color(
        "line:N", sort=lines, scale=alt.Scale(domain=lines, range=list(LINES[1:] + LINES[:1])),
        legend=alt.Legend(title=None, orient="bottom", columns=3, labelLimit=260, symbolType="stroke", symbolOpacity=1,
                          symbolStrokeWidth=2, columnPadding=30),
    )  # fmt: skip
    panels = [_panel(name, [row for row in rows if row["panel"] == name], title, color, logarithmic)
              for name in dict.fromkeys(row["panel"] for row in rows)]  # fmt: skip
    return styled(alt.concat(*panels, columns=3, spacing=24))


def _panel(name: str, rows: list[dict[str, Any]], title: str, color: Any, logarithmic: bool) -> Any:
    """One target; a few seeds can make an interval so wide that it flattens all lines: it then leaves the panel."""
    import altair as alt

    means = [row["mean"] for row in rows]
    room = max(2.0, 0.6 * (max(means) - min(means)))
    y = alt.Scale(domain=[min(means) - room, max(means) + room], zero=False, nice=False)
    at = sorted({row["x"] for row in rows})
    axis = alt.Axis(grid=False, values=at, format="~s" if logarithmic else "d", labelOverlap=True)
    scale = alt.Scale(type="log" if logarithmic else "linear", domain=[at[0], at[-1]], nice=False, padding=6)
    base = alt.Chart().encode(x=alt.X("x:Q", title=title, scale=scale, axis=axis), color=color)
    band = base.mark_area(opacity=0.13, clip=True).encode(y=alt.Y("low:Q", scale=y, title="points"), y2="high:Q")
    line = base.mark_line(strokeWidth=1.8, clip=True).encode(y=alt.Y("mean:Q", scale=y, title="points"))
    dots = base.mark_point(filled=True, size=30, opacity=1).encode(y=alt.Y("mean:Q", scale=y, title="points"))
    heading = alt.Title(name, anchor="start", fontSize=12, color=INK, fontWeight="bold", limit=WIDTH)
    drawn = alt.layer(band, line, dots, data=alt.Data(values=rows))
    return drawn.properties(width=WIDTH, height=HEIGHT, title=heading)


def trials(found: Grids) -> alt.FacetChart:
    """Every trial of a grid by condition, with their density as a violin and their median, a panel for each target."""
    import altair as alt

    names = sorted({_condition(cell) for cell in found.cells})
    rows = [row for cell in found.cells for row in _violin(cell, names.index(_condition(cell)))]
    said = " : ".join([*(f"datum.value === {at} ? {json.dumps(name)}" for at, name in enumerate(names)), "''"])
    axis = alt.Axis(values=list(range(len(names))), labelExpr=said, domain=False, ticks=False, grid=False,
                    labelLimit=200)  # fmt: skip
    scale = alt.Scale(domain=[len(names) - 0.4, -0.6], nice=False, zero=False)
    base = alt.Chart().encode(
        x=alt.X("value:Q", title="points", scale=alt.Scale(zero=False), axis=alt.Axis(tickCount=4)),
        y=alt.Y("low:Q", title=None, axis=axis, scale=scale),
    )
    shape, dot, middle = (base.transform_filter(f"datum.mark === '{mark}'") for mark in ("shape", "dot", "median"))
    violins = shape.mark_area(color=FAINT, opacity=0.35).encode(y2="high:Q", detail="name:N")
    dots = dot.mark_point(filled=True, size=22, opacity=0.75, color=LINES[1])
    medians = middle.mark_rule(color=INK, strokeWidth=2).encode(y2="high:Q")
    drawn = alt.layer(violins, dots, medians, data=alt.Data(values=rows))
    header = alt.Header(title=None, labelFontWeight="bold", labelFontSize=12, labelAnchor="start", labelLimit=WIDTH)
    drawn = drawn.properties(width=WIDTH, height=28 * len(names))
    return styled(drawn.facet(facet=alt.Facet("target:N", header=header), columns=2).resolve_scale(x="independent"))


def _condition(cell: GridCell) -> str:
    return " · ".join(filter(None, (cell.grid, cell.source)))


def _violin(cell: GridCell, at: int) -> list[dict[str, Any]]:
    """The trials of a condition on its line: as dots, their median, and their density where they differ."""
    from scipy.stats import gaussian_kde

    values = np.array(cell.values.values)
    place = {"target": cell.target, "name": _condition(cell)}
    rows = [place | {"mark": "dot", "value": value, "low": at} for value in values.tolist()]
    if len(values):
        middle = float(np.median(values))
        rows.append(place | {"mark": "median", "value": middle, "low": at - HALF, "high": at + HALF})
    if len(values) > 2 and np.ptp(values) > 0:
        x = np.linspace(values.min(), values.max(), POINTS)
        density = gaussian_kde(values)(x)
        density *= HALF / density.max()
        rows += [place | {"mark": "shape", "value": value, "low": at - half, "high": at + half}
                 for value, half in zip(x.tolist(), density.tolist(), strict=True)]  # fmt: skip
    return rows


def rank_chart(found: Ranks) -> alt.LayerChart:
    """Mean ranks, best first; a bar joins sources that cannot be told apart (Demsar 2006, Figure 1, turned)."""
    import altair as alt

    names = list(found.ranks)
    rows = [
        {"name": name, "rank": rank, "text": f"{rank:.1f}", "kind": LINES[0] if name == found.against else LINES[1]}
        for name, rank in found.ranks.items()
    ]
    bars = [{"name": one[0], "end": one[-1], "at": len(names) + 0.4 + 0.35 * place}
            for place, one in enumerate(found.groups)]  # fmt: skip
    room = extent(names)
    side = alt.Axis(title=None, domain=False, ticks=False, labelLimit=room, minExtent=room, maxExtent=room)
    y = alt.Y("name:N", sort=names, scale=alt.Scale(domain=names), axis=side)
    reach = alt.Scale(domain=[1, len(names) + 0.6 + 0.35 * len(bars)], nice=False)
    axis = alt.Axis(values=list(range(1, len(names) + 1)), format="d", grid=True, domain=False)
    x = alt.X("rank:Q", title="mean rank (1 adds most)", scale=reach, axis=axis)
    dots = alt.Chart(alt.Data(values=rows)).mark_point(filled=True, size=70, opacity=1)
    dots = dots.encode(x=x, y=y, color=alt.Color("kind:N", scale=None))
    texts = alt.Chart(alt.Data(values=rows)).mark_text(align="left", dx=8, fontSize=11, color=INK)
    texts = texts.encode(x=x, y=y, text="text:N")
    joined = alt.Chart(alt.Data(values=bars)).mark_rule(strokeWidth=4, color=FAINT, strokeCap="round")
    joined = joined.encode(x=alt.X("at:Q", scale=reach), y=y, y2="end:N")
    layers = [dots, texts, *([joined] if bars else [])]
    return styled(alt.layer(*layers).properties(width=420, height=22 * len(names)))
