"""Precision: in which numbers a network computes. Its parameters, gradients and optimizer are fp32 in every one.

"bf16" multiplies matrices in bf16: on a CPU by autocast, which keeps normalisation and sums in fp32; on a GPU with the
whole encoder cast once per optimizer step, because autocast's casts, some 300 small kernels per step of a small model,
cost more there than they save (docs/engine.md). "tf32" multiplies fp32 matrices with 10 bits of mantissa on a GPU, and
is fp32 elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch.func import functional_call

from layover.train.batching import Batch
from layover.train.network import Network
from layover.train.ways import states

Precision = Literal["fp32", "tf32", "bf16"]


class Computing:
    """A network as it computes in one precision, from the start of an optimizer step or an evaluation to its end.

    Parameters change only between: casts of them are made once, and gradients are summed in fp32 over micro-batches.
    """

    def __init__(self, network: Network, precision: Precision, device: torch.device) -> None:
        self.network, self.precision, self.device = network, precision, device
        self.casts: dict[str, torch.Tensor] = {}
        if precision == "bf16" and device.type != "cpu":
            self.casts = cast(network)

    def scores(self, batch: Batch, seed: int = 0, step: int = 0) -> torch.Tensor:
        """The network's scores for a micro-batch."""
        with self._autocast():
            if self.casts:
                return functional_call(self.network, self.casts, (batch, seed, step))
            return self.network(batch, seed, step)

    def states(self, batch: Batch) -> tuple[torch.Tensor, ...] | None:
        """The encoder's hidden states of all layers for a micro-batch, without dropout: see `ways.states`."""
        network = self.network
        casts = {name.removeprefix("encoder."): copy for name, copy in self.casts.items()}

        def encoder(**tokens: Any) -> Any:
            return functional_call(network.encoder, casts, (), tokens)

        network.noise.begin(batch.layout, 0, 0, with_streams=False)
        with self._autocast():
            return states(encoder, batch.tokens, network.noise, network.way, network.first_position)

    def _autocast(self) -> torch.autocast:
        return torch.autocast("cpu", torch.bfloat16, enabled=self.precision == "bf16" and self.device.type == "cpu")

    def backward(self, loss: torch.Tensor) -> None:
        """Add the gradient of a loss to that of the network's parameters."""
        loss.backward()
        if self.casts:
            self._collect()

    def _collect(self) -> None:
        """Move the gradients of the casts to those of the parameters, all in a few kernels."""
        parameters = dict(self.network.named_parameters())
        found = [(parameters[name], copy.grad) for name, copy in self.casts.items() if copy.grad is not None]
        gradients = _in([gradient for _, gradient in found], torch.float32)
        sums = [(p.grad, gradient) for (p, _), gradient in zip(found, gradients, strict=True) if p.grad is not None]
        if sums:
            torch._foreach_add_(*map(list, zip(*sums, strict=True)))  # pyright: ignore[reportPrivateImportUsage]
        for (parameter, _), gradient in zip(found, gradients, strict=True):
            parameter.grad = gradient if parameter.grad is None else parameter.grad
        for copy in self.casts.values():
            copy.grad = None


@contextmanager
def computing(network: Network, precision: Precision, device: torch.device) -> Iterator[Computing]:
    """A network computing in a precision; its parameters must not change inside."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    try:
        # the outer context keeps autocast's casts of the weights until it ends, for all micro-batches
        with torch.autocast("cpu", enabled=False):
            yield Computing(network, precision, device)
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def cast(network: Network, dtype: torch.dtype = torch.bfloat16) -> dict[str, torch.Tensor]:
    """The encoder's parameters in another precision, by their names in the network, as leaves of their own."""
    named = {f"encoder.{name}": p for name, p in network.encoder.named_parameters()}
    copies = zip(named.items(), _in([p.detach() for p in named.values()], dtype), strict=True)
    return {name: copy.requires_grad_(p.requires_grad) for (name, p), copy in copies}


def _in(tensors: list[torch.Tensor], dtype: torch.dtype) -> list[torch.Tensor]:
    """Copies in another precision, by a kernel for many tensors instead of one for each."""
    found = [torch.empty_like(tensor, dtype=dtype) for tensor in tensors]
    torch._foreach_copy_(found, tensors)  # pyright: ignore[reportPrivateImportUsage]
    return found
