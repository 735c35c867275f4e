"""Update: what an optimizer step does with the gradients at hand, and when the host learns how it went.

On a GPU nothing here waits for the device but `Losses.read`.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from layover.step import Recipe
from layover.train.checkpoint import State
from layover.train.groups import optimizer_groups
from layover.train.remedies import Anchor, learning, pulls, recall

LATE = 1e6  # steps after which nothing is left of Adam's correction: 1 - 0.999 ** LATE is 1 in every precision
READ_EVERY = 32  # steps, on a GPU; reading a loss is free on a CPU


class Update:
    """One optimizer step with the gradients at hand; once a loss or a gradient is not finite no step changes a weight.

    `loss` is the summed loss of the batch, and `broken` is 1 where something was not finite. Both stay where they are
    on the device, and so do learning rates on a GPU, so that a graph captured once reads them in every step.
    """

    def __init__(self, network: nn.Module, recipe: Recipe, device: torch.device, anchor: Anchor | None = None) -> None:
        self.parameters = [p for p in network.parameters() if p.requires_grad]
        self.max_grad_norm = recipe.max_grad_norm
        self.loss, self.broken = (torch.zeros((), device=device) for _ in range(2))
        self.optimizer = _optimizer(network, recipe, device)
        self.optimizer.found_inf = self.broken  # pyright: ignore[reportAttributeAccessIssue]
        self.recipe, self.pulls = recipe, pulls(network, recipe, anchor)
        start = {} if anchor is None else anchor.start
        starts = {p: start[name] for name, p in network.named_parameters() if name in start}
        groups = self.optimizer.param_groups
        self.recalled = {n: [starts[p] for p in g["params"]] for n, g in enumerate(groups) if g["recalled"]}

    def take(self, loss: torch.Tensor, rate: float, step: int = 0) -> None:
        """Take in a batch's summed loss and the learning rate of its step, which is number `step` (from 0)."""
        self.loss.copy_(loss)
        for group in self.optimizer.param_groups:
            own = rate * group["share"]
            if group["recalled"]:
                learnt = learning(self.recipe, step)
                _set(group, "back", own * (1 - learnt) * self.recipe.recadam_pull)
                _set(group, "fade", own * group["decay"])
                own *= learnt
            _set(group, "lr", own)

    def apply(self) -> None:
        """Clip and step. On a GPU this queues work, and waits for none.

        Fused steps read on the device what they divide gradients by, and whether to do anything: clipping takes no
        pass over the gradients of its own.
        """
        for pull in self.pulls:
            pull.add()
        norm = nn.utils.get_total_norm([p.grad for p in self.parameters if p.grad is not None])
        finite = self.loss.isfinite() & norm.isfinite()
        self.broken.copy_(torch.maximum(self.broken, (~finite).float()))
        self.optimizer.grad_scale = ((norm + 1e-6) / self.max_grad_norm).clamp(min=1.0)  # pyright: ignore[reportAttributeAccessIssue]
        for number, starts in self.recalled.items():
            recall(self.optimizer.param_groups[number], starts, 1 - self.broken)
        self.optimizer.step()


def _optimizer(network: nn.Module, recipe: Recipe, device: torch.device) -> torch.optim.Optimizer:
    """AdamW, or what the recipe has in its place, with the weight decay and the share of the rate of each group."""
    groups = optimizer_groups(network, recipe)
    on_gpu = device.type != "cpu"
    for group in groups:  # numbers of its own, which a graph can read
        for name in ("lr", "back", "fade") if group["recalled"] else ("lr",):
            group[name] = torch.tensor(recipe.learning_rate, device=device) if on_gpu else recipe.learning_rate
    amsgrad = recipe.optimizer == "amsgrad"
    made = torch.optim.AdamW(groups, eps=recipe.adam_epsilon, amsgrad=amsgrad, fused=True, capturable=on_gpu)
    if recipe.optimizer == "bertadam":
        for parameter in (p for group in groups for p in group["params"]):
            made.state[parameter] = {
                "step": torch.tensor(LATE, device=device),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }
    return made


def _set(group: dict[str, Any], name: str, value: float) -> None:
    """Set a number of a group: on a GPU where it is."""
    if isinstance(group[name], torch.Tensor):
        group[name].fill_(value)
    else:
        group[name] = value


class Losses:
    """The losses of the steps since they were last read, left on the device: reading waits for it."""

    def __init__(self, device: torch.device) -> None:
        self.every = 1 if device.type == "cpu" else READ_EVERY
        self.pending: list[tuple[torch.Tensor, int]] = []

    @property
    def full(self) -> bool:
        """Whether it is time to read."""
        return len(self.pending) >= self.every

    def add(self, loss: torch.Tensor, n_targets: int) -> None:
        """Take in a step's summed loss over its targets."""
        self.pending.append((loss.detach(), n_targets))

    def read(self, state: State, broken: torch.Tensor) -> bool:
        """Move the losses into the run's state; False, and the run is stopped, where something was not finite."""
        values = torch.stack([broken, *(loss for loss, _ in self.pending)]).tolist()
        for position, (value, (_, n_targets)) in enumerate(zip(values[1:], self.pending, strict=True)):
            if not math.isfinite(value):
                state.step -= len(self.pending) - position - 1
                break
            state.loss_sum, state.loss_count = state.loss_sum + value, state.loss_count + n_targets
        self.pending = []
        if values[0]:
            state.stopped = "nan"
        return not state.stopped
