"""Conflict: gradients of tasks beside each other, by the parameters that two of them share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from layover.train.determinism import derive

Gradients = dict[nn.Parameter, torch.Tensor]


def inner(one: Gradients, other: Gradients) -> torch.Tensor:
    """The inner product of two tasks' gradients over the parameters that both have."""
    products = [(gradient * other[p]).sum() for p, gradient in one.items() if p in other]
    return torch.stack(products).sum()


def cosine(one: Gradients, other: Gradients) -> torch.Tensor:
    """The cosine of the angle between two tasks' gradients over the parameters that both have; 0 where one is 0."""
    shared = {p: gradient for p, gradient in one.items() if p in other}
    theirs = {p: other[p] for p in shared}
    lengths = (inner(shared, shared) * inner(theirs, theirs)).sqrt()
    return inner(shared, theirs) / lengths.clamp(min=torch.finfo(lengths.dtype).tiny)


def projected(gradients: Sequence[Gradients], seed: int, step: int) -> list[Gradients]:
    """Each task's gradient without what goes against another's (PCGrad, Yu et al. 2020, algorithm 1).

    The others are gone through in an order drawn by the run's seed for each step and task. Where the inner product with
    another's gradient is negative, the part along that one is taken off.
    """
    draw = np.random.default_rng(derive(seed, "conflict", step))
    found = []
    for number, own in enumerate(gradients):
        now = dict(own)
        for other in draw.permutation([n for n in range(len(gradients)) if n != number]):
            against = {p: gradient for p, gradient in gradients[other].items() if p in now}
            length = inner(against, against)
            share = inner(now, against).clamp(max=0) / length.clamp(min=torch.finfo(length.dtype).tiny)
            now |= {p: now[p] - share * gradient for p, gradient in against.items()}
        found.append(now)
    return found


def summed(gradients: Sequence[Gradients]) -> Gradients:
    """The sum of the tasks' gradients, for every parameter that one of them has."""
    found: Gradients = {}
    for one in gradients:
        for parameter, gradient in one.items():
            found[parameter] = found[parameter] + gradient if parameter in found else gradient
    return found
