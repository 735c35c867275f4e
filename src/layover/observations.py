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
    task, key = plan.tasks[score.target], score.key
    cell = {
        "encoder": score.encoder,
        "strategy": score.strategy,
        "source": score.source,
        "condition": score.condition,
        "target": score.target,
        "rows": score.rows,
        "role": score.role,
        "seed": score.seed,
        "key": key,
    }
    if not store.finished(key):
        error = store.failure(key)
        status = f"failed: {error}" if error else "missing"
        for name in FORGETTING if score.role == "forgetting" else task.metrics:
            missing = {
                "metric": name,
                "value": None,
                "status": status,
                "primary": name == task.primary and score.role != "forgetting",
                "split": "validation",
            }
            yield {**cell, "size": None, "source_size": None, **missing}
        return
    sizes = {"size": _size(store, key), "source_size": _source_size(plan, store, key)}
    done = store.read(key, "observations.jsonl")
    for row in [*done, *_later_metrics(store, key, task.metrics, done)]:
        primary = row["split"] == "validation" and row["metric"] == task.primary and score.role != "forgetting"
        yield {**cell, **sizes, **row, "primary": primary}


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
