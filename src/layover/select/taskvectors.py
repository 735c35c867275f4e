"""Task vectors: what a task's texts are like, and which units of the encoder matter to it (Vu et al. 2020, section 3).

TextEmb is the mean vector of a task's texts; TaskEmb is the Fisher information of the plain encoder's weights on the
task (`layover.train.taskvector`). Both are of a data set and the plain encoder, and need no encoder that was trained.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from layover.select.target import Target
from layover.select.vectors import features_of

if TYPE_CHECKING:
    from layover.train.cache import Located

VALIDATION = 64  # questions that a head is scored on, which nobody reads


def text_vector(target: Target, data: Located | None = None) -> NDArray[np.float32]:
    """TextEmb: the mean vector [width] of the target's inputs, or of those in a source's `data`.

    An input's vector is the mean of the plain encoder's last hidden states over its tokens; of choices each is one.
    """
    means = features_of(target, target.plain, data).layer(-1, "mean")
    return means.double().mean(0).float().numpy()


def task_vector(target: Target, data: Located | None = None) -> NDArray[np.float32] | None:
    """TaskEmb: the vector [units] of the target, or of a source by its `data`; None of plain text.

    Out of the store, where it is kept as features are. It takes a short training of a head, and 256 examples forward
    and backward.
    """
    from layover.train import cache, features, frozen, taskvector

    data, reading = data or target.data, target.reading
    if data.task.output == "tokens":
        return None
    made_of = {
        **features.made_from(data, data.train, target.plain, reading.max_length, "fp32"),
        **cache.examples_of(data, data.train, frozen, *frozen.CODE, taskvector, *taskvector.CODE),
        "kind": "task vector", "pooling": reading.pooling, "seed": reading.seed,
    }  # fmt: skip

    def write() -> tuple[dict[str, Any], Iterable[Any]]:
        vector = taskvector.task_vector(
            _scored_on_few(data), target.plain, reading.max_length, reading.pooling, reading.seed, target.places
        )
        return {"examples": int(data.train.kept.sum())}, [{"vector": vector}]

    return np.array(cache.once(target.store, made_of, write).columns["vector"])


def _scored_on_few(data: Located) -> Located:
    """The same data with a few questions of validation: a training has to end with predictions."""
    from dataclasses import replace

    from layover.tasks.divide import limited

    kept, numbers = data.validation.kept.copy(), data.survey.examples[data.validation.file]
    kept[kept] = limited(numbers[kept], VALIDATION)
    return replace(data, validation=replace(data.validation, kept=kept))
