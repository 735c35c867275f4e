"""Noise: the random bits of dropout on a CPU, a stream of its own for every input of every optimizer step.

An input's mask depends on the run's seed, the step and the example alone: not on the examples beside it, on padding, or
on how a batch is split or spread. So packed and padded, any size of micro-batch, and runs trained together or apart
give the same numbers with dropout on, up to rounding. It is also the faster way: 16 bits per number from numpy's SFC64
take a fifth of the time of torch's `bernoulli_` (docs/engine.md).

A rate is rounded to a multiple of 2**-16, and what is kept is scaled by the rate so rounded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from layover.train.layout import Layout

LEVELS = 1 << 16


class Noise:
    """The streams of one forward pass: `begin` it, then draw masks in the order of the network's layers."""

    def __init__(self) -> None:
        self.layout: Layout | None = None
        self.streams: list[np.random.SFC64] = []  # of the inputs, and one that they share
        self.read: torch.Tensor | None = None

    def begin(
        self, layout: Layout, seed: int, step: int, with_streams: bool = True, read: torch.Tensor | None = None
    ) -> None:
        """Start a pass over these inputs, in optimizer step `step` of a run; in evaluation nothing is drawn.

        `read` [inputs] are the rows that are read in the end, where it is the inputs' first ones alone.
        """
        self.layout, self.streams, self.read = layout, [], read
        if with_streams:
            self.streams = [np.random.SFC64([seed, step, *name]) for name in [*layout.names.tolist(), []]]

    def end(self) -> None:
        """No pass is under way: dropout is torch's own."""
        self.layout, self.streams, self.read = None, [], None

    def kept(self, number: int, count: int, rate: float) -> NDArray[np.bool_]:
        """Which of the next `count` values of input `number` stay."""
        return drawn(self.streams[number], count, rate)

    def replaying(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        """Contexts for a part of a pass and for computing it again (`torch.utils.checkpoint`), which draws the same."""
        states: list[Any] = []
        return self._remembering(states), self._returning_to(states)

    @contextmanager
    def _remembering(self, states: list[Any]) -> Iterator[None]:
        states[:] = [stream.state for stream in self.streams]
        yield

    @contextmanager
    def _returning_to(self, states: list[Any]) -> Iterator[None]:
        ahead = [stream.state for stream in self.streams]
        self._set(states)
        try:
            yield
        finally:
            self._set(ahead)

    def _set(self, states: list[Any]) -> None:
        for stream, state in zip(self.streams, states, strict=True):
            stream.state = state


class Dropout(nn.Dropout):
    """Dropout from the streams of `noise` while a pass with streams is under way, else torch's."""

    def __init__(self, rate: float, noise: Noise) -> None:
        super().__init__(rate)
        self.noise = noise

    def forward(self, input: torch.Tensor, counts: Sequence[int] | None = None) -> torch.Tensor:
        """Drop values of `input`; `counts` says how many of its rows [rows, width] are each input's, in their order.

        Without them the rows are the tokens that the pass laid down, whatever the leading dimensions, or [inputs,
        heads, length, length] the attention of padded inputs, or belong to no input: then all share a stream.
        """
        layout = self.noise.layout
        if not self.training or not self.p or layout is None or not self.noise.streams:
            return functional.dropout(input, self.p, self.training)
        kept = self._kept(input, layout, counts)
        return input * scaled(kept, self.p, input.dtype).view(input.shape)

    def _kept(self, input: torch.Tensor, layout: Layout, counts: Sequence[int] | None) -> NDArray[np.bool_]:
        width = input.shape[-1]
        kept = np.ones((input.numel() // width, width), np.bool_)
        if counts is None and input.ndim == 4 and len(input) == len(layout.lengths):
            return self._of_attention(kept.reshape(input.shape), layout)
        if counts is not None:
            places = zip(np.cumsum([0, *counts]).tolist(), counts, strict=False)
        elif len(kept) == layout.rows:
            places = zip(layout.begins.tolist(), layout.lengths.tolist(), strict=True)
        elif self.noise.read is not None and len(kept) == len(layout.lengths):
            return self._of_first(width, layout)
        else:
            return self.noise.kept(-1, input.numel(), self.p)
        for number, (begin, count) in enumerate(places):
            if count:
                kept[begin : begin + count] = self.noise.kept(number, count * width, self.p).reshape(count, width)
        return kept

    def _of_first(self, width: int, layout: Layout) -> NDArray[np.bool_]:
        """The masks [inputs, width] of first tokens, out of those that all tokens would have had."""
        masks = [self.noise.kept(number, count * width, self.p) for number, count in enumerate(layout.lengths.tolist())]
        return np.stack([mask[:width] for mask in masks])

    def _of_attention(self, kept: NDArray[np.bool_], layout: Layout) -> NDArray[np.bool_]:
        for number, (slot, length) in enumerate(zip(layout.slots(), layout.lengths.tolist(), strict=True)):
            values = self.noise.kept(number, kept.shape[1] * length * length, self.p)
            kept[slot, :, :length, :length] = values.reshape(-1, length, length)
        return kept


def install(module: nn.Module, noise: Noise) -> None:
    """Put `Dropout` with these streams in the place of every torch dropout layer of a module."""
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.Dropout:
                setattr(parent, name, Dropout(child.p, noise).train(child.training))


def drawn(stream: np.random.SFC64, count: int, rate: float) -> NDArray[np.bool_]:
    """Which of the next `count` values of a stream stay."""
    words = stream.random_raw((count + 3) // 4)
    return words.view(np.int16)[:count] >= _level(rate) - LEVELS // 2


def scaled(kept: NDArray[np.bool_], rate: float, dtype: torch.dtype) -> torch.Tensor:
    """What to multiply values with: 0, or 1 over the share that is kept."""
    factor = np.float32(LEVELS / (LEVELS - _level(rate)))
    return torch.from_numpy(np.multiply(kept, factor, dtype=np.float32)).to(dtype)


def _level(rate: float) -> int:
    return min(round(rate * LEVELS), LEVELS - 1)
