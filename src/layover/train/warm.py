"""Warm: what a process keeps from run to run, and what makes it ready for the first."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from layover.train.determinism import quiet


def prepare(locations: Iterable[str]) -> None:
    """Import what a training needs, and load the encoders; one that cannot be loaded is left to its step to report."""
    quiet()
    _first_optimizer_step()
    from layover.train import work  # noqa: F401


def _first_optimizer_step() -> None:
    """Take the first AdamW step of a process, which imports for 1.7 s."""
    layer = nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(layer.parameters(), fused=True)
    layer(torch.ones(1, 2)).sum().backward()
    optimizer.step()
