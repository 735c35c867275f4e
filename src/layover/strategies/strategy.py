"""Strategy: a pure function from one cell of the study to the chain of steps that reaches the target."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

from layover.recipe import Recipe
from layover.step import Step, Surgery, TaskRef, Train, key_of

TRIED = ("target", "probing", "joint")  # roles whose recipe is that of the trial, where there is a grid


@dataclass(frozen=True)
class Column:
    """One column of a strategy's matrix: its source, "" without one, and its condition, "" where there is one only.

    A condition is for people and for the table of observations, such as "keep 3"; `setting` is what it means to the
    strategy that made it.
    """

    source: str = ""
    condition: str = ""
    setting: Any = None


class Maker(Protocol):
    """What makes steps for a cell: the study's recipes, sweeps, limits and data are behind it."""

    def ref(self, task: str, role: str, seed: int, limit: int | None = None) -> TaskRef:
        """What a step takes from a task in its role; `limit` is a number of training questions, drawn by `seed`."""
        ...

    def same(self, step: Train) -> Train:
        """The very object of this step that was made before, if it was: steps of many cells are compared by it."""
        ...

    def recipe(self, task: str, role: str) -> tuple[Recipe, str | None]:
        """The recipe of a task in its role, and the key of the `Choose` step that completes it, if it is swept."""
        ...

    def add(self, step: Step, label: str, task: str, role: str) -> Step:
        """Take a step into the plan; `task` and `role` are those that its scores count for ("" for none)."""
        ...

    def label(self, key: str) -> str:
        """The label of a step of the plan."""
        ...

    def seed(self, role: str, seed: int) -> int:
        """The seed with which a role's trainings run, in the restart that one of the study's seeds names."""
        ...

    def roles(self) -> Mapping[str, str]:
        """The role of every task of the study, by name: target, probing, or else source."""
        ...


@dataclass(frozen=True)
class Cell:
    """One cell of a study: what a strategy may look at, and what it may do: `train`, and `add` any other step.

    `encoder` is the encoder's identity, `name` its name in the study, and `depth` its number of layers, None where that
    is not known before it is loaded. `limit` is the number of training questions of the target that the cell asks for.
    `trial` says which trial of a grid it is, for labels.
    """

    name: str
    encoder: str
    depth: int | None
    column: Column
    target: str
    role: str
    seed: int
    limit: int | None
    make: Maker
    trial: str = ""

    @property
    def source(self) -> str:
        """The source, "" for a strategy without."""
        return self.column.source

    def ref(self, task: str, role: str, limit: int | None = None) -> TaskRef:
        """What a step of this cell takes from a task; without a `limit`, the study's own."""
        own = self.limit if limit is None and (task, role) == (self.target, self.role) else limit
        return self.make.ref(task, role, self.seed, own)

    def seeded(self, role: str) -> int:
        """The seed of this cell's trainings in a role. Rows of tasks are drawn by the study's seed in all roles."""
        return self.make.seed(role, self.seed)

    def train(
        self, task: str, role: str, start: Step | None = None, *, limit: int | None = None, what: str = "",
        surgery: Surgery | None = None, head: str = "new", recipe: Mapping[str, Any] | None = None,
    ) -> Train:  # fmt: skip
        """A step that trains on `task` in its role ("source", "target", "probing"), from `start` or the plain encoder.

        Optimizer and stopping state never cross a step: every step begins with a fresh one. `what` is said in the
        label; `head`: whether that of `start` goes on being trained; `recipe`: fields that this step has otherwise.
        """
        own, chosen = self.make.recipe(task, role)
        step = Train(
            self.encoder,
            self.ref(task, role, limit),
            dataclasses.replace(own, **recipe) if recipe else own,
            self.seeded(role),
            key_of(start) if start else None,
            chosen,
            surgery,
            head,  # type: ignore[arg-type]
        )
        return self.add(self.make.same(step), task, role, what, start)  # type: ignore[return-value]

    def add(self, step: Step, task: str, role: str, what: str = "", start: Step | None = None) -> Step:
        """Take a step into the plan, labelled by the way to it, its task, and `what` is special about it."""
        way = f"{self.make.label(key_of(start)).rsplit(' · ', 1)[0]} → " if start else f"{self.name} · "
        seed = f"s{step.seed}" if hasattr(step, "seed") else ""  # type: ignore[union-attr]
        if self.limit and (task, role) == (self.target, self.role):
            what = f"{what} {self.limit} rows".lstrip()
        if role in TRIED:
            what = f"{what} {self.trial}".strip()
        rest = " · ".join(part for part in (" ".join(filter(None, (task, what))), seed) if part)
        return self.make.add(step, f"{way}{rest}", task, role)


@runtime_checkable
class Strategy(Protocol):
    """A frozen dataclass with a `kind`; its fields are the keys of its table in a study file."""

    kind: ClassVar[str]

    def columns(self, depth: int | None) -> tuple[Column, ...]:
        """The columns of its matrix, for an encoder of `depth` layers (None: not known before it is loaded).

        Raises StudyError where a setting does not fit the encoder.
        """
        ...

    def uses(self) -> tuple[str, ...]:
        """The tasks that it names besides targets, in the order of its settings."""
        ...

    def reach(self, cell: Cell) -> Step | None:
        """The step whose score is the cell's observation; the steps before it are its ancestors.

        None where there is no such cell; every column needs one. Raises StudyError where a setting does not fit.
        """
        ...


def is_strategy(value: object) -> bool:
    """Whether a module-level object is a strategy's class."""
    return (
        isinstance(value, type)
        and dataclasses.is_dataclass(value)
        and hasattr(value, "kind")
        and hasattr(value, "reach")
    )
