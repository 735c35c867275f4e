"""Nothing in a step waits for the GPU: what would is refused, on a device without values and on a CPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.kit import FAMILIES, job_of, stretch_tasks
from torch.utils._python_dispatch import TorchDispatchMode

from layover.train import loop, masks
from layover.train.batching import collate
from layover.train.loop import Job, Turn
from layover.train.network import Network
from layover.train.update import Update

Encoders = Callable[[str], Path]
KINDS = ("pair", "choice", "value", *stretch_tasks())
META = torch.device("meta")  # no number on it can be read, and a CPU's tensors cannot be mixed in
READS = {"_local_scalar_dense", "item", "is_nonzero", "nonzero", "nonzero_static", "masked_select", "_unique2", "equal"}
WAITS = ("deberta-v3",)  # it copies a number to the GPU in every pass, for relative positions


class Refusing(TorchDispatchMode):
    """Refuses operations that read numbers on the host, and copies between devices."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name.removeprefix("aten::")
        assert name not in READS, f"{name} waits for the GPU"
        found = func(*args, **(kwargs or {}))
        if name in ("_to_copy", "copy_"):
            source = args[0] if name == "_to_copy" else args[1]
            assert source.device == found.device, f"{name} copies from {source.device.type} to {found.device.type}"
        return found


def stepped(network: Network, job: Job, mode: Any) -> torch.Tensor:
    """A pass forward and backward; its batch is put together outside of `mode`."""
    batch = collate(job.train, np.arange(8), job.padding, job.device, network.packed)
    with mode:
        loss = network.head.loss(network(batch), batch)
        (loss / 8).backward()
    return loss


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_pass_reads_no_number_and_copies_none(encoder: Encoders, family: str, kind: str, tmp_path: Path) -> None:
    pooling = "mean" if kind == "value" else "first"
    job = job_of(encoder(family), tmp_path, kind, META, pooling=pooling)
    network = job.network.prepare(META).train()
    if family in WAITS:
        with pytest.raises(AssertionError, match="copies from cpu to meta"):
            stepped(network, job, Refusing())
        return
    assert stepped(network, job, Refusing()).device == META
    assert all(p.grad is not None for p in network.head.parameters())


def test_a_mask_that_is_left_out_where_nothing_is_padded_would_be_noticed(bert: Path, tmp_path: Path) -> None:
    job = job_of(bert, tmp_path, "pair", META)
    with pytest.raises(AssertionError, match="waits for the GPU"):
        stepped(job.network.to(META).train(), job, Refusing())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_all_of_a_step_but_reading_its_losses(bert: Path, tmp_path: Path, precision: Any) -> None:
    job = job_of(bert, tmp_path, "pair", META, precision=precision)
    job.network.prepare(META)
    with pytest.raises(RuntimeError, match=r"item\(\) cannot be called on meta"):
        float(loop.gradients(job, Turn(np.arange(8), 0)))


@pytest.mark.parametrize("kind", ["pair", "edge2"])
def test_clipping_and_the_optimizer_read_no_number(bert: Path, tmp_path: Path, kind: str) -> None:
    job = job_of(bert, tmp_path, kind, torch.device("cpu"))
    masks.install(job.network.encoder)  # and the stock encoder, as on a GPU
    update = Update(job.network, job.recipe, job.device)
    for rate in (1e-3, 1e-4):
        with Refusing():
            update.take(loop.gradients(job, Turn(np.arange(8), 0)), rate)
            update.apply()
    assert float(update.broken) == 0
    with pytest.raises(AssertionError, match="waits for the GPU"), Refusing():
        float(update.broken)


@pytest.mark.parametrize("family", FAMILIES)
def test_masks_that_are_always_made_change_nothing(encoder: Encoders, family: str, tmp_path: Path) -> None:
    job = job_of(encoder(family), tmp_path, "pair", torch.device("cpu"), dropout=0.0)
    network = job.network.train()
    with torch.no_grad():
        for examples in (np.arange(8), np.array([0])):  # padded, and not
            batch = collate(job.train, examples, job.padding, job.device, False)
            before = network(batch)
            masks.install(network.encoder)
            torch.testing.assert_close(network(batch), before, rtol=1e-5, atol=1e-6)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("kind", KINDS)
def test_no_step_waits_for_a_gpu(bert: Path, tmp_path: Path, kind: str, precision: Any) -> None:
    device = torch.device("cuda")
    job = job_of(bert, tmp_path, kind, device, precision=precision)
    update = Update(job.network.prepare(device), job.recipe, device)
    try:
        for step in range(3):
            if step:  # libraries make themselves ready in the first
                torch.cuda.set_sync_debug_mode("error")
            update.take(loop.gradients(job, Turn(np.arange(8), step)), 1e-3)
            update.apply()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert float(update.broken) == 0
