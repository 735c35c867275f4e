"""Task vector: which of an encoder's units matter to a task, by the Fisher information of its weights (TaskEmb).

Vu et al. 2020 (section 3.2), after Achille et al. 2019 (Task2Vec): a head is trained on the frozen encoder, and the
diagonal of the empirical Fisher information says how much the log-likelihood of the true labels depends on each weight.
All tasks are measured at the same point, the plain encoder's weights, so that their vectors can be compared.

The diagonal has a number for every weight, millions. It is reduced as Task2Vec does, to the mean over the weights that
lead to one unit: a row of a matrix, an entry of a bias or norm. Every block (a matrix, a bias, a norm) is then scaled
to length 1, and the whole too: the cosine of two vectors is the mean of the blocks' cosines, so that no block counts
for more because its gradients are larger. That stands for the fusion of components' rankings in the paper. Embeddings
are left out: which words occur is what TextEmb says. So are blocks that have no gradient but rounding noise, as biases
of attention's keys, of which the softmax sees nothing.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from layover.places import Places
from layover.recipe import Recipe
from layover.train import fisher as information
from layover.train import heads, model, probe, work
from layover.train.cache import Located
from layover.train.cohort import by_itself
from layover.train.determinism import pick_device
from layover.train.features import Pooling, features
from layover.train.frozen import Frozen
from layover.train.groups import ENCODER, layer_numbers

EXAMPLES = 256  # of which the information is the mean
STEPS, RATE = 200, 1e-2  # of the head, one linear layer on vectors that do not change: as many for few rows as for many
NOISE = 1e-10  # of the largest block's length: squares of what rounding leaves are 1e-14 of it
CODE = (information, probe, heads)  # what the numbers depend on beside features, and this


def task_vector(
    data: Located, plain: Frozen, max_length: int, pooling: Pooling, seed: int, places: Places
) -> NDArray[np.float32]:
    """The vector [units] of a task, whose data is train's part of `data`, for a plain encoder; its length is 1.

    Raises ValueError for plain text, which no head is trained on, and what `features` raises.
    """
    if data.task.output == "tokens":
        raise ValueError("plain text has no labels to be measured by")
    recipe = Recipe(
        learning_rate=RATE, max_steps=STEPS, max_length=max_length, pooling=pooling, dropout=0.0, checkpoint="last",
        patience=0,
    )  # fmt: skip
    last = features(data, "train", plain, max_length=max_length, places=places).n_layers - 1
    with tempfile.TemporaryDirectory() as folder:
        training = probe.training(data, plain, last, "linear", recipe, seed, places, Path(folder), lambda _: None)
        head = by_itself(training).result.network.head
    loaded = model.load(plain.location, None, data.task, recipe, seed)
    loaded.network.head = head
    encoded, device = work.read(data, loaded, seed).train, pick_device(places.device)
    network, padding = loaded.network.prepare(device), loaded.tokenizer.pad_token_id
    return reduced(information.fisher(network, encoded, padding, EXAMPLES, seed, device), network.encoder)


def reduced(diagonal: dict[str, torch.Tensor], encoder: Any) -> NDArray[np.float32]:
    """The diagonal of an encoder's information, by names in the network, as one vector [units] of length 1."""
    numbers = layer_numbers(encoder)
    inside = [
        value.detach().cpu().double() for name, value in diagonal.items() if numbers[name.removeprefix(ENCODER)] >= 0
    ]
    units = [value.flatten(1).mean(1).numpy() if value.ndim > 1 else value.numpy() for value in inside]
    lengths = [float(np.linalg.norm(unit)) for unit in units]
    least = NOISE * max(lengths, default=0.0)
    blocks = [unit / length if length > least else 0 * unit for unit, length in zip(units, lengths, strict=True)]
    whole = np.concatenate(blocks)
    length = float(np.linalg.norm(whole))
    return (whole / length if length else whole).astype(np.float32)
