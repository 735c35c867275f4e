"""Halving: the best source by real runs on growing budgets, of which each drops half (Jamieson & Talwalkar 2016).

Here is what is decided; `select.search` runs it.
Each rung has the same part of the budget, so what is left for each source about doubles from rung to rung: first in
rows of source and target, and once all are read, in seeds. Rungs are the seeds and rows of a study like any other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from layover.stats.interval import LEVEL, Basis, Effect, Paired, effect

LEAST = 1e-3
SHARES = [LEAST ** (step / 200) for step in range(201)]  # of rows, from all of them down

Why = Literal["failed", "beaten beyond noise", "outside the best half"]


@dataclass(frozen=True)
class Rung:
    """What the remaining sources are tried with: this share of the rows of source and target, and so many seeds."""

    number: int
    sources: tuple[str, ...]
    share: float
    seeds: int


@dataclass(frozen=True)
class Decision:
    """The sources that go on, best first, and why the others do not. No source at all: train directly."""

    kept: tuple[str, ...]
    dropped: Mapping[str, Why]


@dataclass(frozen=True)
class Standing:
    """How far a source came: the last rung it was in, what it added there, and why it went, "" if it did not.

    The effect is the difference to training directly, in points, with its 95 % interval; None where its run failed.
    """

    source: str
    rung: int
    effect: Effect | None
    dropped: Why | Literal[""]


@dataclass(frozen=True)
class Halved:
    """How a search ended: the best source, "" for training directly; all sources, best first; and what it cost.

    `spent` and `full` are training examples: of the search, and of all sources with all rows and seeds.
    """

    best: str
    standings: tuple[Standing, ...]
    rungs: tuple[tuple[Rung, Decision], ...]
    spent: float
    full: float

    @property
    def share(self) -> float:
        """The share of the full matrix's training examples that the search took."""
        return self.spent / self.full

    def to_json(self) -> dict[str, Any]:
        """The search as plain data."""
        rungs = [{**asdict(rung), "kept": list(one.kept), "dropped": dict(one.dropped)} for rung, one in self.rungs]
        return {**asdict(self), "rungs": rungs, "share": self.share}


Cost = Callable[[Sequence[str], float], float]
"""Training examples of one seed of these sources, and of training directly, at this share of all rows."""
Measured = Mapping[str, Paired | None]
"""The differences of each source to training directly, by seed; None where there is no value."""
Measure = Callable[[Rung], tuple[Measured, float]]
"""Runs a rung: what it found, and the training examples that it took which no rung before had."""


def decide(measured: Measured) -> Decision:
    """Which sources go on: the better half, rounded up, less those that something beats beyond noise.

    Training directly never goes, and beats too. How far seeds differ is not known of one seed, so then nothing is
    beyond noise. Of equals the first by name is the better.
    """
    dropped: dict[str, Why] = {name: "failed" for name, one in measured.items() if one is None}
    known = {name: one for name, one in measured.items() if one is not None}
    order = sorted(known, key=lambda name: (-_mean(known[name]), name))
    half = order[: math.ceil(len(order) / 2)]
    kept = [name for name in half if not _beaten(known[name], known[order[0]])]
    dropped |= dict.fromkeys(order[len(half) :], "outside the best half")
    dropped |= dict.fromkeys([name for name in half if name not in kept], "beaten beyond noise")
    return Decision(tuple(kept), dropped)


def next_rung(number: int, sources: Sequence[str], cost: Cost, seeds: int, budget: float) -> Rung:
    """The rung that comes next, each of the rungs to come having the same part of the remaining budget.

    As many seeds of all rows as that affords, else one seed of the largest share of rows that it affords, or `LEAST`.
    """
    each = budget / max(1, math.ceil(math.log2(len(sources))))
    whole = math.floor(each / cost(sources, 1.0))
    if whole >= 1:
        return Rung(number, tuple(sources), 1.0, min(seeds, whole))
    # fewer rows may be read more often, so that more of them can cost less: every share is looked at
    share = next((share for share in SHARES if cost(sources, share) <= each), LEAST)
    return Rung(number, tuple(sources), share, 1)


def halve(sources: Sequence[str], cost: Cost, seeds: int, budget: float, measure: Measure) -> Halved:
    """Search among sources within `budget` training examples, as far as `measure` keeps to it.

    Ends with one source, or none that is better than training directly. `seeds` is how many the full matrix has.
    """
    full, spent, standings = seeds * cost(sources, 1.0), 0.0, dict[str, Standing]()
    kept, rungs = tuple(sorted(sources)), list[tuple[Rung, Decision]]()
    while kept and (len(kept) > 1 or not rungs):
        rung = next_rung(len(rungs) + 1, kept, cost, seeds, budget - spent)
        measured, took = measure(rung)
        decision, spent = decide(measured), spent + took
        rungs.append((rung, decision))
        for name, one in measured.items():
            found = effect_of(one) if one is not None else None
            standings[name] = Standing(name, rung.number, found, decision.dropped.get(name, ""))
        kept = decision.kept
    ordered = sorted(standings.values(), key=_place)
    first = ordered[0] if ordered else None
    won = first is not None and not first.dropped and first.effect is not None and (first.effect.delta or 0) > 0
    return Halved(first.source if first and won else "", tuple(ordered), tuple(rungs), spent, full)


def effect_of(one: Paired) -> Effect:
    """The mean difference with its interval, from what there is: seeds, examples or both."""
    basis: Basis = "examples" if len(one.seeds) == 1 else "seeds and examples"
    if one.influences is None:
        basis = "none" if len(one.seeds) == 1 else "seeds"
    return effect(_mean(one), [one], basis)


def _mean(one: Paired) -> float:
    return float(np.mean(one.deltas))


def _place(standing: Standing) -> tuple[bool, int, float, str]:
    """Those that went last come first, then those that added most."""
    delta = standing.effect.delta if standing.effect else None
    return bool(standing.dropped), -standing.rung, -math.inf if delta is None else -delta, standing.source


def _beaten(one: Paired, best: Paired) -> bool:
    """Whether the best, or training directly, is better beyond noise, as far as seeds tell."""
    against = Paired(best.seeds, np.zeros(len(best.seeds)), None)
    return any(_below(one, other) for other in (best, against) if other is not one)


def _below(one: Paired, other: Paired) -> bool:
    """Whether the mean difference over common seeds is negative at the 5 % level."""
    found = apart(one, other)
    return bool(found and found.delta is not None and found.delta < 0 and found.p is not None and found.p < LEVEL)


def apart(one: Paired, other: Paired) -> Effect | None:
    """How much more a source added than another one over their common seeds; None where these are fewer than two."""
    common = tuple(seed for seed in one.seeds if seed in other.seeds)
    if len(common) < 2:
        return None
    mine, theirs = ([found.seeds.index(seed) for seed in common] for found in (one, other))
    rows = None
    if one.influences is not None and other.influences is not None and len(one.influences) == len(other.influences):
        rows = one.influences[:, mine] - other.influences[:, theirs]
    return effect_of(Paired(common, one.deltas[mine] - other.deltas[theirs], rows))
