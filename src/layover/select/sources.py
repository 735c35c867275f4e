"""Sources: the trainings in a store that a stop could be: one task, from the plain encoder, with the weights kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from layover.catalog import catalog
from layover.errors import Problem, StoreError, did_you_mean, raise_all
from layover.files import read_json
from layover.kinds.common import recipe_of, task_of
from layover.step import Train, key_of
from layover.store import Store
from layover.tasks import Task

if TYPE_CHECKING:
    from layover.train.frozen import Frozen


@dataclass(frozen=True)
class Source:
    """A finished training that a target may start from: its step and the folder of its weights.

    `label` tells it apart from the others of its store that were asked for.
    """

    step: Train
    weights: Path
    label: str

    @property
    def name(self) -> str:
        """The name of its task."""
        return self.step.task.name

    @property
    def key(self) -> str:
        """The key of its step."""
        return key_of(self.step)

    @cached_property
    def task(self) -> Task:
        """Its task, with the labels that its head was trained on."""
        head = read_json(self.weights / "head.json")
        return replace(task_of(self.step.task), labels=tuple(head["labels"]))

    def frozen(self, location: str) -> Frozen:
        """Its encoder, to be read, where the plain one is at `location`."""
        from layover.train.frozen import Frozen

        return Frozen(self.step.encoder, location, self.key, self.weights)

    def pooling(self, store: Store) -> Literal["first", "mean"]:
        """The pooled vector that its head was trained to read."""
        return recipe_of(self.step, store).pooling


def sources_in(store: Store, tasks: Sequence[str] = (), seeds: Iterable[int] = ()) -> tuple[Source, ...]:
    """The sources in a store, of all tasks or of these, of all seeds or of these, by task and seed.

    Raises StoreError where a task that is named has no training in the store, or none whose weights were kept.
    """
    wanted, found = set(seeds), list[Train]()
    for row in catalog(store).to_pylist():
        if row["kind"] != "train" or row["start"] is not None or (wanted and row["seed"] not in wanted):
            continue
        step = store.step(row["key"])
        if isinstance(step, Train) and step.surgery is None:
            found.append(step)
    kept = [step for step in found if store.has_weights(key_of(step)) and (not tasks or step.task.name in tasks)]
    _check_named(store, tasks, found, kept)
    kept.sort(key=lambda step: (step.task.name, step.seed, step.task.limit_train or 0, key_of(step)))
    return tuple(_source(store, step, label) for step, label in zip(kept, _labels(kept), strict=True))


def _check_named(store: Store, tasks: Sequence[str], found: Sequence[Train], kept: Sequence[Train]) -> None:
    trained, there = {step.task.name for step in found}, {step.task.name for step in kept}
    problems = []
    for name in tasks:
        if name not in trained:
            message = f"has no training of task {name!r} from the plain encoder, with these seeds"
            problems.append(Problem(store.place, message, did_you_mean(name, trained) or "run a study that trains it"))
        elif name not in there:
            message = f"task {name!r} was trained, and its weights were not kept"
            problems.append(Problem(store.place, message, "keep them with: layover run STUDY --keep-weights LABEL"))
    raise_all(StoreError, problems)


def _source(store: Store, step: Train, label: str) -> Source:
    weights = store.weights(key_of(step))
    if weights is None:
        hint = "the next run of its study trains it again"
        raise StoreError(Problem(store.place, f"the weights of step {key_of(step)} are gone", hint))
    return Source(step, weights, label)


def _labels(steps: Sequence[Train]) -> list[str]:
    """Task and seed, and how many rows or which step where that tells no two apart."""
    plain = [f"{step.task.name}, seed {step.seed}" for step in steps]
    limits = [step.task.limit_train for step in steps]
    rows = [f"{p}, {n:,} rows" if n else f"{p}, all rows" for p, n in zip(plain, limits, strict=True)]
    keys = [f"{row}, {key_of(step)[:8]}" for row, step in zip(rows, steps, strict=True)]
    by_plain, by_rows = Counter(plain), Counter(rows)
    return [p if by_plain[p] == 1 else r if by_rows[r] == 1 else k for p, r, k in zip(plain, rows, keys, strict=True)]
