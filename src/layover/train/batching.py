"""Batching: which examples make a batch, and how a batch becomes tensors that fit.

Batches are uniformly random, a pure function of (seed, epoch, n). A batch is then sorted by length and split into
micro-batches of bounded size: the gradient of the batch is the sum of theirs, so memory is bounded, and padding saved
where there is any, without changing which examples are averaged together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, islice, starmap
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from layover.train.determinism import CPU, derive
from layover.train.encode import Encoded, ranges, stretches
from layover.train.layout import Layout

# Lengths that inputs are padded to on a GPU, where every new shape costs a compilation, a captured graph, or a search
# for kernels; longer inputs are padded to a multiple of the last.
LADDER = (16, 32, 48, 64, 96, 128, 192, 256)
ALIGNED = 16  # bytes: where an array may begin among others


@dataclass(frozen=True, eq=False)
class Stretches:
    """Stretches of tokens, as rows of hidden states: `begins`, `ends` (exclusive) [n].

    Their tokens one after the other are `rows` [tokens], and `owner` [tokens] says which stretch each belongs to.
    """

    begins: torch.Tensor
    ends: torch.Tensor
    rows: torch.Tensor
    owner: torch.Tensor

    @staticmethod
    def parts(begins: NDArray[np.int64], ends: NDArray[np.int64]) -> tuple[NDArray[np.int64], ...]:
        """What stretches from `begins` to `ends` are made of, on the host: some of it depends on their lengths."""
        return begins, ends, stretches(begins, ends), np.repeat(np.arange(len(begins)), ends - begins)

    def __len__(self) -> int:
        return len(self.begins)


@dataclass(frozen=True, eq=False)
class Batch:
    """Some examples as one forward pass reads them.

    `tokens` are the encoder's keyword arguments and `layout` says where the inputs lie among them; `inputs` are their
    rows, in the order of the examples, of which `sizes` says how many inputs each has. `targets` are the positions of
    the batch's n targets among all; `labels` [n] or [n, classes], `spans` (n stretches for each mark of a target) and
    `example` [n], the example in the batch, are theirs; `counts` says how many targets each example has.
    `inside` [inputs, longest] says which tokens belong to the passage, where answers are looked for in one.
    """

    tokens: dict[str, torch.Tensor]
    layout: Layout
    inputs: Stretches
    sizes: list[int]
    targets: NDArray[np.int64]
    labels: torch.Tensor
    spans: list[Stretches]
    example: torch.Tensor
    counts: list[int]
    inside: torch.Tensor | None


def epoch_order(n: int, batch_size: int, seed: int, epoch: int) -> list[NDArray[np.int64]]:
    """The batches of one epoch: a random permutation of n examples, cut; the last batch may be smaller."""
    order = np.random.default_rng(derive(seed, "order", epoch)).permutation(n)
    return [order[begin : begin + batch_size] for begin in range(0, n, batch_size)]


def micro_batches(
    encoded: Encoded, examples: NDArray[np.int64], max_tokens: int, packed: bool, device: torch.device = CPU
) -> list[NDArray[np.int64]]:
    """Split examples into groups of similar length, each of at most `max_tokens` tokens (or one example).

    Where inputs are not `packed`, padding counts.
    """
    longest, n_inputs = padded(encoded.longest[examples], device), np.diff(encoded.groups)[examples]
    order = np.argsort(longest, kind="stable")
    sizes = encoded.tokens[examples]
    parts: list[list[int]] = [[]]
    inputs = tokens = 0
    for position in order:
        inputs, tokens = inputs + int(n_inputs[position]), tokens + int(sizes[position])
        if parts[-1] and (tokens if packed else inputs * int(longest[position])) > max_tokens:
            parts.append([])
            inputs, tokens = int(n_inputs[position]), int(sizes[position])
        parts[-1].append(int(examples[position]))
    return [np.array(part, dtype=np.int64) for part in parts if part]


def padded(lengths: NDArray[np.int64], device: torch.device) -> NDArray[np.int64]:
    """The lengths that inputs of so many tokens are padded to: on a GPU the rungs of `LADDER`."""
    if device.type == "cpu":
        return lengths
    rungs = np.append(LADDER, LADDER[-1])[np.searchsorted(LADDER, lengths)]
    return np.where(lengths <= LADDER[-1], rungs, -(-lengths // LADDER[-1]) * LADDER[-1])


def collate(
    encoded: Encoded, examples: NDArray[np.int64], padding: int, device: torch.device, packed: bool, step: int = 0
) -> Batch:
    """The inputs of some examples, end to end or padded (on a GPU to a rung of the ladder) with token `padding`.

    Where tokens are hidden (`encoded.masking`), they are those of optimizer step `step`.
    """
    inputs, sizes = ranges(encoded.groups, examples), np.diff(encoded.groups)[examples]
    lengths = encoded.input_lengths[inputs]
    names = np.stack([np.repeat(examples, sizes), stretches(np.zeros_like(sizes), sizes)], axis=1)
    length = 0 if packed else int(padded(lengths, device).max())
    layout = Layout.of(lengths, names, length)
    flat, targets = stretches(*encoded.offsets[inputs].T), encoded.known(examples)
    bounds = zip(encoded.bounds[examples], encoded.bounds[examples + 1], strict=True)
    counts = [int(np.count_nonzero(~encoded.lost[begin:end])) for begin, end in bounds]
    example = np.repeat(np.arange(len(examples)), counts)
    ids, labels, spans = encoded.ids[flat], encoded.labels[targets], encoded.spans[targets].astype(np.int64)
    if encoded.masking is not None:
        ids, places, labels = encoded.masking.hide(encoded, examples, ids, step)
        spans = layout.tokens()[places][:, None, None] + np.arange(2)
    elif spans.shape[1]:  # one input per example
        spans += layout.begins[example][:, None, None]
    types = {} if encoded.types is None else {"token_type_ids": layout.laid(encoded.types[flat])}
    tokens = {**layout.arguments(ids, padding), **types}
    marks = [(layout.begins, layout.begins + lengths), *((mark[:, 0], mark[:, 1]) for mark in spans.swapaxes(0, 1))]
    inside = [] if encoded.chars is None else [_inside(encoded.chars[flat], lengths)]
    arrays = [*tokens.values(), labels, example, *chain(*starmap(Stretches.parts, marks)), *inside]
    there = iter(moved(arrays, device))
    return Batch(
        tokens={name: next(there) for name in tokens},
        layout=layout,
        sizes=sizes.tolist(),
        targets=targets,
        labels=next(there),
        example=next(there),
        inputs=Stretches(*islice(there, 4)),
        spans=[Stretches(*islice(there, 4)) for _ in marks[1:]],
        counts=counts,
        inside=next(there, None),
    )


def moved(arrays: Sequence[NDArray[Any]], device: torch.device) -> list[torch.Tensor]:
    """Arrays as tensors on a device: by one transfer from memory that the GPU reads itself, which nothing waits for."""
    if device.type == "cpu":
        return [torch.from_numpy(np.ascontiguousarray(array)) for array in arrays]
    together = joined(arrays, pinned=device.type == "cuda")
    return apart(together.to(device, non_blocking=True), arrays)


def joined(arrays: Sequence[NDArray[Any]], pinned: bool = False) -> torch.Tensor:
    """The bytes of arrays, one after the other."""
    begins = _begins(arrays)
    together = torch.empty(begins[-1], dtype=torch.uint8, pin_memory=pinned)
    for begin, array in zip(begins, arrays, strict=False):
        together.numpy()[begin : begin + array.nbytes] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return together


def apart(together: torch.Tensor, arrays: Sequence[NDArray[Any]]) -> list[torch.Tensor]:
    """The tensors among the bytes of such arrays."""
    kinds = [torch.from_numpy(np.empty(0, array.dtype)).dtype for array in arrays]
    parts = zip(_begins(arrays), arrays, kinds, strict=False)
    return [together[begin : begin + a.nbytes].view(kind).view(a.shape) for begin, a, kind in parts]


def _begins(arrays: Sequence[NDArray[Any]]) -> list[int]:
    sizes = [-(-array.nbytes // ALIGNED) * ALIGNED for array in arrays]
    return np.cumsum([0, *sizes]).tolist()


def _inside(chars: NDArray[np.int32], lengths: NDArray[np.int64]) -> NDArray[np.bool_]:
    found = np.zeros((len(lengths), int(lengths.max())), np.bool_)
    found[np.arange(found.shape[1]) < lengths[:, None]] = chars[:, 1] > chars[:, 0]
    return found
