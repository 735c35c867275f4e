"""Recommendation: the answer to "which stop, if any?" as one self-contained HTML page."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from layover.report import words
from layover.report.build import bar
from layover.select.candidate import DIRECT
from layover.select.reasons import percent

if TYPE_CHECKING:
    from layover.select.halving import Halved
    from layover.select.recommend import Option, Recommendation


def page(found: Recommendation, ran: Halved | None = None) -> str:
    """The answer as HTML that needs no other file and no network; `ran` is the search that stands behind it."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    loader = PackageLoader("layover.report", "sections")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"points": words.points, "seconds": words.seconds}
    environment.globals |= {"interval": words.interval}
    reach = max((abs(end) for one in found.stops for end in (one.expected.low, one.expected.high)), default=1.0)
    several = len({one.candidate.strategy for one in found.stops}) > 1
    style = files("layover.report").joinpath("sections", "page.css").read_text(encoding="utf-8")
    return environment.get_template("recommendation.html.j2").render(
        found=found,
        ran=ran,
        nothing_new=found.confirm is not None and not found.confirm.new,
        rows=[_row(one, reach, one == found.best, several) for one in found.options],
        measured=any(one.measured for one in found.stops),
        estimators=list(dict.fromkeys(name for one in found.stops for name in one.scores)),
        style=Markup(style),
    )


def _row(one: Option, reach: float, best: bool, several: bool) -> dict[str, Any]:
    """A candidate as the page shows it."""
    known, direct = one.expected, one.candidate == DIRECT
    return {
        "name": "train directly" if direct else str(one.candidate) if several else one.candidate.source,
        "option": one,
        "direct": direct,
        "best": best,
        "known": known,
        "bar": None if direct else bar(Drawn(known.mean, known.low, known.high), reach),
        "verdict": "helps" if known.low > 0 else "hurts" if known.high < 0 else "within",
        "chance": "" if direct else percent(known.chance),
    }


@dataclass(frozen=True)
class Drawn:
    """A mean and its interval, as `bar` draws them."""

    delta: float
    low: float
    high: float
