"""Training against transformers' `Trainer`, side by side, on real data. It needs accelerate: pip install '.[dev]'.

    python bench/trainer.py throughput --data DIR     examples per processor second, and the largest memory
    python bench/trainer.py study --data DIR          24 runs from nothing, wall clock

--tiny shows that a command runs, with tiny models. --out FILE keeps what throughput found, so that a command that was
stopped goes on: name another file when the code has changed. What is measured, and how: sample.py and study.py.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import study
from common import FOUR, Ledger, Run, geometric, in_child, show, write_encoder
from sample import Rows, rounds

from layover.encoders import find

BATCH = {"minilm": 32, "base": 8}
CELLS: dict[str, dict[str, Any]] = {
    "dynamic fp32": {"engine": "trainer"},
    "dynamic bf16": {"engine": "trainer", "precision": "bf16"},
    "grouped bf16": {"engine": "trainer", "precision": "bf16"},
    "padded fp32": {"engine": "trainer", "padding": "max_length"},
    "padded bf16": {"engine": "trainer", "padding": "max_length", "precision": "bf16"},
    "layover fp32": {"engine": "layover"},
    "layover bf16": {"engine": "layover", "precision": "bf16"},
}
RATIOS: list[tuple[str, str, dict[str, float]]] = [  # ours, against, and the goal for each model
    ("layover bf16", "dynamic fp32", {"minilm": 8, "base": 4}),
    ("layover bf16", "dynamic bf16", {}),
    ("layover fp32", "dynamic fp32", {"minilm": 5, "base": 2.3}),
    ("layover bf16", "grouped bf16", {"minilm": 1.7, "base": 1.5}),
    ("layover bf16", "padded fp32", {"minilm": 18, "base": 9}),
    ("layover bf16", "padded bf16", {}),
]
MEASURED = [cell for cell in CELLS if cell != "padded bf16"]  # the slowest, of which no goal speaks
Found = dict[tuple[str, str, str], list[Any]]
"""What was found for a model, task and cell in each round."""


def throughput(asked: argparse.Namespace) -> None:
    """Measure every cell in every round, each in a process of its own, and print what was found."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        encoders = {model: encoder(model, folder, asked.tiny) for model in asked.models}
        pairs = [(model, task) for model in asked.models for task in asked.tasks]
        with ThreadPoolExecutor(asked.jobs) as pool:
            made = pool.map(lambda p: in_child(rounds, p[1], asked.data, folder, batch(p[0], asked), asked), pairs)
            rows: dict[tuple[str, str], list[Rows]] = dict(zip(pairs, made, strict=True))
        runs = {
            f"{cell}, {task}, {model}, round {turn + 1}, {asked.steps} steps of {batch(model, asked)} x {asked.length}":
            run_of(cell, rows[model, task][turn], encoders[model], batch(model, asked), asked.length)
            for turn in range(asked.rounds) for task in asked.tasks for model in asked.models for cell in asked.cells
        }  # fmt: skip
        results = Ledger(asked.out).measure(runs, asked.jobs)
    found: Found = {}
    for name, result in results.items():
        cell, task, model, *_ = name.split(", ")
        found.setdefault((model, task, cell), []).append(result)
    rates = {
        (model, task, cell): [rate(result, rows[model, task][turn], cell) for turn, result in enumerate(results)]
        for (model, task, cell), results in found.items()
    }
    for model in asked.models:
        report(model, asked, rates, found)


def encoder(model: str, folder: Path, tiny: bool) -> str:
    """The directory of a model; a random one is written first."""
    if model == "minilm" and not tiny:
        return find("minilm").location
    return in_child(write_encoder, folder / model, "tiny" if tiny else "base")


def batch(model: str, asked: argparse.Namespace) -> int:
    return 4 if asked.tiny else BATCH[model]


def run_of(cell: str, rows: Rows, directory: str, size: int, length: int) -> Run:
    file = rows.grouped if cell.startswith("grouped") else rows.random
    return Run(encoder=directory, rows=file, batch_size=size, max_length=length, ordered=True, **CELLS[cell])


def rate(result: dict[str, Any], rows: Rows, cell: str) -> float:
    """Examples per processor second between the end of the first optimizer step and that of the last."""
    seconds = result["stamps"][-1] - result["stamps"][0]
    if cell.startswith("grouped"):
        return rows.grouped_tokens / (rows.random_tokens / rows.examples) / seconds
    return rows.examples / seconds


def report(model: str, asked: argparse.Namespace, rates: Found, found: Found) -> None:
    """Print a model's rates, ratios and memory, task by task, and each ratio's geometric mean over tasks."""
    middle, tasks, cells = statistics.median, asked.tasks, asked.cells
    show(f"{model}: examples per processor second", ["", *tasks], (
        [cell, *(f"{middle(rates[model, task, cell]):.2f}" for task in tasks)] for cell in cells
    ))  # fmt: skip
    lines = []
    for ours, against, goals in (row for row in RATIOS if {*row[:2]} <= {*cells}):
        pairs = {task: (rates[model, task, ours], rates[model, task, against]) for task in tasks}
        ratios = {task: [one / other for one, other in zip(*pair, strict=True)] for task, pair in pairs.items()}
        mean = geometric(middle(each) for each in ratios.values())
        goal = f"{goals[model]:g}" if model in goals and not asked.tiny else ""
        shown = [f"{middle(each):.2f} ({min(each):.2f} to {max(each):.2f})" for each in ratios.values()]
        lines.append([f"{ours} / {against}", *shown, f"{mean:.2f}", goal])
    show(f"{model}: ratios, medians of rounds (ranges)", ["", *tasks, "geometric mean", "goal"], lines)
    for title, value in (("largest memory, MB", lambda r: r["peak"]), ("processor seconds to the first step's end",
                                                                       lambda r: r["stamps"][0])):  # fmt: skip
        show(f"{model}: {title}", ["", *tasks], (
            [cell, *(f"{middle(map(value, found[model, task, cell])):.1f}" for task in tasks)] for cell in cells
        ))  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["throughput", "study"])
    parser.add_argument("--data", type=Path, action="append", required=True, help="directory of task data; repeatable")
    parser.add_argument("--models", type=lambda text: text.split(","), default=list(BATCH), help="minilm,base")
    parser.add_argument("--tasks", type=lambda text: text.split(","), default=list(FOUR), help=",".join(FOUR))
    parser.add_argument("--cells", type=lambda text: text.split(","), default=MEASURED, help=",".join(CELLS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=2, help="timed optimizer steps of each cell")
    parser.add_argument("--length", type=int, default=256, help="tokens of an input at most")
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time")
    parser.add_argument("--out", type=Path, help="file of results, to go on from")
    parser.add_argument("--tiny", action="store_true")
    asked = parser.parse_args()
    throughput(asked) if asked.what == "throughput" else study.study(asked)


if __name__ == "__main__":
    main()
