"""Together: what a joint training of several tasks adds to the loop: one encoder under several heads, and their losses.

The loss of a batch is the sum over tasks of the mean loss of the task's examples in it (Weller et al. 2022), each
times its weight. Gradients of tasks are only kept apart where something looks at them one by one.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from layover.step import Mixture, Recipe
from layover.train import mixture as mixtures
from layover.train.checkpoint import State, Weights
from layover.train.conflict import Gradients, cosine, projected, summed
from layover.train.decode import Raw
from layover.train.encode import Encoded
from layover.train.heads import Head
from layover.train.network import Network
from layover.train.surgery import layers_of
from layover.train.weighing import Weighing

if TYPE_CHECKING:
    from layover.train.loop import Turn

BETWEEN = " · "  # the tasks of a cosine


@dataclass(eq=False)
class Part:
    """One task of a run: the network that reads it, its data, and how predictions on its selection set are scored.

    `first` is the number of its first example among those of all tasks; `best` are the best weights so far.
    """

    name: str
    network: Network
    train: Encoded
    selection: Encoded | None
    score: Callable[[Raw], float]
    first: int = 0
    best: Weights = field(default_factory=dict)


Pass = Callable[[Part, NDArray[np.int64], int, float], torch.Tensor]
"""The summed loss of a part's examples in a step; `weight` times the gradient of its mean is added to that at hand."""


class Whole(nn.Module):
    """All that a joint training trains: the encoder, and every head once."""

    def __init__(self, networks: Sequence[Network]) -> None:
        super().__init__()
        self.encoder = networks[0].encoder
        self.head = nn.ModuleList(dict.fromkeys(network.head for network in networks))


def beside(network: Network, head: Head) -> Network:
    """The same encoder, set up in the same way, under another head."""
    found = copy.copy(network)
    found._modules = dict(network._modules)
    found.head = head
    return found


