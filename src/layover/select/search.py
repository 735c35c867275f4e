"""Search: the best source for one target by real runs: successive halving, and few-shot fine-tuning of the target.

Each rung is a study of its own in the same store, and so is a few-shot trial.
Nothing is run for the search alone: a rung's steps are what any study with its seeds, limits and sources would ask for.
So a search that was killed goes on where it was, a source that reaches all rows has steps of the full matrix, and
`layover query` finds the cells of a rung under its name.
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from layover.budget import examples_trained
from layover.errors import Problem, StepError, StudyError, did_you_mean, raise_all
from layover.plan import Plan
from layover.select.halving import Halved, Measured, Rung, effect_of, halve
from layover.stats.interval import Effect
from layover.stats.paired import compare, select
from layover.stats.table import check
from layover.step import Joint, Step, TaskRef
from layover.store import Store
from layover.study import Study
from layover.switches import pruned
from layover.tasks.extent import Extent, extent

if TYPE_CHECKING:
    import pandas as pd

BUDGET = 0.25  # of the full matrix
UNNAMEABLE = re.compile(r"[^A-Za-z0-9._-]")  # what tasks' names may have and studies' may not
FLOOR = 64  # rows of a task that a rung has at least, where the task has so many


class Opened(Protocol):
    """A study that is compiled against a store, such as a `Session`."""

    @property
    def plan(self) -> Plan:
        """The study's plan."""
        ...

    @property
    def store(self) -> Store:
        """The store that holds its steps."""
        ...

    def run(self) -> Any:
        """Run what is not finished."""
        ...

    def observations(self) -> pd.DataFrame:
        """The study's observations, missing and failed cells included."""
        ...


def search(
    study: Study, target: str, open_study: Callable[[Study], Opened], strategy: str = "stilts", budget: float = BUDGET
) -> Halved:
    """The best of a strategy's sources for a target, found with `budget` of the full matrix's training examples.

    `open_study` compiles a study against the store, as `Session.open` does. Rungs are called after the study, the
    target and their number. The budget holds for plans whose tasks have enough rows: none is cut below `FLOOR`.
    Raises StudyError where the study does not fit, and StepError where training directly failed: nothing can be
    measured against it then.
    """
    _check(study, target, strategy)
    rungs = Rungs.of(study, target, strategy, open_study)
    found = halve(rungs.sources, rungs.cost, len(study.seeds), budget * rungs.full, rungs.measure)
    return replace(found, full=rungs.full)


@dataclass(frozen=True)
class FewShot:
    """What sources added to a target of which `rows` rows were read, with one seed: the difference to training on these
    directly, in points, with its 95 % interval over validation examples. None where a run failed.

    `spent` are the training examples of the runs on the target. `before` are those of the sources themselves, which a
    store that has them does not train again.
    """

    rows: int
    effects: Mapping[str, Effect | None]
    spent: float
    before: float

    def scores(self) -> dict[str, float]:
        """The differences by source, NaN where there is none: more is better."""
        found = {name: one.delta if one else None for name, one in self.effects.items()}
        return {name: math.nan if delta is None else delta for name, delta in found.items()}


def few_shot(
    study: Study, target: str, open_study: Callable[[Study], Opened], strategy: str = "stilts", rows: int = FLOOR
) -> FewShot:
    """What a strategy's sources add where the target has few rows: few-shot fine-tuning (Poth et al. 2021).

    Sources are trained as the study trains them, so that its own serve; the target on `rows` rows, all with the study's
    first seed. The study of this is called after the target and the rows. It is scored on the study's validation rows.
    Raises what `search` raises.
    """
    _check(study, target, strategy)
    rungs = Rungs.of(study, target, strategy, open_study)
    most = rungs.rows_of(target)
    caps = {target: rows} if rows < most else {}
    rung = Rung(0, tuple(rungs.sources), 1.0, 1)
    made = rung_study(study, target, strategy, rung, caps)
    called = f"{study.name}-{UNNAMEABLE.sub('-', target)}-rows-{min(rows, most)}"
    measured, steps = rungs.run(made.changed(name=called), rung.sources)
    each = {key: examples_trained(step, rungs.extents) for key, step in steps.items()}
    last = math.fsum(each[key] for key, step in steps.items() if [ref.name for ref in step.tasks] == [target])
    effects = {name: None if one is None else effect_of(one) for name, one in measured.items()}
    return FewShot(min(rows, most), effects, last, math.fsum(each.values()) - last)


