"""Step: one frozen, complete description of one piece of work; its key is its identity.

Whatever can change a number is in a step. Where it runs, with how many threads and how it is logged is not
(that is `Places`). Effective batch size and precision are identity; the micro-batch is placement.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from layover import identity
from layover.errors import StoreError
from layover.identity import neutral
from layover.places import Places
from layover.recipe import EPOCHS_LARGE, EPOCHS_SMALL, SMALL_TASK, Recipe, setting

__all__ = [
    "EPOCHS_LARGE", "EPOCHS_SMALL", "KINDS", "SMALL_TASK", "Choose", "Joint", "Measure", "Member", "Merge", "Mixture",
    "Places", "Probe", "Recipe", "Step", "Surgery", "TaskRef", "Train", "from_json", "key_of", "setting", "to_json",
]  # fmt: skip


@dataclass(frozen=True)
class TaskRef:
    """What a step takes from its task: the data by digest or revision, how it is split, and the deciding metric.

    `declaration` holds a user's own task in full; a catalogue task is named with its version instead. `drawn` is the
    seed by which the `limit_train` questions are drawn, so that every restart sees others; None: the same for all.
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
    drawn: int | None = neutral(None)


@dataclass(frozen=True)
class Surgery:
    """What is done to an encoder's layers (numbered from 0) before a step trains it (Tamkin et al. 2020).

    First the layers are put into the `order` given, then cut to the lowest `depth`, then those in `reset` are drawn
    anew: the weights of every linear map, from a truncated normal, "intended" with sd 0.02 or as the paper's code
    "released" it, with sd 0.00046; layer norms to 1 and 0 unless kept; biases to 0 if they are reset. Embeddings
    always stay.
    """

    reset: tuple[int, ...] = ()
    layer_norm: Literal["reset", "kept"] = "reset"
    biases: Literal["kept", "reset"] = "kept"
    init: Literal["intended", "released"] = "intended"
    order: tuple[int, ...] = ()
    depth: int | None = None


@dataclass(frozen=True)
class Train:
    """Train an encoder and a head on one task, then score it on the task's validation set.

    `start` is the key of the step whose encoder this one continues, None for the plain encoder.
    `recipe_from` is the key of a `Choose` step whose choice replaces the swept fields of `recipe`.
    `head` "carried" begins with the head of `start`, which must have been trained on the same labels.
    """

    kind: ClassVar[str] = "train"
    version: ClassVar[int] = 1

    encoder: str
    task: TaskRef
    recipe: Recipe
    seed: int
    start: str | None = None
    recipe_from: str | None = None
    surgery: Surgery | None = neutral(None)
    head: Literal["new", "carried"] = neutral("new")

    @property
    def parents(self) -> tuple[str, ...]:
        """Keys of the steps that must be finished before this one."""
        return _named(self.start, self.recipe_from)

    @property
    def tasks(self) -> tuple[TaskRef, ...]:
        """The data that the step reads."""
        return (self.task,)

    def reads(self, kept: bool) -> tuple[str, ...]:
        """Keys of the steps whose weights this one needs; `kept`: its own are to be kept."""
        return _named(self.start)


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

    @property
    def tasks(self) -> tuple[TaskRef, ...]:
        """It reads no data."""
        return ()

    def reads(self, kept: bool) -> tuple[str, ...]:
        """It needs no weights."""
        return ()


@dataclass(frozen=True)
class Mixture:
    """How the tasks of a joint training are mixed: which is drawn when, what batches hold, and what a loss counts.

    `sampler`: by size, evenly, by size to the power 1 / `temperature`, by size up to `cap` (Raffel et al. 2020), or
    anew each epoch by the gap to each task's score alone (Gottumukkala et al. 2020). `batches` hold one task each or
    all. `heads`: one per task, or one for all tasks with the same labels. `weights` of the losses: fixed (1 each
    without `fixed`, which is in the order of the tasks), by uncertainty (Kendall et al. 2018), or GradNorm (Chen et al.
    2018), both learned at `weights_rate`. An epoch ends with the
    `shortest` task, as the code of Weller et al. 2022 does, or is a `full` pass. `conflict` between gradients is
    ignored, logged as cosines, or resolved by PCGrad (Yu et al. 2020).
    """

    sampler: Literal["proportional", "uniform", "temperature", "capped", "dynamic"] = "proportional"
    temperature: float = 2.0
    cap: int = 16384
    batches: Literal["homogeneous", "heterogeneous"] = "heterogeneous"
    heads: Literal["task", "labels"] = "task"
    weights: Literal["fixed", "uncertainty", "gradnorm"] = "fixed"
    fixed: tuple[float, ...] = ()
    gradnorm_alpha: float = 1.5
    weights_rate: float = 0.025
    epoch: Literal["shortest", "full"] = "full"
    conflict: Literal["ignore", "log", "pcgrad"] = "ignore"


