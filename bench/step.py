"""Optimizer steps of minilm on a CPU, side by side: ways to call it, sizes of micro-batches, dropout, threads.

    python bench/step.py ways --data DIR      DIR holds rte; ways of calling the encoder, fp32 and bf16, one thread
    python bench/step.py micro --data DIR     the same for sizes of micro-batches
    python bench/step.py selection --data DIR what looking at a selection set every epoch adds to a run
    python bench/step.py dropout              masks of each input's own against torch's dropout, one thread
    python bench/step.py spin                 wall seconds of six steps on two threads, alone and beside busy processes

Prints medians over rounds and their ratios. Machines differ and are noisy: quote ratios.
"""

from __future__ import annotations

import argparse
import importlib
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROUNDS = 3
SIZES = (512, 1024, 2048, 4096)


def steps(name: str, data: list[Path], micro_tokens: int, threads: int, precision: str, count: int) -> dict[str, float]:
    """Take `count` optimizer steps of 32 examples after a first one; their tokens, wall and processor seconds."""
    importlib.import_module("layover.train")  # sets how threads wait, before torch is loaded
    import torch

    from layover.encoders import find
    from layover.step import Recipe
    from layover.tasks import TASKS
    from layover.tasks.load import load, locate
    from layover.train import loop, model
    from layover.train.determinism import prepare_process
    from layover.train.encode import encode

    prepare_process(threads)
    task, size = TASKS.get(name), 32
    recipe = Recipe(precision=precision, batch_size=size, epochs=1, checkpoint="last", patience=0)  # type: ignore[arg-type]
    examples = load(task, locate(task, data), selection="holdout", holdout=0.1, limit_train=2 * size * count).train
    loaded = model.load(find("minilm").location, None, task, recipe, 1)
    encoded = encode(examples[: size * (count + 1)], task, loaded.tokenizer, loaded.max_length)
    seen: list[tuple[float, float]] = []  # wall and processor seconds after each optimizer step
    job = loop.Job(
        network=loaded.network, padding=loaded.tokenizer.pad_token_id, selection=None, recipe=recipe, seed=1,
        score=lambda _: 0.0, train=encoded, micro_tokens=micro_tokens, checkpoint_seconds=1e9,
        device=torch.device("cpu"), resume=Path("none"),
        report=lambda _: seen.append((time.perf_counter(), time.process_time())),
    )  # fmt: skip
    loop.fit(job)
    order = loop.epoch_order(len(encoded), size, 1, 0)
    tokens = sum(int(encoded.tokens[batch].sum()) for batch in order[1:])
    return {"tokens": tokens, "wall": seen[-1][0] - seen[0][0], "cpu": seen[-1][1] - seen[0][1]}


WAYS = {
    "stock, padded, by length": ("stock", False, 512),
    "own attention, padded, by length": ("padded", False, 512),
    "packed": ("packed", False, 4096),
    "packed, last layer for first tokens": ("packed", True, 4096),
}


def in_ways(data: list[Path]) -> None:
    """Tokens per processor second of every way to call minilm, and the ratio to the stock one."""
    from layover.train import network, ways

    able = ways.prepare

    def only(way: str, narrow: bool) -> Any:
        def prepare(encoder: Any, noise: Any) -> ways.Ability:
            if way == "stock":
                return ways.Ability("stock")
            found = able(encoder, noise)
            return ways.Ability(way, found.joint if narrow else "")  # type: ignore[arg-type]

        return prepare

    for precision in ("fp32", "bf16"):
        found: dict[str, list[float]] = {name: [] for name in WAYS}
        for _ in range(ROUNDS):
            for name, (way, narrow, size) in WAYS.items():
                network.ways.prepare = only(way, narrow)
                seen = steps("rte", data, size, 1, precision, 3)
                found[name].append(seen["tokens"] / seen["cpu"])
        for name, rates in found.items():
            ratio = statistics.median(rate / first for rate, first in zip(rates, found[next(iter(WAYS))], strict=True))
            print(f"{precision} {name:36} {statistics.median(rates):6.0f} tokens per processor second, x {ratio:.2f}")


def dropout() -> None:
    """Milliseconds of dropout, forward and backward, over the tokens of a batch of minilm."""
    import numpy as np
    import torch

    from layover.train.layout import Layout
    from layover.train.noise import Dropout, Noise

    torch.set_num_threads(1)
    lengths = np.random.default_rng(0).integers(10, 80, 32)
    values = torch.randn(1, int(lengths.sum()), 384, requires_grad=True)
    noise, names = Noise(), np.stack([np.arange(32), np.zeros(32, np.int64)], axis=1)
    layers = {"torch's": torch.nn.Dropout(0.1), "each input's own": Dropout(0.1, noise)}
    found: dict[str, list[float]] = {name: [] for name in layers}
    for step in range(30):
        for name, layer in layers.items():
            begin = time.process_time()
            noise.begin(Layout.of(lengths, names, 0), 1, step)
            layer(values).sum().backward()
            found[name].append((time.process_time() - begin) * 1e3)
    torchs, own = (statistics.median(times) for times in found.values())
    print(f"torch's dropout {torchs:.1f} ms, each input's own {own:.1f} ms, x {torchs / own:.1f}")


