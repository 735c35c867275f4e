"""Checkpoint: everything that a killed run needs to go on, bit for bit, in one file replaced atomically.

Tensors are safetensors; the rest is JSON in the file's metadata. Model, optimizer moments, best weights so far, the
random state, the position in the data, the schedule's step, the stopping counter and the curve are all in it.
"""

from __future__ import annotations

import dataclasses
import json
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

Weights = dict[str, torch.Tensor]
FILE = "checkpoint.safetensors"


@dataclass
class State:
    """Where a run stands. `stopped` says why it ended early: "" | "patience" | "nan"."""

    epoch: int = 0
    batch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    loss_count: int = 0
    best_score: float | None = None
    best_step: int = 0
    stale: int = 0
    stopped: str = ""
    tokens: int = 0
    curve: list[dict[str, Any]] = field(default_factory=list)


def save(
    folder: Path, network: nn.Module, optimizer: torch.optim.Optimizer, best: Weights | None, state: State
) -> None:
    """Write a checkpoint so that a reader sees the last one or this one, never a part."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {f"model/{name}": tensor for name, tensor in network.state_dict().items()}
    tensors |= {f"best/{name}": tensor for name, tensor in (best or {}).items()}
    for index, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"adam/{index}/{name}": torch.as_tensor(value) for name, value in moments.items()}
    tensors["rng/cpu"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors["rng/cuda"] = torch.cuda.get_rng_state()
    temporary = folder / f".{uuid.uuid4().hex[:8]}"
    try:
        plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
        save_file(plain, temporary, metadata={"state": json.dumps(dataclasses.asdict(state))})
        temporary.replace(folder / FILE)
    finally:
        temporary.unlink(missing_ok=True)


def restore(folder: Path, network: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[State, Weights | None]:
    """Load the checkpoint in `folder` into network, optimizer and random state; a fresh state where there is none."""
    path = folder / FILE
    if not path.is_file():
        return State(), None
    try:
        with safe_open(path, framework="pt") as file:
            state = State(**json.loads(file.metadata()["state"]))
            parts = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, TypeError, KeyError):
        return State(), None  # a damaged checkpoint costs its work, nothing else
    network.load_state_dict(_under(parts, "model/"))
    moments: dict[int, Weights] = {}
    for name, tensor in _under(parts, "adam/").items():
        index, _, moment = name.partition("/")
        moments.setdefault(int(index), {})[moment] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
    torch.set_rng_state(parts["rng/cpu"])
    if "rng/cuda" in parts and torch.cuda.is_available():
        torch.cuda.set_rng_state(parts["rng/cuda"])
    return state, _under(parts, "best/") or None


def state_in(folder: Path) -> State | None:
    """Where the run of the checkpoint in `folder` stands; None where there is none."""
    try:
        with safe_open(folder / FILE, framework="pt") as file:
            return State(**json.loads(file.metadata()["state"]))
    except (SafetensorError, OSError, ValueError, TypeError, KeyError):
        return None


def _under(parts: Weights, prefix: str) -> Weights:
    return {name.removeprefix(prefix): tensor for name, tensor in parts.items() if name.startswith(prefix)}
