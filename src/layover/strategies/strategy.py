"""Strategy: a pure function from one cell of the study to the chain of steps that reaches the target."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

from layover.step import Train


@dataclass(frozen=True)
class Cell:
    """One cell of a study: what a strategy may look at, and the one thing it may do, `train`.

    `source` is "" for a strategy without sources. The study's recipes, sweeps and limits are behind `train`.
    """

    encoder: str
    source: str
    target: str
    role: str
    seed: int
    make: Callable[[str, str, int, Train | None], Train]

    def train(self, task: str, role: str, start: Train | None = None) -> Train:
        """A step that trains on `task` in its role ("source", "target", "probing"), from `start` or the plain encoder.

        Optimizer and stopping state never cross a step: every step begins with a fresh one.
        """
        return self.make(task, role, self.seed, start)


@runtime_checkable
class Strategy(Protocol):
    """A frozen dataclass with a `kind`; its fields are the keys of its table in a study file."""

    kind: ClassVar[str]

    def columns(self) -> tuple[str, ...]:
        """The sources of its cells, one column of the matrix each; ("",) for a strategy without sources."""
        ...

    def reach(self, cell: Cell) -> Train:
        """The step whose score is the cell's observation; the steps before it are its ancestors."""
        ...


def is_strategy(value: object) -> bool:
    """Whether a module-level object is a strategy's class."""
    return (
        isinstance(value, type)
        and dataclasses.is_dataclass(value)
        and hasattr(value, "kind")
        and hasattr(value, "reach")
    )
