"""Weighing: how much each task's loss counts in a joint training, fixed or learned as it goes.

Learned weights are plain numbers beside the network, moved by Adam at a rate of their own: at an encoder's rate they
would stay where they began.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from layover.step import Mixture

BETAS, EPSILON = (0.9, 0.999), 1e-8  # Adam's
LEAST = 1e-3  # of a weight: GradNorm's may become negative, which would unlearn a task


class Weighing:
    """The weights of the losses of tasks with these `outputs`.

    By uncertainty (Kendall et al. 2018), a task with log variance s counts exp(-s), or half of that where a number is
    predicted, and s / 2 is added. GradNorm (Chen et al. 2018): weights such that tasks whose loss has fallen less have
    larger gradients in the encoder's last layer, to the power `gradnorm_alpha`; their mean is 1.
    """

    def __init__(self, mixture: Mixture, outputs: Sequence[str]) -> None:
        self.mixture = mixture
        self.halves = [0.5 if output == "value" else 1.0 for output in outputs]

    @property
    def learns(self) -> bool:
        """Whether weights change from step to step."""
        return self.mixture.weights != "fixed"

    def begin(self) -> dict[str, Any]:
        """What a run begins with: plain values, for its checkpoint."""
        if not self.learns:
            return {}
        count = len(self.halves)
        start = 0.0 if self.mixture.weights == "uncertainty" else 1.0
        return {"learned": [start] * count, "moments": [[0.0, 0.0, 0] for _ in range(count)], "first": [0.0] * count}

    def weights(self, standing: Mapping[str, Any]) -> list[float]:
        """The weights now, in the order of the tasks."""
        if not self.learns:
            return list(self.mixture.fixed) or [1.0] * len(self.halves)
        if self.mixture.weights == "gradnorm":
            return list(standing["learned"])
        return [half * math.exp(-s) for half, s in zip(self.halves, standing["learned"], strict=True)]

    def learn(self, standing: dict[str, Any], losses: Mapping[int, float], norms: Mapping[int, float]) -> None:
        """Move the weights of the tasks in a batch, by their mean `losses` and the `norms` of their gradients.

        The norms are those of the weighted losses; only GradNorm reads them.
        """
        if self.mixture.weights == "uncertainty":
            now = self.weights(standing)
            slopes = {number: 0.5 - now[number] * loss for number, loss in losses.items()}
        else:
            slopes = self._of_norms(standing, losses, norms)
        for number, slope in slopes.items():
            standing["learned"][number] -= self._adam(standing["moments"][number], slope)
        if self.mixture.weights == "gradnorm":
            kept = [max(LEAST, weight) for weight in standing["learned"]]
            standing["learned"] = [weight * len(kept) / sum(kept) for weight in kept]

    def _of_norms(
        self, standing: dict[str, Any], losses: Mapping[int, float], norms: Mapping[int, float]
    ) -> dict[int, float]:
        """The slope of GradNorm's loss, the sum of |norm - wanted norm|, in each weight; what is wanted is constant."""
        for number, loss in losses.items():
            standing["first"][number] = standing["first"][number] or loss
        left = {number: loss / (standing["first"][number] or 1.0) for number, loss in losses.items()}
        mean, rate = float(np.mean(list(norms.values()))), float(np.mean(list(left.values()))) or 1.0
        wanted = {number: mean * (value / rate) ** self.mixture.gradnorm_alpha for number, value in left.items()}
        return {
            number: float(np.sign(norm - wanted[number])) * norm / standing["learned"][number]
            for number, norm in norms.items()
        }

    def _adam(self, moments: list[Any], slope: float) -> float:
        """How far Adam moves a weight, whose moments it keeps."""
        first, second, count = moments
        first, second = BETAS[0] * first + (1 - BETAS[0]) * slope, BETAS[1] * second + (1 - BETAS[1]) * slope**2
        moments[:] = [first, second, count + 1]
        first, second = first / (1 - BETAS[0] ** (count + 1)), second / (1 - BETAS[1] ** (count + 1))
        return self.mixture.weights_rate * first / (math.sqrt(second) + EPSILON)
