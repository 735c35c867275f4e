"""Probe: a head trained on the features of a frozen encoder, in the loop that trains everything else.

The loop sees a network without an encoder, and examples whose tokens are the numbers of the vectors that are read. No
encoder is loaded where its features are in the store.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from layover.errors import Problem, StepError
from layover.recipe import Recipe
from layover.step import Places
from layover.train import features, heads, warm, work
from layover.train.batching import Batch
from layover.train.cache import Located
from layover.train.cohort import Run
from layover.train.determinism import pick_device, prepare_process
from layover.train.encode import Encoded
from layover.train.features import Features
from layover.train.frozen import Frozen
from layover.train.heads import Head
from layover.train.loop import Job
from layover.train.memory import prepare_heap
from layover.train.model import Loaded
from layover.train.noise import Noise

MLP = 512  # width of the hidden layer of an MLP, where the task's format has none of its own
ROWS = 8192  # vectors of one layer that a pass with gradients reads at most


class Mix(nn.Module):
    """A learned scalar mix of layers: gamma times their mean, weighted by a softmax (Tenney et al. 2019, section 4)."""

    def __init__(self, n_layers: int) -> None:
        super().__init__()
        self.scores, self.gamma = nn.Parameter(torch.zeros(n_layers)), nn.Parameter(torch.ones(1))

    @property
    def weights(self) -> torch.Tensor:
        """The weight of every layer [layers]; they sum to 1."""
        return self.scores.softmax(0)

    def forward(self, layers: torch.Tensor) -> torch.Tensor:
        """[layers, rows, width] to [rows, width]."""
        return self.gamma * torch.einsum("l,lrw->rw", self.weights, layers)


@dataclass(frozen=True, eq=False)
class Table:
    """Vectors of one part of the data, whose rows are numbered from `first`; `input_at` says which input begins where.

    `tokens` and `means` hold one tensor [vectors, width] per layer.
    """

    first: int
    tokens: Sequence[torch.Tensor]
    means: Sequence[torch.Tensor]
    input_at: NDArray[np.int64]


class ProbeNetwork(nn.Module):
    """What stands for a network in the loop: it looks vectors up, mixes their layers, and has a head.

    `layers` are those that are read: one, or all, for their mean or for a learned mix.
    """

    packed = True  # no row is wasted on padding

    def __init__(
        self, tables: Sequence[Table], layers: Sequence[int], head: Head, mix: Mix | None, pooling: str
    ) -> None:
        super().__init__()
        self.tables, self.layers, self.pooling = tables, layers, pooling
        self.head, self.mix, self.encoder = head, mix, nn.Module()  # nothing in the encoder's place
        self.noise, self.reset = head.dropout.noise, ()
        self.train()

    def prepare(self, device: torch.device) -> ProbeNetwork:
        """Move to a device; vectors stay where they are, and go there batch by batch."""
        return self.to(device)

    def forward(self, batch: Batch, seed: int = 0, step: int = 0) -> torch.Tensor:
        """The head's scores for a micro-batch, whose tokens are numbers of vectors."""
        begins = batch.inputs.begins
        self.noise.begin(batch.layout, seed, step, self.training and begins.device.type == "cpu")
        rows = batch.tokens["input_ids"][0].cpu()
        table = next(table for table in reversed(self.tables) if table.first <= int(rows[0]))
        rows = rows - table.first
        hidden = self._read(table.tokens, rows, begins.device)
        if self.pooling == "first":
            return self.head(hidden, hidden[begins], batch)
        inputs = torch.from_numpy(table.input_at[rows[begins.cpu()].numpy()])
        return self.head(hidden, self._read(table.means, inputs, begins.device), batch)

    def _read(self, layers: Sequence[torch.Tensor], rows: torch.Tensor, device: torch.device) -> torch.Tensor:
        """Some vectors [rows, width] in fp32."""
        found = torch.stack([layers[number][rows] for number in self.layers]).to(device).float()
        return self.mix(found) if self.mix is not None else found.mean(0) if len(found) > 1 else found[0]


