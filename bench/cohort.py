"""Runs one after the other and as a cohort: milliseconds for an optimizer step of all runs.

    python bench/cohort.py launches     a model so small that its operations' arithmetic takes no time, computed as on
                                        a GPU: what is measured is the host, which is what a small model waits for there
    python bench/cohort.py minilm       minilm as it is computed on a CPU, where arithmetic is what takes the time

Whole steps: batches, passes, clipping, optimizers, schedules, with dropout, on one thread and in its processor time.
Clipping and the optimizers of each run are a few launches on a GPU, and a call per tensor on a CPU: hence both figures.
Prints medians over rounds and their ratios, for cohorts of several sizes. Machines differ and are noisy: quote ratios.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

ROUNDS, WARM_UP = 3, 5
SIZES = {"launches": (1, 2, 4, 8, 16), "minilm": (1, 2, 4)}
STEPS = {"launches": 40, "minilm": 6}


def jobs(what: str, count: int, times: list[float]) -> list[Any]:
    """Runs with different learning rates and rates of dropout; the time of every step after the warm-up is noted."""
    import torch
    from transformers import AutoModel, BertConfig

    from layover.encoders import find
    from layover.step import Recipe
    from layover.tasks import TASKS
    from layover.train.heads import Head
    from layover.train.loop import Job
    from layover.train.network import Network
    from layover.train.noise import Noise

    found, task, small = [], TASKS.get("micro_teacher"), what == "launches"
    for run in range(count):
        torch.manual_seed(run)
        if small:
            size: dict[str, Any] = {
                "hidden_size": 24,
                "intermediate_size": 96,
                "num_hidden_layers": 6,
                "num_attention_heads": 2,
            }
            encoder = AutoModel.from_config(BertConfig(vocab_size=100, **size), add_pooling_layer=False)
        else:
            encoder = AutoModel.from_pretrained(find("minilm").location)
            encoder.pooler = None
        noise = Noise()
        network = Network(encoder, Head(encoder.config.hidden_size, task, 0.1, run, noise), "first", noise)
        recipe = Recipe(epochs=1, batch_size=2 if small else 16, learning_rate=1e-4 * (run + 1), checkpoint="last",
                        patience=0)  # fmt: skip
        found.append(Job(
            network=network, padding=0, train=encoded(recipe.batch_size * (STEPS[what] + WARM_UP), 4 if small else 40),
            selection=None, recipe=recipe, seed=run, score=lambda _: 0.0, micro_tokens=2048 * count,
            checkpoint_seconds=1e9, device=torch.device("cpu"), resume=Path("none"),
            report=lambda told: times.append(time.process_time()) if told["step"] >= WARM_UP else None,
        ))  # fmt: skip
    return found


def encoded(n: int, length: int) -> Any:
    """Examples of two classes with random tokens, a quarter shorter or longer than `length`."""
    from layover.train.encode import Encoded

    draw = np.random.default_rng(0)
    lengths = draw.integers(length * 3 // 4, length * 5 // 4 + 1, n)
    ends, none = np.cumsum(lengths), np.zeros(n, np.bool_)
    return Encoded(
        ids=draw.integers(1, 100, int(ends[-1])).astype(np.int32), types=None, labels=draw.integers(0, 2, n),
        offsets=np.stack([ends - lengths, ends], axis=1), groups=np.arange(n + 1), bounds=np.arange(n + 1),
        spans=np.zeros((n, 0, 2), np.int32), lost=none, rows=np.arange(n), parts=np.zeros(n, np.int64), truncated=none,
    )  # fmt: skip


def measure(what: str, count: int, together: bool) -> tuple[float, float]:
    """Milliseconds for a step of all runs, and those of them for clipping and the optimizers."""
    from layover.train import loop

    update, spent = loop._update, 0.0

    def timed(*arguments: Any) -> None:
        nonlocal spent
        began = time.process_time()
        update(*arguments)
        spent += time.process_time() - began

    with mock.patch.object(loop, "_update", timed):
        return _measure(what, count, together), 1000 * spent / (STEPS[what] + WARM_UP)


def _measure(what: str, count: int, together: bool) -> float:
    from layover.train.cohort import fit_together
    from layover.train.loop import fit

    times: list[float] = []
    runs = jobs(what, count, times)
    if together:
        for run in fit_together(runs):
            assert run.ended().step == run.together or count == 1, run.apart
        return 1000 * (times[-1] - times[count - 1]) / STEPS[what]
    total = 0.0
    for run in runs:
        times.clear()
        fit(run)
        total += times[-1] - times[0]
    return 1000 * total / STEPS[what]


def compare(what: str, sizes: Sequence[int]) -> None:
    """Both, in turn, so that what else the machine does meets both alike."""
    for count in sizes:
        found: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
        for _ in range(ROUNDS):
            for together, rounds in found.items():
                rounds.append(measure(what, count, together))
        (apart, own), (joint, theirs) = (map(statistics.median, zip(*found[w], strict=True)) for w in (False, True))
        print(f"{count:3} runs: {apart:6.1f} ms apart, {joint:6.1f} ms as a cohort, x {apart / joint:.2f}; without "
              f"clipping and optimizers {apart - own:6.1f} and {joint - theirs:6.1f}, "
              f"x {(apart - own) / (joint - theirs):.2f}", flush=True)  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=list(SIZES))
    asked = parser.parse_args()
    from layover.train import network
    from layover.train.determinism import prepare_process

    prepare_process(1)
    if asked.what == "minilm":
        compare(asked.what, SIZES[asked.what])
    else:  # keep the encoder's own attention and dropout, as on a GPU
        with mock.patch.object(network, "fastest", return_value="stock"), mock.patch.object(network, "install"):
            compare(asked.what, SIZES[asked.what])
