"""Paired: every comparison of one strategy with another, paired by seed and, where predictions are kept, by example.

`transfer` and `contrast` are two ways to group these comparisons into families, which `judge` judges.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from layover.errors import ObservationsError, Problem, did_you_mean
from layover.metrics import METRICS, Array, Metric
from layover.predictions import Predictions
from layover.stats.align import align
from layover.stats.interval import Basis, Effect, Noise, Paired, effect
from layover.stats.table import is_degenerate, labelled

if TYPE_CHECKING:
    from pandas import DataFrame

Lookup = Callable[[str], Predictions | None]
Correction = Literal["holm", "bh", "none"]
Verdict = Literal["helps", "hurts", "within noise", "collapse", "missing", "untested"]


@dataclass(frozen=True)
class Run:
    """One observation of one arm: `value` in points, None where the run failed or is missing."""

    value: float | None
    status: str
    key: str


@dataclass(frozen=True)
class Pair:
    """The runs of one seed: the strategy's and the baseline's, either None where the table has no row for it."""

    seed: int
    run: Run | None
    baseline: Run | None

    @property
    def delta(self) -> float | None:
        """The difference in points; None unless both runs have a value."""
        if self.run is None or self.baseline is None or self.run.value is None or self.baseline.value is None:
            return None
        return self.run.value - self.baseline.value

    @property
    def degenerate(self) -> bool:
        """Whether either run collapsed."""
        return collapsed(self.run) or collapsed(self.baseline)


def collapsed(run: Run | None) -> bool:
    """Whether there is a run and it collapsed."""
    return run is not None and is_degenerate(run.status)


@dataclass(frozen=True)
class Cell:
    """The verdict on one source and target: an effect in points, its 95 % interval, and the runs behind it.

    `n` is the number of seeds with a value in both arms, `degenerate` how many of these have a collapsed run in
    either arm, and `degenerate_runs` and `degenerate_baselines` how many in each. `p_adjusted` is corrected over the
    cell's family. `basis` says what the interval could see, `noise` what it saw.
    """

    encoder: str
    strategy: str
    source: str
    target: str
    role: str
    metric: str
    delta: float | None
    low: float | None
    high: float | None
    p: float | None
    p_adjusted: float | None
    n: int
    degenerate: int
    verdict: Verdict
    basis: Basis
    pairs: tuple[Pair, ...]
    noise: Noise | None = None

    @property
    def values(self) -> dict[int, float | None]:
        """The strategy's value of each seed."""
        return {pair.seed: pair.run.value if pair.run else None for pair in self.pairs}

    @property
    def baseline_values(self) -> dict[int, float | None]:
        """The baseline's value of each seed."""
        return {pair.seed: pair.baseline.value if pair.baseline else None for pair in self.pairs}

    @property
    def degenerate_runs(self) -> int:
        """How many of the `n` seeds have a collapsed run of the strategy."""
        return sum(pair.delta is not None and collapsed(pair.run) for pair in self.pairs)

    @property
    def degenerate_baselines(self) -> int:
        """How many of the `n` seeds have a collapsed run of the baseline: its low score looks like a gain."""
        return sum(pair.delta is not None and collapsed(pair.baseline) for pair in self.pairs)

    @property
    def keys(self) -> tuple[str, ...]:
        """The step keys of all runs behind the cell."""
        runs = (run for pair in self.pairs for run in (pair.run, pair.baseline))
        return tuple(run.key for run in runs if run is not None and run.key)


@dataclass(frozen=True, eq=False)
class Comparison:
    """One source and target before correction: the pairs, and what each row adds to their differences [rows, seeds]."""

    encoder: str
    strategy: str
    source: str
    target: str
    role: str
    metric: str
    pairs: tuple[Pair, ...]
    influences: Array | None

    @property
    def complete(self) -> tuple[Pair, ...]:
        """Pairs with a value in both arms."""
        return tuple(pair for pair in self.pairs if pair.delta is not None)

    @property
    def deltas(self) -> Array:
        """Differences [seeds] in points."""
        return np.array([pair.delta for pair in self.complete], dtype=float)

    @property
    def paired(self) -> Paired:
        """The differences by seed and by row."""
        return Paired(tuple(pair.seed for pair in self.complete), self.deltas, self.influences)

    @property
    def basis(self) -> Basis:
        """What the interval can see vary."""
        if len(self.complete) > 1:
            return "seeds" if self.influences is None else "seeds and examples"
        return "none" if self.influences is None else "examples"

    def effect(self) -> Effect:
        """The mean difference and its interval."""
        if not self.complete:
            return Effect(None, None, None, None, "none")
        return effect(float(self.deltas.mean()), [self.paired], self.basis)


