"""Recipe: how one training step optimises, and what keeps it from forgetting.

A field added later is neutral: while it holds its default, the keys of steps are those of every layover before.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

SMALL_TASK = 1500  # Pruksachatkun et al. 2020, section 3: more training examples than this get 10 epochs, else 40
EPOCHS_LARGE, EPOCHS_SMALL = 10, 40
OF_HEADS = ("max_steps", "evaluations_per_epoch")  # of the fields that were added, those that a head by itself has too


def setting(default: Any, **bounds: float) -> Any:
    """A recipe field with its default and its bounds (`gt`, `ge`, `lt`, `le`), checked where studies are read."""
    return field(default=default, metadata={"bounds": bounds})


def added(default: Any, check: Callable[[Any], Any] | None = None, **bounds: float) -> Any:
    """A setting that recipes did not have at first: at its default, keys stay as they were.

    `check` raises ValueError, in words for a user, where studies are read.
    """
    return field(default=default, metadata={"bounds": bounds, "neutral": default, "check": check})


@dataclass(frozen=True)
class Frozen:
    """Parts of an encoder that are not trained: all of it, or its embeddings and ranges of layers, numbered from 0."""

    whole: bool = False
    embeddings: bool = False
    ranges: tuple[tuple[int, int], ...] = ()

    def holds(self, layer: int) -> bool:
        """Whether a layer is among them."""
        return self.whole or any(first <= layer <= last for first, last in self.ranges)

    @property
    def highest(self) -> int:
        """The highest layer that is named, -1 where none is."""
        return max((last for _, last in self.ranges), default=-1)


FREEZABLE = "'embeddings', a layer such as '2', layers such as '0-3', 'encoder', or several of them with commas"


def frozen_parts(words: str) -> Frozen:
    """What a recipe's `freeze` says, such as "embeddings, 0-3"; raises ValueError where it says nothing known.

    >>> frozen_parts("embeddings, 0-3, 5")
    Frozen(whole=False, embeddings=True, ranges=((0, 3), (5, 5)))
    """
    parts = [part.strip() for part in words.split(",")] if words.strip() else []
    ranges = []
    for part in parts:
        if part in ("embeddings", "encoder"):
            continue
        found = re.fullmatch(r"(\d+)(?:\s*-\s*(\d+))?", part)
        if not found:
            raise ValueError(f"{part!r} is no part of an encoder; choices: {FREEZABLE}")
        first, last = int(found[1]), int(found[2] or found[1])
        if last < first:
            raise ValueError(f"{part!r} ends before it begins; write '{last}-{first}'")
        ranges.append((first, last))
    return Frozen("encoder" in parts, "embeddings" in parts, tuple(ranges))


@dataclass(frozen=True)
class Recipe:
    """How one training step optimises.

    The defaults follow Pruksachatkun et al. 2020 where the paper and its code agree: Adam with 10 % warm-up and
    linear decay to zero, at most 10 epochs above 1,500 training examples, else 40, early stopping on the selection set.

    `epochs`: fixed number of epochs instead of that rule. `dropout`: None leaves the encoder's own; a number sets it
    in encoder and head, or, with `dropout_at = "output"`, only between the two (what the paper's code did).
    `pooling`: the vector that the head reads, the first token's or the mean over tokens. `evaluate_every`: optimizer
    steps between evaluations on the selection set, None = once per epoch. `patience`: evaluations without
    improvement before stopping, 0 = never. `checkpoint`: which weights the step ends with.

    What keeps a run near the weights that it starts from, each neutral as it stands (`layover.train.remedies`):
    `l2sp`: strength of the pull towards them, `l2sp_head` of that of the head towards zero (Li et al. 2018). `ewc`:
    strength of the pull weighted by the Fisher information (Kirkpatrick et al. 2017) of what the step before was
    trained on, estimated from `ewc_examples` of its examples. `optimizer` "recadam": the objective moves from staying
    to learning (Chen et al. 2020), at rate `recadam_k` around step `recadam_t0`, with strength `recadam_pull`.
    `mixout`: the share of weights that a pass takes from the start (Lee et al. 2020). `layer_decay`: every layer learns
    at this share of the rate of the layer above. `freeze`: what is not trained, such as "embeddings, 0-3" or "encoder".
    `lora`: rank of the low-rank updates that are trained instead of the encoder's matrices (Hu et al. 2022), 0 = none,
    scaled by `lora_alpha` / rank, with dropout `lora_dropout`. `reset_rate`: the rate of layers that were drawn anew,
    as a multiple (Tamkin et al. 2020, Figure 6).

    What the code of papers does otherwise, each neutral as it stands: `optimizer` "bertadam" is Adam without the
    correction of its first steps' bias (as in BERT's own code), "amsgrad" divides by the largest second moment so far
    (Reddi et al. 2018). `max_steps`: optimizer steps in all, in place of epochs, 0 = as epochs say.
    `evaluations_per_epoch`: evenly within each epoch, in place of `evaluate_every`, 0 = as that says.
    """

    learning_rate: float = setting(2e-5, gt=0, lt=1)
    batch_size: int = setting(32, ge=1)
    epochs: int | None = setting(None, ge=1)
    max_length: int = setting(256, ge=8)
    dropout: float | None = setting(None, ge=0, lt=1)
    dropout_at: Literal["encoder", "output"] = "encoder"
    pooling: Literal["first", "mean"] = "first"
    warmup: float = setting(0.1, ge=0, lt=1)
    schedule: Literal["linear", "constant"] = "linear"
    weight_decay: float = setting(0.01, ge=0)
    adam_epsilon: float = setting(1e-6, gt=0)
    max_grad_norm: float = setting(1.0, gt=0)
    evaluate_every: int | None = setting(None, ge=1)
    patience: int = setting(5, ge=0)
    checkpoint: Literal["best", "last"] = "best"
    precision: Literal["fp32", "tf32", "bf16"] = "fp32"
    l2sp: float = added(0.0, ge=0)
    l2sp_head: float = added(0.0, ge=0)
    ewc: float = added(0.0, ge=0)
    ewc_examples: int = added(256, ge=1)
    optimizer: Literal["adamw", "recadam", "bertadam", "amsgrad"] = added("adamw")
    recadam_k: float = added(0.1, gt=0)
    recadam_t0: int = added(250, ge=0)
    recadam_pull: float = added(5000.0, ge=0)
    mixout: float = added(0.0, ge=0, lt=1)
    layer_decay: float = added(1.0, gt=0, le=1)
    freeze: str = added("", check=frozen_parts)
    lora: int = added(0, ge=0)
    lora_alpha: float = added(16.0, gt=0)
    lora_dropout: float = added(0.0, ge=0, lt=1)
    reset_rate: float = added(1.0, gt=0)
    max_steps: int = added(0, ge=0)
    evaluations_per_epoch: int = added(0, ge=0)

    def n_epochs(self, n_train: int) -> int:
        """The number of epochs at most, for a training set of `n_train` examples."""
        return self.epochs or (EPOCHS_LARGE if n_train > SMALL_TASK else EPOCHS_SMALL)

    def n_steps(self, n_train: int) -> int:
        """The number of optimizer steps at most, for a training set of `n_train` examples."""
        return self.max_steps or math.ceil(n_train / self.batch_size) * self.n_epochs(n_train)

    def passes(self, n_train: float) -> float:
        """How often each of `n_train` examples is trained on, at most."""
        return self.max_steps * self.batch_size / max(1.0, n_train) if self.max_steps else self.n_epochs(round(n_train))

    @property
    def selects(self) -> bool:
        """Whether training looks at a selection set at all."""
        return self.checkpoint == "best" or self.patience > 0

    @property
    def plain(self) -> bool:
        """Whether no field that recipes did not have at first is in use: such runs may be trained in lockstep."""
        return all(getattr(self, f.name) == f.metadata["neutral"] for f in fields(self) if "neutral" in f.metadata)

    @property
    def bare(self) -> Recipe:
        """The same without what keeps an encoder from forgetting: what a head by itself is trained with."""
        kept = {*OF_HEADS, *(["optimizer"] if self.optimizer != "recadam" else [])}
        added = (f for f in fields(self) if "neutral" in f.metadata and f.name not in kept)
        return replace(self, **{f.name: f.metadata["neutral"] for f in added})
