"""Merging: one encoder made of several that began as the same plain one, by arithmetic on their weights.

Weights are named tensors, as in a state dict. What a source learnt is its difference from the plain encoder, its task
vector. Sums are made in fp64, so that merging equal sources gives them back bit for bit. What holds no floating-point
numbers, such as a buffer of positions, stays the plain encoder's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from layover.errors import StepError
from layover.train import warm

Method = Literal["average", "arithmetic", "ties"]
Weights = Mapping[str, torch.Tensor]
Combine = Callable[[torch.Tensor, list[torch.Tensor]], torch.Tensor]
"""Makes one tensor of the plain encoder's and the sources', all in fp64 and of one shape."""


def merged(
    plain: Weights, sources: Sequence[Weights], method: Method, scale: float = 1.0, density: float = 1.0
) -> dict[str, torch.Tensor]:
    """The weights that `method` makes of the sources; each has the names and shapes of the plain encoder's.

    Raises StepError where a source has others.
    """
    for number, source in enumerate(sources, 1):
        _check_fits(plain, source, number)
    makes: dict[Method, Callable[[], Combine]] = {
        "average": lambda: _average,
        "arithmetic": lambda: partial(_arithmetic, scale=scale),
        "ties": lambda: partial(_ties, scale=scale, least=[_least(plain, source, density) for source in sources]),
    }
    combine, found = makes[method](), {}
    for name, tensor in plain.items():
        if tensor.is_floating_point():
            parts = [source[name].double() for source in sources]
            found[name] = combine(tensor.double(), parts).to(tensor.dtype)
        else:
            found[name] = tensor.clone()
    return found


def _average(plain: torch.Tensor, sources: list[torch.Tensor]) -> torch.Tensor:
    return torch.stack(sources).mean(0)


def _arithmetic(plain: torch.Tensor, sources: list[torch.Tensor], scale: float) -> torch.Tensor:
    """The plain weights and the scaled sum of the task vectors (Ilharco et al. 2023, section 2)."""
    return plain + scale * (torch.stack(sources) - plain).sum(0)


def _ties(plain: torch.Tensor, sources: list[torch.Tensor], scale: float, least: Sequence[float]) -> torch.Tensor:
    """Trim, elect a sign, and merge what agrees with it (Yadav et al. 2023, section 3.2).

    Of each task vector only the changes of size `least` or more are kept. The sign of a weight is that of their sum,
    and the change is the mean of those kept changes that have it, scaled; nothing where they cancel out.
    """
    changes = torch.stack(sources) - plain
    bounds = torch.tensor(least, dtype=changes.dtype).reshape(-1, *(1 for _ in plain.shape))
    changes = torch.where(changes.abs() >= bounds, changes, 0.0)
    sign = changes.sum(0).sign()
    agree = (changes.sign() == sign) & (sign != 0)
    return plain + scale * (changes * agree).sum(0) / agree.sum(0).clamp(min=1)


def _least(plain: Weights, source: Weights, density: float) -> float:
    """The size that the largest `density` share of a task vector's changes have at least.

    The share is of the whole task vector, as in the paper, and not of each tensor: one that hardly moved keeps nothing.
    """
    parts = [(source[n].double() - t.double()).abs().flatten() for n, t in plain.items() if t.is_floating_point()]
    sizes = torch.cat(parts).numpy()
    least = len(sizes) - max(1, round(density * len(sizes)))
    return float(np.partition(sizes, least)[least])  # several times as fast as torch's kthvalue


def _check_fits(plain: Weights, source: Weights, number: int) -> None:
    shapes, own = ({name: tuple(t.shape) for name, t in weights.items()} for weights in (plain, source))
    differs = sorted(name for name in {**shapes, **own} if shapes.get(name) != own.get(name))
    if differs:
        name = differs[0]
        told = f"{name} is {own.get(name, 'missing')} there, {shapes.get(name, 'missing')} in the plain encoder"
        raise StepError(f"source {number} is not of the plain encoder's shape and cannot be merged: {told}")


def write_merged(
    location: str, folders: Sequence[Path], method: Method, scale: float, density: float, folder: Path | None
) -> dict[str, Any]:
    """Merge the encoders in `folders`, trained from the plain one at `location`, into `folder` if it is given.

    The folder gets weights, configuration and tokenizer, as that of a training does, but no head. Returns what is known
    of it: how long the task vectors and their merger are (L2), and the share of weights that sources move apart.
    """
    encoder = warm.encoder(location, None)
    plain = encoder.state_dict()
    sources = [load_file(path / "encoder.safetensors") for path in folders]
    weights = merged(plain, sources, method, scale, density)
    if folder is not None:
        folder.mkdir()
        save_file({name: tensor.contiguous() for name, tensor in weights.items()}, folder / "encoder.safetensors")
        encoder.config.save_pretrained(folder)
        warm.tokenizer(location).save_pretrained(folder)
    return {
        "task_vectors": [_length(plain, source) for source in sources],
        "merged_vector": _length(plain, weights),
        "conflicts": _conflicts(plain, sources),
    }


def _length(plain: Weights, source: Weights) -> float:
    return (
        float(sum(_change(plain, source, n).square().sum() for n, t in plain.items() if t.is_floating_point())) ** 0.5
    )


def _conflicts(plain: Weights, sources: Sequence[Weights]) -> float:
    """The share of weights that one source raised and another lowered."""
    apart = total = 0
    for name, tensor in plain.items():
        if tensor.is_floating_point():
            signs = torch.stack([_change(plain, source, name).sign() for source in sources])
            apart += int(((signs == 1).any(0) & (signs == -1).any(0)).sum())
            total += tensor.numel()
    return apart / total


def _change(plain: Weights, source: Weights, name: str) -> torch.Tensor:
    return source[name].double() - plain[name].double()
