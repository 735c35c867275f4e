"""Prints: what examples ask and how they are labelled, as hashes, so that repeats are found and no text is kept.

Texts are compared as an encoder without case would read them: in Unicode's compatibility form, in lower case, with one
blank between words.
"""

from __future__ import annotations

import unicodedata
from array import array
from collections.abc import Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from layover.datacheck.facts import Elsewhere, Overlap
from layover.tasks.example import Example, Input, Output

HASH_BYTES = 8
Hashes = NDArray[np.int64]


class Prints:
    """Hashes of the examples of one split, in order.

    Per example: what is `asked` (inputs and stretches; of choices, in any order), how it is `answered` (that and the
    label), its `inputs` alone, and its first text.
    """

    def __init__(self) -> None:
        self._columns = tuple(array("q") for _ in range(4))

    def add(self, example: Example, output: Output) -> None:
        """Take in an example."""
        for column, value in zip(self._columns, _of(example, output), strict=True):
            column.append(int.from_bytes(value, signed=True))

    def __len__(self) -> int:
        return len(self._columns[0])

    @property
    def asked(self) -> Hashes:
        """What each example asks."""
        return self._array(0)

    @property
    def answered(self) -> Hashes:
        """What each example asks, with the right answer."""
        return self._array(1)

    @property
    def inputs(self) -> Hashes:
        """The inputs of each example."""
        return self._array(2)

    @property
    def texts(self) -> Hashes:
        """The first text of each example."""
        return self._array(3)

    def _array(self, column: int) -> Hashes:
        return np.array(self._columns[column], np.int64)

    def repeats(self) -> int:
        """Examples that ask what an earlier one asks."""
        return len(self) - len(np.unique(self.asked))

    def disputed(self) -> int:
        """Different things asked that have more than one label."""
        _, firsts = np.unique(self.answered, return_index=True)
        _, labels = np.unique(self.asked[firsts], return_counts=True)
        return int((labels > 1).sum())


def overlap(train: Prints, validation: Prints) -> Overlap:
    """What validation shares with train."""
    asked = np.isin(validation.asked, train.asked)
    relabelled = asked & ~np.isin(validation.answered, train.answered)
    texts = np.isin(validation.texts, train.texts)
    return Overlap(int(asked.sum()), int(relabelled.sum()), int(texts.sum()))


def elsewhere(train: Mapping[str, Prints], validation: Mapping[str, Prints]) -> dict[str, tuple[Elsewhere, ...]]:
    """Per task, the other tasks whose train split has inputs or texts of its validation split."""
    names = list(train)
    inputs = _shared([p.inputs for p in train.values()], [p.inputs for p in validation.values()])
    texts = _shared([p.texts for p in train.values()], [p.texts for p in validation.values()])
    return {
        target: tuple(
            Elsewhere(source, int(inputs[t, s]), int(texts[t, s]))
            for s, source in enumerate(names)
            if source != target and (inputs[t, s] or texts[t, s])
        )
        for t, target in enumerate(validation)
    }


def _shared(sources: Sequence[Hashes], targets: Sequence[Hashes]) -> NDArray[np.int64]:
    """How many hashes of each target each source has [targets, sources]."""
    distinct = [np.unique(hashes) for hashes in sources]
    owner = np.repeat(np.arange(len(distinct)), [len(hashes) for hashes in distinct])
    every = np.concatenate(distinct) if distinct else np.zeros(0, np.int64)
    order = np.argsort(every, kind="stable")
    every, owner = every[order], owner[order]
    counts = np.zeros((len(targets), len(sources)), np.int64)
    for row, hashes in zip(counts, targets, strict=True):
        values, times = np.unique(hashes, return_counts=True)
        first, end = np.searchsorted(every, values), np.searchsorted(every, values, side="right")
        for begin, stop, n in zip(first, end, times, strict=True):
            row[owner[begin:stop]] += n
    return counts


def _of(example: Example, output: Output) -> tuple[bytes, bytes, bytes, bytes]:
    """The four hashes of an example."""
    each = [_input(item) for item in example.inputs]
    inputs = _hash(*sorted(each)) if output == "choice" else _hash(*each)
    marks = [mark for target in example.targets for mark in target.marks]
    places = repr(sorted((mark.segment, mark.begin, mark.end) for mark in marks)).encode()
    if output == "extent":
        asked, answer = inputs, places
    elif output == "choice":
        asked, answer = inputs, each[int(example.label)]
    else:
        asked = _hash(inputs, places) if marks else inputs
        answer = repr([target.labels for target in example.targets]).encode()
    first, second = example.inputs[0]
    alone = second is None and len(each) > 1  # choices without a context: none of them is the first text
    return asked, _hash(asked, answer), inputs, inputs if alone else _hash(_text(first[0]))


def _input(item: Input) -> bytes:
    first, second = item
    return _hash(*map(_text, first), *([b"|", *map(_text, second)] if second is not None else []))


@lru_cache(maxsize=1000)
def _text(text: str) -> bytes:
    """The hash of one text; a passage is asked about many times in a row."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return _hash(" ".join(text.casefold().split()).encode())


def _hash(*parts: bytes) -> bytes:
    return blake2b(b"".join(parts), digest_size=HASH_BYTES).digest()
