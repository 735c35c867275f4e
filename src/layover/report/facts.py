"""Facts: everything that a report shows. `inputs` gathers them from a plan and its store, `build` makes a page of them.

They are typed, so that whoever gathers and whoever shows cannot mean different things by one name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from layover.report.analyses import Analyses
from layover.report.flips import Flips
from layover.stats.contrast import Contrast
from layover.stats.transfer import Transfer

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True)
class RunFacts:
    """One step: who it is, how it ended, and, where it is finished, what it used and how it went.

    `status` is ok, degenerate: <why>, failed, blocked, running or missing. `lineage` leads from the encoder to the
    task. `parents` are the keys of the steps that it needs.
    `chosen` is what a sweep chose. `n_*` are the questions used (most rows ask one thing), `available` those
    there were by split, `truncated` the share of examples cut by split, `lost` that of targets whose text was cut off.
    `majority` is a share; `best_step` the step whose weights were kept.
    """

    key: str
    label: str
    kind: str
    status: str
    lineage: Sequence[str] = ()
    task: str = ""
    seed: int | None = None
    start: str = ""
    parents: Sequence[str] = ()
    error: str = ""
    chosen: Mapping[str, Any] | None = None
    recipe: Mapping[str, Any] = field(default_factory=dict)
    seconds: float | None = None
    n_train: int | None = None
    n_selection: int | None = None
    n_validation: int | None = None
    available: Mapping[str, int] = field(default_factory=dict)
    truncated: Mapping[str, float] = field(default_factory=dict)
    lost: Mapping[str, float] = field(default_factory=dict)
    majority: float | None = None
    best_step: int | None = None
    curve: Sequence[Mapping[str, Any]] = ()

    @property
    def way(self) -> str:
        """How the run came about: "minilm → mnli → rte · seed 1"."""
        way = " → ".join(self.lineage) or self.label
        return way if self.seed is None else f"{way} · seed {self.seed}"


@dataclass(frozen=True)
class TaskFacts:
    """One task: what it asks, and the examples that its runs used. `majority` is in points."""

    name: str
    about: str
    source: str
    primary: str
    n_train: int | None = None
    n_validation: int | None = None
    majority: float | None = None


@dataclass(frozen=True)
class ReportInputs:
    """Everything that a report shows; whatever is missing is shown as missing.

    `transfer` holds the matrices with all runs first and, where there are any degenerate ones, without these second.
    `requested` is the number of trainings there would be if nothing were shared; 0 where it is not known.
    """

    study: dict[str, Any]
    observations: DataFrame
    transfer: Sequence[Transfer] = ()
    contrasts: Sequence[Contrast] = ()
    runs: Sequence[RunFacts] = ()
    provenance: dict[str, Any] = field(default_factory=dict)
    tasks: Sequence[TaskFacts] = ()
    generated: str = ""
    flips: Flips = field(default_factory=Flips)
    requested: int = 0
    analyses: Analyses = field(default_factory=Analyses)
