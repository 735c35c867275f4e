"""Grid: every trial of a grid of settings, by condition and target (Chang & Lu 2021)."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from layover.errors import ObservationsError, Problem, did_you_mean, raise_all
from layover.metrics import Array
from layover.stats.arms import one_of
from layover.stats.judge import adjust
from layover.stats.paired import Correction, select
from layover.stats.spread import Distribution, distribution_of, spread_of
from layover.stats.table import check, is_degenerate

if TYPE_CHECKING:
    from pandas import DataFrame

SEED = 20_200_711
RESAMPLES = 2_000
TRIAL = re.compile(r"\w+=\S+(?: \w+=\S+)*")  # "learning_rate=1e-05 batch_size=8", the last part of a condition

Trial = tuple[str, int]
"""A setting of the grid and a seed."""


@dataclass(frozen=True)
class Gain:
    """What a condition adds to the baseline over the `n` trials that both have, in points, with a 95 % interval.

    `p` is corrected over the cells of one encoder; the gain of the best trial has none.
    """

    delta: float | None
    low: float | None
    high: float | None
    p: float | None
    p_adjusted: float | None
    n: int


@dataclass(frozen=True)
class GridCell:
    """All trials of one condition (a grid and a source) on one target.

    `trials` have a value, of these `degenerate` collapsed; `failed` have none. `best` and `mean` compare with the
    baseline's trials of the same setting and seed; None for the baseline itself, or where it has none.
    """

    encoder: str
    grid: str
    source: str
    target: str
    trials: int
    degenerate: int
    failed: int
    values: Distribution
    best: Gain | None
    mean: Gain | None


@dataclass(frozen=True)
class Grids:
    """The strategies of every grid, and its cells."""

    against: str
    grids: dict[str, tuple[str, ...]]
    correct: Correction
    without_degenerate: bool
    cells: tuple[GridCell, ...]

    def to_json(self) -> dict[str, Any]:
        """The cells as plain data, with the share of degenerate trials; what is not known is null."""
        cells = [
            {**asdict(cell), "degenerate_share": cell.degenerate / cell.trials if cell.trials else None}
            for cell in self.cells
        ]
        return {**self.__dict__, "cells": cells}


Condition = tuple[str, str, str, str]
"""Encoder, target, grid, source."""


def grid(
    observations: DataFrame | Iterable[Mapping[str, Any]],
    grids: Mapping[str, Sequence[str]] | None = None,
    against: str = "direct",
    encoder: str | None = None,
    metric: str | None = None,
    correct: Correction = "holm",
    without_degenerate: bool = False,
) -> Grids:
    """Best, mean, SD and quartiles over all trials of a grid, as Chang & Lu 2021 show them for 36 trials each.

    A setting is a condition such as "learning_rate=1e-05 batch_size=8", or a strategy of its own, whose name says which
    one it is: "stilts 5e-5" is the setting "5e-5" of the grid "stilts". `grids` names the strategies of each grid
    instead, and the k-th of one has the setting of the k-th of another. `against` is the grid of the baseline; trials
    are paired by setting and seed.

    The gain of the mean has the interval and p-value of Student's t over paired differences; that of the best trial is
    drawn by a plain bootstrap of pairs of trials, which for a maximum is rough however many there are.
    Both take trials as independent, and trials of one seed share their intermediate run: intervals are too short where
    that matters much, and say nothing of other seeds.
    Raises ObservationsError for a grid or strategy without rows.
    """
    checked = check(observations)
    frame = select(checked.assign(way=checked["source"]), metric, without_degenerate)
    frame = frame if encoder is None else one_of(frame, "encoder", encoder)
    settings = _settings(set(frame["strategy"]), grids, against)
    trials: dict[Condition, dict[Trial, dict[str, Any]]] = defaultdict(dict)
    for row in frame.sort_values("value", na_position="first", kind="stable").to_dict("records"):
        if row["strategy"] in settings:
            name, setting = settings[row["strategy"]]
            source, tried = _tried(row["way"], row["condition"])
            key = row["encoder"], row["target"], name, source
            trials[key][" ".join(filter(None, (setting, tried))), row["seed"]] = row
    cells = [_cell(key, trials, against) for key in sorted(trials)]
    members: dict[str, list[str]] = defaultdict(list)
    for strategy, (name, _) in settings.items():
        members[name].append(strategy)
    named = {name: tuple(found) for name, found in members.items()}
    return Grids(against, named, correct, without_degenerate, tuple(_judged(cells, correct)))


def _settings(
    strategies: set[str], grids: Mapping[str, Sequence[str]] | None, against: str
) -> dict[str, tuple[str, str]]:
    """The grid and the setting of each strategy."""
    if grids is None:
        parts = {name: name.partition(" ") for name in sorted(strategies)}
        found = {name: (first, rest) for name, (first, _, rest) in parts.items()}
    else:
        found = {s: (name, str(k)) for name, of in grids.items() for k, s in enumerate(of, start=1)}
    problems = [
        Problem(f"grid {name}", f"no row has strategy {strategy!r}", did_you_mean(strategy, strategies))
        for strategy, (name, _) in found.items()
        if strategy not in strategies
    ]
    names = {name for name, _ in found.values()}
    if against not in names:
        problems.append(Problem("against", f"there is no grid {against!r}", did_you_mean(against, names)))
    raise_all(ObservationsError, problems)
    return found


def _tried(source: str, condition: str) -> tuple[str, str]:
    """A source with what else was tried there, and the setting that a condition ends with."""
    parts = condition.split(" · ")
    tried = parts.pop() if TRIAL.fullmatch(parts[-1]) else ""
    return " · ".join(filter(None, (source, *parts))), tried


def _cell(key: Condition, trials: Mapping[Condition, dict[Trial, dict[str, Any]]], against: str) -> GridCell:
    encoder, target, name, source = key
    rows = trials[key]
    known = {trial: row for trial, row in rows.items() if row["value"] == row["value"]}
    degenerate = sum(is_degenerate(row["status"]) for row in known.values())
    values = distribution_of(row["value"] for row in known.values())
    counts = len(known), degenerate, len(rows) - len(known)
    others = [other for way in (source, "") if (other := (encoder, target, against, way)) in trials]
    if name == against or not others:
        return GridCell(encoder, name, source, target, *counts, values, None, None)
    base = {trial: row["value"] for trial, row in trials[others[0]].items() if row["value"] == row["value"]}
    common = sorted(set(known) & set(base))
    pairs = np.array([(known[trial]["value"], base[trial]) for trial in common], dtype=float).reshape(-1, 2)
    return GridCell(encoder, name, source, target, *counts, values, _best(pairs), _mean(pairs))


def _best(pairs: Array) -> Gain:
    """The best of one side less the best of the other, over the same drawn trials."""
    n = len(pairs)
    if n == 0:
        return Gain(None, None, None, None, None, 0)
    tops = pairs.max(0)
    delta = float(tops[0] - tops[1])
    if n == 1:
        return Gain(delta, None, None, None, None, 1)
    drawn = np.random.default_rng([SEED, n]).integers(n, size=(RESAMPLES, n))
    best = pairs[drawn].max(1)
    low, high = np.percentile(best[:, 0] - best[:, 1], [2.5, 97.5])
    return Gain(delta, float(low), float(high), None, None, n)


def _mean(pairs: Array) -> Gain:
    """The mean difference; no interval where the differences do not differ."""
    found = spread_of(pairs[:, 0] - pairs[:, 1])
    if found.mean is None or not found.sd:
        return Gain(found.mean, None, None, None, None, found.n)
    from scipy.special import stdtr

    p = 2 * float(stdtr(found.n - 1, -abs(found.mean) * math.sqrt(found.n) / found.sd))
    return Gain(found.mean, found.low, found.high, p, None, found.n)


def _judged(cells: list[GridCell], correct: Correction) -> Iterable[GridCell]:
    """The cells with the p-values of their means corrected over those of one encoder."""
    adjusted: dict[int, float | None] = {}
    for encoder in {cell.encoder for cell in cells}:
        places = [i for i, cell in enumerate(cells) if cell.encoder == encoder and cell.mean]
        p_values = [cells[i].mean.p for i in places]  # type: ignore[union-attr]
        adjusted |= dict(zip(places, adjust(p_values, correct), strict=True))
    for i, cell in enumerate(cells):
        yield replace(cell, mean=replace(cell.mean, p_adjusted=adjusted[i])) if cell.mean else cell
