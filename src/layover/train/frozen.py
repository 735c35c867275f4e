"""Frozen: an encoder that is read and not trained. One pass gives what is kept of every layer for all examples.

Kept are, as bf16 and in the order of the data, the hidden states of every layer: the mean over each input's tokens,
the first token, and the tokens that a head reads: those of marked stretches, or all where an answer is looked for.
Dropout is off. Examples are read window by window, so that memory stays flat; inside one, in the order of length.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from layover import pulse
from layover.arrays import Columns
from layover.errors import EncoderError, Problem, StoreError
from layover.files import digest
from layover.step import Places, Recipe
from layover.tasks.task import Task
from layover.train import attention, batching, heads, layout, model, network, noise, precision, ways
from layover.train.batching import collate, micro_batches
from layover.train.determinism import pick_device, prepare_process
from layover.train.encode import Encoded, ranges, stretches
from layover.train.heads import mean_of
from layover.train.memory import micro_tokens
from layover.train.network import Network
from layover.train.precision import Precision, computing

# what the numbers depend on, and this
CODE = (attention, batching, heads, layout, model, network, noise, precision, ways)
WINDOW = 64 << 20  # bytes of vectors that are gathered, in the order of the data, before they are handed on


@dataclass(frozen=True)
class Frozen:
    """An encoder to be read: its identity, and the directory or Hub id where it is.

    `start` is the key of the step whose encoder it is, None for the plain one, and `weights` the folder of that step's
    weights, which is not needed where its features are there. Without a key, the digest of the weights stands for it.
    """

    identity: str
    location: str
    start: str | None = None
    weights: Path | None = None

    def started(self) -> str | None:
        """What the weights are, None for the plain encoder's."""
        if self.start or self.weights is None:
            return self.start
        return f"sha256:{digest(self.weights / 'encoder.safetensors')}"


@dataclass(frozen=True)
class Reader:
    """A frozen encoder where it reads, with its tokenizer and the longest input; `most` bounds the tokens of a pass."""

    network: Network
    tokenizer: Any
    max_length: int
    precision: Precision
    device: torch.device
    most: int
    location: str


def load(frozen: Frozen, task: Task, max_length: int, precision: Precision, places: Places) -> Reader:
    """The encoder ready to read inputs of at most `max_length` tokens.

    Raises EncoderError where it cannot be loaded, and StoreError where the weights that it should have are gone.
    """
    if frozen.start and frozen.weights is None:
        hint = "keep them with `layover run STUDY --keep-weights LABEL`"
        raise StoreError(Problem(f"step {frozen.start}", "has no weights in the store", hint))
    device = pick_device(places.device)
    prepare_process(places.threads, device)
    loaded = model.load(frozen.location, frozen.weights, task, Recipe(max_length=max_length, precision=precision), 0)
    own = loaded.network.prepare(device).eval()
    # four times as many, as in other evaluation, is slower by a tenth: the hidden states of all layers stay in memory
    most = places.micro_tokens or micro_tokens(own, precision, loaded.max_length, places.sharing)
    return Reader(own, loaded.tokenizer, loaded.max_length, precision, device, most, frozen.location)