@dataclass
class Rungs:
    """The rungs of one search: what they cost, and what they find.

    `extents` are those of the study's tasks, `full` the training examples of the full matrix, and `once` the steps of
    its first seed by source, "" for training directly. `seen` are the steps that a rung has asked for.
    """

    study: Study
    target: str
    strategy: str
    open_study: Callable[[Study], Opened]
    extents: Mapping[str, Extent]
    full: float
    once: Mapping[str, Sequence[Step]]
    seen: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, study: Study, target: str, strategy: str, open_study: Callable[[Study], Opened]) -> Rungs:
        """Those of a study, of which the full matrix for this target is compiled, and not run."""
        sources = tuple(name for name in study.strategies[strategy]["sources"] if name != target)
        whole = Rung(0, sources, 1.0, len(study.seeds))
        plan = open_study(rung_study(study, target, strategy, whole, {})).plan
        extents = {name: extent(task, plan.sources.get(name)) for name, task in plan.tasks.items()}
        full = math.fsum(examples_trained(step, extents) for step in plan.steps.values())
        first = [score for score in plan.scores if score.seed == study.seeds[0] and score.role == "target"]
        once = {score.source: _way(plan, score.key) for score in first}
        return cls(study, target, strategy, open_study, extents, full, once)

    @property
    def sources(self) -> list[str]:
        """The sources to choose among."""
        return sorted(filter(None, self.once))

    def cost(self, sources: Sequence[str], share: float) -> float:
        """Training examples of one seed of these sources, and of training directly, at a share of all rows."""
        caps = self._caps(share)
        steps = {id(step): step for name in ("", *sources) for step in self.once[name]}
        return math.fsum(examples_trained(_capped(step, caps), self.extents) for step in steps.values())

    def measure(self, rung: Rung) -> tuple[Measured, float]:
        """Run a rung. Sources of which no seed has a value count as failed."""
        made = rung_study(self.study, self.target, self.strategy, rung, self._caps(rung.share))
        measured, new = self.run(made, rung.sources)
        return measured, math.fsum(examples_trained(step, self.extents) for step in new.values())

    def run(self, made: Study, sources: Sequence[str]) -> tuple[Measured, dict[str, Step]]:
        """Run a study of these sources: what each added, and the steps that were not asked for before, by key."""
        opened = self.open_study(made)
        new = {key: step for key, step in opened.plan.steps.items() if key not in self.seen}
        opened.run()
        self.seen.update(new)
        baseline = opened.plan.baseline() or ""
        frame = select(check(opened.observations()))
        direct = frame[(frame["strategy"] == baseline) & frame["value"].notna()]
        if direct.empty:
            why = "; ".join(sorted(set(frame.loc[frame["strategy"] == baseline, "status"])))
            raise StepError(f"training on {self.target} directly gave nothing to measure sources against: {why}")
        found = {one.source: one for one in compare(frame, [self.strategy], baseline, opened.store.predictions)}
        measured = {name: found[name].paired if name in found and found[name].complete else None for name in sources}
        return measured, new

    def _caps(self, share: float) -> dict[str, int]:
        """The rows that each task has at a share of all, where that is fewer than it has."""
        if share >= 1:
            return {}
        rows = {name: self.rows_of(name) for name in (self.target, *filter(None, self.once))}
        return {name: cap for name, n in rows.items() if (cap := max(FLOOR, round(share * n))) < n}

    def rows_of(self, name: str) -> int:
        """The training rows that the study has of a task."""
        limit = self.study.limit_for(name, "target" if name == self.target else "source")["train"]
        return min(limit or self.extents[name].train, self.extents[name].train)


