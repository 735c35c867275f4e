"""Recommend: which stop, if any, for a target: candidates in order, how sure that is, and why.

Doing nothing is a candidate like any other. A stop is recommended where it is expected to add more than it is worth;
how sure that is stands beside it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from layover.select import reasons
from layover.select.candidate import DIRECT, Candidate
from layover.select.checked import Checked, checked
from layover.select.confirm import Cost
from layover.select.knowledge import Expected
from layover.select.learnt import Learnt, of_target
from layover.select.observed import Observed, of_store
from layover.select.question import Question, Untrained, choices, untrained
from layover.select.target import target_of
from layover.select.vectors import Tell

SURE = 0.95

Advice = Literal["stop", "direct"]


@dataclass(frozen=True)
class Option:
    """A candidate, what it is expected to add, and why.

    `scores` are those of estimators, of no common scale; `measured` is what it was measured to add to this very target.
    """

    expected: Expected
    reason: str
    scores: dict[str, float] = field(default_factory=dict)
    measured: Observed | None = None

    @property
    def candidate(self) -> Candidate:
        """The source and strategy, or doing nothing."""
        return self.expected.candidate


@dataclass(frozen=True)
class Recommendation:
    """The answer: `options` best first, doing nothing among them, and the sources that are `excluded`, with the reason.

    `silent` says of estimators that say nothing why; `notes` are what a reader has to know. `confirm` is what a study
    of the best stops would cost, None where it was not asked for.
    """

    target: str
    encoder: str
    worth: float
    options: tuple[Option, ...]
    excluded: dict[str, str]
    silent: dict[str, str]
    notes: tuple[str, ...]
    confirm: Cost | None = None

    @property
    def best(self) -> Option:
        """The candidate that is recommended: the first stop that is worth it, or doing nothing."""
        first = self.options[0]
        if first.candidate != DIRECT and first.expected.mean > self.worth:
            return first
        return next(one for one in self.options if one.candidate == DIRECT)

    @property
    def advice(self) -> Advice:
        """Whether to make a stop at all."""
        return "direct" if self.best.candidate == DIRECT else "stop"

    @property
    def stops(self) -> tuple[Option, ...]:
        """The candidates but doing nothing, best first."""
        return tuple(one for one in self.options if one.candidate != DIRECT)

    @property
    def answer(self) -> str:
        """The answer in words."""
        first = self.stops[0].expected if self.stops else None
        return reasons.answer(self.target, self.advice == "stop", first, self.worth, SURE)

    def to_json(self) -> dict[str, Any]:
        """The recommendation as plain data; what is not known is None."""
        options = [
            {"source": one.candidate.source, "strategy": one.candidate.strategy, "gain": _known(one.expected.mean),
             "sd": _known(one.expected.sd), "low": _known(one.expected.low), "high": _known(one.expected.high),
             "chance": _known(one.expected.chance), "scores": one.scores, "reason": one.reason,
             "measured": None if one.measured is None else
             {"gain": one.measured.delta, "error": _known(one.measured.error), "study": one.measured.study}}
            for one in self.options
        ]  # fmt: skip
        return {
            "target": self.target, "encoder": self.encoder, "worth": self.worth, "advice": self.advice,
            "source": self.best.candidate.source, "strategy": self.best.candidate.strategy, "answer": self.answer,
            "options": options, "excluded": self.excluded, "silent": self.silent, "notes": list(self.notes),
            "confirm": asdict(self.confirm) if self.confirm else None,
        }  # fmt: skip


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def recommend(asked: Question, tell: Tell = lambda *_: None) -> Recommendation:
    """Rank the stops for a target, from what is known before any run for it.

    Raises UserError with everything that is wrong with the question: TaskError where no ranking can be made of the
    target's rows, EncoderError where the encoder cannot be loaded.
    """
    target = target_of(
        asked.store, asked.target.task, asked.encoder, data=asked.data,
        files={asked.target.task.name: asked.target.files} if asked.target.files else {},
        reading=asked.reading, labelled=asked.target.labelled, device=asked.device, threads=asked.threads,
    )  # fmt: skip
    seen = of_store(asked.store)
    names, trained = choices(asked, seen)
    found = checked(target, [trained[name] for name in names if name in trained])
    there = untrained(target, [name for name in names if name not in trained], tell)
    excluded = {source.name: found.excluded[source.label] for source in found.leaked} | there.leaked
    left = [name for name in names if name not in excluded]
    candidates = [Candidate(name, strategy) for strategy in asked.strategies for name in left]
    learnt = of_target(found, seen, asked.by, tell)
    options = _options(asked, learnt, [*candidates, DIRECT])
    silent = _silent(asked, found, learnt)
    return Recommendation(target.task.name, asked.encoder.name, asked.worth, options, excluded, silent,
                          (*found.notes, *_unread(asked, found, there), *learnt.notes))  # fmt: skip


def _options(asked: Question, learnt: Learnt, candidates: Sequence[Candidate]) -> tuple[Option, ...]:
    """The candidates with what they are expected to add, best first; of equals what estimators rate higher."""
    target, encoder = asked.target.task.name, asked.encoder.name
    places = learnt.rated.places() if learnt.rated else {}

    def order(one: Option) -> tuple[float, float, str]:
        mean, place = one.expected.mean, places.get(one.candidate.source)
        rated = 0.0 if place is None else float(sum(value for value in place if not math.isnan(value)))
        return (-math.inf if math.isnan(mean) else -round(mean, 6)), -rated, str(one.candidate)

    found = []
    for one in learnt.known.expect(target, candidates, encoder):
        if one.candidate == DIRECT:
            found.append(Option(one, "what every stop is measured against"))
            continue
        option = Option(one, "", learnt.rated.of(one.candidate.source) if learnt.rated else {},
                        learnt.measured(one.candidate, target, encoder))  # fmt: skip
        found.append(replace(option, reason=reasons.why(learnt, one.candidate, target, encoder, option.measured)))
    return tuple(sorted(found, key=order))


def _unread(asked: Question, found: Checked, there: Untrained) -> list[str]:
    """Notes on sources of which less is known than could be."""
    leaked = {source.label for source in found.leaked}
    notes = [f"{label}: {why}" for label, why in found.excluded.items() if label not in leaked]
    if there.lacking:
        notes.append("whether these have rows of the target is not known, since their data is not here: "
                     + ", ".join(there.lacking))  # fmt: skip
    if there.names and asked.by:
        notes.append(f"not trained in this store with {asked.encoder.name}, so that no estimator rates them: "
                     + ", ".join(there.names))  # fmt: skip
    return notes


def _silent(asked: Question, found: Checked, learnt: Learnt) -> dict[str, str]:
    if learnt.rated:
        return dict(learnt.rated.silent)
    why = found.without.get("features") or "no source that is left is trained in this store with this encoder"
    return dict.fromkeys(asked.by, why)
