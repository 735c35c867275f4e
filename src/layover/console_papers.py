"""Console tables of what `layover analyze` finds beside transfer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from layover.console import points, say, show_table

if TYPE_CHECKING:
    from layover.stats.correlate import Correlations
    from layover.stats.forgetting import ForgettingLinks
    from layover.stats.grid import Gain, Grids
    from layover.stats.layers import LayerCurve, Layers
    from layover.stats.rivals import Rivalry
    from layover.stats.size_rule import HitRate
    from layover.stats.sizes import Sizes
    from layover.stats.spread import Spread


def show_correlations(found: Correlations, square: bool = False) -> None:
    """Print the correlations of a family as a matrix, what is left of them, and all with all where asked."""
    named = " · ".join(filter(None, [found.encoder, found.strategy]))
    say(f"{named}: {found.method} over {found.sources} sources with all their restarts; {found.against} left out")
    cells = {(cell.probe, cell.target): cell for cell in found.cells}
    targets = list(dict.fromkeys(target for _, target in cells))
    rows = []
    for probe in dict.fromkeys(probe for probe, _ in cells):
        row = [cells[probe, target] for target in targets]
        marks = [("*" if cell.significant else "") + ("†" if cell.significant_clustered else "") for cell in row]
        rows.append([probe, *(f"{number(cell.r)}{mark}" for cell, mark in zip(row, marks, strict=True))])
    show_table(["probe", *targets], rows)
    facts, tests = found.to_json(), sum(cell.p is not None for cell in found.cells)
    floor = 1 / (found.orders + (not found.exact))
    orders = f"{found.orders:,} orders{'' if found.exact else ' drawn'}"
    least = f"no p is below {floor:.2g}, or {min(1, tests * floor):.2g} once corrected"
    itself = f", {n} of them a task with itself" if (n := facts["significant_with_itself"]) else ""
    say(f"* {found.significant} of {tests} significant at 0.05 after Holm over {found.family}, "
        f"points as independent{itself}")  # fmt: skip
    say(f"  {facts['significant_as_published']} by the paper's cut, "
        f"{facts['significant_without_degenerate']} without degenerate runs")  # fmt: skip
    say(f"† {facts['significant_clustered']} with the restarts of a source kept together ({orders}, so that {least})")
    if square:
        say()
        tasks = found.square.tasks
        lines = [[task, *map(number, row)] for task, row in zip(tasks, found.square.r, strict=True)]
        show_table(["", *tasks], lines, right=tasks)


def show_sizes(found: Sizes) -> None:
    """Print each curve over sizes, the macro-average of several targets first."""
    for curve in found.curves:
        way = " · ".join(filter(None, [curve.encoder, curve.strategy, curve.source]))
        what = curve.targets[0] if len(curve.targets) == 1 else f"mean of {len(curve.targets)} {curve.role} tasks"
        size = "intermediate size" if curve.axis == "intermediate" else "target size"
        baseline = f"; {found.against}: {score(curve.baseline.mean)}" if curve.baseline else ""
        say(f"{way}: {what}{baseline}")
        rows = [
            (p.size or "all", score(p.spread.mean), between(p.spread), p.spread.n, p.degenerate) for p in curve.points
        ]
        names = (size, "mean", "95% interval", "seeds", "degenerate")
        show_table(names, rows, right=(size, "mean", "seeds", "degenerate"))
        say()


def show_layers(found: Layers) -> None:
    """Print each curve over layers, the distributions over permutations, and how alike targets are over these."""
    for curve in found.curves:
        way = " · ".join(filter(None, [curve.encoder, curve.strategy, curve.source]))
        say(f"{way}: {curve.target}, {curve.kind}; {found.against}: {score(curve.baseline.mean)}")
        show_table(*_layer_table(curve, found.probing(curve)))
        say()
    for one in found.orders:
        say(f"{' · '.join(filter(None, [one.encoder, one.strategy, one.source]))}: {one.target}")
        parts = {"permuted": one.permuted, found.against: one.full, "all reset": one.reset}
        rows = [
            (name, len(d.values), *map(score, (d.mean, d.sd, d.low, d.quarter, d.median, d.three_quarters, d.high)))
            for name, d in parts.items()
        ]
        names = ("", "runs", "mean", "SD", "lowest", "25%", "median", "75%", "highest")
        show_table(names, rows, right=names[1:])
        say()
    if found.alike:
        rows = [(*p.targets, p.n, number(p.spearman), p_value(p.spearman_p), number(p.pearson), p_value(p.pearson_p))
                for p in found.alike]  # fmt: skip
        names = ("target", "and", "permutations", "spearman", "p", "pearson", "p ")
        show_table(names, rows, right=names[2:])


def _layer_table(curve: LayerCurve, probing: LayerCurve | None) -> tuple[list[str], list[list[object]], list[str]]:
    """Columns, rows and the columns that are aligned right, for one curve."""
    names = ["condition", "mean", "95% interval", "paper's bar", "seeds", "degenerate"]
    rows: list[list[object]] = [
        [p.condition, score(p.spread.mean), between(p.spread), "–" if p.spread.bar is None else f"± {p.spread.bar:.1f}",
         p.spread.n, p.degenerate]
        for p in curve.points
    ]  # fmt: skip
    if probing:
        read = {point.position: point.spread.mean for point in probing.points}
        names.append("probing")
        rows = [[*row, score(read.get(p.position))] for row, p in zip(rows, curve.points, strict=True)]
    return names, rows, ["mean", "paper's bar", "seeds", "degenerate", "probing"]


def show_grid(found: Grids) -> None:
    """Print the trials of every condition and target, and what they add to the baseline's."""
    for name, strategies in found.grids.items():
        say(f"grid {name}: {', '.join(strategies)}")
    names = ("grid", "source", "target", "trials", "best", "mean", "SD", "25%", "median", "75%", "degenerate")
    more = ("best gains", "mean gains", "p adjusted")
    rows = []
    for cell in found.cells:
        d, p = cell.values, cell.mean.p_adjusted if cell.mean else None
        numbers = map(score, (d.high, d.mean, d.sd, d.quarter, d.median, d.three_quarters))
        told = f"{100 * cell.degenerate / cell.trials:.0f}%" if cell.trials else "–"
        gains = (gained(cell.best), gained(cell.mean), "" if p is None else p_value(p))
        rows.append((cell.grid, cell.source, cell.target, cell.trials, *numbers, told, *gains))
    show_table((*names, *more), rows, right=(*names[3:], "p adjusted"))


