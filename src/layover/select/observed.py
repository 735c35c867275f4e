"""Observed: what stops were measured to add, from a store, a table, or the published matrix: what knowledge is of."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from layover.catalog import catalog
from layover.observations import COLUMNS
from layover.records import Record
from layover.select.truth import Truth
from layover.stats.paired import Cell
from layover.stats.published import NAMES, figure2
from layover.stats.transfer import Transfer, transfer
from layover.store import Store

Stop = tuple[str, str, str, str]
FIGURE2 = "Pruksachatkun et al. 2020"


@dataclass(frozen=True)
class Observed:
    """What a stop was measured to add, in points; `error` is its standard error, NaN where not known."""

    source: str
    target: str
    delta: float
    error: float = math.nan
    strategy: str = "stilts"
    encoder: str = ""
    study: str = ""


def of_figure2() -> list[Observed]:
    """The published 11 sources x 10 targets, with RoBERTa-large; without the two targets through themselves."""
    figure = figure2()
    named = [(NAMES[s], t, value) for (s, t), value in figure.delta.items() if figure.roles[t] == "target"]
    return [Observed(source, NAMES[t], value, encoder="roberta-large", study=FIGURE2)
            for source, t, value in named if source != NAMES[t]]  # fmt: skip


def of_truth(truth: Truth, encoder: str = "", study: str = "") -> list[Observed]:
    """Every cell of a truth that is known."""
    return [
        Observed(one.source, target, float(truth.delta[i, j]), float(truth.error[i, j]), one.strategy, encoder, study)
        for i, target in enumerate(truth.targets)
        for j, one in enumerate(truth.candidates)
        if not math.isnan(truth.delta[i, j])
    ]


def of_store(store: Store) -> list[Observed]:
    """Every stop that was measured in any study of a store, against that study's direct strategy.

    Strategies are named by their kind, since studies call them as they like. Of a stop that was measured with several
    numbers of rows those with most rows count: a search's first rungs say less than its last. A cell of which all runs
    are those of another study's cell counts once. Raises StoreError where a record or a step is damaged.
    """
    found: list[tuple[Cell, Observed]] = []
    for name, record in store.studies().items():
        kinds = {strategy: table["kind"] for strategy, table in record.study["strategies"].items()}
        against = next((strategy for strategy, kind in kinds.items() if kind == "direct"), None)
        rows = [] if against is None else list(_rows(store, record))
        if against is None or all(row["strategy"] != against for row in rows):
            continue
        for cell, one in _cells(transfer(rows, store.predictions, against), name):
            found.append((cell, replace(one, strategy=kinds[one.strategy])))
    return list(_once(_largest(found, store)))


def _cells(found: Transfer, study: str) -> Iterator[tuple[Cell, Observed]]:
    for matrix in found.matrices:
        for (source, target), cell in matrix.cells.items():
            if cell.role == "target" and cell.delta is not None and source not in ("", target):
                error = cell.noise.error if cell.noise else math.nan
                yield cell, Observed(source, target, cell.delta, error, matrix.strategy, matrix.encoder, study)


def _largest(found: list[tuple[Cell, Observed]], store: Store) -> list[tuple[Cell, Observed]]:
    """Those with most rows of the target, and then of the source, of each stop."""
    table = catalog(store).select(["key", "start", "limit_train"]).to_pylist()
    steps = {row["key"]: (row["start"], row["limit_train"] or math.inf) for row in table}

    def rows(cell: Cell) -> tuple[float, float]:
        starts = [steps[key][0] for key in cell.keys]
        of_source = [steps[start][1] for start in starts if start in steps]
        return min(steps[key][1] for key in cell.keys), min(of_source, default=math.inf)

    most: dict[Stop, tuple[float, float]] = {}
    for cell, one in found:
        most[_stop(one)] = max(rows(cell), most.get(_stop(one), (0.0, 0.0)))
    return [(cell, one) for cell, one in found if rows(cell) == most[_stop(one)]]


def _stop(one: Observed) -> Stop:
    return one.encoder, one.strategy, one.source, one.target


def _once(found: list[tuple[Cell, Observed]]) -> Iterator[Observed]:
    """Those that have runs which no other of the same stop has, of the ones with most runs first."""
    seen: dict[Stop, set[str]] = {}
    for cell, one in sorted(found, key=lambda pair: -len(pair[0].keys)):
        known = seen.setdefault(_stop(one), set())
        if not set(cell.keys) <= known:
            known.update(cell.keys)
            yield one


def _rows(store: Store, record: Record) -> Iterator[dict[str, Any]]:
    """The primary scores of the study's finished cells of target tasks; without those at other sizes or settings."""
    for cell in record.cells.to_pylist():
        if cell["role"] != "target" or cell["condition"] or cell["rows"] or not store.finished(cell["key"]):
            continue
        for row in store.read(cell["key"], "observations.jsonl"):
            if row["primary"]:
                yield {name: value for name, value in {**cell, **row}.items() if name in COLUMNS}