def select(frame: DataFrame, metric: str | None = None, without_degenerate: bool = False) -> DataFrame:
    """The rows that conclusions are drawn from: one metric, the validation split, each arm at its full sizes.

    Scores of source tasks themselves are no targets and go, and so do measures of forgetting. Raises ObservationsError
    for an unknown metric.
    """
    names = set(frame["metric"])
    if metric is not None and metric not in names:
        hint = did_you_mean(metric, names - {""})
        raise ObservationsError(Problem("metric", f"no row has metric {metric!r}", hint))
    if metric in METRICS and METRICS[metric].lower_is_better:
        hint = "choose another metric of these tasks, of which more is better"
        raise ObservationsError(Problem("metric", f"{metric!r} is a loss: what raises it would be said to help", hint))
    keep = frame["primary"] if metric is None else frame["metric"] == metric
    keep &= frame["role"].isin(["target", "probing"])
    if "validation" in set(frame["split"]):
        keep &= frame["split"].isin(["validation", ""])
    if without_degenerate:
        keep &= ~frame["status"].map(is_degenerate).astype(bool)
    frame = labelled(frame.loc[keep])
    for size in ("size", "source_size"):
        full = frame.groupby(["encoder", "strategy", "source", "target"])[size].transform("max")
        frame = frame.loc[(frame[size] == full) | frame["value"].isna()]
    return frame


Runs = dict[tuple[str, str, str, str], dict[int, dict[str, Any]]]
"""By encoder, strategy, target and source: the row of each seed."""


def index(frame: DataFrame) -> Runs:
    """The rows of the table by what they are compared on."""
    runs: Runs = defaultdict(dict)
    for row in frame.sort_values("value", na_position="first", kind="stable").to_dict("records"):
        runs[row["encoder"], row["strategy"], row["target"], row["source"]][row["seed"]] = row
    return dict(sorted(runs.items()))


def compare(
    frame: DataFrame,
    of: Sequence[str],
    against: str,
    predictions: Lookup | None = None,
) -> list[Comparison]:
    """Every strategy in `of` against another, for each encoder, source and target of the selected rows.

    The baseline of a source is the other strategy's run through the same source, and its run without a source
    (as in direct) otherwise. Where only the baseline has sources, each of them is compared with.
    """
    runs = index(frame)
    found = []
    for (encoder, strategy, target, source), first in runs.items():
        if strategy not in of or strategy == against:
            continue
        sources = [key[3] for key in runs if key[:3] == (encoder, against, target)]
        matched = [name for name in (source, "") if name in sources][:1]
        for other in matched or (sources if not source else [""]):
            second = runs.get((encoder, against, target, other), {})
            named = (encoder, strategy, source or other, target)
            found.append(_comparison(named, first, second, predictions))
    return found


def _comparison(
    named: tuple[str, str, str, str],
    first: dict[int, dict[str, Any]],
    second: dict[int, dict[str, Any]],
    predictions: Lookup | None,
) -> Comparison:
    encoder, strategy, source, target = named
    pairs = tuple(Pair(seed, _run(first.get(seed)), _run(second.get(seed))) for seed in sorted({*first, *second}))
    row = next(iter(first.values()))
    influences = _influences(pairs, METRICS.get(row["metric"]), predictions)
    return Comparison(encoder, strategy, source, target, row["role"], row["metric"], pairs, influences)


def _run(row: dict[str, Any] | None) -> Run | None:
    if row is None:
        return None
    value = float(row["value"])
    return Run(None if math.isnan(value) else value, row["status"], row["key"])


def _influences(pairs: tuple[Pair, ...], measure: Metric | None, predictions: Lookup | None) -> Array | None:
    complete = [pair for pair in pairs if pair.delta is not None]
    if predictions is None or measure is None or not complete:
        return None
    arms = [pair.run for pair in complete] + [pair.baseline for pair in complete]
    found = align([predictions(run.key) if run and run.key else None for run in arms], measure)
    return None if found is None else found[:, : len(complete)] - found[:, len(complete) :]
