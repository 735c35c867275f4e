"""Encode: examples -> token ids, flat, with offsets.

Pairs use the tokenizer's own pair form, never a written-out separator. An input that does not fit loses tokens of
the piece that its format names, and how many examples lost some is counted. Stretches of text become stretches of
tokens by the tokenizer's own offsets into the text, the only alignment that holds for every family.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layover.tasks.example import Example, Input, Mark, Segment
from layover.tasks.task import Task

CHUNK = 1024  # inputs per tokenizer call: large enough to be fast, small enough to keep memory flat
OUTSIDE = (-1, -1)  # where a token of the question, or a special one, is in the passage


@dataclass(frozen=True, eq=False)
class Encoded:
    """Encoded examples.

    `ids` [tokens] and `types` [tokens] (None where the tokenizer makes none) hold all inputs end to end; input i is at
    `offsets[i]:offsets[i+1]`; the inputs of example e are `groups[e]:groups[e+1]` (more than one for choices), its
    targets `bounds[e]:bounds[e+1]`.
    `labels` are [targets], or [targets, classes] of 0 and 1 for sets of labels; `spans` [targets, marks, 2] the tokens
    of each stretch, begin and end (exclusive) in the example's input; `lost` [targets] whether one was cut off.
    `rows` and `parts` [examples] are positions in the split's file and in its row; `truncated` [examples] says which
    examples were cut. For answers in a passage, `chars` [tokens, 2] is where each token is in it, in characters.
    `texts` and `golds` are the examples' own, where predictions are texts.
    """

    ids: NDArray[np.int32]
    types: NDArray[np.uint8] | None
    offsets: NDArray[np.int64]
    groups: NDArray[np.int64]
    bounds: NDArray[np.int64]
    labels: NDArray[Any]
    spans: NDArray[np.int32]
    lost: NDArray[np.bool_]
    rows: NDArray[np.int64]
    parts: NDArray[np.int64]
    truncated: NDArray[np.bool_]
    chars: NDArray[np.int32] | None = None
    texts: tuple[str, ...] | None = None
    golds: tuple[tuple[str, ...], ...] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def input_lengths(self) -> NDArray[np.int64]:
        """Tokens of each input."""
        return np.diff(self.offsets)

    def longest(self) -> NDArray[np.int64]:
        """Tokens of the longest input of each example."""
        lengths = self.input_lengths()
        return np.maximum.reduceat(lengths, self.groups[:-1]) if len(self) else lengths

    def example_of_target(self) -> NDArray[np.int64]:
        """The example that each target belongs to [targets]."""
        return np.repeat(np.arange(len(self)), np.diff(self.bounds))

    def known(self, examples: NDArray[np.int64]) -> NDArray[np.int64]:
        """The targets of some examples, in their order, without those that were cut off."""
        targets = ranges(self.bounds, examples)
        return targets[~self.lost[targets]]

    def take(self, examples: NDArray[np.int64]) -> Encoded:
        """Some of the examples, in the order given."""
        inputs, targets = ranges(self.groups, examples), ranges(self.bounds, examples)
        tokens = ranges(self.offsets, inputs)
        return replace(
            self,
            ids=self.ids[tokens],
            types=None if self.types is None else self.types[tokens],
            offsets=_ends(np.diff(self.offsets)[inputs]),
            groups=_ends(np.diff(self.groups)[examples]),
            bounds=_ends(np.diff(self.bounds)[examples]),
            labels=self.labels[targets],
            spans=self.spans[targets],
            lost=self.lost[targets],
            rows=self.rows[examples],
            parts=self.parts[examples],
            truncated=self.truncated[examples],
            chars=None if self.chars is None else self.chars[tokens],
            texts=None if self.texts is None else tuple(self.texts[i] for i in examples),
            golds=None if self.golds is None else tuple(self.golds[i] for i in examples),
        )


def encode(examples: Sequence[Example], task: Task, tokenizer: Any, max_length: int) -> Encoded:
    """Encode examples of a task with a fast transformers tokenizer, no input longer than `max_length` tokens.

    What is cut is the format's policy: "text" or "longest" (the tokenizer's truncation), or "first" (the end of the
    first piece of the first segment goes, everything else stays).
    """
    chunks = [_chunk(chunk, task, tokenizer, max_length) for chunk in _chunks(examples)]
    kept = task.format.scored == "text"
    return Encoded(
        ids=_joined([c.ids for c in chunks], np.int32),
        types=_joined([c.types for c in chunks], np.uint8) if chunks and chunks[0].types is not None else None,
        offsets=_ends(np.concatenate([c.lengths for c in chunks]) if chunks else []),
        groups=_ends([len(example.inputs) for example in examples]),
        bounds=_ends([len(example.targets) for example in examples]),
        labels=_labels(examples, task),
        spans=_joined([c.spans for c in chunks], np.int32, (task.format.reads.marks or _extent(task), 2)),
        lost=_joined([c.lost for c in chunks], np.bool_),
        rows=np.array([example.row for example in examples], dtype=np.int64),
        parts=np.array([example.part for example in examples], dtype=np.int64),
        truncated=_joined([c.truncated for c in chunks], np.bool_),
        chars=_joined([c.chars for c in chunks], np.int32, (2,)) if task.output == "extent" else None,
        texts=tuple(example.text for example in examples) if kept else None,
        golds=tuple(example.golds for example in examples) if kept else None,
    )


def ranges(bounds: NDArray[np.int64], which: NDArray[np.int64]) -> NDArray[np.int64]:
    """The positions bounds[i] .. bounds[i + 1] - 1 of every i in `which`, end to end."""
    starts, lengths = bounds[which], bounds[which + 1] - bounds[which]
    ends = np.cumsum(lengths)
    return np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - lengths - starts, lengths)


@dataclass(frozen=True)
class _Tokens:
    """One input as tokens; `chars` [tokens, 2] and `segment` [tokens] (-1 for special tokens) where they are needed."""

    ids: list[int]
    types: list[int] | None
    chars: NDArray[np.int32]
    segment: NDArray[np.int8]


@dataclass(frozen=True)
class _Chunk:
    """What `Encoded` holds, of some examples."""

    ids: NDArray[np.int32]
    types: NDArray[np.uint8] | None
    lengths: NDArray[np.int64]
    chars: NDArray[np.int32]
    spans: NDArray[np.int32]
    lost: NDArray[np.bool_]
    truncated: NDArray[np.bool_]


def _chunks(examples: Sequence[Example]) -> Iterator[Sequence[Example]]:
    """Examples in order, cut where a chunk has enough inputs."""
    begin, inputs = 0, 0
    for end, example in enumerate(examples, 1):
        inputs += len(example.inputs)
        if inputs >= CHUNK or end == len(examples):
            yield examples[begin:end]
            begin, inputs = end, 0


def _chunk(examples: Sequence[Example], task: Task, tokenizer: Any, max_length: int) -> _Chunk:
    inputs = [item for example in examples for item in example.inputs]
    with_marks = any(example.targets[0].marks for example in examples)
    tokens = _tokenize(inputs, tokenizer, with_marks)
    too_long = np.array([len(one.ids) > max_length for one in tokens], dtype=bool)
    for position in np.flatnonzero(too_long):
        excess = len(tokens[position].ids) - max_length
        tokens[position] = _shorten(inputs[position], task.format.cut, excess, tokenizer, max_length, with_marks)
    spans, lost = _spans(examples, tokens, too_long, task)
    groups = _ends([len(example.inputs) for example in examples])
    return _Chunk(
        ids=np.array([i for one in tokens for i in one.ids], np.int32),
        types=None if tokens[0].types is None else np.array([t for one in tokens for t in one.types or ()], np.uint8),
        lengths=np.array([len(one.ids) for one in tokens], np.int64),
        chars=np.concatenate([_in_passage(one) for one in tokens])
        if task.output == "extent"
        else np.zeros((0, 2), np.int32),
        spans=spans,
        lost=lost,
        truncated=np.logical_or.reduceat(too_long, groups[:-1]),
    )


def _in_passage(tokens: _Tokens) -> NDArray[np.int32]:
    return np.where((tokens.segment == 0)[:, None], tokens.chars, OUTSIDE).astype(np.int32)


def _spans(
    examples: Sequence[Example], tokens: Sequence[_Tokens], cut: NDArray[np.bool_], task: Task
) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """The tokens of every target's stretches, and which targets have one that was cut off. Marks mean one input."""
    marks = task.format.reads.marks or _extent(task)
    if not marks:
        n_targets = sum(len(example.targets) for example in examples)
        return np.zeros((n_targets, 0, 2), np.int32), np.zeros(n_targets, bool)
    found = [
        locate([mark for target in example.targets for mark in target.marks], one.chars, one.segment, bool(short))
        for example, one, short in zip(examples, tokens, cut, strict=True)
    ]
    spans = np.concatenate(found).reshape(-1, marks, 2)
    return spans, np.any(spans[..., 1] <= spans[..., 0], axis=1)


