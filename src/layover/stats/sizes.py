"""Sizes: scores over how much data a target or an intermediate task had (Pruksachatkun et al. 2020, Figure 6)."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from layover.errors import ObservationsError, Problem
from layover.stats.arms import one_of
from layover.stats.paired import select
from layover.stats.spread import Spread, spread_of
from layover.stats.table import check, is_degenerate

if TYPE_CHECKING:
    from pandas import DataFrame

Axis = Literal["intermediate", "target"]
INTERMEDIATE = re.compile(r"(\d+) rows")  # the condition of stilts with `sizes`


@dataclass(frozen=True)
class SizePoint:
    """The runs with one number of training questions: `asked` is 0 for all, `size` what they had, if known."""

    asked: int
    size: int | None
    spread: Spread
    degenerate: int


@dataclass(frozen=True)
class SizeCurve:
    """Scores over sizes of one task: the source's on the axis "intermediate", else the target's.

    A curve of several `targets` is their macro-average, which a seed takes part in where all of them have a value.
    `baseline` is the spread of the runs without a source, over all of their seeds; None on the axis "target", where the
    baseline has a curve of its own.
    """

    encoder: str
    strategy: str
    source: str
    role: str
    targets: tuple[str, ...]
    axis: Axis
    points: tuple[SizePoint, ...]
    baseline: Spread | None


@dataclass(frozen=True)
class Sizes:
    """All curves of a table, the averages of a source before its targets."""

    against: str
    without_degenerate: bool
    curves: tuple[SizeCurve, ...]

    def to_json(self) -> dict[str, Any]:
        """The curves as plain data; what is not known is null."""
        return {"against": self.against, "without_degenerate": self.without_degenerate,
                "curves": [_json(curve) for curve in self.curves]}  # fmt: skip


Key = tuple[str, str, str, str, Axis]
"""Encoder, strategy, source, role, axis."""
Runs = dict[int, dict[int, dict[str, Any]]]
"""By size asked for and seed: a row."""


def sizes(
    observations: DataFrame | Iterable[Mapping[str, Any]],
    strategy: str | None = None,
    encoder: str | None = None,
    against: str = "direct",
    metric: str | None = None,
    without_degenerate: bool = False,
) -> Sizes:
    """Curves over sizes of intermediate tasks and of targets, with 95 % intervals of t over seeds.

    Sizes of an intermediate task are conditions such as "1250 rows", as those of `stilts` with `sizes`; those of a
    target are in the column `rows`. No condition, or 0 rows, is all there is. Raises ObservationsError where nothing
    was tried at two sizes.
    """
    checked = check(observations)
    frame = select(checked.assign(way=checked["source"], task=checked["target"]), metric, without_degenerate)
    if encoder is not None:
        frame = one_of(frame, "encoder", encoder)
    if strategy is not None:
        frame = frame.loc[frame["strategy"].isin([*one_of(frame, "strategy", strategy)["strategy"], against])]
    groups: dict[Key, dict[str, Runs]] = defaultdict(lambda: defaultdict(lambda: defaultdict(dict)))
    for row in frame.sort_values("value", na_position="first", kind="stable").to_dict("records"):
        for key, target, asked in _places(row):
            groups[key][target][asked][row["seed"]] = row
    baselines = _baselines(frame, against)
    curves = [
        curve
        for key, targets in sorted(groups.items())
        for curve in _curves(key, {name: runs for name, runs in sorted(targets.items()) if len(runs) > 1}, baselines)
    ]
    if not curves:
        hint = (
            'sizes of an intermediate task are conditions such as "1250 rows", those of a target are in the column rows'
        )
        raise ObservationsError(Problem("condition, rows", "nothing was tried at two sizes", hint))
    return Sizes(against, without_degenerate, tuple(curves))


def _places(row: dict[str, Any]) -> list[tuple[Key, str, int]]:
    """Where a row stands: a curve without its targets, the target, and the size."""
    about, found = (row["encoder"], row["strategy"]), INTERMEDIATE.fullmatch(row["condition"])
    places: list[tuple[Key, str, int]] = [((*about, row["source"], row["role"], "target"), row["task"], row["rows"])]
    if row["way"] and (found or not row["condition"]):
        size = int(found[1]) if found else 0
        places.append(((*about, row["way"], row["role"], "intermediate"), row["target"], size))
    return places


def _baselines(frame: DataFrame, against: str) -> dict[tuple[str, str], dict[int, float]]:
    """The baseline's value by encoder and target, and by seed."""
    found: dict[tuple[str, str], dict[int, float]] = defaultdict(dict)
    rows = frame.loc[(frame["strategy"] == against) & (frame["source"] == "") & frame["value"].notna()]
    for row in rows.to_dict("records"):
        found[row["encoder"], row["target"]][row["seed"]] = row["value"]
    return found


def _curves(key: Key, targets: dict[str, Runs], baselines: dict[tuple[str, str], dict[int, float]]) -> list[SizeCurve]:
    """The average where there are several targets, then each of them."""
    parts = ([tuple(targets)] if len(targets) > 1 else []) + [(name,) for name in targets]
    return [_curve(key, {name: targets[name] for name in part}, baselines) for part in parts]


def _curve(key: Key, targets: dict[str, Runs], baselines: dict[tuple[str, str], dict[int, float]]) -> SizeCurve:
    *about, axis = key
    asked = sorted({size for runs in targets.values() for size in runs}, key=lambda size: (size == 0, size))
    column = "size" if axis == "target" else "source_size"
    points = []
    for size in asked:
        rows = [row for runs in targets.values() for row in runs.get(size, {}).values()]
        known = {row[column] for row in rows} - {0}
        tables = [{seed: row["value"] for seed, row in runs.get(size, {}).items()} for runs in targets.values()]
        degenerate = sum(is_degenerate(row["status"]) for row in rows)
        points.append(SizePoint(size, known.pop() if len(known) == 1 else size or None, _average(tables), degenerate))
    without = [baselines.get((key[0], name), {}) for name in targets]
    baseline = _average(without) if axis == "intermediate" and all(without) else None
    return SizeCurve(about[0], about[1], about[2], about[3], tuple(targets), axis, tuple(points), baseline)


def _average(tables: list[dict[int, float]]) -> Spread:
    """The spread over seeds of the mean over tasks, each of which has a value by seed."""
    seeds = sorted(set.intersection(*map(set, tables)))
    return spread_of(sum(sorted(table[seed] for table in tables)) / len(tables) for seed in seeds)


def _json(curve: SizeCurve) -> dict[str, Any]:
    points = [
        {"asked": point.asked, "size": point.size, **_numbers(point.spread), "degenerate": point.degenerate}
        for point in curve.points
    ]
    baseline = _numbers(curve.baseline) if curve.baseline else None
    return {**curve.__dict__, "points": points, "baseline": baseline}


def _numbers(spread: Spread) -> dict[str, Any]:
    return {name: value for name, value in asdict(spread).items() if name != "bar"}
