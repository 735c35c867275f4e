"""Fisher: how much each weight of an encoder matters to a task that it was trained on, for EWC."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from layover import pulse
from layover.recipe import Recipe
from layover.tasks.load import TaskData
from layover.train.batching import collate
from layover.train.cache import Located
from layover.train.determinism import derive
from layover.train.encode import Encoded
from layover.train.groups import ENCODER
from layover.train.network import Network
from layover.train.precision import computing

Weights = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Before:
    """What an encoder was trained on before: the data, and the recipe of that training."""

    data: Located | TaskData
    recipe: Recipe


def fisher(network: Network, encoded: Encoded, padding: int, examples: int, seed: int, device: torch.device) -> Weights:
    """The diagonal of the empirical Fisher information of an encoder's weights, by their names in the network.

    The mean over examples, drawn by the seed from those with a target, of the squared gradient of the log-likelihood
    of their true labels (Kirkpatrick et al. 2017, section 2.1, with labels of the data instead of the model's own). An
    example with several targets is one: its log-likelihood is their sum. In fp32 and without dropout.
    """
    known = np.flatnonzero([len(encoded.known(np.array([number]))) > 0 for number in range(len(encoded))])
    chosen = np.sort(np.random.default_rng(derive(seed, "fisher")).permutation(known)[:examples])
    network.eval()
    named = {name: p for name, p in network.named_parameters() if name.startswith(ENCODER)}
    found = {name: torch.zeros_like(p, requires_grad=False) for name, p in named.items()}
    with computing(network, "fp32", device) as now:
        for number in chosen:
            pulse.check()
            network.zero_grad(set_to_none=True)
            batch = collate(encoded, np.array([number]), padding, device, network.packed)
            now.backward(network.head.loss(now.scores(batch), batch))
            there = {name: p.grad for name, p in named.items() if p.grad is not None}
            for name, gradient in there.items():
                found[name].addcmul_(gradient, gradient, value=1 / len(chosen))
    network.zero_grad(set_to_none=True)
    return found
