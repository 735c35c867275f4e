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
from layover.train.encode import Encoded


@dataclass(frozen=True)
class Batch:
    """A padded micro-batch.

    `tokens` are the encoder's keyword arguments [inputs, length]; `sizes` are the inputs per example.
    """

    tokens: dict[str, torch.Tensor]
    sizes: list[int]
    labels: torch.Tensor


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
    inputs = _ranges(encoded.groups, examples)
    lengths = encoded.input_lengths()[inputs]
    shape = (len(inputs), int(lengths.max()))
    filled = np.arange(shape[1]) < lengths[:, None]
    flat = _ranges(encoded.offsets, inputs)
    tokens = {
        "input_ids": np.full(shape, tokenizer.pad_token_id, dtype=np.int64),
        "attention_mask": filled.astype(np.int64),
    }
    tokens["input_ids"][filled] = encoded.ids[flat]
    if encoded.types is not None:
        tokens["token_type_ids"] = np.zeros(shape, dtype=np.int64)
        tokens["token_type_ids"][filled] = encoded.types[flat]
    sizes = np.diff(encoded.groups)[examples].tolist()
    moved = {name: torch.from_numpy(array).to(device) for name, array in tokens.items()}
    return Batch(moved, sizes, torch.from_numpy(encoded.labels[examples]).to(device))


def _ranges(bounds: NDArray[np.int64], which: NDArray[np.int64]) -> NDArray[np.int64]:
    """The positions bounds[i] .. bounds[i + 1] - 1 of every i in `which`, end to end."""
    starts, lengths = bounds[which], bounds[which + 1] - bounds[which]
    ends = np.cumsum(lengths)
    return np.arange(ends[-1]) - np.repeat(ends - lengths - starts, lengths)
