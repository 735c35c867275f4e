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
from layover.parts import Mixture, Surgery, TaskRef
from layover.places import Places
from layover.recipe import EPOCHS_LARGE, EPOCHS_SMALL, SMALL_TASK, Recipe, setting

__all__ = [
    "EPOCHS_LARGE", "EPOCHS_SMALL", "KINDS", "SMALL_TASK", "Choose", "Joint", "Measure", "Member", "Merge", "Mixture",
    "Places", "Probe", "Recipe", "Step", "Surgery", "TaskRef", "Train", "from_json", "key_of", "setting", "to_json",
]  # fmt: skip


@dataclass(frozen=True)
class Train:
    """Train an encoder and a head on one task, then score it on the task's validation set.

    `start` is the key of the step whose encoder this one continues, None for the plain encoder.
    `recipe_from` is the key of a `Choose` step whose choice replaces the swept fields of `recipe`.
    `head` "carried" begins with the head of `start`, which must have been trained on the same labels; "matched" does so
    where there are as many labels, whatever they are called, and begins with a new one elsewhere.
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
    head: Literal["new", "carried", "matched"] = neutral("new")

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


def text_of(step: Step) -> str:
    """`to_json` as compact text, many times faster where steps share what they are made of."""
    head = f'"kind":"{step.kind}","scheme":{identity.SCHEME},"version":{step.version}'
    return f'{{{head},"step":{identity.text(step)}}}'


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
