"""Leaks: rows of a target that a source was trained on. Such a source looks good, and for the wrong reason.

Inputs are compared by the hashes of `layover.datacheck.prints`, whatever the two tasks are called and in whatever order
their rows are. They are computed once per data set and kept in the store.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from layover.datacheck import prints
from layover.datacheck.prints import Prints
from layover.select.sources import Source
from layover.select.target import Target

if TYPE_CHECKING:
    from layover.tasks.divide import Portion
    from layover.train.cache import Located

LEAKED = 0.05  # share of a part's rows; a few short texts are in many data sets
LEAST = 2  # different inputs: of a part of twelve rows one is 8 %, and it may be "yes"


@dataclass(frozen=True)
class Seen:
    """How many of a part's `of` rows a source was trained on, and how many different `inputs` these have."""

    rows: int
    of: int
    inputs: int

    @property
    def leaked(self) -> bool:
        """Whether it is a leak: `LEAKED` of the rows or more, and `LEAST` different inputs or more."""
        return self.inputs >= LEAST and self.rows / self.of >= LEAKED

    def __str__(self) -> str:
        return f"{self.rows / self.of:.0%} ({self.rows:,} of {self.of:,})" if self.rows else "0%"


@dataclass(frozen=True)
class Leak:
    """What of a target's rows other rows are: of its train and of its validation rows."""

    train: Seen
    validation: Seen

    @property
    def leaked(self) -> bool:
        """Whether either is a leak."""
        return self.train.leaked or self.validation.leaked

    def __bool__(self) -> bool:
        return bool(self.train.rows or self.validation.rows)

    def __str__(self) -> str:
        return f"{self.train} of the target's training rows and {self.validation} of its validation rows"


def seen_by(source: Source, target: Target) -> Leak:
    """What of the target's rows a source was trained on; raises TaskError where its data is not here."""
    from layover.kinds.common import data_of

    return among(target, data_of(source.step.task, target.store, target.places))


def among(target: Target, theirs: Located) -> Leak:
    """What of the target's rows is, by inputs, among the rows that others would be trained on."""
    known = np.unique(inputs_of(theirs, theirs.train)[1])
    return Leak(seen(target, "train", known), seen(target, "validation", known))


def seen(target: Target, part: Literal["train", "validation"], known: NDArray[np.int64]) -> Seen:
    """What of a part of the target's rows has inputs that are among the known ones."""
    portion = target.data.train if part == "train" else target.data.validation
    every = inputs_of(target.data, portion)[1]
    among = every[np.isin(every, known)]
    return Seen(len(among), len(every), len(np.unique(among)))


def inputs_of(data: Located, portion: Portion) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Hashes of a portion's examples [n]: of what each asks, and of its inputs alone."""
    from layover.tasks.load import surveyed
    from layover.train import cache

    made_of = {**cache.examples_of(data, portion, prints), "kind": "prints"}

    def write() -> tuple[dict[str, Any], Iterable[Any]]:
        found = Prints()
        for example in surveyed(data.survey, data.source, portion):
            found.add(example, data.task.output)
        return {"examples": len(found)}, [{"asked": found.asked, "inputs": found.inputs}]

    kept = cache.once(data.store, made_of, write).columns
    return kept["asked"], kept["inputs"]
