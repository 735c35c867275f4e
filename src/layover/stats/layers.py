"""Layers: scores where layers were drawn anew, permuted or frozen (Tamkin et al. 2020, Figures 1 to 7)."""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from layover.errors import ObservationsError, Problem, did_you_mean, raise_all
from layover.stats.arms import one_of
from layover.stats.clustered import arranged, coefficient, t_test
from layover.stats.paired import select
from layover.stats.spread import Distribution, Spread, distribution_of, spread_of
from layover.stats.table import check, is_degenerate

if TYPE_CHECKING:
    from pandas import DataFrame

Kind = Literal["progressive", "block", "single", "inverse", "alternate", "permutation", "probing"]
CONDITIONS: tuple[tuple[Kind, str], ...] = (
    ("progressive", r"keep (\d+)"), ("block", r"block (\d+)-\d+"), ("single", r"layer (\d+)"),
    ("inverse", r"all but (\d+)(?:-\d+)?"), ("alternate", r"(even|odd) layers"), ("permutation", r"permutation (\d+)"),
)  # fmt: skip
PROBING = ("probe", "probing", "truncate")  # what strategies of frozen encoders are called if nothing else is said
ALL_RESET = "keep 0"


@dataclass(frozen=True)
class LayerPoint:
    """The runs of one condition. `position` is the number of layers kept or read, or the first layer of a block."""

    position: int
    condition: str
    spread: Spread
    values: tuple[float, ...]
    degenerate: int


@dataclass(frozen=True)
class LayerCurve:
    """Scores of one target by condition of one kind; `baseline` is of the runs on the encoder as it is."""

    encoder: str
    strategy: str
    source: str
    target: str
    kind: Kind
    points: tuple[LayerPoint, ...]
    baseline: Spread


@dataclass(frozen=True)
class Orders:
    """Values with the layers in other orders, every permutation and seed, beside the encoder as it is and all reset."""

    encoder: str
    strategy: str
    source: str
    target: str
    permuted: Distribution
    full: Distribution
    reset: Distribution


@dataclass(frozen=True)
class Alike:
    """How alike two targets are over the same permutations, of each of which the mean over seeds is taken."""

    encoder: str
    strategy: str
    source: str
    targets: tuple[str, str]
    n: int
    spearman: float | None
    spearman_p: float | None
    pearson: float | None
    pearson_p: float | None


@dataclass(frozen=True)
class Layers:
    """Every curve of a table, the distributions over permutations, and how alike targets are over these."""

    against: str
    without_degenerate: bool
    curves: tuple[LayerCurve, ...]
    orders: tuple[Orders, ...]
    alike: tuple[Alike, ...]

    def probing(self, curve: LayerCurve) -> LayerCurve | None:
        """The probing curve to lay over a progressive one: of the same encoder, source and target.

        Where the target was not probed at the curve's number of rows, the one at its full size.
        """
        if curve.kind != "progressive":
            return None
        about = curve.encoder, curve.source
        found = {one.target: one for one in self.curves if one.kind == "probing" and (one.encoder, one.source) == about}
        return found.get(curve.target) or found.get(curve.target.partition(" @ ")[0])

    def to_json(self) -> dict[str, Any]:
        """Everything as plain data; what is not known is null."""
        curves = []
        for curve in self.curves:
            probing = self.probing(curve)
            curves.append(_curve_json(curve) | {"probing": _curve_json(probing)["points"] if probing else None})
        return {
            "against": self.against, "without_degenerate": self.without_degenerate, "curves": curves,
            "permutations": [asdict(one) for one in self.orders], "tasks": [asdict(one) for one in self.alike],
        }  # fmt: skip


About = tuple[str, str, str, str]
"""Encoder, strategy, source, target."""
Rows = dict[About, dict[str, dict[int, dict[str, Any]]]]
"""By condition and seed: a row."""


