"""Divide: which examples of a file are train, selection and validation, by position alone.

Subsets are drawn from a random order that depends on the number of rows and a name: the same rows on every machine,
and a smaller subset is part of a larger one. A question is what is asked about a row; most rows ask one thing and are
one example. Examples are given by their `numbers` [examples, 2]: row and part, in order.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from layover.errors import TaskError

OWN_VALIDATION = 0.2  # share of train that stands in where a user's task has no validation file


@dataclass(frozen=True, eq=False)
class Portion:
    """What of a file is train, or validation: `kept` of its examples; `n_total` counts the questions before a limit."""

    file: str
    kept: NDArray[np.bool_]
    n_total: int


def portions(
    numbers: Mapping[str, NDArray[np.int64]],
    n_classes: int,
    limit_train: int | None,
    limit_validation: int | None,
    drawn: int | None = None,
) -> tuple[Portion, Portion]:
    """Train and validation, each limited, of the examples in each file; `drawn` is a seed for the limit of train.

    A user's task without a validation file gives a part of train for it.
    """
    train, salt = numbers["train"], "limit" if drawn is None else f"limit/{drawn}"
    if "validation" in numbers:
        validation = numbers["validation"]
        return (
            _portion("train", train, np.ones(len(train), bool), limit_train, salt),
            _portion("validation", validation, np.ones(len(validation), bool), limit_validation),
        )
    held = held_out(train[:, 0], OWN_VALIDATION, n_classes, "own validation")
    return _portion("train", train, ~held, limit_train, salt), _portion("train", train, held, limit_validation)


def _portion(
    file: str, numbers: NDArray[np.int64], kept: NDArray[np.bool_], n: int | None, salt: str = "limit"
) -> Portion:
    own, some = numbers[kept], kept.copy()
    some[kept] = limited(own, n, salt)
    return Portion(file, some, 1 + int(runs(own)[-1]))


def limited(numbers: NDArray[np.int64], n: int | None, salt: str = "limit") -> NDArray[np.bool_]:
    """Which examples are of a random subset of `n` questions; that of 10 is part of that of 20."""
    if n is not None and n < 1:
        raise TaskError(f"a limit of {n} leaves no examples: give 1 or more")
    return _drawn(runs(numbers), n, salt)


def held_out(rows: NDArray[np.int64], share: float, n_classes: int = 1, salt: str = "holdout") -> NDArray[np.bool_]:
    """Which examples, given by their `rows`, are of a random `share` of the rows.

    The share has at least one row, and one per class where it can, and never more than half. A row's examples stay
    together: what is asked about one passage is not learnt from and held out at once.
    """
    if not 0 < share < 1:
        raise ValueError(f"a share is between 0 and 1, not {share}")
    found = runs(rows[:, None])
    total = 1 + int(found[-1]) if len(found) else 0
    if total < 2:
        raise TaskError(f"{total} training example cannot be divided: at least 2 are needed to hold one out")
    return _drawn(found, min(max(int(share * total + 0.5), n_classes, 1), total // 2), salt)


def runs(keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """The number of each run of equal `keys` [n, k], from 0, for every one of the n."""
    changes = np.any(keys[1:] != keys[:-1], axis=1)
    return np.concatenate([np.zeros(min(1, len(keys)), np.int64), np.cumsum(changes)])


def _drawn(number: NDArray[np.int64], n: int | None, salt: str) -> NDArray[np.bool_]:
    """Who is of the `n` runs that are drawn at random, given by the `number` of each one's run."""
    total = 1 + int(number[-1]) if len(number) else 0
    if n is None or n >= total:
        return np.ones(len(number), bool)
    taken = np.zeros(total, bool)
    taken[_order(total, salt)[:n]] = True
    return taken[number]


def _order(n: int, salt: str) -> list[int]:
    """A random order of n positions. Python promises to keep what random() yields for a seed, and no more."""
    seed = int.from_bytes(hashlib.sha256(f"layover:{salt}:{n}".encode()).digest())
    draw = random.Random(seed)
    keys = [draw.random() for _ in range(n)]
    return sorted(range(n), key=keys.__getitem__)