def selection(data: list[Path]) -> None:
    """What early stopping costs: two epochs over 180 examples, with and without 20 more to select by."""
    import torch

    from layover.encoders import find
    from layover.step import Recipe
    from layover.tasks import TASKS
    from layover.tasks.load import load, locate
    from layover.train import loop, memory, model
    from layover.train.decode import decode
    from layover.train.determinism import prepare_process
    from layover.train.encode import encode

    prepare_process(1)
    task, cpu, ratios = TASKS.get("rte"), torch.device("cpu"), []
    found = load(task, locate(task, data), selection="holdout", holdout=0.1, limit_train=200)
    for number in range(ROUNDS):
        seconds = {}
        for selects in (True, False) if number % 2 else (False, True):
            recipe = Recipe(precision="bf16", epochs=2, patience=5 * selects, checkpoint="best" if selects else "last")
            loaded = model.load(find("minilm").location, None, task, recipe, 1)
            train, held = (encode(part, task, loaded.tokenizer, 256) for part in (found.train, found.selection or []))
            network = loaded.network.prepare(cpu)

            def score(raw: Any, held: Any = held) -> float:
                predictions = decode(task, held, raw, 2).predictions
                return 100 * float((predictions.predicted == predictions.gold).mean())

            job = loop.Job(
                network=network, padding=loaded.tokenizer.pad_token_id, selection=held if selects else None,
                recipe=recipe, seed=1, score=score, train=train, micro_tokens=memory.micro_tokens(network, "bf16", 256),
                checkpoint_seconds=1e9, device=cpu, resume=Path("none"), report=lambda _: None,
            )  # fmt: skip
            begin = time.process_time()
            loop.fit(job)
            seconds[selects] = time.process_time() - begin
        ratios.append(seconds[True] / seconds[False])
    print(f"with a tenth of the examples held out to select by: x {statistics.median(ratios):.3f} "
          f"({min(ratios):.3f} to {max(ratios):.3f}) of the processor time")  # fmt: skip


def micro(data: list[Path]) -> None:
    """Tokens per processor second for every size, and the ratio to the largest."""
    found: dict[int, list[float]] = {size: [] for size in SIZES}
    for _ in range(ROUNDS):
        for size in SIZES:
            seen = steps("rte", data, size, 1, "bf16", 3)
            found[size].append(seen["tokens"] / seen["cpu"])
    largest = statistics.median(found[SIZES[-1]])
    for size, rates in found.items():
        rate = statistics.median(rates)
        print(f"micro-batches of {size:5} tokens: {rate:6.0f} tokens per processor second, x {rate / largest:.2f}")


def spin() -> None:
    """Wall seconds of six steps for torch's default and for layover's setting, quiet and beside busy processes."""
    for busy in (0, 2):
        with neighbours(busy):
            found: dict[str, list[float]] = {"default": [], "layover": []}
            for _ in range(ROUNDS):
                for name in found:
                    found[name].append(_child(name))
        middle = {name: statistics.median(times) for name, times in found.items()}
        print(f"{busy} busy neighbours: default {middle['default']:.2f} s, layover {middle['layover']:.2f} s, "
              f"x {middle['default'] / middle['layover']:.1f}")  # fmt: skip


def _child(name: str) -> float:
    """Six steps in a process of their own. "default" loads torch before layover can change how threads wait."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_"))}
    command = [sys.executable, __file__, "child", name]
    return float(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)


@contextmanager
def neighbours(count: int) -> Iterator[None]:
    """Processes that do nothing but use a core."""
    running = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in running:
            process.kill()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["ways", "micro", "selection", "dropout", "spin", "child"])
    parser.add_argument("name", nargs="?")
    parser.add_argument("--data", type=Path, action="append", default=[])
    asked = parser.parse_args()
    if asked.what == "micro":
        micro(asked.data)
    elif asked.what == "ways":
        in_ways(asked.data)
    elif asked.what == "selection":
        selection(asked.data)
    elif asked.what == "dropout":
        dropout()
    elif asked.what == "spin":
        spin()
    else:
        if asked.name == "default":
            import torch  # noqa: F401
        print(steps("micro_teacher", [], 512, 2, "fp32", 6)["wall"])
