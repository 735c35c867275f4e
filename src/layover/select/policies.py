"""Policies: what can be done for a target without looking at it, which anything that is worth its cost has to beat."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np

from layover.metrics import Array
from layover.select.candidate import Candidate
from layover.select.formats import TaskFacts, match_scores, size_rule_scores, size_scores
from layover.select.truth import Belief, Forecast, Truth, held_out


def policies(truth: Truth, tasks: Mapping[str, TaskFacts]) -> list[Forecast]:
    """Every policy below, for all targets. `tasks` are the facts of the tasks that are known."""
    return [
        static(truth),
        no_transfer(truth),
        random_source(truth),
        _of_tasks("size rule", truth, lambda target, among: size_rule_scores(target, among, tasks)),
        _of_tasks("largest source", truth, lambda _, among: size_scores(among, tasks)),
        _of_tasks("same format", truth, lambda target, among: match_scores(target, among, tasks)),
    ]


def static(truth: Truth) -> Forecast:
    """The same ranking for everyone: by the mean over the OTHER targets, doing nothing included.

    How far a target may be from it is the spread over these, with the error of their mean; of a source that no two
    others have tried nothing is known of that.
    """
    return held_out("same best source", truth, _means)


def no_transfer(truth: Truth) -> Forecast:
    """Train directly."""
    return Forecast("no transfer", np.full(truth.delta.shape, -1.0), points=True)


def random_source(truth: Truth) -> Forecast:
    """Any source; its chance is the share of the other targets' differences that are positive."""
    return held_out("random source", truth, _nothing_of_sources, points=False)


def always(truth: Truth, among: Collection[Candidate], name: str) -> Forecast:
    """One of these for every target, all of them where there are as many tries. Chosen with hindsight, a benchmark."""
    row = [1.0 if one in among else math.nan for one in truth.candidates]
    return Forecast(name, np.array([row] * len(truth.targets)))


def _of_tasks(name: str, truth: Truth, scores: Callable[[str, Sequence[Candidate]], list[float]]) -> Forecast:
    """An order that is said by what tasks are, and by no result."""
    return Forecast(name, np.array([scores(target, truth.candidates) for target in truth.targets], float))


def _means(others: Truth, _: str) -> Belief:
    known = ~np.isnan(others.delta)
    count = known.sum(0)
    safe = np.maximum(count, 1)
    mean = np.where(count > 0, np.nansum(others.delta, axis=0) / safe, math.nan)
    around: Array = np.where(known, others.delta - mean, 0.0)
    variance = (around**2).sum(0) / np.maximum(count - 1, 1)
    return mean, np.where(count > 1, np.sqrt(variance * (1 + 1 / safe)), math.nan), None


def _nothing_of_sources(others: Truth, _: str) -> Belief:
    seen = others.delta[~np.isnan(others.delta)]
    share = float(((np.sign(seen) + 1) / 2).mean()) if seen.size else math.nan
    size = len(others.candidates)
    return np.zeros(size), None, np.full(size, share)
