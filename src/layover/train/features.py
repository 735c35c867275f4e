"""Features: what a frozen encoder makes of a data set, computed once, kept memory-mapped, and read by all probes.

An entry lies in the store beside the encoded data sets and is keyed as they are, by everything that it depends on: the
examples, the encoder and the step whose weights it has, the longest input, the precision, the code and the libraries of
the pass. On what machine it ran does not count: bf16 numbers are coarser than what machines differ by. Beside the
vectors it has labels and targets, so that it is read without encoder, tokenizer and data.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from layover import arrays, identity
from layover.claims import Claim
from layover.step import Places
from layover.store import ENCODED, Store
from layover.tasks.divide import Portion
from layover.tasks.load import TaskData
from layover.train import cache, frozen
from layover.train.batching import Batch, collate
from layover.train.cache import Located
from layover.train.determinism import CPU
from layover.train.encode import Encoded, assembled, encode, joined, ranges
from layover.train.frozen import Frozen
from layover.train.precision import Precision

Part = Literal["train", "selection", "validation"]
Pooling = Literal["first", "mean"]
LIBRARIES = ("torch", "transformers", "tokenizers")
WAIT = 0.2  # seconds between looks at whether another process has finished the same pass


@dataclass(frozen=True, eq=False)
class Vectors:
    """The features of some examples as a head reads them: hidden states and pooled vectors of some layers, in fp32.

    `hidden` [layers, rows, width], `pooled` [layers, inputs, width]; `batch` says whose they are. A head's scores from
    layer i are `head(hidden[i], pooled[i], batch)`; for a scalar mix both are summed over layers with its weights.
    """

    hidden: torch.Tensor
    pooled: torch.Tensor
    batch: Batch


@dataclass(frozen=True, eq=False)
class Features:
    """The features of a part of a data set, in its order.

    `encoded` has labels and targets; its tokens are the rows that are kept, and its `ids` their numbers. `inputs` are
    the numbers of its inputs, of `max_length` tokens at most. `tokens` [rows, width] and `means` [inputs, width] are in
    bf16, one of each per layer, embeddings first. Writing to them changes this process's memory and never the file.
    """

    encoded: Encoded
    inputs: NDArray[np.int64]
    tokens: Sequence[torch.Tensor]
    means: Sequence[torch.Tensor]
    max_length: int

    @classmethod
    def of(cls, columns: arrays.Columns, max_length: int) -> Features:
        """The features in the columns of `frozen.columns`, without a copy."""
        others = {name: part for name, part in columns.items() if "-" not in name}
        n_layers = (len(columns) - len(others)) // 2
        tokens, means = ([_bf16(columns[f"{name}-{i}"]) for i in range(n_layers)] for name in ("tokens", "mean"))
        encoded = assembled({**others, "ids": np.arange(len(tokens[0]), dtype=np.int32)})
        return cls(encoded, np.arange(len(encoded.offsets)), tokens, means, max_length)

    def __len__(self) -> int:
        return len(self.encoded)

    @property
    def n_layers(self) -> int:
        """How many layers there are, the embeddings counted."""
        return len(self.means)

    @property
    def width(self) -> int:
        """The length of a vector."""
        return self.means[0].shape[1]

    def layer(self, number: int, pooling: Pooling = "first") -> torch.Tensor:
        """The pooled vectors [inputs, width] of a layer, in bf16; a view of the file where that holds no others."""
        vectors = self.tokens[number] if pooling == "first" else self.means[number]
        rows = self.encoded.offsets[:, 0] if pooling == "first" else self.inputs
        return vectors if np.array_equal(rows, np.arange(len(vectors))) else vectors[torch.from_numpy(rows)]

    def take(self, examples: NDArray[np.int64]) -> Features:
        """Some of the examples, in the order given. Vectors are shared, not copied."""
        inputs = self.inputs[ranges(self.encoded.groups, examples)]
        return replace(self, encoded=self.encoded.take(examples), inputs=inputs)

    def vectors(
        self,
        examples: NDArray[np.int64],
        layers: Sequence[int] | None = None,
        pooling: Pooling = "first",
        device: torch.device = CPU,
    ) -> Vectors:
        """The features of some examples in some layers, or in all."""
        batch = collate(self.encoded, examples, 0, device, packed=True)
        numbers = range(self.n_layers) if layers is None else layers
        hidden = _gathered(self.tokens, numbers, batch.tokens["input_ids"][0].cpu(), device)
        if pooling == "first":
            return Vectors(hidden, hidden[:, batch.inputs.begins], batch)
        inputs = torch.from_numpy(self.inputs[ranges(self.encoded.groups, examples)])
        return Vectors(hidden, _gathered(self.means, numbers, inputs, device), batch)


def features(
    data: Located | TaskData,
    part: Part,
    encoder: Frozen,
    *,
    max_length: int,
    precision: Precision = "fp32",
    places: Places | None = None,
) -> Features:
    """A part of a step's data through a frozen encoder: out of the store, after one pass, perhaps of another process.

    Inputs are cut to `max_length` tokens, or to what the encoder can read. Examples at hand are computed each time, in
    memory. Raises EncoderError where the encoder cannot be loaded or does not give its layers, and StoreError where its
    weights are gone or the disk is too small.
    """
    places = places or Places()
    if isinstance(data, TaskData):
        reader = frozen.load(encoder, data.task, max_length, precision, places)
        encoded = encode(getattr(data, part), data.task, reader.tokenizer, reader.max_length)
        chunks = list(frozen.columns(reader, encoded))
        return Features.of({name: joined([chunk[name] for chunk in chunks]) for name in chunks[0]}, reader.max_length)
    if part == "selection" and data.held is None and not data.selects:
        raise ValueError("this data has no selection set")
    divided = data.held is not None and part != "validation"
    portion = data.train if divided or part == "train" else data.validation
    entry = _once(data, portion, encoder, max_length, precision, places)
    whole = Features.of(entry.columns, entry.facts["max_length"])
    return whole.take(np.flatnonzero(data.held == (part == "selection"))) if divided else whole


def made_from(
    data: Located, portion: Portion, encoder: Frozen, max_length: int, precision: Precision
) -> dict[str, Any]:
    """All that the features of a portion depend on, as an entry of the store says it."""
    return {
        **cache.examples_of(data, portion, frozen, *frozen.CODE),
        "kind": "features",
        "encoder": encoder.identity,
        "start": encoder.started(),
        "max_length": max_length,
        "precision": precision,
        "libraries": {name: version(name) for name in LIBRARIES},
    }


def _once(
    data: Located, portion: Portion, encoder: Frozen, max_length: int, precision: Precision, places: Places
) -> arrays.Arrays:
    """The entry of a portion. Of the processes that need it at once, one computes and the others wait."""
    made_of = made_from(data, portion, encoder, max_length, precision)

    def write() -> tuple[dict[str, Any], Iterable[arrays.Columns]]:
        reader = frozen.load(encoder, data.task, max_length, precision, places)
        [encoded] = cache.encoded(data, [portion], reader.tokenizer, reader.max_length)
        chunks = _fitting(data.store, frozen.columns(reader, encoded), len(encoded))
        return {"examples": len(encoded), "max_length": reader.max_length}, chunks

    key = identity.key(ENCODED, made_of)
    while arrays.opened(data.store.encoded(key), made_of) is None:
        with data.store.writing():
            claim = Claim(data.store.claim(key), dict)
            if claim.take():
                with claim:
                    return cache.once(data.store, made_of, write, private=True)
        time.sleep(WAIT)
    return cache.once(data.store, made_of, write, private=True)


def _fitting(store: Store, chunks: Iterator[arrays.Columns], examples: int) -> Iterator[arrays.Columns]:
    """The chunks as they come; after the first, an error at once where the disk does not hold them all."""
    for number, chunk in enumerate(chunks):
        if number == 0:
            store.check_writable(sum(part.nbytes for part in chunk.values()) * examples // len(chunk["inputs"]))
        yield chunk


def _gathered(
    layers: Sequence[torch.Tensor], numbers: Iterable[int], rows: torch.Tensor, device: torch.device
) -> torch.Tensor:
    """Some rows of some layers [layers, rows, width], in fp32."""
    return torch.stack([layers[number][rows] for number in numbers]).to(device).float()


def _bf16(bits: NDArray[np.uint16]) -> torch.Tensor:
    """Numbers whose bits NumPy holds, without a copy: it has no bf16 itself."""
    return torch.from_numpy(bits).view(torch.bfloat16)
