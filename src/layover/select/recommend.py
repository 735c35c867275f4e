"""Recommend: which stop, if any, for a target: candidates in order, how sure that is, and why.

Doing nothing is a candidate like any other. A stop is recommended where it is expected to add more than it is worth;
how sure that is stands beside it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from layover.encoders import Encoder
from layover.errors import Problem, UserError, did_you_mean, raise_all
from layover.select import leaks, reasons
from layover.select.candidate import DIRECT, Candidate
from layover.select.checked import Checked, checked
from layover.select.confirm import Cost
from layover.select.knowledge import Expected
from layover.select.learnt import Learnt, of_target
from layover.select.named import Named
from layover.select.observed import Observed, of_figure2, of_store
from layover.select.sources import Source, sources_in
from layover.select.target import Reading, Target, target_of
from layover.select.vectors import Tell
from layover.store import Store
from layover.strategies import STRATEGIES
from layover.tasks import TASKS
from layover.tasks.load import locate
from layover.train.cache import located

BY: tuple[str, ...] = ()
SURE = 0.95

Advice = Literal["stop", "direct"]


@dataclass(frozen=True)
class Question:
    """What is asked: a target, the encoder, and the sources and strategies to choose among.

    Without `sources`, all that the store has trained with this encoder or has results of, or else those of the
    published matrix. `by` are estimators, `worth` the points that a stop has to add to be worth its trouble.
    """

    store: Store
    target: Named
    encoder: Encoder
    sources: tuple[str, ...] = ()
    strategies: tuple[str, ...] = ("stilts",)
    by: tuple[str, ...] = BY
    worth: float = 0.0
    data: tuple[Path, ...] = ()
    reading: Reading = field(default_factory=Reading)
    device: str = "auto"
    threads: int = 0


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
    seen, trained = of_store(asked.store), _trained(asked, target)
    names = _names(asked, trained, seen)
    found = checked(target, [trained[name] for name in names if name in trained])
    excluded = {label.partition(",")[0]: why for label, why in found.excluded.items()}
    unread, notes = _leaking(target, [name for name in names if name not in trained], bool(asked.by))
    excluded |= unread
    left = [name for name in names if name not in excluded]
    candidates = [Candidate(name, strategy) for strategy in asked.strategies for name in left]
    learnt = of_target(found, seen, asked.by, tell)
    options = _options(asked, learnt, [*candidates, DIRECT])
    silent = _silent(asked, found, learnt)
    return Recommendation(target.task.name, asked.encoder.name, asked.worth, options, excluded, silent,
                          (*found.notes, *notes, *learnt.notes))  # fmt: skip


def _trained(asked: Question, target: Target) -> dict[str, Source]:
    """One training of each source by its task: of most rows, and of those with the smallest seed."""
    wanted = [one for one in sources_in(asked.store) if one.step.encoder == asked.encoder.identity]
    wanted.sort(key=lambda one: (-(one.step.task.limit_train or math.inf), one.step.seed, one.key))
    found: dict[str, Source] = {}
    for one in wanted:
        if one.name != target.task.name and (not asked.sources or one.name in asked.sources):
            found.setdefault(one.name, one)
    return found


def _names(asked: Question, trained: dict[str, Source], seen: Sequence[Observed]) -> list[str]:
    """The sources to choose among; raises UserError for names that are none, and for strategies without sources."""
    target = asked.target.task.name
    problems = [
        Problem("--sources", f"there is no task called {name!r}", did_you_mean(name, [*TASKS.names(), *trained]))
        for name in asked.sources
        if name not in TASKS and name not in trained
    ]
    kinds = [kind for kind in STRATEGIES.names() if _by_source(kind)]
    problems += [
        Problem("--strategies", f"{kind!r} is no strategy that uses one source at a time", did_you_mean(kind, kinds))
        for kind in asked.strategies
        if kind not in kinds
    ]
    raise_all(UserError, problems)
    known = {*trained, *(one.source for one in seen if one.encoder == asked.encoder.name)}
    given = asked.sources or sorted(known or {one.source for one in of_figure2()})
    found = [name for name in dict.fromkeys(given) if name != target]
    if not found:
        raise UserError(Problem("--sources", f"names nothing but the target, {target}", "name other tasks"))
    return found


def _by_source(kind: str) -> bool:
    """Whether a strategy of this kind has a result for each source."""
    try:
        columns = STRATEGIES.get(kind)(sources=("one", "other")).columns(None)  # type: ignore[call-arg]
    except (TypeError, UserError):  # it takes no sources, or needs more to be said
        return False
    return [column.source for column in columns] == ["one", "other"]


def _leaking(target: Target, names: Sequence[str], rated: bool) -> tuple[dict[str, str], list[str]]:
    """Of sources that are not trained yet, those that have the target's rows, and notes."""
    excluded, notes, lost = {}, [], []
    for name in names:
        try:
            task = TASKS.get(name)
            data = located(target.store, task, locate(task, target.places.data), limit_train=None,
                           limit_validation=None, selection=None, holdout=0.1)  # fmt: skip
        except UserError:
            lost.append(name)
            continue
        if (leak := leaks.among(target, data)).leaked:
            excluded[name] = f"it has the target's own rows: {leak}"
    if lost:
        notes.append(f"whether these have rows of the target is not known, since their data is not here: {_list(lost)}")
    if names and rated:
        notes.append(f"not trained in this store with {target.encoder.name}, so that no estimator rates them: "
                     f"{_list(names)}")  # fmt: skip
    return excluded, notes


def _list(names: Sequence[str]) -> str:
    return ", ".join(names)


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


def _silent(asked: Question, found: Checked, learnt: Learnt) -> dict[str, str]:
    if learnt.rated:
        return dict(learnt.rated.silent)
    why = found.without.get("features") or "no source that is left is trained in this store with this encoder"
    return dict.fromkeys(asked.by, why)
