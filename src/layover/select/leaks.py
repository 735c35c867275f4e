"""Leaks: rows of a target that a source was trained on. Such a source looks good, and for the wrong reason.

Inputs are compared by the hashes of `layover.datacheck.prints`, whatever the two tasks are called and in whatever order
their rows are. They are computed once per data set and kept in the store.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from layover.datacheck import prints
from layover.datacheck.prints import Prints
from layover.select.sources import Source
from layover.select.target import Target

if TYPE_CHECKING:
    from layover.tasks.divide import Portion
    from layover.train.cache import Located


def shares(target: Target, source: Source) -> tuple[float, float]:
    """The shares of the target's train and validation rows whose inputs the source was trained on.

    Raises TaskError where the source's data is not here: then nobody can say.
    """
    from layover.kinds.common import data_of

    theirs = data_of(source.step.task, target.store, target.places)
    known = np.unique(inputs_of(theirs, theirs.train)[1])
    return share(target, "train", known), share(target, "validation", known)


def share(target: Target, part: str, known: NDArray[np.int64]) -> float:
    """The share of a part of the target's rows whose inputs are among the known ones."""
    portion = target.data.train if part == "train" else target.data.validation
    return float(np.isin(inputs_of(target.data, portion)[1], known).mean())


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
