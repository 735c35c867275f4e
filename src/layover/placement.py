"""Placement: the `[placement]` table of a study: where steps run and what they may use. Never part of any key."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from layover.errors import StudyError
from layover.executors import EXECUTORS, Kind, Needs
from layover.schema import Table, made_of
from layover.step import Step, Train

SOURCE, TARGET = "source", "target"  # trainings that later steps start from, and the others


def _number_or_gpus(value: Any) -> Any:
    if value == "gpus" or (type(value) is int and value >= 0):
        return value
    raise ValueError(
        "should be a number of steps that run at once, 0 for this process alone, or 'gpus' for one on each"
    )


class NeedsWords(Table):
    """What a step needs: GPUs, which may be a part of one, cores, GB of memory, and minutes at most."""

    gpus: Annotated[float, Field(ge=0)] | None = None
    cpus: Annotated[float, Field(gt=0)] | None = None
    memory_gb: Annotated[float, Field(gt=0)] | None = None
    minutes: Annotated[int, Field(ge=1)] | None = None


class NeedsTable(NeedsWords):
    """The `[placement.needs]` table, with tables per kind of work that override it."""

    kind: dict[Literal["source", "target", "joint", "probe", "measure", "merge", "member", "choose"], NeedsWords] = (
        Field(default_factory=dict)
    )


class Placement(Table):
    """The `[placement]` table. What its fields mean to a step is said in `layover.places`."""

    executor: str = "local"
    workers: Annotated[int | Literal["gpus"], BeforeValidator(_number_or_gpus)] = 0
    needs: NeedsTable = NeedsTable()
    options: dict[str, Any] = Field(default_factory=dict)
    cohort: Annotated[int, Field(ge=1)] = 1
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: Annotated[int, Field(ge=0)] = 0
    micro_tokens: Annotated[int, Field(ge=0)] = 0
    checkpoint_seconds: Annotated[float, Field(ge=0)] = 60.0
    gradient_checkpointing: bool = False
    graphs: Literal["off", "on", "compiled"] = "off"
    timeout: Annotated[float, Field(ge=0)] = 0.0
    devices_per_step: Annotated[int, Field(ge=1)] = 1

    @model_validator(mode="after")
    def _one_of_two(self) -> Placement:
        if self.cohort > 1 and self.devices_per_step > 1:
            raise ValueError("cohort has one device train several runs, and devices_per_step several train one: choose")
        return self

    def kind(self) -> Kind:
        """The kind of executor that is named, with its options; raises StudyError where it cannot be made of them."""
        place = "placement.options"
        found, problems = made_of(EXECUTORS.get(self.executor, "placement.executor", StudyError), self.options, place)
        if found is None:
            raise StudyError(*problems)
        return found

    def needs_of(self, step: Step, kept: bool, label: str) -> Needs:
        """What a step needs, whose weights are kept or not."""
        words = self.needs.words()
        words |= words.pop("kind", {}).get(work_of(step, kept), {})
        return Needs(**{"memory_gb": 0.0, "minutes": 0, **words, "name": label})


def work_of(step: Step, kept: bool) -> str:
    """Which kind of work a step is."""
    if isinstance(step, Train):
        return SOURCE if kept else TARGET
    return step.kind