@dataclass(frozen=True)
class Joint:
    """Train one encoder on several tasks at once. What became of each task is a `Member` of it.

    `recipe` is that of the run; batches, epochs and patience count over all tasks as `mixture` says. `alone` are the
    keys of the steps that trained each task by itself, which the dynamic sampler needs, in the order of `tasks`.
    """

    kind: ClassVar[str] = "joint"
    version: ClassVar[int] = 1

    encoder: str
    tasks: tuple[TaskRef, ...]
    recipe: Recipe
    seed: int
    mixture: Mixture
    start: str | None = None
    recipe_from: str | None = None
    alone: tuple[str, ...] = ()

    @property
    def parents(self) -> tuple[str, ...]:
        """Keys of the steps that must be finished before this one."""
        return (*_named(self.start, self.recipe_from), *self.alone)

    def reads(self, kept: bool) -> tuple[str, ...]:
        """Keys of the steps whose weights this one needs."""
        return _named(self.start)


@dataclass(frozen=True)
class Member:
    """One task of a joint training as if it were a step of its own: its scores, predictions and best weights."""

    kind: ClassVar[str] = "member"
    version: ClassVar[int] = 1

    encoder: str
    task: TaskRef
    seed: int
    of: str

    @property
    def parents(self) -> tuple[str, ...]:
        """Keys of the steps that must be finished before this one."""
        return (self.of,)

    @property
    def tasks(self) -> tuple[TaskRef, ...]:
        """Its data was read by the joint training."""
        return ()

    def reads(self, kept: bool) -> tuple[str, ...]:
        """Keys of the steps whose weights this one needs: it copies its own."""
        return (self.of,) if kept else ()


@dataclass(frozen=True)
class Probe:
    """Train a head on the features of a frozen encoder, and score it on the task's validation set.

    `layer`: a layer's number, 0 for the embeddings; "mean" of all; or a learned scalar "mix" (Tenney et al. 2019).
    `start` is the key of the step whose encoder is probed, None for the plain encoder.
    """

    kind: ClassVar[str] = "probe"
    version: ClassVar[int] = 1

    encoder: str
    task: TaskRef
    recipe: Recipe
    seed: int
    layer: int | str
    head: Literal["linear", "mlp"] = "linear"
    start: str | None = None
    recipe_from: str | None = None

    @property
    def parents(self) -> tuple[str, ...]:
        """Keys of the steps that must be finished before this one."""
        return _named(self.start, self.recipe_from)

    @property
    def tasks(self) -> tuple[TaskRef, ...]:
        """The data that the step reads."""
        return (self.task,)

    def reads(self, kept: bool) -> tuple[str, ...]:
        """Keys of the steps whose weights this one needs."""
        return _named(self.start)


@dataclass(frozen=True)
class Merge:
    """Make one encoder of several: their average, task arithmetic (Ilharco et al. 2023) or TIES (Yadav et al. 2023)."""

    kind: ClassVar[str] = "merge"
    version: ClassVar[int] = 1

    encoder: str
    of: tuple[str, ...]
    method: Literal["average", "arithmetic", "ties"] = "average"
    scale: float = 1.0
    density: float = 0.2

    @property
    def parents(self) -> tuple[str, ...]:
        """Keys of the steps that must be finished before this one."""
        return self.of

    @property
    def tasks(self) -> tuple[TaskRef, ...]:
        """It reads no data."""
        return ()

    def reads(self, kept: bool) -> tuple[str, ...]:
        """Keys of the steps whose weights this one needs."""
        return self.of


@dataclass(frozen=True)
class Measure:
    """Measure what a checkpoint forgot: masked-LM loss on a text, and how far layers moved from the plain encoder.

    `text` is the text task, of which the validation part is read. `head` is the key of the step that trained a
    masked-LM head on the frozen plain encoder, None where the release has its own. `start` is the checkpoint, None for
    the plain encoder itself.
    """

    kind: ClassVar[str] = "measure"
    version: ClassVar[int] = 1

    encoder: str
    text: TaskRef
    max_length: int
    start: str | None = None
    head: str | None = None

    @property
    def parents(self) -> tuple[str, ...]:
        """Keys of the steps that must be finished before this one."""
        return _named(self.start, self.head)

    @property
    def tasks(self) -> tuple[TaskRef, ...]:
        """The data that the step reads."""
        return (self.text,)

    def reads(self, kept: bool) -> tuple[str, ...]:
        """Keys of the steps whose weights this one needs."""
        return _named(self.start, self.head)


def _named(*keys: str | None) -> tuple[str, ...]:
    return tuple(key for key in keys if key is not None)


Step = Train | Choose | Joint | Member | Probe | Merge | Measure
KINDS: dict[str, type[Any]] = {kind.kind: kind for kind in (Train, Choose, Joint, Member, Probe, Merge, Measure)}


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
        return kind(**{name: _value(name, value) for name, value in values.items()})
    except TypeError as error:  # a field that this layover does not have yet
        raise StoreError(f"a step of kind {content['kind']!r} was written by a newer layover: {error}") from None


PARTS: dict[str, type[Any]] = {
    "task": TaskRef, "text": TaskRef, "tasks": TaskRef, "recipe": Recipe, "surgery": Surgery, "mixture": Mixture,
}  # fmt: skip


def _value(name: str, value: Any) -> Any:
    """A field of a step as it was before it was written."""
    if isinstance(value, list):
        return tuple(_value(name, item) for item in value)
    if name in PARTS and isinstance(value, Mapping):
        return PARTS[name](**{n: tuple(v) if isinstance(v, list) else v for n, v in value.items()})
    return value
