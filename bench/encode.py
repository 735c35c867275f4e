"""Reading and encoding 100,000 generated pairs, side by side with the bare tokenizer, each in a process of its own.

    python bench/encode.py                 minilm's tokenizer; --pairs N, --rounds N

bare: the texts, in memory, through transformers' tokenizer in batches. core: through the library below it alone, which
nothing can be faster than. cold: a file is read, every row checked, then encoded and written into a new store, with
torch imported as in a run. warm: another process asks for the same. Prints medians over rounds, their ratios to bare,
and the largest memory. Machines differ and are noisy: quote ratios.
"""

from __future__ import annotations

import argparse
import importlib
import json
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

BATCH = 1024
MAX_LENGTH = 128
STAGES = ("bare", "core", "cold", "warm")


def generate(folder: Path, pairs: int) -> None:
    """Write the task rte with pairs of random words, about 40 tokens each: common words, as in texts, are frequent."""
    words = sorted(word for word in _tokenizer().get_vocab() if word.isalpha() and word.isascii())
    draw = random.Random(1)
    draw.shuffle(words)
    weights = [1 / rank for rank in range(1, len(words) + 1)]
    texts = iter(draw.choices(words, weights, k=60 * (pairs + 1000)))
    folder.mkdir()
    for split, n in (("train", pairs), ("validation", 1000)):
        with (folder / f"{split}.jsonl").open("w", encoding="utf-8") as file:
            for i in range(n):
                premise, hypothesis = (
                    " ".join(next(texts) for _ in range(draw.randint(*n))) for n in ((14, 34), (6, 18))
                )
                label = ("entailment", "not_entailment")[i % 2]
                file.write(json.dumps({"premise": premise, "hypothesis": hypothesis, "label": label, "idx": i}) + "\n")


def bare(data: Path, core: bool) -> dict[str, float]:
    """The tokenizer alone, as it is called by hand, or the library below it."""
    files = [data / "rte" / f"{split}.jsonl" for split in ("train", "validation")]
    rows = [json.loads(line) for path in files for line in path.read_text(encoding="utf-8").splitlines()]
    pairs = [(row["premise"], row["hypothesis"]) for row in rows]
    tokenizer = _tokenizer()
    tokenizer.backend_tokenizer.enable_truncation(MAX_LENGTH)
    with Clock() as clock:
        for begin in range(0, len(pairs), BATCH):
            some = pairs[begin : begin + BATCH]
            if core:
                tokenizer.backend_tokenizer.encode_batch_fast(some)
            else:
                tokenizer(some, truncation=True, max_length=MAX_LENGTH, return_attention_mask=False)
    return clock.seen


def cached(data: Path, store: Path) -> dict[str, float]:
    """What a run does between its start and its first batch, but for loading the encoder."""
    importlib.import_module("layover.train.work")  # imports torch
    from layover.store import Store
    from layover.tasks import TASKS
    from layover.tasks.load import locate
    from layover.train.cache import located, splits

    tokenizer, task = _tokenizer(), TASKS.get("rte")
    with Clock() as clock:
        found = located(Store.open(store), task, locate(task, [data]), limit_train=None, limit_validation=None,
                        selection="holdout", holdout=0.1)  # fmt: skip
        read = time.perf_counter() - clock.wall
        parts = splits(found, tokenizer, MAX_LENGTH)
        tokens = sum(int(part.ids.astype(bool).sum()) for part in (parts.train, parts.validation))
    n_pairs = len(parts.train) + len(parts.selection or ()) + len(parts.validation)
    return {**clock.seen, "read": read, "tokens": tokens / n_pairs}


class Clock:
    """Wall and processor seconds of a block, and the largest memory of the process, in MB, at its end."""

    def __enter__(self) -> Clock:
        self.wall, self.cpu = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        wall, cpu = time.perf_counter() - self.wall, time.process_time() - self.cpu
        self.seen = {"wall": wall, "cpu": cpu, "peak": peak}


def _tokenizer() -> Any:
    from transformers import AutoTokenizer

    from layover.encoders import find

    return AutoTokenizer.from_pretrained(find("minilm").location)


def measure(pairs: int, rounds: int) -> dict[str, list[dict[str, float]]]:
    """Every stage in every round, in processes of their own; each round has a store of its own."""
    found: dict[str, list[dict[str, float]]] = {stage: [] for stage in STAGES}
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        data.mkdir()
        generate(data / "rte", pairs)
        for turn in range(rounds):
            for stage in STAGES:
                command = [sys.executable, __file__, "--stage", stage, str(data), str(Path(folder) / f"store{turn}")]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                found[stage].append(json.loads(done.stdout))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--stage", nargs=3, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.stage:
        stage, data, store = asked.stage
        alone = stage in ("bare", "core")
        print(json.dumps(bare(Path(data), stage == "core") if alone else cached(Path(data), Path(store))))
        return
    found = measure(asked.pairs, asked.rounds)
    middle = {
        stage: {name: statistics.median(seen[name] for seen in runs) for name in runs[0]}
        for stage, runs in found.items()
    }
    for stage, seen in middle.items():
        ratios = ", ".join(f"{name} x {seen[name] / middle['bare'][name]:.2f}" for name in ("wall", "cpu"))
        print(f"{stage}: {seen['wall']:.2f} s wall, {seen['cpu']:.2f} s processor, {seen['peak']:.0f} MB; {ratios}")
    cold = middle["cold"]
    print(f"{asked.pairs:,} pairs of {cold['tokens']:.1f} tokens; of cold, reading and checking {cold['read']:.2f} s")


if __name__ == "__main__":
    main()
