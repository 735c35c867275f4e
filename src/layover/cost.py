"""Cost: about how long steps and a plan would take, learnt from finished steps of the same store."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from layover.catalog import catalog
from layover.plan import Plan
from layover.recipe import Recipe
from layover.schedule import makespan
from layover.step import Choose, Joint, Measure, Member, Merge, Probe, Step, TaskRef, Train
from layover.store import Store

TIMED = (Train.kind, Probe.kind, Joint.kind)  # kinds of steps that take a time for every example that they train on
QUICK = (Choose.kind, Member.kind, Merge.kind)  # kinds that read or copy a few files

LEARNT = ["kind", "task", "tasks", "encoder", "limit_train", "epochs", "examples", "available", "seconds"]

Place = tuple[str, ...]


@dataclass(frozen=True)
class Estimate:
    """Seconds for the steps that must run, one after the other, and with so many `workers` at once.

    `similar` finished steps stand behind it. `unknown` counts the steps for which nothing similar has finished yet:
    they are not in `seconds`, and in `makespan` each counts as the median of the others, if there are any.
    """

    seconds: float
    similar: int
    unknown: int
    workers: int = 1
    makespan: float = 0.0


@dataclass
class Costs:
    """What finished steps took, by how similar a step may be: `alike` in all that is known, or less (`whole`).

    `each` has what they took together, and the examples that they trained on together, every epoch's: small steps,
    most of whose time is not their examples', count for little. `sizes` are the training examples that tasks have, as
    runs have found them.
    """

    alike: dict[Place, list[float]] = field(default_factory=lambda: defaultdict(list))
    whole: dict[Place, list[float]] = field(default_factory=lambda: defaultdict(list))
    each: dict[Place, tuple[float, float]] = field(default_factory=lambda: defaultdict(lambda: (0.0, 0.0)))
    sizes: dict[str, int] = field(default_factory=dict)
    similar: int = 0

    @classmethod
    def learnt(cls, store: Store, keep: bool = True) -> Costs:
        """From every finished step of a store; without `keep` nothing is written to it."""
        costs, columns = cls(), catalog(store, without_damaged=True, keep=keep).select(LEARNT).to_pydict()
        for values in zip(*columns.values(), strict=True):
            costs.learn(dict(zip(LEARNT, values, strict=True)))
        return costs

    def learn(self, step: Mapping[str, Any]) -> None:
        """Take in a finished step, as the catalog has it."""
        kind, seconds = step["kind"], step["seconds"]
        if seconds is None:
            return
        if kind not in TIMED:
            self.whole[kind,].append(seconds)
            return
        self.similar += 1
        named = "+".join(step["tasks"])
        self.alike[_exact(kind, step["encoder"], named, step["limit_train"], step["epochs"])].append(seconds)
        if step["task"] and step["available"]:
            self.sizes[named] = step["available"]
        for place in ((kind, step["encoder"], named), (kind, step["encoder"])):
            self.whole[place].append(seconds)
            if examples := step["examples"]:
                epochs = Recipe(epochs=step["epochs"]).n_epochs(examples)
                took, trained = self.each[place]
                self.each[place] = took + seconds, trained + examples * epochs

    def seconds(self, step: Step) -> float | None:
        """About how long a step takes; None where nothing similar has finished.

        The median of what steps took that are alike; else what one example took on the same task, or else with the
        same encoder, times the examples that the step trains on; else the median of any step with the same encoder.
        """
        if isinstance(step, Choose | Member | Merge | Measure):
            found = self.whole.get((step.kind,))
            return statistics.median(found) if found else (0.0 if step.kind in QUICK else None)
        tasks, recipe = step.tasks, step.recipe
        named = "+".join(task.name for task in tasks)
        exact = _exact(step.kind, step.encoder, named, tasks[0].limit_train, recipe.epochs)
        places = ((step.kind, step.encoder, named), (step.kind, step.encoder))
        if exact in self.alike:
            return statistics.median(self.alike[exact])
        examples = [self._examples(task, recipe) for task in tasks]
        for place in places:
            if place in self.each and all(examples):
                total = sum(count or 0 for count in examples)
                took, trained = self.each[place]
                return took / trained * total * recipe.passes(total)
        return next((statistics.median(self.whole[place]) for place in places if place in self.whole), None)

    def spread(self) -> float:
        """How far steps that are alike lie apart: the standard deviation of the logarithm of their seconds."""
        several = [found for found in self.alike.values() if len(found) > 1 and min(found) > 0]
        freedom = sum(len(found) - 1 for found in several)
        squares = sum(statistics.variance(map(math.log, found)) * (len(found) - 1) for found in several)
        return math.sqrt(squares / freedom) if freedom else 0.0

    def _examples(self, task: TaskRef, recipe: Recipe) -> float | None:
        """How many examples of a task a step trains on, as far as that is known before its data is read."""
        counts = [count for count in (task.limit_train, self.sizes.get(task.name)) if count]
        held = task.holdout if recipe.selects and task.selection == "holdout" else 0.0
        return (1 - held) * min(counts) if counts else None


def _exact(kind: str, encoder: str, task: str, limit: int | None, epochs: int | None) -> Place:
    return kind, encoder, task, str(limit), str(epochs)


def expected(plan: Plan, costs: Costs, todo: Iterable[str]) -> tuple[dict[str, float], set[str]]:
    """About how long each step to do takes, and those of which nothing is known.

    Of those each counts as the median of the steps that train, or as one second where none is known.
    """
    known = {key: costs.seconds(plan.steps[key]) for key in todo}
    trainings = [s for key, s in known.items() if s is not None and plan.steps[key].kind in TIMED]
    usual = statistics.median(trainings) if trainings else 1.0
    times = {key: usual if seconds is None else seconds for key, seconds in known.items()}
    return times, {key for key, seconds in known.items() if seconds is None}


def left(plan: Plan, costs: Costs, shares: Mapping[str, float], workers: int) -> float | None:
    """About how many seconds until steps are done, of each of which this share (0 to 1) is still to do.

    None where nothing is known of any of them.
    """
    times, unknown = expected(plan, costs, shares)
    if len(unknown) == len(shares):
        return None if shares else 0.0
    return makespan(plan, {key: seconds * shares[key] for key, seconds in times.items()}, workers)


def estimate(plan: Plan, store: Store, todo: Iterable[str], workers: int = 1) -> Estimate:
    """About how long the steps in `todo` take, one after the other, and with so many workers at once."""
    costs = Costs.learnt(store)
    times, unknown = expected(plan, costs, todo)
    known = sum(seconds for key, seconds in times.items() if key not in unknown)
    end = makespan(plan, times, workers, costs.spread()) if len(unknown) < len(times) else 0.0
    return Estimate(known, costs.similar, len(unknown), workers, end)


def words(seconds: float) -> str:
    """A duration for people.

    >>> words(75)
    '1 min 15 s'
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
