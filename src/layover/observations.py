"""Observations: the long table, one row per cell, seed and metric. `value` is in points (0-100)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layover.metrics import get_metric
from layover.plan import Plan, Score
from layover.store import Store

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    "encoder", "strategy", "source", "condition", "target", "rows", "role", "seed", "size", "source_size",
    "metric", "value", "status", "primary", "split", "key",
)  # fmt: skip
FORGETTING = ("mlm_loss", "mlm_loss_rise", "cka", "l2")  # what every measure of forgetting gives, beside each layer's


def collect(plan: Plan, store: Store) -> list[dict[str, Any]]:
    """The observations of a study: every cell, whether it is finished or not.

    A cell without a finished step gives one row per metric with status "missing" (or "failed: ...") and no value.
    A metric that a task gained after a step was finished is computed from the step's predictions: nothing is retrained.
    """
    return [row for score in plan.scores for row in _rows(plan, store, score)]


def frame(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Observations as a table with the columns of `COLUMNS`."""
    import pandas as pd

    return pd.DataFrame(rows, columns=list(COLUMNS))


def write(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write observations as CSV, or as Parquet where the name ends in .parquet."""
    table = frame(rows)
    if path.suffix == ".parquet":
        table.to_parquet(path, index=False)
    else:
        table.to_csv(path, index=False, float_format="%.6g")


def _rows(plan: Plan, store: Store, score: Score) -> Iterator[dict[str, Any]]:
    if store.finished(score.key):
        return found(plan, store, score)
    error = store.failure(score.key)
    return missing(plan, score, f"failed: {error}" if error else "missing")


def missing(plan: Plan, score: Score, status: str) -> Iterator[dict[str, Any]]:
    """The observations of a cell whose step is not finished: a row per metric, without a value."""
    task = plan.tasks[score.target]
    for name in FORGETTING if score.role == "forgetting" else task.metrics:
        primary = name == task.primary and score.role != "forgetting"
        row = {"metric": name, "value": None, "status": status, "primary": primary, "split": "validation"}
        yield {**_cell(score), "size": None, "source_size": None, **row}


def found(plan: Plan, store: Store, score: Score) -> Iterator[dict[str, Any]]:
    """The observations of a cell whose step is finished; raises StoreError where it is damaged."""
    task, key = plan.tasks[score.target], score.key
    sizes = {"size": _size(store, key), "source_size": _source_size(plan, store, key)}
    done = store.read(key, "observations.jsonl")
    for row in [*done, *_later_metrics(store, key, task.metrics, done)]:
        primary = row["split"] == "validation" and row["metric"] == task.primary and score.role != "forgetting"
        yield {**_cell(score), **sizes, **row, "primary": primary}


def _cell(score: Score) -> dict[str, Any]:
    names = ("encoder", "strategy", "source", "condition", "target", "rows", "role", "seed", "key")
    return {name: getattr(score, name) for name in names}


def _later_metrics(
    store: Store, key: str, metrics: Sequence[str], done: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    known = {row["metric"] for row in done if row["split"] == "validation"}
    missing = [name for name in metrics if name not in known]
    predictions = store.predictions(key) if missing else None
    if predictions is None:
        return []
    status = done[0]["status"] if done else "ok"
    return [
        {"split": "validation", "metric": name, "value": get_metric(name).score(predictions), "status": status}
        for name in missing
    ]


def _size(store: Store, key: str) -> int:
    return int(store.read(key, "provenance.json")["examples"]["train"])


def _source_size(plan: Plan, store: Store, key: str) -> int | None:
    start = getattr(plan.steps[key], "start", None)
    if not start or not store.finished(start):
        return None
    return store.read(start, "provenance.json").get("examples", {}).get("train")
