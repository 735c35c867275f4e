"""Tracker: somewhere that runs are shown in, and what it is sent of one. Data flows there alone, never back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

from layover.errors import LayoverError


@dataclass(frozen=True)
class Run:
    """One finished step, as a tracker shows it.

    `params` are what was asked for: recipe, task, source, seed, strategy, lineage, key. `curve` has the numbers of each
    point by optimizer step, `scores` the final ones in points, by split and metric. `tags` are for searching. `ended`
    is when the step was finished, in seconds since 1970. Nothing in it is secret.
    """

    key: str
    label: str
    params: Mapping[str, str | int | float | bool]
    curve: Sequence[tuple[int, Mapping[str, float]]]
    scores: Mapping[str, float]
    tags: Mapping[str, str]
    ended: float

    @property
    def last_step(self) -> int:
        """The optimizer step at which the scores stand."""
        return max((step for step, _ in self.curve), default=0)


class TrackerError(LayoverError):
    """A tracker cannot be reached, or refuses what it is sent."""


class Tracker(Protocol):
    """Where the runs of one study go. Sending a run twice leaves one."""

    kind: ClassVar[str]
    package: ClassVar[str]
    """What has to be installed, by the extra that is called like the kind."""

    @classmethod
    def at(cls, study: str, out: Path) -> Tracker:
        """The place for a study's runs: as the tracker's own environment variables say, or in the folder `out`."""
        ...

    @property
    def place(self) -> str:
        """Where that is, for people."""
        ...

    def sent(self) -> set[str]:
        """The keys of the runs that are there, whole."""
        ...

    def send(self, run: Run) -> None:
        """Send one run; it counts as sent once it is there whole."""
        ...


def is_tracker(value: Any) -> bool:
    """Whether an object declares a kind of tracker."""
    return isinstance(value, type) and isinstance(getattr(value, "kind", None), str) and hasattr(value, "send")