def columns(reader: Reader, encoded: Encoded) -> Iterator[Columns]:
    """The examples as columns, window by window: of layer i `tokens-i` [rows, width] and `mean-i` [inputs, width].

    The others are those of `encode.assembled`, with the kept tokens in the place of the encoded ones. Vectors are bits
    of bf16 numbers, as uint16.
    """
    config: Any = reader.network.encoder.config
    each = 2 * getattr(config, "hidden_size", 768) * (1 + getattr(config, "num_hidden_layers", 12))
    for window in _windows(_most_rows(encoded), max(1, WINDOW // each)):
        pulse.check()
        part = _cut_out(encoded.take(window))
        kept = _kept(part)
        tokens, means = _read(reader, part, kept)
        vectors = {"tokens": tokens.view(torch.uint16).numpy(), "mean": means.view(torch.uint16).numpy()}
        by_layer = {f"{name}-{layer}": one for name, layers in vectors.items() for layer, one in enumerate(layers)}
        yield {**_others(part, kept), **by_layer}


def _read(reader: Reader, part: Encoded, kept: NDArray[np.bool_]) -> tuple[torch.Tensor, torch.Tensor]:
    """The hidden states of the kept tokens [layers, rows, width] and the means [layers, inputs, width], in bf16."""
    place, packed = np.cumsum(kept) - 1, reader.network.packed
    tokens = means = torch.empty(0)
    with torch.inference_mode(), computing(reader.network, reader.precision, reader.device) as now:
        for examples in micro_batches(part, np.arange(len(part)), reader.most, packed, reader.device):
            batch = collate(part, examples, reader.tokenizer.pad_token_id, reader.device, packed)
            states = now.states(batch)
            if states is None:
                message = "does not give the hidden states of its layers (output_hidden_states)"
                raise EncoderError(Problem(reader.location, message, "take another encoder"))
            layers = [states.flatten(0, 1) for states in states]
            numbers = ranges(part.groups, examples)
            flat = stretches(*part.offsets[numbers].T)
            rows = torch.from_numpy(batch.layout.tokens()[kept[flat]]).to(reader.device)
            found = torch.stack([hidden[rows] for hidden in layers]).bfloat16().cpu()
            pooled = torch.stack([mean_of(hidden, batch.inputs) for hidden in layers]).bfloat16().cpu()
            if not len(tokens):
                tokens = found.new_empty(len(found), int(kept.sum()), found.shape[-1])
                means = found.new_empty(len(found), len(part.offsets), found.shape[-1])
            tokens[:, torch.from_numpy(place[flat[kept[flat]]])] = found
            means[:, torch.from_numpy(numbers)] = pooled
    return tokens, means


def _windows(sizes: NDArray[np.int64], most: int) -> Iterator[NDArray[np.int64]]:
    """Examples in order, cut so that those of a window have `most` rows at most, or are one."""
    ends, begin = np.cumsum(sizes), 0
    while begin < len(sizes):
        before = int(ends[begin - 1]) if begin else 0
        end = max(begin + 1, int(np.searchsorted(ends, before + most, side="right")))
        yield np.arange(begin, end)
        begin = end


def _most_rows(encoded: Encoded) -> NDArray[np.int64]:
    """How many vectors per layer each example has at most: the means, and the tokens that are kept."""
    inputs = np.diff(encoded.groups)
    return inputs + (encoded.tokens if encoded.spans.shape[1] else inputs)


def _cut_out(part: Encoded) -> Encoded:
    """Examples with their own tokens alone, end to end."""
    own, ends = stretches(*part.offsets.T), np.cumsum(part.input_lengths)
    arrays = {name: getattr(part, name) for name in ("ids", "types", "chars")}
    cut = {name: None if array is None else array[own] for name, array in arrays.items()}
    return replace(part, offsets=np.stack([ends - part.input_lengths, ends], axis=1), **cut)


def _kept(part: Encoded) -> NDArray[np.bool_]:
    """Which tokens [tokens] are kept: the first of every input, and those that a head reads."""
    if part.chars is not None:
        return np.ones(len(part.ids), np.bool_)
    found = np.zeros(len(part.ids), np.bool_)
    found[part.offsets[:, 0]] = True
    spans = (part.spans + _first(part)[:, None, None])[~part.lost]
    found[stretches(spans[..., 0].ravel(), spans[..., 1].ravel())] = True
    return found


def _first(part: Encoded) -> NDArray[np.int64]:
    """The first token [targets] of each target's example: stretches are in the one input that this has."""
    return part.offsets[part.groups[:-1], 0][part.example_of_target()]


def _others(part: Encoded, kept: NDArray[np.bool_]) -> Columns:
    """The columns of examples of which some tokens are kept, but for the vectors."""
    before, first = np.concatenate([[0], np.cumsum(kept)]), _first(part)[:, None, None]
    spans = np.where(part.lost[:, None, None], 0, before[part.spans + first] - before[first])
    found: dict[str, Any] = {
        "lengths": np.diff(before[part.offsets]).ravel().astype(np.int32),
        "inputs": np.diff(part.groups).astype(np.int32),
        "targets": np.diff(part.bounds).astype(np.int32),
        "spans": spans.astype(np.int32),
        **{name: getattr(part, name) for name in ("labels", "lost", "rows", "parts", "truncated")},
    }
    more = {name: getattr(part, name) for name in ("chars", "texts", "golds")}
    return {**found, **{name: _whole(column) for name, column in more.items() if column is not None}}


def _whole(column: Any) -> Any:
    """A column as one array: of texts, what Arrow has as chunks."""
    return column.combine_chunks() if hasattr(column, "combine_chunks") else column