@dataclass(frozen=True)
class Probed:
    """What a probe ends with: what a training ends with, and where layers were mixed the weights that were learned."""

    result: work.Result
    mix: dict[str, Any]


def training(
    data: Located,
    frozen: Frozen,
    layer: int | str,
    head: str,
    recipe: Recipe,
    seed: int,
    places: Places,
    resume: Path,
    report: Callable[[dict[str, Any]], None],
) -> Generator[Job, Run, Probed]:
    """Train a probe of a layer's number, of the "mean" of all layers or of a learned "mix", and predict validation.

    `head` is "linear" or "mlp". Asks whoever drives it to fit its job, as `work.training` does. Raises StepError where
    there is no such layer, and what `features` raises.
    """
    read: dict[str, Features] = {
        part: features.features(
            data, part, frozen, max_length=recipe.max_length, precision=recipe.precision, places=places
        )
        for part in ("train", "selection", "validation")
        if part != "selection" or recipe.selects
    }
    device = pick_device(places.device)
    prepare_process(places.threads, device)
    prepare_heap()
    layers = _layers(layer, read["train"].n_layers)
    found, tables = _numbered(read)
    network: Any = ProbeNetwork(
        tables,
        layers,
        _head(data, frozen, head, recipe, seed, read["train"].width),
        Mix(len(layers)) if layer == "mix" else None,
        recipe.pooling,
    )
    task, selection, validation = data.task, found.get("selection"), found["validation"]
    n_classes = work.n_classes_of(task, found["train"], validation)
    job = Job(
        network=network,
        padding=0,
        train=found["train"],
        selection=selection,
        recipe=recipe,
        seed=seed,
        score=work.scorer(task, selection, n_classes),
        micro_tokens=places.micro_tokens or max(1, ROWS // len(layers)),
        checkpoint_seconds=places.checkpoint_seconds,
        device=device,
        resume=resume,
        report=report,
    )
    run = yield job
    loaded = Loaded(network, None, read["train"].max_length)
    result = work.ended(loaded, run, job.parts()[0], run.ended(), task, validation, n_classes)
    return Probed(result, _learned(network.mix))


def _layers(layer: int | str, n_layers: int) -> list[int]:
    if isinstance(layer, str):
        return list(range(n_layers))
    if not 0 <= layer < n_layers:
        hint = f"choices: 0 (the embeddings) to {n_layers - 1}, mean, mix"
        raise StepError(Problem("layer", f"there is no layer {layer}", hint))
    return [layer]


def _numbered(read: dict[str, Features]) -> tuple[dict[str, Encoded], list[Table]]:
    """The examples of every part with the numbers of their vectors among those of all parts, and the vectors."""
    found, tables, first = {}, [], 0
    for name, part in read.items():
        input_at = np.zeros(len(part.tokens[0]), np.int64)
        input_at[part.encoded.offsets[:, 0]] = part.inputs
        tables.append(Table(first, part.tokens, part.means, input_at))
        found[name] = replace(part.encoded, ids=part.encoded.ids.astype(np.int64) + first, types=None)
        first += len(part.tokens[0])
    return found, tables


def _head(data: Located, frozen: Frozen, head: str, recipe: Recipe, seed: int, width: int) -> Head:
    """A new head: one linear layer, or one with a hidden layer before it; the format decides what it reads."""
    dropout = warm.own_dropout(warm.config(frozen.location)) if recipe.dropout is None else recipe.dropout
    inner = heads.INNER_DROPOUT if recipe.dropout is None or recipe.dropout_at == "output" else recipe.dropout
    hidden = (data.task.format.reads.hidden or MLP) if head == "mlp" else 0
    return Head(width, data.task, dropout, seed, Noise(), inner, hidden)


def _learned(mix: Mix | None) -> dict[str, Any]:
    if mix is None:
        return {}
    weights = [round(weight, 6) for weight in mix.weights.tolist()]
    return {"mix": {"weights": weights, "gamma": round(mix.gamma.item(), 6)}}
