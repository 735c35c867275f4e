"""What is learnt by layover and by transformers' `Trainer`: the same rows, epochs, rates and batches, five seeds.

    python bench/quality.py --data DIR --out FILE     FILE keeps every result: the command may be stopped, and goes on

rte, mnli, sst2 and copa with minilm: a part of train, the same for all runs, and a part of validation, the shortest
rows first (what is predicted does not depend on the order, what it costs does). The Trainer has dynamic padding and
fp32. Accuracy, the primary metric of all four, paired by task and seed. Prints means per task, the mean difference with
its 95 % interval (Student's t over the pairs), and whether layover is below by more than half that interval's width.
--tiny shows that the command runs. It needs accelerate: pip install '.[dev]'.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

from common import FOUR, Ledger, Run, accuracy, in_child, show, write_encoder, write_rows
from scipy import stats

from layover.encoders import find
from layover.tasks import TASKS
from layover.tasks.load import load, locate

SIZES: dict[str, tuple[int, int, int]] = {
    "rte": (400, 277, 1),
    "mnli": (800, 400, 1),
    "sst2": (1600, 872, 1),
    "copa": (400, 100, 4),
}
"""Rows of train and of validation, and epochs."""
ENGINES: dict[str, dict[str, Any]] = {
    "Trainer fp32": {"engine": "trainer"},
    "layover fp32": {"engine": "layover"},
    "layover bf16": {"engine": "layover", "precision": "bf16"},
}


def measure(asked: argparse.Namespace) -> dict[tuple[str, str, int], float]:
    """The accuracy of every engine, task and seed."""
    sizes = dict.fromkeys(FOUR, (8, 8, 1)) if asked.tiny else SIZES
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        encoder = in_child(write_encoder, folder / "tiny", "tiny") if asked.tiny else find("minilm").location
        rows = {task: rows_of(task, asked.data, sizes[task], folder) for task in asked.tasks}
        runs = {
            (engine, task, seed): Run(encoder=encoder, rows=rows[task], epochs=sizes[task][2], seed=seed,
                                      batch_size=asked.batch, max_length=asked.length, learning_rate=asked.rate, **how)
            for seed in seeds(asked) for task in asked.tasks for engine, how in ENGINES.items()
        }  # fmt: skip
        how = f"rate {asked.rate:g}, batch {asked.batch} x {asked.length}"
        names = {cell: f"{cell[0]}, {cell[1]} {sizes[cell[1]]}, seed {cell[2]}, {how}" for cell in runs}
        found = Ledger(asked.out).measure({names[cell]: run for cell, run in runs.items()}, asked.jobs)
        return {cell: accuracy(run, found[names[cell]]) for cell, run in runs.items()}


def rows_of(name: str, data: list[Path], size: tuple[int, int, int], folder: Path) -> str:
    """Write the rows of a task; the file's name."""
    task = TASKS.get(name)
    found = load(task, locate(task, data), selection="validation", holdout=0.1, limit_train=size[0],
                 limit_validation=size[1])  # fmt: skip
    validation = sorted(found.validation, key=lambda example: len(str(example.inputs)))
    return write_rows(folder / f"{name}.json", name, found.train, validation)


def report(scores: dict[tuple[str, str, int], float], tasks: list[str], seeds: range) -> None:
    """Print means per task, and the paired difference of each of layover's precisions from the Trainer."""
    pairs, mean_of = [(task, seed) for task in tasks for seed in seeds], statistics.mean
    show(f"accuracy, means of {len(seeds)} seeds", ["", *tasks, "mean"], (
        [engine, *(f"{mean_of(scores[engine, task, seed] for seed in seeds):.2f}" for task in tasks),
         f"{mean_of(scores[engine, *pair] for pair in pairs):.2f}"] for engine in ENGINES
    ))  # fmt: skip
    lines = []
    for engine in list(ENGINES)[1:]:
        differences = [scores[engine, *pair] - scores["Trainer fp32", *pair] for pair in pairs]
        mean, half = mean_of(differences), half_width(differences)
        lines.append([engine, f"{mean:+.2f}", f"{mean - half:+.2f} to {mean + half:+.2f}", f"{half:.2f}",
                      "no" if mean >= -half else "yes"])  # fmt: skip
    show(f"minus Trainer fp32, {len(pairs)} pairs of task and seed", 
         ["", "mean difference", "95 % interval", "half its width", "below by more than that"], lines)  # fmt: skip


def seeds(asked: argparse.Namespace) -> range:
    return range(1, asked.seeds + 1)


def half_width(differences: list[float]) -> float:
    """Half the width of the 95 % interval of a mean, by Student's t."""
    low, high = stats.ttest_1samp(differences, 0.0).confidence_interval(0.95)
    return float(high - low) / 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, action="append", required=True, help="directory of task data; repeatable")
    parser.add_argument("--out", type=Path, help="file of results, to go on from")
    parser.add_argument("--tasks", type=lambda text: text.split(","), default=list(FOUR), help=",".join(FOUR))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rate", type=float, default=1e-4, help="learning rate")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--length", type=int, default=128, help="tokens of an input at most")
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time")
    parser.add_argument("--tiny", action="store_true")
    asked = parser.parse_args()
    report(measure(asked), asked.tasks, seeds(asked))


if __name__ == "__main__":
    main()
