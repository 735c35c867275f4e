"""Query: the whole store as SQL views (DuckDB): steps, scores, cells and observations."""

from __future__ import annotations

from typing import Any

from layover import records
from layover.catalog import catalog
from layover.errors import Problem, UserError
from layover.store import Store

STEPS = (
    "key", "kind", "task", "encoder", "seed", "start", "learning_rate", "batch_size", "limit_train", "seconds",
)  # fmt: skip
SCORES = ("key", "split", "metric", "value", "status")
CELLS = ("study", *records.CELLS)
VIEWS = {"steps": STEPS, "scores": SCORES, "cells": CELLS}


def ask(store: Store, sql: str) -> tuple[list[str], list[tuple[Any, ...]]]:
    """The columns and rows of a query's answer; raises UserError where the SQL is wrong.

    `observations` joins cells with the scores of their steps. Nothing in the store can be changed this way, and
    the query can read no other file.
    """
    import duckdb

    connection = duckdb.connect(":memory:")
    connection.register("catalog", catalog(store))
    connection.register("cell_rows", _cells(store))
    score = ", ".join(f"score.{name}" for name in SCORES[1:])
    connection.execute(f"create view steps as select {', '.join(STEPS)} from catalog")
    connection.execute(
        f"create view scores as select key, {score} from (select key, unnest(scores) score from catalog)"
    )
    connection.execute(f"create view cells as select {', '.join(CELLS)} from cell_rows")
    connection.execute("create view observations as select c.*, s.split, s.metric, s.value, s.status "
                       "from cells c join scores s using (key)")  # fmt: skip
    connection.execute("set enable_external_access = false")
    try:
        answer = connection.execute(sql)
        if answer is None or answer.description is None:
            raise UserError(Problem("query", "asks for nothing", "write SQL, such as: select * from steps"))
        return [column[0] for column in answer.description], answer.fetchall()
    except duckdb.Error as error:
        columns = "; ".join(f"{name}({', '.join(VIEWS[name])})" for name in VIEWS)
        raise UserError(
            Problem("query", str(error).splitlines()[0], f"views: {columns}; observations joins cells and scores")
        ) from None


def _cells(store: Store) -> Any:
    """The cells of all studies, a row each."""
    import pyarrow as pa

    tables = [record.cells.append_column("study", pa.array([name] * len(record.cells), pa.string()))
              for name, record in store.studies().items()]  # fmt: skip
    none = pa.schema([("study", pa.string()), *((name, getattr(pa, kind)()) for name, kind in records.CELLS.items())])
    return pa.concat_tables([none.empty_table().select(CELLS), *(table.select(CELLS) for table in tables)])