def rung_study(study: Study, target: str, strategy: str, rung: Rung, caps: Mapping[str, int]) -> Study:
    """The study of a rung: one target, training directly and the rung's sources, with its seeds, and rows `caps`."""
    words = study.words()
    direct = next(name for name, table in study.strategies.items() if table["kind"] == "direct")
    found = copy.deepcopy({name: value for name, value in words.items() if name not in ("switch", "contrast")})
    found.pop("forgetting", None)
    found |= {
        "name": f"{study.name}-{UNNAMEABLE.sub('-', target)}-rung-{rung.number}",
        "seeds": study.seeds[: rung.seeds],
        "tasks": {"target": [target]},
        "strategies": {direct: found["strategies"][direct],
                       strategy: {**found["strategies"][strategy], "sources": list(rung.sources)}},
    }  # fmt: skip
    if "role_seeds" in found:
        found["role_seeds"] = {role: own[: rung.seeds] for role, own in found["role_seeds"].items()}
    found = pruned(found, [words])
    for name, cap in caps.items():
        if name in (target, *rung.sources):
            found.setdefault("limit", {}).setdefault("task", {}).setdefault(name, {})["train"] = cap
    return Study(**found)


def _check(study: Study, target: str, strategy: str) -> None:
    """Everything for which a study is none whose sources can be halved."""
    problems = []
    if len(study.encoders) > 1:
        problems.append(Problem("encoders", "has several, and a search is with one", "name one of them: --encoder"))
    if target not in study.tasks.target:
        hint = did_you_mean(target, study.tasks.target)
        problems.append(Problem("target", f"{target!r} is no target of this study", hint))
    if not any(table["kind"] == "direct" for table in study.strategies.values()):
        problems.append(Problem("strategies", "none is direct, so there is nothing to measure against",
                                'add: direct = { kind = "direct" }'))  # fmt: skip
    table = study.strategies.get(strategy)
    with_sources = [name for name, one in study.strategies.items() if one.get("sources")]
    if table is None or strategy not in with_sources:
        problems.append(
            Problem("strategy", f"{strategy!r} is no strategy with sources", did_you_mean(strategy, with_sources))
        )
    elif not [name for name in table["sources"] if name != target]:
        problems.append(Problem(f"strategies.{strategy}.sources", "has no other task than the target", "name sources"))
    places = [name for name in ("grid", "sizes") if getattr(study, name) is not None]
    places += [
        f"strategies.{strategy}.{word}" for word in ("chains", "sizes", "groups", "rows") if (table or {}).get(word)
    ]
    problems += [
        Problem(place, "gives a source several results, and a search is for one", "take it out") for place in places
    ]
    raise_all(StudyError, problems)


def _way(plan: Plan, key: str) -> list[Step]:
    """A step of a plan and all that it stands on."""
    found, ahead = dict[str, Step](), [key]
    while ahead:
        one = ahead.pop()
        if one not in found:
            found[one] = plan.steps[one]
            ahead += plan.steps[one].parents
    return list(found.values())


def _capped(step: Step, caps: Mapping[str, int]) -> Step:
    """The step with fewer rows of the tasks that have caps."""
    if not step.tasks or not any(ref.name in caps for ref in step.tasks):
        return step
    refs = tuple(_fewer(ref, caps.get(ref.name)) for ref in step.tasks)
    if isinstance(step, Joint):
        return replace(step, tasks=refs)
    return replace(step, task=refs[0]) if hasattr(step, "task") else step  # type: ignore[call-arg]


def _fewer(ref: TaskRef, cap: int | None) -> TaskRef:
    return ref if cap is None else replace(ref, limit_train=min(cap, ref.limit_train or cap))
