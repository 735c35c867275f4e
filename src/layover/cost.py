"""Cost: about how long a plan would take, learnt from finished steps of the same store."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from layover.plan import Plan
from layover.step import Joint, Probe, Train
from layover.store import Store

TIMED = (Train.kind, Probe.kind)  # the kinds of steps whose time is learnt and told


@dataclass(frozen=True)
class Estimate:
    """Seconds for the steps that must run, one after the other; `similar` finished steps stand behind it.

    `unknown` counts the steps for which nothing similar has finished yet: they are not in `seconds`.
    """

    seconds: float
    similar: int
    unknown: int


def estimate(plan: Plan, store: Store, todo: Iterable[str]) -> Estimate:
    """The median time of finished steps of a kind with the same encoder, task and rows, else with the same encoder."""
    close: dict[tuple[str, ...], list[float]] = defaultdict(list)
    for key in store.finished_keys():
        content = store.read(key, "step.json")
        if "task" in content["step"] and content["kind"] in TIMED:
            seconds = store.read(key, "provenance.json")["seconds"]
            for place in _places(content["kind"], content["step"]["encoder"], content["step"]["task"]):
                close[place].append(seconds)
    total, unknown = 0.0, 0
    for key in todo:
        step = plan.steps[key]
        unknown += isinstance(step, Joint)  # whose time depends on all its tasks
        if not isinstance(step, Train | Probe):
            continue
        task = {"name": step.task.name, "limit_train": step.task.limit_train}
        found = next((close[p] for p in _places(step.kind, step.encoder, task) if close[p]), None)
        unknown += found is None
        total += statistics.median(found) if found else 0.0
    similar = sum(len(times) for place, times in close.items() if len(place) == 2)
    return Estimate(total, similar, unknown)


def _places(kind: str, encoder: str, task: dict) -> list[tuple[str, ...]]:
    name, limit = task["name"], str(task.get("limit_train"))
    return [(kind, encoder, name, limit), (kind, encoder, name), (kind, encoder)]


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
