"""The long table: what a finished, a failed and a missing cell give, and metrics that a task gained later."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.kit import a_train, publish_fake

from layover.files import write_text
from layover.observations import COLUMNS, collect, frame
from layover.plan import Score
from layover.step import Train, key_of
from layover.store import Store
from layover.tasks.task import Pair, Task

TASK = Task("rte", 1, Pair("a", "b"), ("accuracy",), labels=("no", "yes"))


def plan_of(*steps: Train, metrics: tuple[str, ...] = ("accuracy",)) -> Any:
    scores = [Score("minilm", "direct", "", "rte", "target", step.seed, key_of(step)) for step in steps]
    return SimpleNamespace(
        scores=scores, tasks={"rte": replace(TASK, metrics=metrics)}, steps={key_of(s): s for s in steps}
    )


def test_every_cell_is_in_the_table_finished_or_not(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")
    done, failed, missing = (a_train(seed=seed) for seed in (1, 2, 3))
    publish_fake(store, done, value=75.0)
    write_text(store.attempt(key_of(failed)) / "error.txt", "Traceback\n\nRuntimeError: out of luck\n")
    table = frame(collect(plan_of(done, failed, missing), store))
    assert tuple(table.columns) == COLUMNS
    primary = table[table["primary"]].set_index("seed")
    assert primary["status"].to_dict() == {1: "ok", 2: "failed: RuntimeError: out of luck", 3: "missing"}
    assert primary["value"].notna().to_dict() == {1: True, 2: False, 3: False}
    assert primary.loc[1, "value"] == 75.0
    assert primary.loc[1, "size"] == 8


def test_a_metric_that_a_task_gained_is_computed_from_the_predictions(tmp_path: Path) -> None:
    store, step = Store.open(tmp_path / "store"), a_train()
    publish_fake(store, step, gold=(0, 1, 1, 1))  # predicted as it should be
    rows = collect(plan_of(step, metrics=("accuracy", "macro_f1")), store)
    later = [row for row in rows if row["metric"] == "macro_f1"]
    assert [(row["value"], row["status"], row["primary"], row["size"]) for row in later] == [(100.0, "ok", False, 8)]
    assert len([row for row in rows if row["metric"] == "accuracy" and row["split"] == "validation"]) == 1
