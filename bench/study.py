"""24 real runs, wall clock from nothing: rte and copa, directly and by way of mnli and sst2, with three seeds.

`layover run` works in a new store, on the task's own files, every row of which it checks. The same runs, as layover
plans them, are done by a Trainer process each, --jobs at a time, as a shell script would: sources first, each saved for
the runs that start from it. Their rows are read, chosen and written before their clock starts. Either way a run trains
for as many steps on as many rows, and is evaluated once, at its end, on the same rows.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from common import Run, accuracy, alone, in_child, one_thread, show, write_encoder, write_rows

from layover.plan import Plan, compile_plan
from layover.step import Train
from layover.store import Store
from layover.study import Study
from layover.tasks.load import load

TINY = {"train": 8, "validation": 8}
LIMITS = {
    "rte": {"train": 128, "validation": 64},
    "copa": {"train": 400, "validation": 100},
    "mnli": {"train": 256, "validation": 64},
    "sst2": {"train": 640, "validation": 128},
}


def study(asked: argparse.Namespace) -> None:
    """Do the runs with either engine, one after the other, and print the wall seconds and what was learnt."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        encoder = in_child(write_encoder, folder / "tiny", "tiny") if asked.tiny else "minilm"
        plans = {
            precision: compile_plan(Study(**words(encoder, precision, asked.tiny)), data=asked.data)
            for precision in ("bf16", "fp32")
        }
        found = {}
        for precision, plan in plans.items():
            seconds, scores = with_layover(plan, asked, folder / precision)
            found[f"layover {precision}"] = seconds, scores
        found["Trainer fp32"] = with_trainer(plans["fp32"], asked, folder)
    slow, n_runs = found["Trainer fp32"][0], len(plans["fp32"].steps)
    title, head = f"{n_runs} runs, {asked.jobs} at a time, from nothing", ["", "wall seconds", "ratio", "mean score"]
    show(title, head, (
        [engine, f"{seconds:.1f}", f"{slow / seconds:.2f}", f"{statistics.mean(scores):.1f}"]
        for engine, (seconds, scores) in found.items()
    ))  # fmt: skip


def words(encoder: str, precision: str, tiny: bool) -> dict[str, Any]:
    """The study; a tiny one has three runs."""
    seeds, targets, sources = ([1], ["copa"], ["mnli"]) if tiny else ([1, 2, 3], ["rte", "copa"], ["mnli", "sst2"])
    return {
        "schema": 1,
        "name": f"bench-{precision}",
        "encoders": [encoder],
        "seeds": seeds,
        "tasks": {"target": targets},
        "strategies": {"direct": {"kind": "direct"}, "stilts": {"kind": "stilts", "sources": sources}},
        "recipe": {"learning_rate": 1e-4, "epochs": 1, "batch_size": 32, "checkpoint": "last", "patience": 0,
                   "precision": precision},
        "limit": {"task": {name: TINY if tiny else LIMITS[name] for name in targets + sources}},
        "placement": {"device": "cpu", "threads": 1},
    }  # fmt: skip


def with_layover(plan: Plan, asked: argparse.Namespace, folder: Path) -> tuple[float, list[float]]:
    """Wall seconds of `layover run` in a new store, and the scores of all runs."""
    folder.mkdir()
    file, store = folder / "study.toml", folder / "store"
    file.write_text(toml(plan.study.words()), encoding="utf-8")
    data = [word for directory in asked.data for word in ("--data", str(directory))]
    command = [sys.executable, "-m", "layover.cli", "run", str(file), "--store", str(store), *data]
    began = time.perf_counter()
    done = subprocess.run([*command, "--workers", str(asked.jobs)], env=one_thread(), capture_output=True, text=True)
    seconds = time.perf_counter() - began
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    opened = Store.open(store)
    rows = [row for key in plan.steps for row in opened.read(key, "observations.jsonl")]
    return seconds, [row["value"] for row in rows if row["primary"]]


def toml(words: Mapping[str, Any]) -> str:
    """A study's words as TOML, every table inline."""
    return "".join(f"{name} = {_toml(value)}\n" for name, value in words.items())


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{name} = {_toml(item)}" for name, item in value.items()) + " }"
    return json.dumps(value)


def with_trainer(plan: Plan, asked: argparse.Namespace, folder: Path) -> tuple[float, list[float]]:
    """Wall seconds of a Trainer process per run, and their scores."""
    runs = runs_of(plan, folder)
    began = time.perf_counter()
    with ThreadPoolExecutor(asked.jobs) as pool:
        running: dict[str, Future[dict[str, Any]]] = {}
        for key in sorted(runs, key=lambda key: not runs[key].save):  # sources first: others wait for them
            source = Path(runs[key].start).name
            running[key] = pool.submit(after, running.get(source), runs[key])
        results = {key: future.result() for key, future in running.items()}
    seconds = time.perf_counter() - began
    return seconds, [accuracy(runs[key], result) for key, result in results.items()]


def after(source: Future[dict[str, Any]] | None, run: Run) -> dict[str, Any]:
    """Do a run when the one that it starts from is done."""
    if source is not None:
        source.result()
    return alone(run)


def runs_of(plan: Plan, folder: Path) -> dict[str, Run]:
    """The steps of a plan as runs of the Trainer, with the rows that layover trains them on."""
    encoders = {encoder.identity: encoder.location for encoder in plan.encoders.values()}
    rows = {}
    for name, task in plan.tasks.items():
        ref = next(step.task for step in plan.steps.values() if isinstance(step, Train) and step.task.name == name)
        data = load(task, plan.sources[name], selection="validation", holdout=0.1, limit_train=ref.limit_train,
                    limit_validation=ref.limit_validation)  # fmt: skip
        rows[name] = write_rows(folder / f"{name}.json", name, data.train, data.validation)
    found = {}
    for key, step in plan.steps.items():
        assert isinstance(step, Train)
        recipe = step.recipe
        found[key] = Run(
            engine="trainer",
            encoder=encoders[step.encoder],
            rows=rows[step.task.name],
            precision=recipe.precision,
            batch_size=recipe.batch_size,
            epochs=recipe.n_epochs(0),
            learning_rate=recipe.learning_rate,
            max_length=recipe.max_length,
            seed=step.seed,
            start=str(folder / step.start) if step.start else "",
            save=str(folder / key) if key in plan.kept() else "",
        )
    return found
