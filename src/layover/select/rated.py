"""Rated: what estimators say of the sources of one target, and how that becomes something to learn from.

Scores of two estimators or of two targets are of no common scale, so what is learnt from is a source's place among the
others of its target: ranks, evenly from -1 to 1. Nothing is known of a source that an estimator is silent about.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from layover.errors import EvidenceError, Problem
from layover.metrics import Array
from layover.select.checked import NEEDS, Checked, Need
from layover.select.estimator import ESTIMATORS, Estimator, OfFeatures
from layover.select.evidence import evidence
from layover.select.vectors import Tell


@dataclass(frozen=True, eq=False)
class Rated:
    """What estimators say of the sources of a target, read with an encoder: `scores` [estimators, sources].

    Higher is better, NaN where one cannot say. Sources are named by their tasks. `silent` says of the estimators that
    say nothing of any source why.
    """

    target: str
    encoder: str
    sources: tuple[str, ...]
    estimators: tuple[str, ...]
    scores: Array
    silent: Mapping[str, str] = field(default_factory=dict)

    def places(self) -> dict[str, Array]:
        """Each source's place [estimators] among the others, from -1, the worst, to 1, the best; ties share one."""
        found = np.array([_places(row) for row in self.scores]).reshape(len(self.estimators), len(self.sources))
        return dict(zip(self.sources, found.T, strict=True))

    def of(self, source: str) -> dict[str, float]:
        """The scores of a source by estimator, without those that are silent."""
        if source not in self.sources:
            return {}
        column = self.scores[:, self.sources.index(source)]
        return {name: float(score) for name, score in zip(self.estimators, column, strict=True) if not np.isnan(score)}

    def rank(self, estimator: str, source: str) -> tuple[int, int]:
        """How many sources an estimator rates higher than this one, plus 1, and how many it rates."""
        row = self.scores[self.estimators.index(estimator)]
        return 1 + int((row > row[self.sources.index(source)]).sum()), int((~np.isnan(row)).sum())


def _places(row: Array) -> Array:
    from scipy.stats import rankdata

    found, said = np.full(len(row), np.nan), ~np.isnan(row)
    if said.sum() > 1:
        found[said] = (rankdata(row[said]) - 1) / (said.sum() - 1) * 2 - 1
    return found


def estimators_named(names: Sequence[str]) -> tuple[Estimator, ...]:
    """The estimators of these names, `name:layer` for one of features that is to read another layer than the last.

    Raises EvidenceError for a layer of an estimator that reads no layers, and where there is none of a name.
    """
    return tuple(_named(name) for name in names)


def _named(name: str) -> Estimator:
    base, _, layer = name.partition(":")
    found = ESTIMATORS.get(base, "--by")
    if not layer:
        return found
    if not isinstance(found, OfFeatures):
        raise EvidenceError(Problem(f"--by {name}", f"{base} reads no layers", f"say {base}"))
    return replace(found, layer=layer)  # type: ignore[arg-type]  # checked where it is made


def needed(estimators: Sequence[Estimator]) -> list[Need]:
    """The kinds of evidence that these look at."""
    wanted = {one.needs for one in estimators}
    return [need for need in NEEDS if need in wanted]


def rate(found: Checked, names: Sequence[str], tell: Tell = lambda *_: None) -> Rated:
    """What the estimators of these names say of a checked target's sources.

    Raises what `evidence` raises. Those that need what there is not are silent.
    """
    estimators = dict(zip(names, estimators_named(names), strict=True))
    read = evidence(found, needed(list(estimators.values())), tell)
    scores = {name: one.score(read) for name, one in estimators.items()}
    silent = {name: read.lacks(estimators[name]) or f"it is not defined for {read.kind}"
              for name, row in scores.items() if np.isnan(row).all()}  # fmt: skip
    silent |= {name: found.without[one.needs] for name, one in estimators.items() if one.needs in found.without}
    sources = tuple(source.name for source in found.sources)
    table = np.array(list(scores.values())).reshape(len(names), len(sources))
    return Rated(found.target.task.name, found.target.encoder.name, sources, tuple(names), table, silent)
