"""Placement: the `[placement]` table of a study: where steps run and what they may use. Never part of any key."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from layover.errors import StudyError
from layover.executors import EXECUTORS, Kind
from layover.schema import Table, made_of


def _number_or_gpus(value: Any) -> Any:
    if value == "gpus" or (type(value) is int and value >= 0):
        return value
    raise ValueError(
        "should be a number of steps that run at once, 0 for this process alone, or 'gpus' for one on each"
    )


class Placement(Table):
    """The `[placement]` table. What its fields mean to a step is said in `layover.places`."""

    executor: str = "local"
    workers: Annotated[int | Literal["gpus"], BeforeValidator(_number_or_gpus)] = 0
    options: dict[str, Any] = Field(default_factory=dict)
    cohort: Annotated[int, Field(ge=1)] = 1
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: Annotated[int, Field(ge=0)] = 0
    micro_tokens: Annotated[int, Field(ge=0)] = 0
    checkpoint_seconds: Annotated[float, Field(ge=0)] = 60.0
    gradient_checkpointing: bool = False
    graphs: Literal["off", "on", "compiled"] = "off"
    timeout: Annotated[float, Field(ge=0)] = 0.0

    def kind(self) -> Kind:
        """The kind of executor that is named, with its options; raises StudyError where it cannot be made of them."""
        place = "placement.options"
        found, problems = made_of(EXECUTORS.get(self.executor, "placement.executor", StudyError), self.options, place)
        if found is None:
            raise StudyError(*problems)
        return found
