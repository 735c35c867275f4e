"""One pass of minilm over SST-2 for all layers' features, side by side with transformers' plain batched forward.

    python bench/features.py --data DIR [--sentences N] [--rounds N]     DIR holds sst2; one thread

plain: padded batches of 32 in the order of the file, `output_hidden_states=True`, the first token's vectors and the
means over tokens of all layers kept in memory. features: the pass into a new store, the sentences encoded before. read:
the same opened again, and all vectors of one layer summed. Prints medians over rounds and their ratios. Machines differ
and are noisy: quote ratios.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

BATCH, MAX_LENGTH = 32, 128


def plain(location: str, texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """First tokens and means [layers, sentences, width] as a script would get them."""
    from transformers import AutoModel, AutoTokenizer

    tokenizer, encoder = AutoTokenizer.from_pretrained(location), AutoModel.from_pretrained(location).eval()
    first, means = [], []
    for begin in range(0, len(texts), BATCH):
        some = texts[begin : begin + BATCH]
        tokens = tokenizer(some, truncation=True, max_length=MAX_LENGTH, padding=True, return_tensors="pt")
        with torch.inference_mode():
            hidden = torch.stack(encoder(**tokens, output_hidden_states=True).hidden_states)
            mask = tokens["attention_mask"][..., None].float()
            first.append(hidden[:, :, 0].bfloat16())
            means.append(((hidden * mask).sum(2) / mask.sum(1)).bfloat16())
    return torch.cat(first, 1), torch.cat(means, 1)


def timed(function: Callable[..., Any], *arguments: Any, **options: Any) -> tuple[float, float, Any]:
    """Wall and processor seconds of a call, and what it gives."""
    wall, cpu = time.perf_counter(), time.process_time()
    found = function(*arguments, **options)
    return time.perf_counter() - wall, time.process_time() - cpu, found


def one_round(data: Path, sentences: int, seen: dict[str, list[float]]) -> None:
    """Both ways once, compared, and the store read again; each in the other's order every second round."""
    from layover.encoders import find
    from layover.step import Places
    from layover.store import Store
    from layover.tasks import TASKS
    from layover.tasks.load import load, locate
    from layover.train import cache
    from layover.train.features import Frozen, features

    task, encoder = TASKS.get("sst2"), find("minilm")
    source = locate(task, [data])
    limits: Any = {"limit_train": sentences, "limit_validation": 1, "selection": "validation", "holdout": 0.1}
    texts = [example.inputs[0][0][0] for example in load(task, source, **limits).train]
    frozen, places = Frozen(encoder.identity, encoder.location), Places(device="cpu", threads=1)
    with tempfile.TemporaryDirectory() as folder:
        found = cache.located(Store.open(Path(folder) / "store"), task, source, **limits)
        from transformers import AutoTokenizer

        cache.splits(found, AutoTokenizer.from_pretrained(encoder.location), MAX_LENGTH)
        ways: dict[str, Callable[[], Any]] = {
            "plain": lambda: plain(encoder.location, texts),
            "features": lambda: features(found, "train", frozen, max_length=MAX_LENGTH, places=places),
        }
        made = {}
        for way in list(ways) if len(seen["plain"]) % 2 else list(ways)[::-1]:
            wall, cpu, made[way] = timed(ways[way])
            seen[way].append(cpu)
            seen[f"{way} wall"].append(wall)
        ours, theirs = made["features"], made["plain"]
        for number in range(ours.n_layers):
            for pooling, expected in zip(("first", "mean"), theirs, strict=True):
                torch.testing.assert_close(ours.layer(number, pooling), expected[number], rtol=2**-7, atol=1e-4)
        seen["bytes"].append(sum(one.nbytes for one in (*ours.tokens, *ours.means)) / len(ours))
        seen["read"].append(timed(lambda: ways["features"]().layer(3, "mean").float().sum())[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--sentences", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    seen: dict[str, list[float]] = {
        name: [] for name in ("plain", "features", "plain wall", "features wall", "read", "bytes")
    }
    for _ in range(asked.rounds):
        one_round(asked.data, asked.sentences, seen)
    middle = {name: statistics.median(values) for name, values in seen.items()}
    for way in ("plain", "features"):
        cpu, wall = (1000 * middle[name] / asked.sentences for name in (way, f"{way} wall"))
        ratios = sorted(plain / own for plain, own in zip(seen["plain"], seen[way], strict=True))
        print(f"{way}: {cpu:.2f} s processor, {wall:.2f} s wall per 1,000 sentences; "
              f"x {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})")  # fmt: skip
    print(f"read: {1000 * middle['read']:.0f} ms; {middle['bytes']:,.0f} bytes per sentence")


if __name__ == "__main__":
    main()