def layers(
    observations: DataFrame | Iterable[Mapping[str, Any]],
    probing: Sequence[str] = (),
    against: str = "direct",
    encoder: str | None = None,
    metric: str | None = None,
    without_degenerate: bool = False,
) -> Layers:
    """Curves over layers, as in Tamkin et al. 2020, section 3, with 95 % intervals of t and the paper's own bars.

    The condition of a row says what was done: "keep 3" (progressive), "block 0-2", "layer 4" (single), "all but 3-5"
    (inverse), "even layers", "permutation 1". In the strategies named in `probing` (else those called probe, probing or
    truncate) nothing but a head was trained, and "keep 3" and "layer 3" say how many layers it read. Raises
    ObservationsError where no condition is about layers.
    """
    checked = check(observations)
    raise_all(ObservationsError, [
        Problem("probing", f"no row has strategy {name!r}", did_you_mean(name, set(checked["strategy"])))
        for name in probing if name not in set(checked["strategy"])
    ])  # fmt: skip
    frame = select(checked.assign(way=checked["source"]), metric, without_degenerate)
    frame = frame if encoder is None else one_of(frame, "encoder", encoder)
    rows: Rows = defaultdict(lambda: defaultdict(dict))
    for row in frame.sort_values("value", na_position="first", kind="stable").to_dict("records"):
        rows[row["encoder"], row["strategy"], row["way"], row["target"]][row["condition"]][row["seed"]] = row
    curves = [curve for about in sorted(rows) for curve in _curves(rows, about, tuple(probing) or PROBING, against)]
    if not curves:
        hint = 'conditions are such as "keep 3", "block 0-2", "layer 4", "all but 3-5", "permutation 1"'
        raise ObservationsError(Problem("condition", "no row says what was done to layers", hint))
    permuted = [curve for curve in curves if curve.kind == "permutation"]
    orders = [_orders(rows, curve, against) for curve in permuted]
    return Layers(against, without_degenerate, tuple(curves), tuple(orders), tuple(_alike(permuted)))


def _curves(rows: Rows, about: About, probing: Sequence[str], against: str) -> Iterable[LayerCurve]:
    found: dict[Kind, list[LayerPoint]] = defaultdict(list)
    for condition, runs in rows[about].items():
        for kind, pattern in CONDITIONS:
            if match := re.fullmatch(pattern, condition):
                frozen = about[1] in probing and kind in ("progressive", "single")
                found["probing" if frozen else kind].append(_point(match[1], condition, runs))
    baseline = spread_of(_baseline(rows, about, against))
    for kind, points in sorted(found.items()):
        yield LayerCurve(*about, kind, tuple(sorted(points, key=lambda point: point.position)), baseline)


def _point(position: str, condition: str, runs: dict[int, dict[str, Any]]) -> LayerPoint:
    values = tuple(runs[seed]["value"] for seed in sorted(runs) if runs[seed]["value"] == runs[seed]["value"])
    number = int(position) if position.isdigit() else ("even", "odd").index(position)
    degenerate = sum(is_degenerate(row["status"]) for row in runs.values())
    return LayerPoint(number, condition, spread_of(values), values, degenerate)


def _baseline(rows: Rows, about: About, against: str) -> list[float]:
    """Values of the baseline's runs through the same source, or else without one."""
    encoder, _, source, target = about
    for way in (source, ""):
        if runs := rows.get((encoder, against, way, target), {}).get("", {}):
            return [row["value"] for row in runs.values()]
    return []


def _orders(rows: Rows, curve: LayerCurve, against: str) -> Orders:
    about = curve.encoder, curve.strategy, curve.source, curve.target
    permuted = [value for point in curve.points for value in point.values]
    reset = [
        row["value"]
        for (encoder, _, source, target), conditions in rows.items()
        if (encoder, source, target) == (curve.encoder, curve.source, curve.target)
        for row in conditions.get(ALL_RESET, {}).values()
    ]
    return Orders(*about, *map(distribution_of, (permuted, _baseline(rows, about, against), reset)))


def _alike(permuted: list[LayerCurve]) -> Iterable[Alike]:
    """Every two targets of an encoder, strategy and source (the paper's table)."""
    for one, other in itertools.combinations(permuted, 2):
        about = one.encoder, one.strategy, one.source
        if about != (other.encoder, other.strategy, other.source):
            continue
        sides = [{point.position: point.spread.mean for point in curve.points} for curve in (one, other)]
        common = sorted(set(sides[0]) & set(sides[1]))
        y, x = arranged(*(np.array([side[n] for n in common], dtype=float).reshape(-1, 1) for side in sides))
        (rank, n), (line, _) = coefficient(y, x, "spearman"), coefficient(y, x, "pearson")
        yield Alike(*about, (one.target, other.target), n, rank, t_test(rank, n), line, t_test(line, n))


def _curve_json(curve: LayerCurve) -> dict[str, Any]:
    points = [
        {"position": p.position, "condition": p.condition, **asdict(p.spread), "values": p.values,
         "degenerate": p.degenerate}
        for p in curve.points
    ]  # fmt: skip
    return {**curve.__dict__, "points": points, "baseline": asdict(curve.baseline)}
