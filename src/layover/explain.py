"""Explain: for every step of a plan what would happen and why, and what sets a step apart from its nearest relative."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from layover.claims import alive, read_claim
from layover.execute import needed
from layover.plan import Plan
from layover.provenance import provenance_now
from layover.step import to_json
from layover.store import Store

Action = Literal["run", "reuse", "running", "failed", "blocked"]


@dataclass(frozen=True)
class Decision:
    """What would happen to one step, and why. `progress` is set while another worker is at it."""

    key: str
    label: str
    kind: str
    action: Action
    reason: str
    progress: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Difference:
    """One field in which a step differs from another."""

    path: str
    other: Any
    this: Any


def decide(plan: Plan, store: Store) -> list[Decision]:
    """One decision per step, in the plan's order."""
    todo = set(needed(plan, store))
    waiting = Counter(parent for key, step in plan.steps.items() if key in todo for parent in step.parents)
    decisions: dict[str, Decision] = {}
    for key, step in plan.steps.items():
        action, reason, progress = _decide(store, key, todo, waiting[key])
        stuck = [p for p in step.parents if p in decisions and decisions[p].action in ("failed", "blocked")]
        if action == "run" and stuck:
            action, reason = "blocked", f"stands on: {plan.labels[stuck[0]]}"
        if action == "run" and (lost := plan.lacks(step)):
            action, reason = "blocked", f"not found here: {', '.join(lost)}"
        decisions[key] = Decision(key, plan.labels[key], step.kind, action, reason, progress)
    return list(decisions.values())


def to_do(decisions: Iterable[Decision]) -> list[str]:
    """The keys of the steps that are not finished."""
    return [decision.key for decision in decisions if decision.action != "reuse"]


def _decide(store: Store, key: str, todo: set[str], waiting: int) -> tuple[Action, str, Mapping[str, Any] | None]:
    if key not in todo:
        return "reuse", "finished", None
    claim = read_claim(store.claim(key))
    if claim is not None and alive(claim):
        return "running", f"on {claim['host']}, process {claim['pid']}", claim["progress"]
    if store.finished(key):
        return "run", "finished, but its weights were dropped and a later step starts from them", None
    if error := store.failure(key):
        return "failed", error, None
    wait = f"; {waiting} step{'s wait' if waiting > 1 else ' waits'} for it" if waiting else ""
    resumed = store.resume_folder(key).is_dir()
    return "run", ("goes on from its checkpoint" if resumed else "first time") + wait, None


def nearest(plan: Plan, store: Store, key: str) -> tuple[str, list[Difference]] | None:
    """The finished step of the same kind that differs from a planned one in the fewest fields, and those fields."""
    mine = dict(_leaves(to_json(plan.steps[key])))
    best: tuple[str, list[Difference]] | None = None
    for other in store.finished_keys():
        if other == key:
            continue
        content = store.read(other, "step.json")
        if content["kind"] != plan.steps[key].kind:
            continue
        theirs = dict(_leaves(content))
        paths = [path for path in {**mine, **theirs} if mine.get(path) != theirs.get(path)]
        if best is None or len(paths) < len(best[1]):
            best = other, [Difference(path, theirs.get(path), mine.get(path)) for path in paths]
    return best


def drift(store: Store, key: str) -> list[Difference]:
    """What has changed since a finished step ran: library versions and the code that trains. Nothing re-runs for it."""
    then, now = store.read(key, "provenance.json"), provenance_now()
    changes = [
        Difference(f"versions.{name}", then["versions"].get(name), current)
        for name, current in now["versions"].items()
        if then["versions"].get(name) != current
    ]
    if then["source"] != now["source"]:
        changes.append(Difference("source of train/", then["source"], now["source"]))
    return changes


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _leaves(item, f"{path}.{name}" if path else str(name))
    else:
        yield path.removeprefix("step."), value
