"""Truth: what candidates were measured to add to targets; and forecasts of it, made without having seen the target."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from layover.metrics import Array
from layover.select.candidate import Candidate
from layover.stats.published import NAMES, figure2
from layover.stats.transfer import Matrix


@dataclass(frozen=True, eq=False)
class Truth:
    """Measured differences to the baseline, `delta` [targets, candidates] in points; NaN where there is none.

    `error` [targets, candidates] are their standard errors, NaN where not known; `baseline` [targets] what the target
    reaches directly, in points, NaN where not known.
    """

    targets: tuple[str, ...]
    candidates: tuple[Candidate, ...]
    delta: Array
    error: Array
    baseline: Array

    def without(self, target: str) -> Truth:
        """The same with that target's row taken out; the task may still be a source of others."""
        keep = np.array([name != target for name in self.targets])
        targets = tuple(name for name in self.targets if name != target)
        return Truth(targets, self.candidates, self.delta[keep], self.error[keep], self.baseline[keep])

    def without_itself(self) -> Truth:
        """The same without the cells in which a target is its own source: a new target is nobody's source."""
        itself = np.array([[one.source == name for one in self.candidates] for name in self.targets], dtype=bool)
        blank = itself.reshape(self.delta.shape)
        delta, error = (np.where(blank, math.nan, values) for values in (self.delta, self.error))
        return Truth(self.targets, self.candidates, delta, error, self.baseline)


def truth_of(matrices: Iterable[Matrix], role: Literal["target", "probing"] = "target") -> Truth:
    """The truth in transfer matrices of one encoder, a strategy each; a target is not its own source."""
    cells, baseline = {}, {}
    for matrix in matrices:
        for (source, target), cell in matrix.cells.items():
            if cell.role == role and cell.delta is not None:
                cells[target, Candidate(source, matrix.strategy)] = cell
                known = matrix.baseline.get(target)
                baseline[target] = math.nan if known is None else known
    targets, candidates = sorted({target for target, _ in cells}), sorted({one for _, one in cells})
    delta, error = np.full((2, len(targets), len(candidates)), math.nan)
    for (target, one), cell in cells.items():
        place = targets.index(target), candidates.index(one)
        delta[place] = cell.delta
        error[place] = cell.noise.error if cell.noise else math.nan
    known = np.array([baseline[target] for target in targets])
    return Truth(tuple(targets), tuple(candidates), delta, error, known).without_itself()


def published(itself: bool = False) -> Truth:
    """The 11 sources x 10 targets of Pruksachatkun et al. 2020 (Figure 2), named as in the catalogue.

    The figure gives no errors. It has two targets through themselves, which are left out unless `itself` asks for them.
    """
    figure = figure2()
    targets = [name for name, role in figure.roles.items() if role == "target"]
    sources = list(figure.average)
    delta = np.array([[figure.delta[source, target] for source in sources] for target in targets])
    found = Truth(
        tuple(NAMES[name] for name in targets),
        tuple(Candidate(NAMES[name]) for name in sources),
        delta,
        np.full(delta.shape, math.nan),
        np.array([figure.baseline[name] for name in targets]),
    )
    return found if itself else found.without_itself()


@dataclass(frozen=True, eq=False)
class Forecast:
    """What somebody says of all candidates for all targets, [targets, candidates] each; NaN: it cannot say.

    Of `score` more is better. `points`: scores are expected differences in points, so that doing nothing, which is 0,
    has its place among them; otherwise they only say an order, and a source is always chosen. `sd` is how far the true
    difference may be from the score. `chance` is the probability that the difference is positive, where it is said.
    """

    name: str
    score: Array
    points: bool = False
    sd: Array | None = None
    chance: Array | None = None


Belief = tuple[Array, Array | None, Array | None]
"""Score, sd and chance [candidates] of one target."""


def held_out(name: str, truth: Truth, believe: Callable[[Truth, str], Belief], points: bool = True) -> Forecast:
    """The forecast of somebody who learns from results: `believe(truth without the target, target)`, for each target.

    What is believed of a target cannot depend on its results: they are not handed over.
    """
    found: list[Belief] = [believe(truth.without(target), target) for target in truth.targets]
    score, sd, chance = (_stacked([one[part] for one in found]) for part in range(3))
    assert score is not None
    return Forecast(name, score, points, sd, chance)


def _stacked(rows: Sequence[Array | None]) -> Array | None:
    known = [row for row in rows if row is not None]
    return np.stack(known) if known and len(known) == len(rows) else None
