"""Cases: what of a data set is judged as one vector with one label, where encoders are compared without training.

The vector is the one that the task's own head would read from a frozen encoder (`layover.train.heads`):

- one text or two: the input's pooled vector, with its class or its number;
- choices: each choice is an input of its own, and a case that is "right" or "wrong". A head scores every choice by the
  same weights and knows nothing of its position, so that the number of the right one says nothing about a vector;
- stretches of text and tags: what the head reads of a target end to end, the input's vector where it reads that, then
  each stretch as its first token or as the mean of its tokens. Self-attentive pooling is learned with the task: its
  mean, which it begins near, stands for it. A set of labels is one class;
- an answer in a passage: the head scores every token as begin and as end. Cases are the answer's first and last token,
  and one other token of the passage, drawn by the seed, so that no class is a hundredth of another.

Targets that the longest input cuts off are no cases.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from layover import pulse
from layover.tasks.task import Task
from layover.train.encode import Encoded
from layover.train.features import Features, Pooling, Vectors
from layover.train.heads import mean_of
from layover.train.seeds import derive

Unit = Literal["input", "target", "token"]
CHUNK = 64  # examples whose vectors of all layers are in memory at once, beside what is kept
CHOICES = ("wrong", "right")
PLACES = ("elsewhere", "begin", "end")


@dataclass(frozen=True, eq=False)
class Cases:
    """The cases of some examples, n of them, in the order of the data.

    `unit` says what each is one of, and `place` [n] which: an input, by its number among all; a target, among those
    that are known; a token, in its example's input. `example` [n] is the example of each. `labels` [n] are numbers of
    the classes in `names`, or values where `names` is None; of plain text, which has neither, they are zeros.
    """

    unit: Unit
    place: NDArray[np.int64]
    example: NDArray[np.int64]
    labels: NDArray[Any]
    names: tuple[str, ...] | None

    def __len__(self) -> int:
        return len(self.place)

    def take(self, which: NDArray[np.int64]) -> Cases:
        """Some of the cases, by their numbers, which ascend."""
        return replace(self, place=self.place[which], example=self.example[which], labels=self.labels[which])


def cases_of(task: Task, encoded: Encoded, most: int, seed: int) -> Cases:
    """The cases of encoded examples of a task; of more than `most`, as many as that are drawn by the seed."""
    draw = np.random.default_rng(derive(seed, "cases"))
    if task.output == "extent":
        found = _tokens(encoded, draw)
    elif task.format.reads.marks and task.output != "tokens":
        found = _targets(task, encoded)
    else:
        found = _inputs(task, encoded)
    if len(found) <= most:
        return found
    return found.take(np.sort(draw.permutation(len(found))[:most]))


def parts(task: Task) -> int:
    """How many vectors of the encoder's width are end to end in a case's vector."""
    reads = task.format.reads
    if task.output in ("extent", "tokens") or not reads.marks:
        return 1
    return int(reads.sentence) + reads.marks


def vectors(features: Features, cases: Cases, task: Task, pooling: Pooling) -> NDArray[np.float32]:
    """The vectors of cases in every layer, embeddings first: [layers, n, width], wider where `parts` says so."""
    rows = torch.from_numpy(cases.place)
    if cases.unit == "input":
        return torch.stack([features.layer(i, pooling)[rows].float() for i in range(features.n_layers)]).numpy()
    if cases.unit == "token":
        begins = features.encoded.offsets[features.encoded.groups[cases.example], 0]
        rows = rows + torch.from_numpy(begins)
        return torch.stack([layer[rows].float() for layer in features.tokens]).numpy()
    found = [
        torch.stack([_read(task, read, layer)[which] for layer in range(features.n_layers)]).numpy()
        for which, read in chunks(features, cases, None, pooling)
    ]
    empty = np.zeros((features.n_layers, 0, features.width * parts(task)), np.float32)
    return np.concatenate([empty, *found], axis=1)


def chunks(
    features: Features, cases: Cases, layers: list[int] | None, pooling: Pooling
) -> Iterator[tuple[torch.Tensor, Vectors]]:
    """The features of examples, some at a time, and which of their inputs or targets are cases."""
    ends = np.concatenate([[0], np.cumsum(_sizes(features.encoded, cases.unit))])
    for begin in range(0, len(features), CHUNK):
        pulse.check()
        end = min(begin + CHUNK, len(features))
        first, last = np.searchsorted(cases.example, [begin, end])
        if last > first:
            read = features.vectors(np.arange(begin, end), layers, pooling)
            yield torch.from_numpy(cases.place[first:last] - ends[begin]), read


def _sizes(encoded: Encoded, unit: Unit) -> NDArray[np.int64]:
    """How many inputs, or known targets, each example has."""
    if unit == "input":
        return np.diff(encoded.groups)
    return np.bincount(encoded.example_of_target()[~encoded.lost], minlength=len(encoded))


def _read(task: Task, read: Vectors, layer: int) -> torch.Tensor:
    """What a head reads of every known target in one layer [targets, width x parts]."""
    reads, hidden = task.format.reads, read.hidden[layer]
    found = [read.pooled[layer][read.batch.example]] if reads.sentence else []
    first = reads.pool == "first"
    return torch.cat([*found, *(hidden[s.begins] if first else mean_of(hidden, s) for s in read.batch.spans)], dim=-1)


def _inputs(task: Task, encoded: Encoded) -> Cases:
    """Each input is a case: that of an example, or one of its choices."""
    sizes = np.diff(encoded.groups)
    example, place = np.repeat(np.arange(len(encoded)), sizes), np.arange(len(encoded.offsets))
    if task.output == "choice":
        right = np.zeros(len(place), np.int64)
        right[encoded.groups[:-1] + np.asarray(encoded.labels, np.int64)] = 1
        return Cases("input", place, example, right, CHOICES)
    if task.output == "tokens":
        return Cases("input", place, example, np.zeros(len(place), np.int64), ())
    return Cases("input", place, example, *_labelled(task, np.asarray(encoded.labels)))


def _targets(task: Task, encoded: Encoded) -> Cases:
    """Each target that was not cut off is a case."""
    known = ~encoded.lost
    labels = _labelled(task, np.asarray(encoded.labels)[known])
    return Cases("target", np.arange(int(known.sum())), encoded.example_of_target()[known], *labels)


def _labelled(task: Task, labels: NDArray[Any]) -> tuple[NDArray[Any], tuple[str, ...] | None]:
    """Labels as classes with their names, or as values; every set of labels that occurs is a class."""
    if task.output == "value":
        return labels.astype(np.float64), None
    if task.output != "labels":
        return labels.astype(np.int64), task.labels
    sets, classes = np.unique(labels, axis=0, return_inverse=True)
    return classes.reshape(-1), tuple("+".join(task.labels[i] for i in np.flatnonzero(one)) for one in sets)


def _tokens(encoded: Encoded, draw: np.random.Generator) -> Cases:
    """First and last token of each answer, and one token of the passage that is not in it."""
    assert encoded.chars is not None
    found: list[tuple[int, int, int]] = []
    for example, (begin, end) in enumerate(encoded.offsets[encoded.groups[:-1]]):
        target = encoded.bounds[example]
        share = draw.random()  # drawn for every example: what is cut off elsewhere moves nothing here
        if encoded.lost[target]:
            continue
        first, last = int(encoded.spans[target, 0, 0]), int(encoded.spans[target, 0, 1]) - 1
        chars = encoded.chars[begin:end]
        passage = np.flatnonzero(chars[:, 1] > chars[:, 0])
        others = passage[(passage < first) | (passage > last)]
        places = {first: 1, **({last: 2} if last > first else {})}
        if len(others):
            places[int(others[int(share * len(others))])] = 0
        found += [(example, place, label) for place, label in sorted(places.items())]
    example, place, labels = np.array(found, np.int64).reshape(-1, 3).T
    return Cases("token", place, example, labels, PLACES)
