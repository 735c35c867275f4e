"""Step: one frozen, complete description of one piece of work; its key is its identity.

Whatever can change a number is in a step. Where it runs, with how many threads and how it is logged is not
(that is `Places`). Effective batch size and precision are identity; the micro-batch is placement.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from layover import identity
from layover.errors import StoreError

SMALL_TASK = 1500  # Pruksachatkun et al. 2020, section 3: more training examples than this get 10 epochs, else 40
EPOCHS_LARGE, EPOCHS_SMALL = 10, 40


def setting(default: Any, **bounds: float) -> Any:
    """A recipe field with its default and its bounds (`gt`, `ge`, `lt`, `le`), checked where studies are read."""
    return field(default=default, metadata=bounds)


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

    def n_epochs(self, n_train: int) -> int:
        """The number of epochs at most, for a training set of `n_train` examples."""
        return self.epochs or (EPOCHS_LARGE if n_train > SMALL_TASK else EPOCHS_SMALL)

    @property
    def selects(self) -> bool:
        """Whether training looks at a selection set at all."""
        return self.checkpoint == "best" or self.patience > 0


@dataclass(frozen=True)
class TaskRef:
    """What a step takes from its task: the data by digest or revision, how it is split, and the deciding metric.

    `declaration` holds a user's own task in full; a catalogue task is named with its version instead.
    """

    name: str
    version: int
    data: str
    select_by: str
    limit_train: int | None = None
    limit_validation: int | None = None
    selection: Literal["holdout", "validation"] = "holdout"
    holdout: float = 0.1
    declaration: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Train:
    """Train an encoder and a new head on one task, then score it on the task's validation set.

    `start` is the key of the step whose encoder this one continues, None for the plain encoder.
    `recipe_from` is the key of a `Choose` step whose choice replaces the swept fields of `recipe`.
    """

    kind: ClassVar[str] = "train"
    version: ClassVar[int] = 1

    encoder: str
    task: TaskRef
    recipe: Recipe
    seed: int
    start: str | None = None
    recipe_from: str | None = None

    @property
    def parents(self) -> tuple[str, ...]:
        """Keys of the steps that must be finished before this one."""
        return tuple(key for key in (self.start, self.recipe_from) if key is not None)


@dataclass(frozen=True)
class Choose:
    """Choose the best cell of a sweep by its selection score; the first one wins a tie."""

    kind: ClassVar[str] = "choose"
    version: ClassVar[int] = 1

    of: tuple[str, ...]
    fields: tuple[str, ...]

    @property
    def parents(self) -> tuple[str, ...]:
        """Keys of the steps that must be finished before this one."""
        return self.of


Step = Train | Choose
KINDS: dict[str, type[Any]] = {Train.kind: Train, Choose.kind: Choose}


def key_of(step: Step) -> str:
    """The key of a step."""
    return identity.key(f"{step.kind}@{step.version}", step)


def to_json(step: Step) -> dict[str, Any]:
    """A step as the content of its `step.json`: what was hashed, with kind, version and scheme."""
    head = {"scheme": identity.SCHEME, "kind": step.kind, "version": step.version}
    return {**head, "step": identity.canonical(step)}


def from_json(content: Mapping[str, Any]) -> Step:
    """The step in a `step.json`; raises StoreError where it was written by a newer layover."""
    kind = KINDS.get(content["kind"])
    if content["scheme"] > identity.SCHEME or kind is None or content["version"] > kind.version:
        name = f"{content['kind']!r} version {content['version']}"
        raise StoreError(f"a step of kind {name} was written by a newer layover")
    values: dict[str, Any] = dict(content["step"])
    try:
        if kind is Train:
            values["task"], values["recipe"] = TaskRef(**values["task"]), Recipe(**values["recipe"])
        frozen: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in values.items()}
        return kind(**frozen)
    except TypeError as error:  # a field that this layover does not have yet
        raise StoreError(f"a step of kind {content['kind']!r} was written by a newer layover: {error}") from None


@dataclass(frozen=True)
class Places:
    """Where a step finds things and what it may use: never part of any key.

    `data`: directories of task data. `files`: a user's own files by task and split. `encoders`: the directory or Hub
    id of each encoder identity. `micro_tokens`: padded tokens per forward pass at most, 0 = what suits the device;
    gradients accumulate over the effective batch. `checkpoint_seconds`: the work that a killed step loses at most.
    `threads`: of a CPU process, 0 = torch's choice (OMP_NUM_THREADS, or all cores).
    """

    data: tuple[Path, ...] = ()
    files: Mapping[str, Mapping[str, Path]] = dataclasses.field(default_factory=dict)
    encoders: Mapping[str, str] = dataclasses.field(default_factory=dict)
    device: str = "auto"
    threads: int = 0
    micro_tokens: int = 0
    checkpoint_seconds: float = 60.0