CELLS = {
    "significant": "cells with p < 0.1, as the paper",
    "all": "all cells",
    "verdict": "cells beyond noise after correction",
}


def show_rivals(found: Sequence[Rivalry], against: str) -> None:
    """Print each multitask strategy against stilts: the cells, the rule of size, and all tasks at once."""
    for one in found:
        say(f"{' · '.join(filter(None, [one.encoder, one.multitask]))} minus {one.stilts}, in points")
        names = ("target", "source", "size ratio", "minus", "p (t-test)", "paired", "95% interval", "p adjusted")
        rows = [
            (c.target, c.source, "–" if c.ratio is None else f"{c.ratio:.2f}", points(c.delta), p_value(c.p),
             points(c.paired), f"{points(c.low)} to {points(c.high)}", p_value(c.p_adjusted),
             c.verdict.replace("helps", one.multitask).replace("hurts", one.stilts), c.choice() or "–")
            for c in one.cells
        ]  # fmt: skip
        show_table((*names, "verdict", "rule"), rows, right=(*names[2:6], "p adjusted"))
        say("rule: multitask where the ratio of source to target is above 1, a stop where it is below")
        names = (
            "cells",
            "right",
            "95% interval",
            "one task left out",
            "best threshold",
            "right there",
            "on other targets",
        )
        rows = [
            (CELLS[r.cells], share(r.size), limits(r.size.low, r.size.high), limits(r.size.lowest, r.size.highest),
             "–" if r.threshold is None else f"> {r.threshold}", share(r.searched), share(r.held_out))
            for r in one.rules
        ]  # fmt: skip
        show_table(names, rows)
        if one.everything:
            names = (against, one.together or "all at once", "stilts", "multitask", "better", "by size", "oracle")
            rows = [
                (e.target, *map(score, (e.direct, e.together, e.stilts, e.multitask, e.better, e.by_size, e.oracle)))
                for e in one.everything
            ]
            show_table(("mean over partners", *names), rows, right=names)
        say()


def share(rate: HitRate) -> str:
    """Hits of cells."""
    return f"{rate.hits} of {rate.cells}"


def limits(low: float | None, high: float | None) -> str:
    """Two shares in per cent; a dash where there is none."""
    return "–" if low is None or high is None else f"{100 * low:.0f}% to {100 * high:.0f}%"


def show_forgetting(found: ForgettingLinks) -> None:
    """Print how each measure of forgetting goes with transfer, and what is left of that with collapse held."""
    named = " · ".join(filter(None, [found.encoder, found.strategy]))
    say(f"{named}: {found.method} of forgetting with points over {found.against}, over {found.sources} sources")
    names = ("measure", "target", "points", "degenerate", "r", "p adjusted", "one source left out", "p by source")
    rows = [
        (one.measure, one.target or f"mean of {one.targets} {one.role} tasks", one.n, one.degenerate, number(one.r),
         p_value(one.p_adjusted), f"{number(one.low)} to {number(one.high)}", p_value(one.p_clustered_adjusted),
         number(one.partial), p_value(one.partial_p), p_value(one.partial_p_clustered))
        for one in found.links
    ]  # fmt: skip
    show_table((*names, "given collapse", "p", "p by source "), rows, right=("points", "degenerate"))
    say("p takes points as independent; p by source deals sources out with all of their seeds")


def gained(gain: Gain | None) -> str:
    """A gain in points with its interval; nothing for the baseline itself."""
    if gain is None or gain.delta is None:
        return ""
    return points(gain.delta) + (f" ({points(gain.low)} to {points(gain.high)})" if gain.low is not None else "")


def score(value: float | None) -> str:
    """A score with one decimal; a dash where it is not known."""
    return "–" if value is None else f"{value:z.1f}"


def between(spread: Spread) -> str:
    """The interval of a spread; a dash where one run gives none."""
    return "–" if spread.low is None else f"{score(spread.low)} to {score(spread.high)}"


def p_value(p: float | None) -> str:
    """A p-value with three decimals; a dash where there is none."""
    return "–" if p is None else f"{p:.3f}"


def number(value: float | None) -> str:
    """A correlation with two decimals and no leading zero, as the papers print them; a dash where there is none."""
    return "–" if value is None else f"{value:.2f}".replace("0.", ".", 1)
