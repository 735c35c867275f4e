"""Batching: which examples make a batch, and how a batch is split to fit.

Batches are uniformly random, a pure function of (seed, epoch, n). A batch is then sorted by length and split into
micro-batches of bounded padded size: the gradient of the batch is the sum of theirs, so padding is saved without
changing which examples are averaged together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from layover.train.determinism import derive
from layover.train.encode import Encoded, ranges, stretches


@dataclass(frozen=True)
class Batch:
    """A padded micro-batch.

    `tokens` are the encoder's keyword arguments [inputs, length]; `sizes` are the inputs per example; `targets` are the
    positions of the batch's n targets among all. `labels` [n] or [n, classes], `spans` [n, marks, 2] in tokens, and
    `example` [n], the example in the batch, are theirs. `inside` [inputs, length] says which tokens belong to the
    passage, where answers are looked for in one.
    """

    tokens: dict[str, torch.Tensor]
    sizes: list[int]
    targets: NDArray[np.int64]
    labels: torch.Tensor
    spans: torch.Tensor
    example: torch.Tensor
    inside: torch.Tensor | None


def epoch_order(n: int, batch_size: int, seed: int, epoch: int) -> list[NDArray[np.int64]]:
    """The batches of one epoch: a random permutation of n examples, cut; the last batch may be smaller."""
    order = np.random.default_rng(derive(seed, "order", epoch)).permutation(n)
    return [order[begin : begin + batch_size] for begin in range(0, n, batch_size)]


def micro_batches(encoded: Encoded, examples: NDArray[np.int64], max_tokens: int) -> list[NDArray[np.int64]]:
    """Split examples into groups of similar length, each of at most `max_tokens` padded tokens (or one example)."""
    longest, n_inputs = encoded.longest()[examples], np.diff(encoded.groups)[examples]
    order = np.argsort(longest, kind="stable")
    parts: list[list[int]] = [[]]
    inputs = 0
    for position in order:
        inputs += int(n_inputs[position])
        if parts[-1] and inputs * int(longest[position]) > max_tokens:
            parts.append([])
            inputs = int(n_inputs[position])
        parts[-1].append(int(examples[position]))
    return [np.array(part, dtype=np.int64) for part in parts if part]


def collate(encoded: Encoded, examples: NDArray[np.int64], tokenizer: Any, device: torch.device) -> Batch:
    """Pad the inputs of some examples to the longest among them."""
    inputs = ranges(encoded.groups, examples)
    lengths = encoded.input_lengths()[inputs]
    shape = (len(inputs), int(lengths.max()))
    filled = np.arange(shape[1]) < lengths[:, None]
    flat = stretches(*encoded.offsets[inputs].T)
    tokens = {
        "input_ids": np.full(shape, tokenizer.pad_token_id, dtype=np.int64),
        "attention_mask": filled.astype(np.int64),
    }
    tokens["input_ids"][filled] = encoded.ids[flat]
    if encoded.types is not None:
        tokens["token_type_ids"] = np.zeros(shape, dtype=np.int64)
        tokens["token_type_ids"][filled] = encoded.types[flat]
    targets = encoded.known(examples)
    inside = None
    if encoded.chars is not None:
        inside = np.zeros(shape, dtype=bool)
        inside[filled] = encoded.chars[flat, 1] > encoded.chars[flat, 0]
    moved = {name: torch.from_numpy(array).to(device) for name, array in tokens.items()}
    counts = [np.count_nonzero(~encoded.lost[encoded.bounds[e] : encoded.bounds[e + 1]]) for e in examples]
    return Batch(
        tokens=moved,
        sizes=np.diff(encoded.groups)[examples].tolist(),
        targets=targets,
        labels=torch.from_numpy(np.asarray(encoded.labels[targets])).to(device),
        spans=torch.from_numpy(encoded.spans[targets].astype(np.int64)).to(device),
        example=torch.from_numpy(np.repeat(np.arange(len(examples)), counts)).to(device),
        inside=None if inside is None else torch.from_numpy(inside).to(device),
    )
