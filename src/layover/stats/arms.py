"""Arms: the rows that an analysis is about, and the restarts of each source as points of one table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from layover.errors import ObservationsError, Problem, did_you_mean
from layover.metrics import Array
from layover.stats.paired import index
from layover.stats.table import is_degenerate

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True, eq=False)
class Points:
    """One strategy's values by task, each [sources, restarts] in points, NaN where a run failed or is missing.

    Restart k of a source is its k-th seed in order: sources need not have the same seeds. `degenerate` says which of
    the values are those of collapsed runs; `roles` is the role of each task.
    """

    sources: tuple[str, ...]
    seeds: dict[str, tuple[int, ...]]
    values: dict[str, Array]
    degenerate: dict[str, NDArray[np.bool_]]
    roles: dict[str, str]

    def tasks(self, *roles: str) -> list[str]:
        """Tasks of these roles in alphabetical order, one role after the other."""
        return [task for role in roles for task in sorted(self.values) if self.roles[task] == role]


def points(frame: DataFrame) -> Points:
    """The points of selected rows that are all of one encoder and one strategy; rows without a source are left out."""
    runs = {(target, source): found for (_, _, target, source), found in index(frame).items() if source}
    sources = tuple(sorted({source for _, source in runs}))
    seeds = {
        source: tuple(sorted({seed for (_, of), found in runs.items() if of == source for seed in found}))
        for source in sources
    }
    shape = len(sources), max(map(len, seeds.values()), default=0)
    values: dict[str, Array] = {}
    collapsed: dict[str, NDArray[np.bool_]] = {}
    roles: dict[str, str] = {}
    for (target, source), found in runs.items():
        place = sources.index(source)
        of = values.setdefault(target, np.full(shape, np.nan))
        lost = collapsed.setdefault(target, np.zeros(shape, bool))
        for seed, row in found.items():
            restart = seeds[source].index(seed)
            of[place, restart], lost[place, restart] = row["value"], is_degenerate(row["status"])
            roles[target] = row["role"]
    return Points(sources, seeds, values, collapsed, roles)


def one_of(frame: DataFrame, column: str, asked: str | None) -> DataFrame:
    """The rows with the value that was asked for, or with the only one that there is.

    Raises ObservationsError where there are several to choose from, or none of that name.
    """
    names = sorted(set(frame[column]))
    if asked is None and len(names) > 1:
        hint = f"choose one of: {', '.join(name or '(unnamed)' for name in names)}"
        raise ObservationsError(Problem(column, "there are several", hint))
    if asked is not None and asked not in names:
        raise ObservationsError(Problem(column, f"no row has {column} {asked!r}", did_you_mean(asked, names)))
    return frame if asked is None else frame.loc[frame[column] == asked]


def with_sources(frame: DataFrame) -> DataFrame:
    """The rows with a source or a condition; raises ObservationsError where there are none."""
    found = frame.loc[frame["source"] != ""]
    if found.empty:
        hint = "name the intermediate task of each row in the column source"
        raise ObservationsError(Problem("source", "no row has a source", hint))
    return found