def _extent(task: Task) -> int:
    return int(task.output == "extent")


def locate(marks: Sequence[Mark], chars: NDArray[np.int32], segment: NDArray[np.int8], cut: bool) -> NDArray[np.int32]:
    """The tokens [marks, 2], begin and end, that hold each mark's characters; (0, 0) where there are none.

    `chars` [tokens, 2] is where each token is in its segment, `segment` [tokens] which that is. Of an input that was
    cut, a mark that goes on behind the last token is lost.
    """
    found = np.zeros((len(marks), 2), np.int32)
    which = np.array([mark.segment for mark in marks], np.int8)
    for number in np.unique(which):
        tokens = np.flatnonzero((segment == number) & (chars[:, 1] > chars[:, 0]))
        places, asked = chars[tokens], np.flatnonzero(which == number)
        begins, ends = np.array([(mark.begin, mark.end) for mark in marks if mark.segment == number]).T
        first = np.searchsorted(places[:, 1], begins, side="right")
        last = np.searchsorted(places[:, 0], ends, side="left")
        there = last > first
        if cut and len(places):
            there &= ends <= places[-1, 1]
        found[asked[there]] = np.stack([tokens[first[there]], tokens[last[there] - 1] + 1], axis=1)
    return found


def _labels(examples: Sequence[Example], task: Task) -> NDArray[Any]:
    targets = [target for example in examples for target in example.targets]
    if task.output != "labels":
        return np.array([target.labels[0] for target in targets], dtype=np.float64)
    table = np.zeros((len(targets), len(task.labels)), np.uint8)
    for row, target in zip(table, targets, strict=True):
        row[[int(label) for label in target.labels]] = 1
    return table


