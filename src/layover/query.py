"""Query: the whole store as SQL views (DuckDB): steps, scores, cells and observations."""

from __future__ import annotations

from typing import Any

from layover.errors import Problem, UserError
from layover.store import Store

VIEWS = {
    "steps": (
        "key",
        "kind",
        "task",
        "encoder",
        "seed",
        "start",
        "learning_rate",
        "batch_size",
        "limit_train",
        "seconds",
    ),
    "scores": ("key", "split", "metric", "value", "status"),
    "cells": ("study", "encoder", "strategy", "source", "target", "condition", "rows", "role", "seed", "key"),
}


def ask(store: Store, sql: str) -> tuple[list[str], list[tuple[Any, ...]]]:
    """The columns and rows of a query's answer; raises UserError where the SQL is wrong.

    `observations` joins cells with the scores of their steps. Nothing in the store can be changed this way, and
    the query can read no other file.
    """
    import duckdb
    import pyarrow as pa

    connection = duckdb.connect(":memory:")
    for name, rows in _rows(store).items():
        columns = {c: [row[c] for row in rows] for c in VIEWS[name]}
        connection.register(f"{name}_rows", pa.table(columns) if rows else _empty(pa, VIEWS[name]))
        connection.execute(f"create table {name} as select * from {name}_rows")
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


def _rows(store: Store) -> dict[str, list[dict[str, Any]]]:
    steps, scores = [], []
    for key in store.finished_keys():
        content = store.read(key, "step.json")
        step, task, recipe = content["step"], content["step"].get("task", {}), content["step"].get("recipe", {})
        facts = {"task": task.get("name"), "limit_train": task.get("limit_train"), **recipe}
        facts |= {"seconds": store.read(key, "provenance.json")["seconds"], "key": key, "kind": content["kind"]}
        facts |= {name: step.get(name) for name in ("encoder", "seed", "start")}
        steps.append({column: facts.get(column) for column in VIEWS["steps"]})
        scores += [{"key": key, **row} for row in store.read(key, "observations.jsonl")]
    cells = [
        {"study": name, "condition": "", "rows": 0, **cell}
        for name, content in store.studies().items()
        for cell in content["cells"]
    ]
    return {"steps": steps, "scores": scores, "cells": cells}


def _empty(pa: Any, columns: tuple[str, ...]) -> Any:
    numbers = {"value": pa.float64(), "seed": pa.int64(), "seconds": pa.float64(), "rows": pa.int64()}
    return pa.table({name: pa.array([], numbers.get(name, pa.string())) for name in columns})
