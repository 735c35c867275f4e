"""How large the report of the largest study is, and how long it takes to make.

    python bench/report.py [--out report.html] [--tiny]

A synthetic study of the size of Pruksachatkun et al. (2020): 11 intermediate tasks, 10 targets and 25 probing tasks
with 3 restarts, which makes 1,260 observations, each with predictions and a learning curve. Numbers are drawn with a
fixed seed; most stops change little, a few help or hurt, and some runs collapse.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from layover.predictions import Predictions
from layover.report.analyses import analyses_of
from layover.report.build import build
from layover.report.facts import ReportInputs, RunFacts, TaskFacts
from layover.report.flips import Flips, Wording, flips_of
from layover.stats.table import check
from layover.stats.transfer import transfer

SOURCES = ("qamr", "commonsenseqa", "scitail", "cosmosqa", "socialiqa", "ccg", "hellaswag", "qa_srl", "sst2", "qqp",
           "mnli")  # fmt: skip
TARGETS = ("cb", "copa", "wsc", "rte", "multirc", "wic", "boolq", "commonsenseqa_target", "cosmosqa_target", "record")
PROBING = tuple(f"ep_{name}" for name in ("pos", "nonterminal", "ner", "coref", "srl", "spr1", "spr2", "dpr", "rel",
                                          "ud")) + tuple(
    f"se_{name}" for name in ("sentlen", "wc", "treedepth", "topconst", "bshift", "tense", "subjnum", "objnum", "somo",
                              "coordinv")) + ("cola", "aj_cp", "aj_wh", "aj_def", "aj_eos")  # fmt: skip
RESTARTS = (1, 2, 3)
SHIFTS = (-0.25, -0.08, -0.02, 0.0, 0.0, 0.01, 0.03, 0.09)  # of a stop and a task, as shares that are right
TEXT = "A synthetic sentence number {row} of {task}, long enough to look like one that a reader would be asked about."


@dataclass
class Made:
    """What has been drawn so far."""

    rng: np.random.Generator
    rows: list[dict[str, Any]] = field(default_factory=list)
    runs: list[RunFacts] = field(default_factory=list)
    predictions: dict[str, Predictions] = field(default_factory=dict)


def full_size(sources: Sequence[str] = SOURCES, targets: Sequence[str] = TARGETS, probing: Sequence[str] = PROBING,
              examples: int = 400, shown: int = 0) -> ReportInputs:  # fmt: skip
    """Everything that a report shows of a made study; `shown` examples of each cell have their text."""
    made = Made(np.random.default_rng(2020))
    for source in sources:
        made.runs += [_run(made.rng, f"{source}-{seed}", ["roberta", source], seed, "ok", "") for seed in RESTARTS]
    for role, names in (("target", targets), ("probing", probing)):
        for name in names:
            _task(made, name, role, sources, examples)
    found = [transfer(made.rows, made.predictions.get, without_degenerate=left) for left in (False, True)]
    return ReportInputs(
        study={"name": "pruksachatkun2020-synthetic", "encoders": ["roberta"], "seeds": list(RESTARTS),
               "selection": "validation", "tasks": {"target": list(targets), "probing": list(probing)},
               "baseline": "direct"},
        observations=check(made.rows), transfer=found, runs=made.runs,
        provenance={"layover": "synthetic", "machine": "none: every number here is made up"},
        tasks=[TaskFacts(name, "a made task", "made", "accuracy", 2490, examples, 50.0)
               for name in (*targets, *probing)],
        flips=_flips(found, made, shown), generated="2026-01-31 12:00 UTC",
        analyses=analyses_of(check(made.rows), {name: name for name in ("direct", "stilts")}, "direct"),
        requested=2 * len(sources) * (len(targets) + len(probing)) * len(RESTARTS) + len(RESTARTS),
    )  # fmt: skip


def _task(made: Made, name: str, role: str, sources: Sequence[str], examples: int) -> None:
    gold = made.rng.integers(2, size=examples).astype(float)
    hard = made.rng.random(examples)  # an example that is hard is hard for every run
    ability = made.rng.uniform(0.6, 0.9)
    for source in ("", *sources):
        shift = float(made.rng.choice(SHIFTS)) if source else 0.0
        for seed in RESTARTS:
            collapsed = made.rng.random() < (0.25 if shift == min(SHIFTS) else 0.005)
            right = hard + made.rng.normal(0, 0.08, examples) < ability + shift + made.rng.normal(0, 0.01)
            predicted = np.ones(examples) if collapsed else np.where(right, gold, 1 - gold)
            key = f"{len(made.rows):064x}"
            status = "degenerate: constant prediction" if collapsed else "ok"
            made.predictions[key] = Predictions(np.arange(examples), gold, predicted, 2)
            made.rows.append(
                {"encoder": "roberta", "strategy": "stilts" if source else "direct", "source": source, "target": name,
                 "role": role, "seed": seed, "size": 2490, "metric": "accuracy", "split": "validation",
                 "value": 100 * float((predicted == gold).mean()), "status": status, "primary": True, "key": key}
            )  # fmt: skip
            way = ["roberta", *([source] if source else []), name]
            made.runs.append(_run(made.rng, key, way, seed, status, f"{source}-{seed}" if source else ""))


def _run(rng: np.random.Generator, key: str, way: list[str], seed: int, status: str, start: str) -> RunFacts:
    curve = [
        {"epoch": point / 4, "step": 300 * point, "loss": 0.7 * 0.9**point + float(rng.normal(0, 0.01)),
         "selection": 80 - 25 * 0.8**point + float(rng.normal(0, 0.7))}
        for point in range(1, 21)
    ]  # fmt: skip
    return RunFacts(
        key=key, label="/".join([*way, str(seed)]), kind="train", status=status, lineage=way, task=way[-1], seed=seed,
        start=start, seconds=float(rng.uniform(600, 7200)), n_train=2490, n_selection=400, n_validation=400,
        available={"train": 2490, "validation": 400}, recipe={"learning_rate": 2e-5, "batch_size": 32, "epochs": 10},
        best_step=300 * int(rng.integers(8, 21)), curve=curve,
    )  # fmt: skip


def _flips(found: Sequence[Any], made: Made, shown: int) -> Flips:
    def read(task: str, rows: Sequence[int]) -> dict[tuple[int, int], str]:
        return {(row, 0): TEXT.format(row=row, task=task) for row in rows}

    tasks = {run.key: run.task for run in made.runs}
    return flips_of(found, made.predictions.get, Wording(tasks.__getitem__, lambda key: ("no", "yes"), read), shown)


def main() -> None:
    """Make the study and its page; print how large it is and how long each took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("report.html"))
    parser.add_argument("--examples", type=int, default=0, help="texts of so many examples in each cell")
    parser.add_argument("--tiny", action="store_true", help="three stops and four tasks: does it run")
    asked = parser.parse_args()
    small: dict[str, Any] = {"sources": SOURCES[:3], "targets": TARGETS[:2], "probing": PROBING[:2], "examples": 50}
    begun = time.perf_counter()
    inputs = full_size(shown=asked.examples, **(small if asked.tiny else {}))
    drawn = time.perf_counter()
    asked.out.write_text(build(inputs), encoding="utf-8")
    print(f"observations    {len(inputs.observations):,}")
    print(f"analysed in s   {drawn - begun:.1f}")
    print(f"page made in s  {time.perf_counter() - drawn:.1f}")
    print(f"page in MB      {asked.out.stat().st_size / 1e6:.2f}")


if __name__ == "__main__":
    main()
