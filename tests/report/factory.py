"""A small study with everything that can go wrong: a degenerate, a failed and a missing run, and odd names."""

from __future__ import annotations

from typing import Any

import numpy as np

from layover.predictions import Predictions
from layover.report.facts import ReportInputs, RunFacts, TaskFacts
from layover.report.flips import Wording, flips_of
from layover.stats.contrast import contrast
from layover.stats.table import check
from layover.stats.transfer import transfer

ODD_SOURCE = '<script>alert("x")</script>'
ODD_TARGET = "ré&te_{100%} </script><b>'"
SOURCES = ("mnli", "commonsenseqa", ODD_SOURCE)
TARGETS = ("rte", "cb", ODD_TARGET)
EFFECTS = {("mnli", "rte"): 15.0, ("commonsenseqa", "cb"): -16.0}
FAILED, MISSING, COLLAPSED = ("mnli", "cb", 3), (ODD_SOURCE, "rte", 2), ("commonsenseqa", "rte", 1)
ERROR = "OutOfMemory: <img src=x onerror=alert(1)>"
TEXT = "Row {}: <img src=x onerror=alert(1)>"
WORDING = Wording(lambda key: "", lambda key: ("no", "yes"), lambda task, rows: {(r, 0): TEXT.format(r) for r in rows})


def inputs(with_runs: bool = True) -> ReportInputs:
    rows, predictions, runs = observations()
    kept = transfer(rows, predictions.get)
    without = transfer(rows, predictions.get, without_degenerate=True)
    about = "does one sentence follow from another"
    tasks = [
        TaskFacts(name, about, "hub/glue@0123456789ab", "accuracy", n_train=2490, n_validation=400, majority=52.7)
        for name in TARGETS
    ]
    study = {
        "name": "does-a-stop-help", "encoders": ["minilm"], "seeds": [1, 2, 3], "selection": "holdout",
        "tasks": {"target": list(TARGETS)}, "strategies": {"stilts": {"kind": "stilts", "sources": list(SOURCES)}},
        "recipe": {"learning_rate": 2e-5}, "contrasts": [{"of": ["stilts"], "against": "direct", "correct": "holm"}],
    }  # fmt: skip
    return ReportInputs(
        study=study,
        observations=check(rows),
        transfer=[kept, without],
        contrasts=[contrast(rows, ["stilts"], "direct", predictions.get)],
        runs=runs if with_runs else [],
        provenance={"layover": "0.1.0", "torch": "2.11.0", "transformers": "5.17.0", "machine": "8 cores, no GPU"},
        tasks=tasks,
        generated="2026-01-31 12:00 UTC",
        flips=flips_of([kept, without], predictions.get, WORDING, shown=4),
    )


def observations() -> tuple[list[dict[str, Any]], dict[str, Predictions], list[RunFacts]]:
    rng = np.random.default_rng(11)
    rows, predictions, runs = [], {}, []
    for target in TARGETS:
        gold = rng.integers(2, size=400).astype(float)
        hard = rng.random(400)  # what is hard is hard for every run, so that seeds differ little
        for source in ("", *SOURCES):
            for seed in (1, 2, 3):
                key = f"{abs(hash((TARGETS.index(target), ('', *SOURCES).index(source), seed))):064x}"[-64:]
                cell = (source, target, seed)
                status = {FAILED: f"failed: {ERROR}", MISSING: "missing"}.get(cell, "ok")
                status = "degenerate: constant prediction" if cell == COLLAPSED else status
                right = hard + rng.normal(0, 0.02, 400) < 0.7 + EFFECTS.get((source, target), 0.0) / 100
                predicted = np.ones(400) if cell == COLLAPSED else np.where(right, gold, 1 - gold)
                value = 100 * float((predicted == gold).mean())
                lost = status.startswith(("failed", "missing"))
                if not lost:
                    predictions[key] = Predictions(np.arange(400), gold, predicted, 2)
                rows.append(
                    {"encoder": "minilm", "strategy": "stilts" if source else "direct", "source": source,
                     "target": target, "role": "target", "seed": seed, "size": 2490, "metric": "accuracy",
                     "value": None if lost else value, "status": status, "primary": True, "key": key,
                     "split": "validation"}
                )  # fmt: skip
                runs.append(_run(rng, key, source, target, seed, status))
    return rows, predictions, runs


def _run(rng: np.random.Generator, key: str, source: str, target: str, seed: int, status: str) -> RunFacts:
    lost = status.startswith(("failed", "missing"))
    curve = [
        {"epoch": e, "step": 60 * e, "loss": 0.7 * 0.8**e, "selection": 55 + 3 * e + float(rng.normal())}
        for e in range(1, 6)
    ]
    return RunFacts(
        key=key, label=f"stilts/{source}/{target}/{seed}", kind="train", task=target, seed=seed,
        lineage=["minilm", *([source] if source else []), target],
        recipe={"learning_rate": 2e-5, "epochs": 10 if target == "cb" else 5, "batch_size": 32},
        status=status, seconds=74.2, n_train=500, n_selection=249, n_validation=400,
        available={"train": 2490, "validation": 400}, truncated={"train": 0.031 if target == "rte" else 0.0},
        curve=[] if lost else curve, best_step=None if lost else 240, error=ERROR if "failed" in status else "",
    )  # fmt: skip
