"""Memory: how many tokens a forward pass may hold, and what becomes of freed memory. Neither decides what is learnt."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch

from layover.errors import StepError
from layover.train.batching import padded
from layover.train.masking import RATE
from layover.train.network import Network
from layover.train.precision import Precision, cast

Made = TypeVar("Made")

# On a CPU. Packed, a batch costs the less per token the larger its parts are, until memory counts: a part of 4,096
# tokens trains minilm (6 layers of width 384) 1.25 times as fast as one of 512 (docs/benchmarks.md). Of a larger
# encoder a part holds as many hidden values. Padded, parts of similar length save padding, and small ones win.
PACKED_VALUES = 4096 * 6 * 384
PACKED = (512, 4096)
PADDED = 512
# <malloc.h>: M_MMAP_MAX, no block is a mapping of its own; M_TRIM_THRESHOLD, the heap is not cut back.
GLIBC = {-4: 0, -1: 2**31 - 1}
FREE = 2**30  # bytes that may lie free in the heap of a process between two runs
# On a GPU.
SHARE = 0.8  # of the memory that is free; the rest is for the optimizer's temporaries and fragmentation
MOST = 65_536
SCORES = 2**28  # of hidden tokens, one for each of the vocabulary: their losses and gradients take some 4 GB


@cache
def keep_freed() -> None:
    """Let the C library keep what is freed for the next step, where it is glibc: elsewhere nothing changes.

    It gives large blocks back to the system at once, and a step pays for every page of them again when it is touched:
    the gradient of the word vectors alone is 47 MB for minilm (docs/engine.md). A user's own settings are kept.
    """
    if any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return
    for parameter, value in GLIBC.items():
        mallopt(parameter, value)


def prepare_heap() -> None:
    """Set the C library's heap up for a run: what the run frees is kept, what those before it left goes back."""
    keep_freed()
    give_back()


class _Heap(ctypes.Structure):
    """`struct mallinfo2` of <malloc.h>."""

    _fields_: ClassVar = [
        (name, ctypes.c_size_t)
        for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks",
                     "keepcost")
    ]  # fmt: skip


def give_back(free: int = FREE) -> None:
    """Give the system what is free in the C library's heap, where that is more than `free` bytes: between runs.

    `keep_freed` keeps it within one. A process that trains many tasks, with batches of all sizes, would grow by what
    lies between them.
    """
    try:
        libc = ctypes.CDLL(None)
        libc.mallinfo2.restype = _Heap
        if libc.mallinfo2().fordblks > free:
            libc.malloc_trim(0)
    except (OSError, AttributeError, TypeError):  # another C library, or glibc before 2.33
        return


def micro_tokens(network: Network, precision: Precision, length: int, sharing: int = 1) -> int:
    """The tokens of a forward pass with gradients at most, of inputs of at most `length` tokens.

    A GPU's memory is divided among `sharing` processes.
    """
    device = next(network.parameters()).device
    if device.type == "cuda":
        found = _probed(network, precision, int(padded(np.array([length]), device)[0]), sharing)
        if network.head.output != "tokens":
            return found
        encoder: Any = network.encoder
        scores = encoder.get_input_embeddings().num_embeddings * RATE
        return max(length, min(found, int(SCORES / scores)))
    if not network.packed:
        return PADDED
    config = network.encoder.config
    values = getattr(config, "hidden_size", 768) * getattr(config, "num_hidden_layers", 12)
    return max(PACKED[0], min(PACKED[1], PACKED_VALUES // values))


@dataclass
class Room:
    """The tokens that a forward pass with gradients of a run may hold: halved whenever the device's memory runs out.

    `longest()` is the run's longest example, which no pass can be smaller than.
    """

    tokens: int
    longest: Callable[[], int]

    def halve(self, told: str) -> None:
        """Let passes hold half as much; raises StepError where they hold single examples already."""
        least = self.longest()
        if self.tokens <= least:
            what = f"one example of {least} tokens does not fit into the memory of the device"
            raise StepError(f"{what}: lower max_length, or turn gradient_checkpointing on ({told})")
        self.tokens = max(least, self.tokens // 2)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def fits(room: Room, work: Callable[[], Made]) -> Made:
    """What `work` returns, done again in smaller parts as often as memory runs out; it must begin from nothing."""
    while True:
        try:
            return work()
        except RuntimeError as error:
            if not ran_out(error):
                raise
            told = str(error).strip().splitlines()[0]
        room.halve(told)  # here, where nothing holds on to what the pass had made


def ran_out(error: RuntimeError) -> bool:
    """Whether an error says that a device's memory, or this machine's, was too small."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def fitting(used: Callable[[int], int], length: int, free: int) -> int:
    """Tokens, a multiple of `length`, that fit into `free` bytes, where n inputs of `length` tokens take `used(n)`.

    Memory is linear in n, so that two small measurements tell; at least one input is let through.
    """
    few, more = used(1), used(3)
    each = max(1, (more - few) // 2)
    inputs = (int(SHARE * free) - (few - each)) // each
    return max(1, min(inputs, MOST // length)) * length


def room(free: int, total: int, held: int, sharing: int) -> int:
    """The bytes that a process may still take of a GPU of `total` bytes: it holds `held`, and `free` are left.

    Processes that share a GPU have equal parts of it, so that it does not matter which of them asks first.
    """
    return min(free, total // sharing - held)


def _probed(network: Network, precision: Precision, length: int, sharing: int) -> int:
    """What fits on the network's GPU, found by training on made-up inputs; nothing of that is left."""
    device = next(network.parameters()).device
    # two moments, the gradients of the micro-batches before, and the best weights of every parameter are still to come
    to_come = 4 * sum(p.numel() * p.element_size() for p in network.parameters())
    network.encoder.train()

    def used(n: int) -> int:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        ids = torch.ones(n, length, dtype=torch.long, device=device)
        copies = cast(network) if precision == "bf16" else dict(network.named_parameters())
        own = {name.removeprefix("encoder."): p for name, p in copies.items() if name.startswith("encoder.")}
        hidden = torch.func.functional_call(
            network.encoder, own, (), {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        ).last_hidden_state
        if hidden.requires_grad:  # some of the encoder is trained
            hidden.float().sum().backward()
        network.zero_grad(set_to_none=True)
        return torch.cuda.max_memory_allocated(device) - before

    used(1)  # libraries take their workspace
    torch.cuda.empty_cache()
    there = room(*torch.cuda.mem_get_info(device), torch.cuda.memory_reserved(device), sharing)
    found = fitting(used, length, there - to_come)
    torch.cuda.empty_cache()  # other processes may need it
    return found
