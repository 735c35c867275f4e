"""Build: one self-contained HTML page from observations, transfer matrices, contrasts and the runs behind them."""

from __future__ import annotations

import base64
import hashlib
import math
import statistics
from collections import defaultdict
from collections.abc import Sequence
from importlib.resources import files
from itertools import count
from typing import TYPE_CHECKING, Any, Protocol

from layover.report import figures, figures_papers, words
from layover.report.analyses import ranked
from layover.report.answer import answers, rank_words
from layover.report.data import data_of
from layover.report.facts import ReportInputs
from layover.report.forgetting import forgetting_rows
from layover.report.heat import heat_rows
from layover.report.limits import limits, recipes, troubles
from layover.report.maps import correlation_map, decimal, rival_map
from layover.report.spent import spent
from layover.stats.power import typical
from layover.stats.table import labelled
from layover.stats.transfer import Matrix, Transfer

if TYPE_CHECKING:
    from pandas import DataFrame

SCRIPTS = ("cells.js", "curves.js", "tables.js")
LONG = 60  # rows of a table that is folded away at first


def build(inputs: ReportInputs) -> str:
    """The report as HTML that needs no other file and no network."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    folder = files("layover.report").joinpath("sections")
    script = "\n".join(folder.joinpath(name).read_text(encoding="utf-8") for name in SCRIPTS)
    loader = PackageLoader("layover.report", "sections")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "points": words.points, "score": words.score, "p": words.p_value, "plain": words.plain,
        "seconds": words.seconds, "nats": words.nats, "change": words.change, "plural": words.plural,
        "breakable": breakable, "decimal": decimal,
    }  # fmt: skip
    environment.globals |= {
        "interval": words.interval,
        "arrow": words.arrow,
        "bar": bar,
        "reach_of": _reach,
        "LONG": LONG,
    }
    numbered = count()
    return environment.get_template("page.html.j2").render(
        inputs=inputs,
        study=inputs.study,
        answers=answers(inputs.transfer),
        views=[_view(one, numbered) for one in inputs.transfer],
        correction=words.CORRECTIONS,
        scores=score_rows(inputs.observations),
        forgotten=forgetting_rows(inputs.observations),
        contrasts=inputs.contrasts,
        reach=typical(inputs.transfer[0]) if inputs.transfer else [],
        correlated=[(one, correlation_map(one)) for one in inputs.analyses.correlations],
        rivals=[(one, rival_map(one)) for one in inputs.analyses.rivals],
        links=[(one, [link for link in one.links if not link.target]) for one in inputs.analyses.links],
        ranks=[
            (one, rank_words(one), _drawn(figures_papers.rank_chart(one), f"ranks-{place}"))
            for place, one in enumerate(ranked(inputs.transfer[0]) if inputs.transfer else [])
        ],
        pictures=_pictures(inputs),
        runs=inputs.runs,
        places={run.key: place for place, run in enumerate(inputs.runs)},
        drawn=any(run.curve for run in inputs.runs),
        spent=spent(inputs),
        limits=limits(inputs),
        troubles=troubles(inputs),
        recipes=recipes(inputs.runs),
        style=Markup(folder.joinpath("page.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        data=Markup(data_of(inputs)),
    )


def _pictures(inputs: ReportInputs) -> dict[str, list[tuple[str, Any]]]:
    """Figures that are drawn when the page is made, by section, each with what it shows."""
    found = inputs.analyses
    charts = {
        "sizes": figures_papers.size_curves(found.sizes) if found.sizes else [],
        "layers": figures_papers.layer_curves(found.layers) if found.layers else [],
        "grid": [("trials", figures_papers.trials(found.grids))] if found.grids else [],
    }
    return {
        section: [(name, _drawn(chart, f"{section}-{name}")) for name, chart in some]
        for section, some in charts.items()
    }


def _drawn(chart: Any, prefix: str) -> Any:
    from markupsafe import Markup

    return Markup(
        figures.svg(chart, prefix)
    )  # vl-convert escapes text in the SVG that it writes; a test holds it to that


def _view(one: Transfer, numbered: count[int]) -> dict[str, Any]:
    """One set of matrices as the page shows it: all runs, or without degenerate ones."""
    return {"transfer": one, "matrices": [_matrix(next(numbered), matrix) for matrix in one.matrices]}


class Spanned(Protocol):
    """A difference with an interval, each end None where it is not known."""

    @property
    def delta(self) -> float | None:
        """The difference in points."""
        ...

    @property
    def low(self) -> float | None:
        """The lower end."""
        ...

    @property
    def high(self) -> float | None:
        """The upper end."""
        ...


def _matrix(number: int, matrix: Matrix) -> dict[str, Any]:
    means = sorted(matrix.averages.items(), key=lambda item: (item[0][0] != "target", -(item[1].delta or 0)))
    return {
        "id": f"m{number}",
        "number": number,
        "matrix": matrix,
        "title": words.title(matrix),
        "groups": heat_rows(matrix),
        "averages": [(role, source, mean) for (role, source), mean in means],
        "reach": _reach(list(matrix.cells.values())),
        "reach_of_averages": _reach(list(matrix.averages.values())),
    }


def _reach(effects: Sequence[Any]) -> float:
    """How far the axis of intervals goes; one interval that is much wider than all effects runs off it."""
    known = [one for one in effects if one.delta is not None]
    ends = [abs(value) for one in known for value in (one.delta, one.low, one.high) if value is not None]
    largest = max((abs(one.delta) for one in known), default=1.0)
    return max(1.0, min(max(ends, default=1.0), 3 * largest))


def bar(one: Spanned, reach: float) -> dict[str, Any] | None:
    """Where an interval and its middle stand on an axis from -reach to reach, in per cent of its width."""
    if one.delta is None:
        return None

    def place(value: float) -> float:
        return round(50 + 50 * max(-reach, min(reach, value)) / reach, 1)

    low, high = (place(one.delta if end is None else end) for end in (one.low, one.high))
    off = [side for side, end in (("left", one.low), ("right", one.high)) if end is not None and abs(end) > reach]
    return {"left": low, "width": round(high - low, 1), "middle": place(one.delta), "off": off}


def breakable(name: str) -> Any:
    """A name that may be broken after an underscore, a dot, a slash or a plus sign."""
    from markupsafe import Markup, escape

    text = str(escape(name))
    for sign in "_/+":
        text = text.replace(sign, f"{sign}<wbr>")
    return Markup(text)


def score_rows(observations: DataFrame) -> list[dict[str, Any]]:
    """Scores by encoder, target, strategy and source: mean, sample SD, and the value of each seed; primary metric."""
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)
    for row in labelled(observations).to_dict("records"):
        if row.get("primary", True) in (True, 1) and row.get("split") in ("validation", "", None):
            names = ("encoder", "target", "role", "metric", "strategy", "source")
            groups[tuple(_text(row.get(name)) for name in names)].append(row)
    return [_score_row(group, rows) for group, rows in sorted(groups.items())]


def _score_row(group: tuple[str, ...], rows: list[dict[str, Any]]) -> dict[str, Any]:
    encoder, target, role, metric, strategy, source = group
    rows = sorted(rows, key=lambda row: (row.get("seed", 0), row.get("size") or 0))
    values = [float(row["value"]) for row in rows if _known(row.get("value"))]
    mean = statistics.fmean(values) if values else None
    spread = statistics.stdev(values) if len(values) > 1 else None
    return {
        "encoder": encoder, "target": target, "role": role, "metric": metric, "strategy": strategy, "source": source,
        "mean": mean, "sd": spread, "n": len(values),
        "seeds": [(row.get("seed"), _number(row.get("value")), _text(row.get("status")) or "ok") for row in rows],
    }  # fmt: skip


def _text(value: Any) -> str:
    return "" if value is None or value != value else str(value)


def _known(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _number(value: Any) -> float | None:
    return float(value) if _known(value) else None
