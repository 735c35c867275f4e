"""Knowledge: what earlier studies say of a stop, before any run for the target: a mean, and how far the truth may be.

What a source adds to a target is taken as a sum: a general mean, and what the source, the target, the encoder, the
strategy and the pair of tasks add to it, with how alike the tasks are and how large, and with the source's place among
those that estimators rated for the target. Each part is drawn from a normal
distribution of its own, whose variance is learnt from all observations by restricted maximum likelihood: so a source is
pulled to the general mean as far as sources have been found to be alike (Efron & Morris 1975), and a part that explains
nothing goes. Of a source or target that was never seen the part is unknown: it adds its variance and nothing else.
What a single pair is off by is drawn from Student's t: some stops ruin an encoder, and these few shall not decide how
sure everything else is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from layover.select.candidate import DIRECT, Candidate
from layover.select.formats import TaskFacts, catalogue, match, size_rule_scores
from layover.select.mixed import Mixed, fitted
from layover.select.observed import Observed
from layover.select.rated import Rated

if TYPE_CHECKING:
    from layover.metrics import Array
    from layover.select.truth import Truth

MOST = 500  # observations that are learnt from; the work grows with their number cubed


@dataclass(frozen=True)
class Expected:
    """What a candidate is expected to add, in points: the mean, how far the truth may be, and P(it adds anything).

    The truth lies between `low` and `high` with a probability of 95 %.
    """

    candidate: Candidate
    mean: float
    sd: float
    chance: float
    low: float
    high: float


@dataclass(frozen=True)
class Knowledge:
    """Observations to learn from, the facts of the tasks in them, where known, and what estimators said of their pairs.

    All `rated` are by the same estimators.
    """

    observed: tuple[Observed, ...]
    tasks: Mapping[str, TaskFacts]
    rated: tuple[Rated, ...] = ()

    def without(self, target: str) -> Knowledge:
        """The same, knowing no result of this target: whatever encoder, strategy or study it was of."""
        return replace(self, observed=tuple(one for one in self.observed if one.target != target))

    def about(self, *facts: TaskFacts) -> Knowledge:
        """The same, knowing of these tasks too, such as a user's own."""
        return replace(self, tasks={**self.tasks, **{one.name: one for one in facts}})

    def seeing(self, *rated: Rated) -> Knowledge:
        """The same, knowing what estimators said of these targets' sources too."""
        return replace(self, rated=(*self.rated, *rated))

    def expect(self, target: str, candidates: Sequence[Candidate], encoder: str = "") -> list[Expected]:
        """What each candidate is expected to add to the target with an encoder. Doing nothing adds exactly 0.

        `sd` holds what is not known of the source, target and pair, and the noise of measured differences too where
        observations do not say how large that is. A candidate that was tried on this very target with this encoder is
        expected to add what was measured, as far as that can be told from noise. Without any observation the mean is
        NaN: nothing is known.
        """
        asked = [one for one in candidates if one != DIRECT]
        wanted = [Observed(one.source, target, math.nan, strategy=one.strategy, encoder=encoder) for one in asked]
        if not self.observed:
            found = dict.fromkeys(asked, (math.nan,) * 5)
        else:
            mean, sd = self.fit.predict(_levels(wanted), self._features(wanted), self._measured(wanted))
            columns = mean, sd, self.fit.positive(mean, sd), *self.fit.interval(mean, sd)
            found = dict(zip(asked, zip(*columns, strict=True), strict=True))
        sure = (0.0,) * 5
        return [Expected(one, *map(float, found.get(one, sure))) for one in candidates]

    @cached_property
    def _seen(self) -> list[Observed]:
        """The observations that are learnt from."""
        seen = list(self.observed)
        if len(seen) > MOST:
            seen = [seen[i] for i in np.random.default_rng(0).choice(len(seen), MOST, replace=False)]
        return seen

    def _measured(self, wanted: Sequence[Observed]) -> dict[int, int]:
        """The numbers of those that were measured with a known error, and of the surest observation of each."""
        known = [(place, one) for place, one in enumerate(self._seen) if not math.isnan(one.error)]
        found: dict[tuple[str, ...], int] = {}
        for place, one in sorted(known, key=lambda pair: -pair[1].error):
            found[_cell(one)] = place
        return {place: found[_cell(one)] for place, one in enumerate(wanted) if _cell(one) in found}

    @cached_property
    def fit(self) -> Mixed:
        """The model, fitted to the observations: to `MOST` of them, drawn with a fixed seed, where there are more."""
        seen = self._seen
        values = np.array([one.delta for one in seen])
        errors = np.array([one.error for one in seen])
        return fitted(values, errors, _levels(seen), self._features(seen))

    def _features(self, observed: Sequence[Observed]) -> dict[str, Array]:
        """What is known of each observation's pair [n, k]: of the tasks, and of the place that estimators give it."""
        places = {(one.encoder, one.target): one.places() for one in self.rated}
        silent = np.full(len(self.rated[0].estimators) if self.rated else 0, math.nan)
        rated = [places.get((one.encoder, one.target), {}).get(one.source, silent) for one in observed]
        return {"tasks": _of_tasks(observed, self.tasks), "estimators": np.reshape(rated, (len(observed), len(silent)))}

    def believe(self, truth: Truth, target: str, encoder: str = "") -> tuple[Array, Array, Array]:
        """Mean, sd and chance [candidates] for a target of a `truth`, as `truth.held_out` asks: of what others say."""
        found = self.without(target).expect(target, truth.candidates, encoder)
        columns = np.array([(one.mean, one.sd, one.chance) for one in found]).reshape(-1, 3).T
        return columns[0], columns[1], columns[2]


def knowledge(*parts: Iterable[Observed]) -> Knowledge:
    """Knowledge of all these observations and what the catalogue says of their tasks; repeated ones count once."""
    observed = tuple({repr(one): one for part in parts for one in part}.values())  # an unknown error equals no other
    return Knowledge(observed, catalogue(name for one in observed for name in (one.source, one.target)))


def _cell(one: Observed) -> tuple[str, ...]:
    return one.source, one.strategy, one.target, one.encoder


def _levels(observed: Sequence[Observed]) -> dict[str, list[str]]:
    """What each observation is of, by part of the sum."""
    return {
        "source": [one.source for one in observed],
        "target": [one.target for one in observed],
        "encoder": [one.encoder for one in observed],
        "strategy": [one.strategy for one in observed],
        "study": [one.study for one in observed],
        "source and strategy": [f"{one.source}\n{one.strategy}" for one in observed],
        "source and encoder": [f"{one.source}\n{one.encoder}" for one in observed],
        "pair": [f"{one.source}\n{one.target}" for one in observed],
    }


def _of_tasks(observed: Sequence[Observed], tasks: Mapping[str, TaskFacts]) -> Array:
    """What is known of each observation's tasks [n, 4]; NaN where it is not.

    How alike they are, the logarithms of their sizes, and whether the rule of size would use the source so.
    """
    return np.array([_of_pair(one, tasks) for one in observed]).reshape(-1, 4)


def _of_pair(one: Observed, tasks: Mapping[str, TaskFacts]) -> tuple[float, ...]:
    source, target = tasks.get(one.source), tasks.get(one.target)
    alike = math.nan if source is None or target is None else match(source, target)
    sizes = (math.log10(task.size) if task and task.size else math.nan for task in (source, target))
    return alike, *sizes, *size_rule_scores(one.target, [Candidate(one.source, one.strategy)], tasks)
