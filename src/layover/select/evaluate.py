"""Evaluate: how good forecasts are, target by target, against what was measured.

Doing nothing is a candidate like any other; it adds 0. A forecast in points ranks it where 0 lies, after nothing it
ties with: it costs nothing. What is ranked below doing nothing is not tried. A forecast that only says an order never
does nothing. Where candidates are tied, every number is the exact mean over all orders of them, so that "a random
source" is a forecast that says the same of all. Candidates of which a forecast cannot say anything are tied behind
all others; of which there is no truth for a target are no candidates there; a target without any is left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from layover.metrics import Array
from layover.select.calibration import Calibration, calibration
from layover.select.truth import Forecast, Truth
from layover.stats.spread import Spread, spread_of

Oracle = Literal["all", "sources"]
TRIES = (1, 3)


@dataclass(frozen=True)
class Regret:
    """What is lost to the best candidate by trying `tries` and keeping the best of them; `percent` of its score.

    None where the baseline is not known.
    """

    tries: int
    points: float
    percent: float | None


@dataclass(frozen=True)
class Judged:
    """A forecast for one target.

    `gain` is what the choice adds in points, `best` what the best candidate adds. `ndcg` and `spearman` are about the
    order of the sources alone; None where the truth has no order: NDCG where none helps, rank correlation where there
    are fewer than two sources, or all add the same.
    """

    target: str
    gain: float
    best: float
    regrets: tuple[Regret, ...]
    ndcg: float | None
    spearman: float | None

    def regret(self, tries: int = 1) -> Regret:
        """The regret with so many tries."""
        return next(one for one in self.regrets if one.tries == tries)


@dataclass(frozen=True)
class Evaluation:
    """A forecast over all targets; `left_out` are targets of which there is no truth."""

    name: str
    targets: tuple[Judged, ...]
    left_out: tuple[str, ...]
    calibration: Calibration | None

    def mean(self, of: str, tries: int = 1) -> Spread:
        """The mean over targets with its interval: of "points", "percent" (of regret), "gain", "ndcg" or "spearman"."""
        return spread_of(_number(one, of, tries) for one in self.targets)

    def worst(self, tries: int = 1) -> float:
        """The largest regret of any target, in percent of the best; NaN where no baseline is known."""
        return max((_number(one, "percent", tries) for one in self.targets), default=math.nan)

    def to_json(self) -> dict[str, Any]:
        """The evaluation as plain data, with means over targets."""
        means = {of: asdict(self.mean(of)) for of in ("gain", "ndcg", "spearman")}
        for tries in TRIES:
            means[f"regret@{tries}"] = asdict(self.mean("points", tries))
            means[f"regret@{tries} %"] = asdict(self.mean("percent", tries))
        return {**asdict(self), "mean": means}


@dataclass(frozen=True)
class Versus:
    """How much less regret@1 a forecast has than another, in points, over the targets of both: positive is better.

    `gain` has the 95 % interval of Student's t over targets; `better` and `worse` count targets.
    """

    gain: Spread
    better: int
    worse: int


def evaluate(truth: Truth, forecast: Forecast, tries: Sequence[int] = TRIES, oracle: Oracle = "all") -> Evaluation:
    """Judge a forecast for every target that has a truth.

    Regret is what the best candidate adds less what the choice adds, in points, and in percent of the score that the
    best candidate reaches. With the `oracle` "sources" the best is sought among sources alone, and a choice that is
    better than all of them has no regret: so peers' tables of the matrix of Pruksachatkun et al. 2020 are made.
    """
    judged, left_out = [], []
    for row, target in enumerate(truth.targets):
        known = ~np.isnan(truth.delta[row])
        if not known.any():
            left_out.append(target)
            continue
        values, scores = truth.delta[row, known], forecast.score[row, known]
        judged.append(_judged(target, values, scores, forecast.points, float(truth.baseline[row]), tries, oracle))
    return Evaluation(forecast.name, tuple(judged), tuple(left_out), calibration(truth, forecast))


def versus(one: Evaluation, other: Evaluation) -> Versus:
    """Whether one forecast has less regret@1 than another on the same targets, and how sure that is."""
    theirs = {judged.target: judged.regret().points for judged in other.targets}
    gains = [theirs[mine.target] - mine.regret().points for mine in one.targets if mine.target in theirs]
    return Versus(spread_of(gains), sum(gain > 1e-9 for gain in gains), sum(gain < -1e-9 for gain in gains))


def _number(judged: Judged, of: str, tries: int) -> float:
    found = getattr(judged.regret(tries), of) if of in ("points", "percent") else getattr(judged, of)
    return math.nan if found is None else found


def _judged(
    target: str, values: Array, scores: Array, points: bool, baseline: float, tries: Sequence[int], oracle: Oracle
) -> Judged:
    groups = _groups(values, scores, points)
    best = float(values.max()) if oracle == "sources" else max(0.0, float(values.max()))
    regrets = []
    for count in tries:
        lost = max(0.0, best - _expected_best(groups, count))
        percent = None if math.isnan(baseline) or baseline + best <= 0 else 100 * lost / (baseline + best)
        regrets.append(Regret(count, lost, percent))
    return Judged(target, _expected_best(groups, 1), best, tuple(regrets), _ndcg(values, scores), _rho(values, scores))


def _groups(values: Array, scores: Array, points: bool) -> list[Array]:
    """The values of what would be tried, best first, tied ones together; doing nothing ends the list."""
    ordered = [values[scores == score] for score in sorted(set(scores[~np.isnan(scores)]), reverse=True)
               if not points or score > 0]  # fmt: skip
    if points:
        return [*ordered, np.zeros(1)]
    silent = values[np.isnan(scores)]
    return [*ordered, silent] if len(silent) else ordered


def _expected_best(groups: Sequence[Array], tries: int) -> float:
    """The mean, over all orders of tied values, of the largest of the first `tries`."""
    largest, left = -math.inf, tries
    for group in groups:
        if len(group) > left:
            return _mean_of_largest(np.sort(group), left, largest) if left else largest
        largest, left = max(largest, float(group.max())), left - len(group)
    return largest


def _mean_of_largest(ascending: Array, drawn: int, floor: float) -> float:
    """The mean of the largest of `drawn` values of these, drawn without replacement, none counting less than `floor`.

    The j-th is the largest in C(j - 1, drawn - 1) of C(n, drawn) draws.
    """
    ways = [math.comb(rank, drawn - 1) for rank in range(len(ascending))]
    return math.fsum(way * max(floor, float(value)) for way, value in zip(ways, ascending, strict=True)) / sum(ways)


def _ndcg(values: Array, scores: Array) -> float | None:
    """Normalised discounted cumulative gain of the order of sources: the gain is what helps, max(0, delta) in points.

    Position r counts 1 / log2(r + 1). Tied sources each have the mean of their positions (McSherry & Najork 2008).
    """
    gains, discounts = np.maximum(0.0, values), 1 / np.log2(np.arange(2, len(values) + 2))
    ideal = float(np.sort(gains)[::-1] @ discounts)
    if ideal <= 0:
        return None
    silent_last = np.where(np.isnan(scores), -np.inf, scores)
    order = np.argsort(-silent_last, kind="stable")
    gains, ranked, found = gains[order], silent_last[order], 0.0
    for score in dict.fromkeys(ranked.tolist()):
        tied = ranked == score
        found += float(gains[tied].mean() * discounts[tied].sum())
    return found / ideal


def _rho(values: Array, scores: Array) -> float | None:
    """Spearman's correlation over sources that have a score; 0 where all have the same one, which says nothing."""
    from scipy.stats import spearmanr

    said = ~np.isnan(scores)
    values, scores = values[said], scores[said]
    if len(values) < 2 or np.ptp(values) == 0:
        return None
    found: Any = spearmanr(values, scores) if np.ptp(scores) else None
    return 0.0 if found is None else float(found.statistic)
