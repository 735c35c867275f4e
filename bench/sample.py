"""The rows that `trainer.py throughput` measures on: the same ones for both engines, in the same batches.

A cell's first batch is the shortest rows of the task, its warm-up; measured is from the end of that optimizer step to
the end of the last one. In each round the cells read the same random rows in the same batches, but for "grouped": its
batches are spread evenly, by length, over those that the Trainer's own function for `group_by_length` makes of all rows
(POOL at most), since grouping a few rows would be no grouping. That is the one difference in which rows meet in a
batch, and such batches are not random. Its rate is of tokens, and told in examples of the round's mean length.
"padded" cells are padded to --length, as the GLUE example of transformers pads by default, to 128 there.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from common import write_rows

from layover.encoders import find
from layover.tasks import TASKS
from layover.tasks.example import Example
from layover.tasks.load import load, locate

POOL = 6400  # four times as many rows as group_by_length sorts at once, 50 batches of 32


@dataclass(frozen=True)
class Rows:
    """Files of rows for one round, random and grouped, and what of them is timed."""

    random: str
    grouped: str
    examples: int
    random_tokens: int
    grouped_tokens: int


def rounds(name: str, data: list[Path], folder: Path, size: int, asked: argparse.Namespace) -> list[Rows]:
    """Write the rows of a task for every round, in batches of `size`."""
    import torch

    task = TASKS.get(name)
    found = load(task, locate(task, data), selection="validation", holdout=0.1, limit_train=POOL)
    tokens = tokens_of(found.train, asked.length)
    longest = [max(each) for each in tokens]
    shortest = sorted(range(len(tokens)), key=longest.__getitem__)[:size]
    drawn = torch.randperm(len(tokens), generator=torch.Generator().manual_seed(0)).tolist()
    made = []
    for turn in range(asked.rounds):
        count = asked.steps * size
        parts = {
            "random": [drawn[i % len(drawn)] for i in range(turn * count, (turn + 1) * count)],
            "grouped": grouped(longest, size, asked.steps, (turn + 0.5) / asked.rounds),
        }
        files = {
            kind: write_rows(folder / f"{name}-{size}-{turn}-{kind}.json", name,
                             [found.train[i] for i in shortest + part], found.validation[:2])
            for kind, part in parts.items()
        }  # fmt: skip
        sums = {kind: sum(sum(tokens[i]) for i in part) for kind, part in parts.items()}
        made.append(Rows(files["random"], files["grouped"], count, sums["random"], sums["grouped"]))
    return made


def grouped(longest: list[int], size: int, steps: int, offset: float) -> list[int]:
    """The rows of `steps` batches, spread evenly by length over those of group_by_length; `offset` is in [0, 1)."""
    import torch
    from transformers.trainer_pt_utils import get_length_grouped_indices

    order = get_length_grouped_indices(longest, size, generator=torch.Generator().manual_seed(0))
    batches = [order[begin : begin + size] for begin in range(0, len(order) - size + 1, size)]
    batches.sort(key=lambda batch: max(longest[i] for i in batch))
    return [i for step in range(steps) for i in batches[int((step + offset) / steps * len(batches))]]


def tokens_of(examples: Sequence[Example], length: int) -> list[list[int]]:
    """The tokens of each input of each example."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(find("minilm").location)
    inputs = [one for example in examples for one in example.inputs]
    texts = [[" ".join(part) for part in one if part is not None] for one in inputs]
    found = tokenizer(*map(list, zip(*texts, strict=True)))["input_ids"]
    counts = iter(min(length, len(ids)) for ids in found)
    return [[next(counts) for _ in example.inputs] for example in examples]
