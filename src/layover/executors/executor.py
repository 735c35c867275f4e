"""Executor: something that runs functions. It decides where a step runs, never whether."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol


@dataclass(frozen=True)
class Needs:
    """What a piece of work needs of a machine: GPUs, which may be a part of one, cores, memory, and time at most.

    None and 0 stand for whatever the executor gives work of which nothing is said. `name` is for people.
    """

    gpus: float | None = None
    cpus: float | None = None
    memory_gb: float = 0.0
    minutes: int = 0
    name: str = ""


class Executor(Protocol):
    """Somewhere that runs functions. `sharing` is how many of them share a device."""

    sharing: int

    @property
    def slots(self) -> int:
        """How many it can run at once, one at least; on a cluster, as far as can be said now."""
        ...

    def submit(self, fn: Callable[..., Any], /, *args: Any, needs: Needs | None = None) -> Future[Any]:
        """Run `fn(*args)` some time; the future holds its result or what it raised.

        What it raises is a `StepError` where the machine or the process was lost.
        """
        ...

    def stop(self) -> None:
        """Ask what runs to end soon, each step with its checkpoint: `layover.pulse`. Returns at once."""
        ...

    def close(self) -> None:
        """Give back what the executor holds, and end at once whatever still runs."""
        ...


@dataclass(frozen=True)
class Site:
    """What an executor is made for: a run of a plan.

    `workers` are the steps that run at once as asked for, "gpus" for one on each GPU, and 0 for one in this process or,
    on a cluster, as many as there is room for. `trainings` are the steps to run that have any work to do, of which each
    uses `devices_per_step` devices. `folder` is where an executor may keep files of its own. `prepare` makes a process
    a warm one. `everywhere` says that the store is in a bucket, which every machine sees whatever folders it has.
    """

    workers: int | Literal["gpus"]
    trainings: int
    device: str
    threads: int
    timeout: float
    devices_per_step: int
    folder: Path
    prepare: Callable[[], Any]
    everywhere: bool = False


class Kind(Protocol):
    """A kind of executor that a study can name: a frozen dataclass whose fields are the options of its own."""

    kind: ClassVar[str]

    def make(self, site: Site) -> Executor:
        """An executor for a run; raises UserError where it cannot be had here."""
        ...


def is_kind(value: object) -> bool:
    """Whether an object declares a kind of executor."""
    return (
        isinstance(value, type)
        and isinstance(getattr(value, "kind", None), str)
        and callable(getattr(value, "make", None))
    )
