"""Network: any Auto encoder with a head on top."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import nn

from layover.train import masks, ways
from layover.train.batching import Batch
from layover.train.heads import Head, mean_of
from layover.train.masked import MaskedHead
from layover.train.noise import Noise, install
from layover.train.ways import Way, call, first_position


class Network(nn.Module):
    """An encoder, the pooled vector (first token's, or mean over tokens), and a head.

    `way` is how the encoder is called, and `narrow` says whether its last layer can be computed for the inputs' first
    tokens alone (`ways`).
    """

    head: Any  # a Head or a MaskedHead: they share a form and no class

    def __init__(self, encoder: nn.Module, head: Head | MaskedHead, pooling: str, noise: Noise) -> None:
        super().__init__()
        self.encoder, self.head, self.pooling, self.noise = encoder, head, pooling, noise
        self.first_position = first_position(encoder)
        self.way: Way = "stock"
        self.narrow = False
        self.compiling = False  # whether the encoder is compiled for the shapes that it meets
        self.train()  # all of it: encoders are loaded for evaluation

    def prepare(self, device: torch.device) -> Network:
        """Move to a device. On a CPU take the fastest way that gives what the stock encoder gives."""
        self.to(device)
        if device.type != "cpu":
            masks.install(self.encoder)
        elif self.way == "stock":
            found = ways.prepare(self.encoder, self.noise)
            self.way, self.narrow = found.way, bool(found.joint)
            install(self.encoder, self.noise)
        return self

    def recompute(self) -> None:
        """Keep only what enters each layer, and compute the rest again for its gradient: less memory, more time.

        The numbers stay the same, dropout included. Raises ValueError where the encoder has no layers that can.
        """
        encoder: Any = self.encoder  # the second name is the older one
        enable = getattr(encoder, "activation_checkpointing_enable", None) or encoder.gradient_checkpointing_enable
        enable({"use_reentrant": False, "context_fn": self.noise.replaying})

    @property
    def packed(self) -> bool:
        """Whether batches are to be packed."""
        return self.way == "packed"

    def forward(self, batch: Batch, seed: int = 0, step: int = 0) -> torch.Tensor:
        """The head's scores for a micro-batch; dropout on a CPU is that of `step` of the run with `seed`."""
        first = self.packed and self.narrow and self.pooling == "first" and self.head.reads_inputs
        self.begin(batch, seed, step, first)
        called = compiled() if self.compiling else call
        hidden = called(self.encoder, batch.tokens, self.noise, self.way, self.first_position)
        return self.read(hidden, batch, first)

    def begin(self, batch: Batch, seed: int, step: int, first: bool = False) -> None:
        """Begin a pass over a batch; in training on a CPU every input has its own stream of dropout, else torch has."""
        begins = batch.inputs.begins
        streams = self.training and begins.device.type == "cpu"
        self.noise.begin(batch.layout, seed, step, streams, begins if first else None)

    def read(self, hidden: torch.Tensor, batch: Batch, first: bool = False) -> torch.Tensor:
        """The head's scores for the encoder's hidden states [rows, tokens, width], or for those of `first` tokens."""
        hidden = hidden.flatten(0, 1)
        if not torch.is_autocast_enabled("cpu"):
            hidden = hidden.to(next(self.head.parameters()).dtype)  # fp32, though the encoder be cast to bf16
        if first:  # the rows of the others were not computed
            return self.head(hidden, hidden, batch)
        pooled = hidden[batch.inputs.begins] if self.pooling == "first" else mean_of(hidden, batch.inputs)
        return self.head(hidden, pooled, batch)


@cache
def compiled() -> Any:
    """`call`, compiled for every shape that it meets; what it has compiled serves all encoders of a kind."""
    return torch.compile(call, dynamic=False)