class Together:
    """Several tasks as the loop reads them: examples numbered through, batches mixed, and the sum of their losses.

    `alone` are the tasks' scores by themselves (0-1), for the dynamic sampler. What changes from step to step is in
    `standing`, plain values that a checkpoint holds.
    """

    def __init__(self, parts: Sequence[Part], mixture: Mixture, alone: Sequence[float], device: torch.device) -> None:
        self.parts, self.mixture, self.alone = tuple(parts), mixture, tuple(alone)
        self.whole = Whole([part.network for part in parts])
        self.sizes = [len(part.train) for part in parts]
        for part, first in zip(self.parts, np.cumsum([0, *self.sizes[:-1]]).tolist(), strict=True):
            part.first = first
        self.weighing = Weighing(mixture, [part.network.head.output for part in parts])
        self.last = list(layers_of(self.whole.encoder)[-1].parameters()) if mixture.weights == "gradnorm" else []
        self.apart = mixture.conflict != "ignore" or mixture.weights == "gradnorm"
        self.standing: dict[str, Any] = {}
        self.sums = torch.zeros(len(self.parts), dtype=torch.float64, device=device)
        self.cosines: dict[str, torch.Tensor] = {}

    def __len__(self) -> int:
        return sum(self.sizes)

    @cached_property
    def tokens(self) -> NDArray[np.int64]:
        """Tokens of all inputs of each example."""
        return np.concatenate([part.train.tokens for part in self.parts])

    def known(self, examples: NDArray[np.int64]) -> NDArray[np.int64]:
        """The targets of some examples, task after task, without those that were cut off."""
        return np.concatenate([part.train.known(own) for part, own in self.divided(examples)])

    def divided(self, examples: NDArray[np.int64]) -> Iterator[tuple[Part, NDArray[np.int64]]]:
        """Each part that has some of these examples, with the numbers that they have in it, in their order."""
        for part, size in zip(self.parts, self.sizes, strict=True):
            own = examples[(examples >= part.first) & (examples < part.first + size)] - part.first
            if len(own):
                yield part, own

    # the course of a run

    def begin(self, state: State) -> None:
        """Stand where a run stands: at its beginning, or where its checkpoint was written."""
        for part in self.parts:
            part.best = {}
        if not state.mixing:
            none = [0.0] * len(self.parts)
            state.mixing |= {"loss": none, "targets": [0] * len(none), "cosines": {}, **self.weighing.begin()}
        self.standing, kind = state.mixing, {"dtype": torch.float64, "device": self.sums.device}
        self.sums = torch.tensor(self.standing["loss"], **kind)
        self.cosines = {pair: torch.tensor(value, **kind) for pair, value in self.standing["cosines"].items()}

    def steps(self, recipe: Recipe) -> int:
        """Optimizer steps of the first epoch, by which the schedule of the learning rate is laid out."""
        return len(self._epoch(mixtures.probabilities(self.sizes, self.mixture), recipe, 0, 0))

    def order(self, recipe: Recipe, seed: int, state: State) -> list[NDArray[np.int64]]:
        """The batches of the epoch that a run is in."""
        if state.batch == 0:
            shares = mixtures.probabilities(self.sizes, self.mixture)
            if self.mixture.sampler == "dynamic" and state.curve:
                now = [state.curve[-1]["tasks"][part.name]["selection"] / 100 for part in self.parts]
                shares = mixtures.by_gap(self.alone, now)
            self.standing["shares"] = shares.tolist()
        return self._epoch(np.array(self.standing["shares"]), recipe, seed, state.epoch)

    def _epoch(self, shares: mixtures.Shares, recipe: Recipe, seed: int, epoch: int) -> list[NDArray[np.int64]]:
        return mixtures.epoch_of(self.sizes, shares, self.mixture, recipe.batch_size, seed, epoch)

    def gradients(self, take: Pass, seed: int, turn: Turn) -> torch.Tensor:
        """The summed loss of a batch, with the gradient of the weighted sum of its tasks' means left in the weights."""
        if not all(part.network.training for part in self.parts):
            for part in self.parts:
                part.network.train()
        self.whole.zero_grad(set_to_none=True)
        weights = self.weighing.weights(self.standing)
        losses: dict[int, torch.Tensor] = {}
        targets: dict[int, int] = {}
        found: dict[int, Gradients] = {}
        for part, examples in self.divided(turn.examples):
            number = self.parts.index(part)
            losses[number] = take(part, examples, turn.step, weights[number])
            targets[number] = len(part.train.known(examples))
            if self.apart:
                found[number] = {p: p.grad for p in self.whole.parameters() if p.grad is not None}
                self.whole.zero_grad(set_to_none=True)
        for number, loss in losses.items():  # only now: where memory ran out above, all of it is done again
            self.sums[number] += loss
            self.standing["targets"][number] += targets[number]
        if self.weighing.learns:
            means = {number: float(loss) / max(1, targets[number]) for number, loss in losses.items()}
            norms = {number: float(self._in_last_layer(gradients)) for number, gradients in found.items()}
            self.weighing.learn(self.standing, means, norms)
        if self.apart:
            self._joined(found, seed, turn.step)
        return torch.stack(list(losses.values())).sum()

    def _in_last_layer(self, gradients: Gradients) -> torch.Tensor:
        """The norm of a task's gradient in the last layer that all tasks share, as GradNorm has it."""
        return torch.stack([gradients[p].square().sum() for p in self.last if p in gradients]).sum().sqrt()

    def _joined(self, found: dict[int, Gradients], seed: int, step: int) -> None:
        """Leave the sum of the tasks' gradients in the weights, as the mixture says what to do about conflicts."""
        for one, other in combinations(sorted(found), 2):
            names = BETWEEN.join(self.parts[number].name for number in (one, other))
            value = torch.stack([cosine(found[one], found[other]).double(), torch.ones_like(self.sums[0])])
            self.cosines[names] = self.cosines[names] + value if names in self.cosines else value
        gradients = list(found.values())
        if self.mixture.conflict == "pcgrad":
            gradients = projected(gradients, seed, step)
        for parameter, gradient in summed(gradients).items():
            parameter.grad = gradient

    def settle(self) -> None:
        """Bring what is summed on the device into `standing`; waits for the device."""
        self.standing["loss"] = self.sums.tolist()
        self.standing["cosines"] = {pair: value.tolist() for pair, value in self.cosines.items()}

    def point(self) -> dict[str, Any]:
        """What the curve says of the steps since its last point, and of the mixture now."""
        self.settle()
        standing, names = self.standing, [part.name for part in self.parts]
        losses = zip(names, standing["loss"], standing["targets"], strict=True)
        found: dict[str, Any] = {
            "tasks": {name: {"loss": loss / max(1, targets)} for name, loss, targets in losses},
            "probabilities": dict(zip(names, standing["shares"], strict=True)),
            "weights": dict(zip(names, self.weighing.weights(standing), strict=True)),
        }
        if standing["cosines"]:
            found["cosines"] = {pair: total / count for pair, (total, count) in standing["cosines"].items()}
        standing |= {"loss": [0.0] * len(names), "targets": [0] * len(names), "cosines": {}}
        self.sums.zero_()
        self.cosines = {}
        return found
