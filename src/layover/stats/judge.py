"""Judge: p-values corrected over a family of comparisons, and a verdict in one word on each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from layover.errors import ObservationsError, Problem, did_you_mean
from layover.stats.interval import LEVEL, Basis, Effect, effect
from layover.stats.paired import Cell, Comparison, Correction, Verdict


def judge(family: Sequence[Comparison], correct: Correction) -> list[Cell]:
    """The cells of one family of comparisons, with p-values corrected over it."""
    effects = [comparison.effect() for comparison in family]
    adjusted = adjust([one.p for one in effects], correct)
    return [_cell(*found) for found in zip(family, effects, adjusted, strict=True)]


def adjust(p_values: Sequence[float | None], correct: Correction) -> list[float | None]:
    """p-values corrected over their family (Holm 1979, or Benjamini & Hochberg 1995); None stays None."""
    tested = np.array([p for p in p_values if p is not None], float)
    if correct == "none" or not len(tested):
        return list(p_values)
    count, rank = len(tested), np.argsort(np.argsort(tested, kind="stable"))  # from 0, the smallest
    if correct == "holm":
        corrected = np.maximum.accumulate(np.sort(tested) * (count - np.arange(count)))[rank]
    elif correct == "bh":
        steps = np.sort(tested) * count / np.arange(1, count + 1)
        corrected = np.minimum.accumulate(steps[::-1])[::-1][rank]
    else:
        hint = did_you_mean(correct, ["holm", "bh", "none"])
        raise ObservationsError(Problem("correct", f"there is no correction called {correct!r}", hint))
    found = iter(np.minimum(corrected, 1).tolist())
    return [None if p is None else next(found) for p in p_values]


def _cell(comparison: Comparison, found: Effect, adjusted: float | None) -> Cell:
    complete = comparison.complete
    degenerate = sum(pair.degenerate for pair in complete)
    return Cell(
        encoder=comparison.encoder,
        strategy=comparison.strategy,
        source=comparison.source,
        target=comparison.target,
        role=comparison.role,
        metric=comparison.metric,
        delta=found.delta,
        low=found.low,
        high=found.high,
        p=found.p,
        p_adjusted=adjusted,
        n=len(complete),
        degenerate=degenerate,
        verdict=verdict(found.delta, adjusted, collapsed=2 * degenerate > len(complete)),
        basis=found.basis,
        pairs=comparison.pairs,
        noise=found.noise,
    )


def verdict(delta: float | None, p_adjusted: float | None, collapsed: bool = False) -> Verdict:
    """One word for an effect; "untested" where one pair of runs without predictions gives no interval."""
    if delta is None:
        return "missing"
    if collapsed:
        return "collapse"
    if p_adjusted is None:
        return "untested"
    if p_adjusted >= LEVEL:
        return "within noise"
    return "helps" if delta > 0 else "hurts"


def mean_effect(family: Iterable[Comparison]) -> Effect:
    """The mean over tasks of the difference, each task weighing the same.

    Runs of one seed share their intermediate run, so what happens to a seed in all its tasks counts together.
    """
    usable = sorted((one for one in family if one.complete), key=lambda one: one.target)
    if not usable:
        return Effect(None, None, None, None, "none")
    bases = {one.basis for one in usable}
    basis: Basis = "none" if "none" in bases else usable[0].basis if len(bases) == 1 else "seeds"
    return effect(float(np.mean([one.deltas.mean() for one in usable])), [one.paired for one in usable], basis)
