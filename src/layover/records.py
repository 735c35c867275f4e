"""Records: what a store remembers of the studies run in it, so that queries and upkeep need no study file.

    studies/<name>.json               a study's words, the directories of its data, and the digest of its plan
    studies/<digest>.steps.parquet    the steps of that plan, with their labels, parents first
    studies/<digest>.cells.parquet    its cells: which step answers which question

A plan of a hundred thousand steps is written once, however often its study runs, and is read when somebody asks for it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layover.errors import Problem, StoreError
from layover.files import read_json, write_json, write_table
from layover.step import Step, text_of

if TYPE_CHECKING:
    import pyarrow as pa

CELLS = {
    "encoder": "string", "strategy": "string", "source": "string", "target": "string", "condition": "string",
    "rows": "int64", "role": "string", "seed": "int64", "key": "string",
}  # fmt: skip
MISSING = {"condition": "", "rows": 0}  # what the first layovers did not write
PLAN = ("steps", "cells")
HINT = "remove it: the next run of its study writes it again"
DIGEST = re.compile("[0-9a-f]{16}")


@dataclass(frozen=True)
class Record:
    """What a store remembers of a study. Raises StoreError where a file that is asked for is damaged."""

    path: Path
    study: Mapping[str, Any]
    data: Sequence[str]
    plan: str
    whole: Mapping[str, Any]

    @cached_property
    def steps(self) -> dict[str, Any]:
        """The content of `step.json` of every step of the plan, by key, parents first."""
        if not self.plan:
            return dict(self.whole["steps"])
        table = self._table("steps")
        return dict(zip(table["key"].to_pylist(), map(json.loads, table["step"].to_pylist()), strict=True))

    @cached_property
    def labels(self) -> dict[str, str]:
        """The label of every step, by key."""
        if not self.plan:
            return dict(self.whole["labels"])
        table = self._table("steps")
        return dict(zip(table["key"].to_pylist(), table["label"].to_pylist(), strict=True))

    @cached_property
    def cells(self) -> pa.Table:
        """A row for each cell of the study, with the columns of `CELLS`."""
        if not self.plan:
            return table_of(self.whole["cells"])
        return self._table("cells").select(list(CELLS))

    def words(self) -> dict[str, Any]:
        """All of it as JSON-like data."""
        parts = {"study": self.study, "data": self.data, "labels": self.labels, "steps": self.steps}
        return {**parts, "cells": self.cells.to_pylist()}

    def _table(self, part: str) -> pa.Table:
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = self.path.with_name(f"{self.plan}.{part}.parquet")
        try:
            return pq.read_table(path)
        except (OSError, pa.ArrowException, ValueError) as error:
            raise StoreError(Problem(str(path), f"cannot be read: {error}", HINT)) from None


def read(path: Path) -> Record:
    """The record in a study's file; raises StoreError where it cannot be read."""
    try:
        content = read_json(path)
        plan = content.get("plan", "")
        if plan and not DIGEST.fullmatch(plan):
            raise ValueError(f"{plan!r:.80} is not a plan's digest")
        return Record(path, content["study"], content["data"], plan, content)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(Problem(str(path), f"cannot be read: {type(error).__name__}: {error}", HINT)) from None


def write(
    path: Path,
    study: Mapping[str, Any],
    data: Sequence[str],
    labels: Mapping[str, str],
    steps: Mapping[str, Step],
    cells: Sequence[Mapping[str, Any]],
) -> None:
    """Write a study's record; its plan only where no record here has the same one."""
    import pyarrow as pa

    plan = _digest(labels, cells)
    files = {part: path.with_name(f"{plan}.{part}.parquet") for part in PLAN}
    if not files["steps"].exists():
        columns = [list(steps), [labels[key] for key in steps], [text_of(step) for step in steps.values()]]
        write_table(files["steps"], pa.table(columns, names=["key", "label", "step"]))
    if not files["cells"].exists():
        write_table(files["cells"], table_of(cells))
    write_json(path, {"study": study, "data": list(data), "plan": plan})


def plan_files(path: Path) -> list[Path]:
    """The files of the plan of a study whose record is there."""
    plan = read(path).plan
    return [path.with_name(f"{plan}.{part}.parquet") for part in PLAN] if plan else []


def unused(folder: Path) -> list[Path]:
    """The files of plans that no study has any more."""
    used = {record.plan for record in map(read, folder.glob("*.json"))}
    return sorted(path for path in folder.glob("*.parquet") if path.name.partition(".")[0] not in used)


def _digest(labels: Mapping[str, str], cells: Sequence[Mapping[str, Any]]) -> str:
    """What tells one plan from another. Keys say what steps are; the order is of no matter to what they mean."""
    found = hashlib.sha256(json.dumps(list(labels.items())).encode())
    of_cell, none = itemgetter(*CELLS), {name: MISSING.get(name) for name in CELLS}
    found.update(json.dumps([of_cell({**none, **cell}) for cell in cells]).encode())
    return found.hexdigest()[:16]


def table_of(cells: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Cells as a table with the columns of `CELLS`; raises what pyarrow raises where they are none."""
    import pyarrow as pa

    columns = {name: [cell.get(name, MISSING.get(name)) for cell in cells] for name in CELLS}
    return pa.table(columns, pa.schema([(name, getattr(pa, kind)()) for name, kind in CELLS.items()]))
