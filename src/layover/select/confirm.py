"""Confirm: the ordinary study that would find out whether the best stops pay, and what it costs."""

from __future__ import annotations

import copy
import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from layover.budget import examples_trained
from layover.cost import estimate
from layover.encoders import Encoder
from layover.errors import Problem, StudyError, UserError
from layover.explain import decide, to_do
from layover.select.candidate import DIRECT, Candidate
from layover.select.named import Named
from layover.select.search import UNNAMEABLE, Opened
from layover.step import Joint, Train
from layover.store import Store
from layover.study import Study
from layover.switches import pruned
from layover.tasks.extent import extent

TAKEN = ("recipe", "selection", "holdout", "placement", "task")  # of the study that it is like
SEEDS = (1, 2, 3)


@dataclass(frozen=True)
class Cost:
    """What a study asks for: trainings, those of them that the store lacks, and what these train on.

    `seconds` is about how long they take one after the other, None where the store has nothing similar. `lacking` are
    tasks of which no data is found.
    """

    study: str
    trainings: int
    new: int
    examples: float
    seconds: float | None
    lacking: tuple[str, ...] = ()


def alike(store: Store, encoder: str) -> Study | None:
    """The study of most cells that ran in a store with this encoder: its recipe is the one that results are of."""
    found: list[tuple[int, str, Study]] = []
    for name, record in store.studies().items():
        if encoder in record.study["encoders"]:
            try:
                found.append((record.cells.num_rows, name, Study(**dict(record.study))))
            except UserError:  # a file of its own tasks is no longer there
                continue
    return max(found, key=lambda one: one[:2])[2] if found else None


def confirming(
    target: Named, encoder: Encoder, candidates: Sequence[Candidate], like: Study | None, seeds: Sequence[int] = SEEDS
) -> Study:
    """The study that tries these candidates and training directly, with the recipe of another study.

    Sources have the other's limits, so that what it trained serves here too. The target has its own where it is a
    target there, and else all its rows. Raises StudyError where there is nothing to try, or the target has no labels.
    """
    tried = [one for one in candidates if one != DIRECT]
    if not tried:
        raise StudyError(Problem("--run", "there is no stop left to try", "name more with --sources"))
    if not target.labelled:
        hint = "add a column of labels, or let estimators rank what there is without --run"
        raise StudyError(Problem(f"task {target.task.name!r}", "has no labels, so no run can be judged on it", hint))
    said = like.words() if like else {}
    words = {name: copy.deepcopy(said[name]) for name in TAKEN if name in said}
    kinds = dict.fromkeys(one.strategy for one in tried)
    words |= {
        "name": _name(target.task.name, tried),
        "encoders": [encoder.name],
        "seeds": list(seeds),
        "tasks": {"target": [target.task.name]},
        "strategies": {"direct": {"kind": "direct"}}
        | {kind: {"kind": kind, "sources": [one.source for one in tried if one.strategy == kind]} for kind in kinds},
        "contrast": [{"of": list(kinds), "against": "direct"}],
        "limit": _limits(like, target.task.name, [one.source for one in tried]) if like else {},
    }
    if target.table is not None:
        words["task"] = {**words.get("task", {}), target.task.name: dict(target.table)}
    return Study(**pruned(words, [said] if said else []))


def _limits(like: Study, target: str, sources: Sequence[str]) -> dict[str, Any]:
    """The row limits of another study for these tasks."""
    if target in like.tasks.target:
        return like.words().get("limit", {})
    each = {name: {part: rows for part, rows in like.limit_for(name, "source").items() if rows} for name in sources}
    return {"task": {name: rows for name, rows in each.items() if rows}}


def _name(target: str, tried: Sequence[Candidate]) -> str:
    """Another name for other candidates, so that the store remembers each."""
    digest = hashlib.sha256(json.dumps([str(one) for one in sorted(tried)]).encode()).hexdigest()
    return f"recommend-{UNNAMEABLE.sub('-', target)}-{digest[:6]}"


def cost_of(study: Study, open_study: Callable[[Study], Opened]) -> Cost:
    """What a study costs; `open_study` compiles it, with stand-ins for what is not found."""
    opened = open_study(study)
    plan, store = opened.plan, opened.store
    todo = to_do(decide(plan, store))
    extents = {name: extent(task, plan.sources.get(name)) for name, task in plan.tasks.items()}
    examples = math.fsum(examples_trained(plan.steps[key], extents) for key in todo)
    known = estimate(plan, store, todo)
    new = sum(isinstance(plan.steps[key], Train | Joint) for key in todo)
    seconds = known.seconds if known.similar or not todo else None
    return Cost(study.name, plan.trainings, new, examples, seconds, tuple(plan.lacking.tasks))