def _ends(sizes: Any) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(np.asarray(sizes, np.int64))]).astype(np.int64)


def _joined(arrays: Sequence[Any], dtype: Any, shape: tuple[int, ...] = ()) -> NDArray[Any]:
    return np.concatenate(arrays).astype(dtype, copy=False) if arrays else np.zeros((0, *shape), dtype)


def _join(segment: Segment) -> str:
    return " ".join(segment)


def _tokenize(inputs: Sequence[Input], tokenizer: Any, with_marks: bool, **options: Any) -> list[_Tokens]:
    """Inputs as tokens, in order. Single texts and pairs may be mixed: choices without a context are single."""
    found: list[_Tokens] = []
    for paired, some in itertools.groupby(inputs, key=lambda item: item[1] is not None):
        same = list(some)
        firsts = [_join(first) for first, _ in same]
        seconds = [_join(second) for _, second in same if second is not None]
        texts = (firsts, seconds) if paired else (firsts,)
        wanted = {"return_attention_mask": False, "return_offsets_mapping": with_marks, "verbose": False}
        found += _unpacked(tokenizer(*texts, **wanted, **options), with_marks)
    return found


def _unpacked(encoded: Any, with_marks: bool) -> Iterable[_Tokens]:
    none = np.zeros((0, 2), np.int32), np.zeros(0, np.int8)
    types = encoded.get("token_type_ids")
    for i, ids in enumerate(encoded["input_ids"]):
        chars, segment = none
        if with_marks:
            chars = np.array(encoded["offset_mapping"][i], np.int32).reshape(-1, 2)
            segment = np.array([-1 if s is None else s for s in encoded.sequence_ids(i)], np.int8)
        yield _Tokens(ids, types[i] if types is not None else None, chars, segment)


def _shorten(item: Input, cut: str, excess: int, tokenizer: Any, max_length: int, with_marks: bool) -> _Tokens:
    """One input, cut to at most `max_length` tokens."""
    first, second = item
    if cut == "first":
        first = (_drop_tokens(first[0], excess, tokenizer), *first[1:])
    # the tokenizer's truncation is also the guard where the named piece alone is not long enough to give
    return _tokenize([(first, second)], tokenizer, with_marks, truncation=True, max_length=max_length)[0]


def _drop_tokens(text: str, excess: int, tokenizer: Any) -> str:
    """`text` without its last `excess` tokens, but with at least its first."""
    offsets = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)["offset_mapping"]
    return text[: offsets[max(1, len(offsets) - excess) - 1][1]] if offsets else text
