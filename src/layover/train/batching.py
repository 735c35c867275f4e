"""Batching: which examples make a batch, and how a batch becomes tensors that fit.

Batches are uniformly random, a pure function of (seed, epoch, n). A batch is then sorted by length and split into
micro-batches of bounded size: the gradient of the batch is the sum of theirs, so memory is bounded, and padding saved
where there is any, without changing which examples are averaged together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from layover.train.determinism import derive
from layover.train.encode import Encoded, ranges, stretches
from layover.train.layout import Layout

# Lengths that inputs are padded to on a GPU, where every new shape costs a compilation, a captured graph, or a search
# for kernels; longer inputs are padded to a multiple of the last.
LADDER = (16, 32, 48, 64, 96, 128, 192, 256)


@dataclass(frozen=True, eq=False)
class Stretches:
    """Stretches of tokens, as rows of hidden states: `begins`, `ends` (exclusive) [n].

    Their tokens one after the other are `rows` [tokens], and `owner` [tokens] says which stretch each belongs to.
    """

    begins: torch.Tensor
    ends: torch.Tensor
    rows: torch.Tensor
    owner: torch.Tensor

    @classmethod
    def of(cls, begins: NDArray[np.int64], ends: NDArray[np.int64], device: torch.device) -> Stretches:
        """The stretches from `begins` to `ends`; what depends on their lengths is made on the host."""
        owner = np.repeat(np.arange(len(begins)), ends - begins)
        parts = (begins, ends, stretches(begins, ends), owner)
        return cls(*(_moved(part, device) for part in parts))

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
    encoded: Encoded, examples: NDArray[np.int64], max_tokens: int, packed: bool
) -> list[NDArray[np.int64]]:
    """Split examples into groups of similar length, each of at most `max_tokens` tokens (or one example).

    Where inputs are not `packed`, padding counts.
    """
    longest, n_inputs = encoded.longest[examples], np.diff(encoded.groups)[examples]
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


def rung(length: int) -> int:
    """The length of `LADDER` that inputs of `length` tokens are padded to."""
    return next((rung for rung in LADDER if rung >= length), -(-length // LADDER[-1]) * LADDER[-1])


def collate(encoded: Encoded, examples: NDArray[np.int64], padding: int, device: torch.device, packed: bool) -> Batch:
    """The inputs of some examples, end to end or padded (on a GPU to a rung of the ladder) with token `padding`."""
    inputs, sizes = ranges(encoded.groups, examples), np.diff(encoded.groups)[examples]
    lengths = encoded.input_lengths[inputs]
    names = np.stack([np.repeat(examples, sizes), stretches(np.zeros_like(sizes), sizes)], axis=1)
    longest = int(lengths.max())
    layout = Layout.of(lengths, names, 0 if packed else rung(longest) if device.type == "cuda" else longest)
    flat, targets = stretches(*encoded.offsets[inputs].T), encoded.known(examples)
    bounds = zip(encoded.bounds[examples], encoded.bounds[examples + 1], strict=True)
    counts = [int(np.count_nonzero(~encoded.lost[begin:end])) for begin, end in bounds]
    example = np.repeat(np.arange(len(examples)), counts)
    spans = encoded.spans[targets].astype(np.int64)
    if spans.shape[1]:  # one input per example
        spans += layout.begins[example][:, None, None]
    return Batch(
        tokens={name: _moved(array, device) for name, array in _tokens(encoded, flat, layout, padding).items()},
        layout=layout,
        inputs=Stretches.of(layout.begins, layout.begins + lengths, device),
        sizes=sizes.tolist(),
        targets=targets,
        labels=_moved(np.asarray(encoded.labels[targets]), device),
        spans=[Stretches.of(mark[:, 0], mark[:, 1], device) for mark in spans.swapaxes(0, 1)],
        example=_moved(example, device),
        counts=counts,
        inside=None if encoded.chars is None else _moved(_inside(encoded.chars[flat], lengths), device),
    )


def _tokens(encoded: Encoded, flat: NDArray[np.int64], layout: Layout, padding: int) -> dict[str, NDArray[Any]]:
    """The encoder's arguments, of the tokens `flat` in the order of the inputs."""
    rows, shape = layout.tokens(), (-1, layout.length or layout.rows)

    def laid(values: NDArray[Any] | int, empty: int) -> NDArray[np.int64]:
        found = np.full(layout.rows, empty, np.int64)
        found[rows] = values
        return found.reshape(shape)

    tokens = {"input_ids": laid(encoded.ids[flat], padding)}
    if layout.length:
        tokens["attention_mask"] = laid(1, 0)
    else:
        tokens["position_ids"] = laid(layout.positions(), 0)
    if encoded.types is not None:
        tokens["token_type_ids"] = laid(encoded.types[flat], 0)
    return tokens


def _inside(chars: NDArray[np.int32], lengths: NDArray[np.int64]) -> NDArray[np.bool_]:
    found = np.zeros((len(lengths), int(lengths.max())), np.bool_)
    found[np.arange(found.shape[1]) < lengths[:, None]] = chars[:, 1] > chars[:, 0]
    return found


def _moved(array: NDArray[Any], device: torch.device) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).to(device, non_blocking=True)
