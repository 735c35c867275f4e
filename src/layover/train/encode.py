"""Encode: examples -> token ids, flat, with offsets.

Pairs use the tokenizer's own pair form, never a written-out separator. An input that does not fit loses tokens of
the piece that its format names, and how many examples lost some is counted. Stretches of text become stretches of
tokens by the tokenizer's own offsets into the text, the only alignment that holds for every family.

Examples are read, tokenized and laid down chunk by chunk, so that memory stays flat; while one chunk is tokenized, in
a thread of its own and outside Python's lock, the next is read and the last is laid down.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from layover import pulse
from layover.arrays import Columns
from layover.tasks.divide import runs
from layover.tasks.example import Example, Mark
from layover.tasks.task import Task
from layover.train import masking
from layover.train.masking import Masking
from layover.train.tokens import fit

CHUNK = 1024  # inputs per tokenizer call: large enough to be fast, small enough to keep memory flat
CHARACTERS = 1_000_000  # of an input's texts per call, for inputs as long as books
OUTSIDE = (-1, -1)  # where a token of the question, or a special one, is in the passage
COUNTS = ("lengths", "inputs", "targets")  # columns of sizes, from which `Encoded` counts positions
Item = TypeVar("Item")
Found = TypeVar("Found")


@dataclass(frozen=True, eq=False)
class Encoded:
    """Encoded examples.

    `ids` [tokens] and `types` [tokens] (None where the tokenizer makes none) hold inputs end to end; input i is at
    `offsets[i, 0]:offsets[i, 1]`; the inputs of example e are `groups[e]:groups[e+1]` (more than one for choices), its
    targets `bounds[e]:bounds[e+1]`.
    `labels` are [targets], or [targets, classes] of 0 and 1 for sets of labels; `spans` [targets, marks, 2] the tokens
    of each stretch, begin and end (exclusive) in the example's input; `lost` [targets] whether one was cut off.
    `rows` and `parts` [examples] are positions in the split's file and in its row; `truncated` [examples] says which
    examples were cut. For answers in a passage, `chars` [tokens, 2] is where each token is in it, in characters.
    `texts` and `golds` are the examples' own, as Arrow arrays, where predictions are texts. With a `masking`, targets
    are tokens that it hides whenever a batch is made; labels and spans are nothing till then.
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
    texts: Any = None
    golds: Any = None
    masking: Masking | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def questions(self) -> NDArray[np.int64]:
        """The number of the question that each example is of [examples], from 0: it may be one of several answers."""
        return runs(np.stack([self.rows, self.parts], axis=1))

    @cached_property
    def input_lengths(self) -> NDArray[np.int64]:
        """Tokens of each input."""
        return self.offsets[:, 1] - self.offsets[:, 0]

    @cached_property
    def tokens(self) -> NDArray[np.int64]:
        """Tokens of all inputs of each example."""
        lengths = self.input_lengths
        return np.add.reduceat(lengths, self.groups[:-1]) if len(self) else lengths

    @cached_property
    def longest(self) -> NDArray[np.int64]:
        """Tokens of the longest input of each example."""
        lengths = self.input_lengths
        return np.maximum.reduceat(lengths, self.groups[:-1]) if len(self) else lengths

    def example_of_target(self) -> NDArray[np.int64]:
        """The example that each target belongs to [targets]."""
        return np.repeat(np.arange(len(self)), np.diff(self.bounds))

    def known(self, examples: NDArray[np.int64]) -> NDArray[np.int64]:
        """The targets of some examples, in their order, without those that were cut off."""
        targets = ranges(self.bounds, examples)
        return targets[~self.lost[targets]]

    def take(self, examples: NDArray[np.int64]) -> Encoded:
        """Some of the examples, in the order given. Tokens are shared, not copied: they may be a file's."""
        inputs = ranges(self.groups, examples)
        targets = ranges(self.bounds, examples)
        return replace(
            self,
            offsets=self.offsets[inputs],
            groups=_ends(np.diff(self.groups)[examples]),
            bounds=_ends(np.diff(self.bounds)[examples]),
            labels=self.labels[targets],
            spans=self.spans[targets],
            lost=self.lost[targets],
            rows=self.rows[examples],
            parts=self.parts[examples],
            truncated=self.truncated[examples],
            texts=None if self.texts is None else self.texts.take(examples),
            golds=None if self.golds is None else self.golds.take(examples),
        )


def encode(examples: Iterable[Example], task: Task, tokenizer: Any, max_length: int) -> Encoded:
    """Encode examples of a task with a fast transformers tokenizer, no input longer than `max_length` tokens.

    What is cut is the format's policy: "text" or "longest" (the tokenizer's truncation), or "first" (the end of the
    first piece of the first segment goes, everything else stays).
    """
    chunks = list(columns(examples, task, tokenizer, max_length))
    return assembled({name: joined([chunk[name] for chunk in chunks]) for name in chunks[0]})


def columns(examples: Iterable[Example], task: Task, tokenizer: Any, max_length: int) -> Iterator[Columns]:
    """Examples encoded as columns, chunk by chunk, that `assembled` takes when they stand one after the other.

    There is one chunk at least, an empty one where there are no examples.
    """

    def tokenized(chunk: list[Example]) -> tuple[list[Example], list[Any], NDArray[np.bool_]]:
        inputs = [item for example in chunk for item in example.inputs]
        return chunk, *fit(inputs, task.format.cut, tokenizer, max_length, with_offsets=_marks(task) > 0)

    special = masking.specials(tokenizer) if task.output == "tokens" else None
    for chunk, tokens, cut in _ahead(_chunks(examples), tokenized):
        pulse.check()
        found = _columns(chunk, tokens, cut, task, "token_type_ids" in tokenizer.model_input_names)
        yield found if special is None else _to_hide(found, special)


def assembled(columns: Columns) -> Encoded:
    """Encoded examples from their columns, be they in memory or memory-mapped."""
    ends = _ends(columns["lengths"])
    others: dict[str, Any] = {name: part for name, part in columns.items() if name not in COUNTS}
    return Encoded(
        **{"types": None, **others},
        offsets=np.stack([ends[:-1], ends[1:]], axis=1),
        groups=_ends(columns["inputs"]),
        bounds=_ends(columns["targets"]),
    )


def ranges(bounds: NDArray[np.int64], which: NDArray[np.int64]) -> NDArray[np.int64]:
    """The positions bounds[i] .. bounds[i + 1] - 1 of every i in `which`, end to end."""
    return stretches(bounds[which], bounds[which + 1])


def stretches(begins: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.int64]:
    """The positions begins[i] .. ends[i] - 1 of every i, end to end."""
    lengths = ends - begins
    stops = np.cumsum(lengths)
    return np.arange(stops[-1] if len(stops) else 0) - np.repeat(stops - lengths - begins, lengths)


def _chunks(examples: Iterable[Example]) -> Iterator[list[Example]]:
    """Examples in order, cut where a chunk has enough inputs or characters."""
    chunk: list[Example] = []
    inputs = characters = 0
    for example in examples:
        chunk.append(example)
        inputs += len(example.inputs)
        characters += sum(len(piece) for item in example.inputs for segment in item for piece in segment or ())
        if inputs >= CHUNK or characters >= CHARACTERS:
            yield chunk
            chunk, inputs, characters = [], 0, 0
    yield chunk


def _ahead(items: Iterable[Item], function: Callable[[Item], Found]) -> Iterator[Found]:
    """`function` of every item, in order, worked out in a thread while the next item is made and the last one used."""
    with ThreadPoolExecutor(1) as thread:
        found: deque[Future[Found]] = deque()
        for item in items:
            found.append(thread.submit(function, item))
            if len(found) > 1:
                yield found.popleft().result()
        while found:
            yield found.popleft().result()


def _columns(
    examples: Sequence[Example], tokens: Sequence[Any], cut: NDArray[np.bool_], task: Task, with_types: bool
) -> Columns:
    lengths = np.fromiter(map(len, tokens), np.int32, len(tokens))
    total, inputs = int(lengths.sum()), [len(example.inputs) for example in examples]
    found: dict[str, Any] = {
        "ids": np.fromiter(chain.from_iterable(one.ids for one in tokens), np.int32, total),
        "lengths": lengths,
        "inputs": np.array(inputs, np.int32),
        "targets": np.array([len(example.targets) for example in examples], np.int32),
        "labels": _labels(examples, task),
        "rows": np.array([example.row for example in examples], np.int64),
        "parts": np.array([example.part for example in examples], np.int64),
        "truncated": np.logical_or.reduceat(cut, _ends(inputs)[:-1]) if examples else cut,
    }
    if with_types:
        found["types"] = np.fromiter(chain.from_iterable(one.type_ids for one in tokens), np.uint8, total)
    if _marks(task):
        chars, segment = _places(tokens)
        found["spans"] = _spans(examples, chars, segment, _ends(lengths), cut).reshape(-1, _marks(task), 2)
        if task.output == "extent":
            found["chars"] = np.where((segment == 0)[:, None], chars, OUTSIDE).astype(np.int32)
    else:
        found["spans"] = np.zeros((len(found["labels"]), 0, 2), np.int32)
    found["lost"] = np.any(found["spans"][..., 1] <= found["spans"][..., 0], axis=1)
    if task.format.scored == "text":
        found.update(_texts(examples))
    return found


def _to_hide(columns: Columns, special: NDArray[np.bool_]) -> Columns:
    """The columns of texts, with as many targets as tokens will be hidden: one input is one example."""
    ids, lengths, rows, parts = (columns[name] for name in ("ids", "lengths", "rows", "parts"))
    targets = masking.numbers(ids, lengths, rows, parts, special)
    n = int(targets.sum())
    empty = {"labels": np.zeros(n), "spans": np.zeros((n, 0, 2), np.int32), "lost": np.zeros(n, np.bool_)}
    return {**columns, "targets": targets, **empty}


def _marks(task: Task) -> int:
    """How many stretches each target of a task is about, as its examples say it."""
    return 0 if task.output == "tokens" else task.format.reads.marks or int(task.output == "extent")


def _places(tokens: Sequence[Any]) -> tuple[NDArray[np.int32], NDArray[np.int8]]:
    """Where each token is in its segment [tokens, 2], and which segment that is [tokens], -1 for special tokens."""
    chars = np.fromiter(chain.from_iterable(chain.from_iterable(one.offsets for one in tokens)), np.int32)
    segment = np.fromiter((-1 if s is None else s for one in tokens for s in one.sequence_ids), np.int8)
    return chars.reshape(-1, 2), segment


def _spans(
    examples: Sequence[Example],
    chars: NDArray[np.int32],
    segment: NDArray[np.int8],
    ends: NDArray[np.int64],
    cut: NDArray[np.bool_],
) -> NDArray[np.int32]:
    """The tokens [marks, 2] of all stretches of all targets; (0, 0) where one was cut off. Marks mean one input."""
    found = [np.zeros((0, 2), np.int32)]
    for example, begin, end, short in zip(examples, ends[:-1], ends[1:], cut, strict=True):
        marks = [mark for target in example.targets for mark in target.marks]
        found.append(locate(marks, chars[begin:end], segment[begin:end], bool(short)))
    return np.concatenate(found)


def _texts(examples: Sequence[Example]) -> Columns:
    import pyarrow as pa

    golds = pa.array([example.golds for example in examples], pa.list_(pa.large_string()))
    return {"texts": pa.array([example.text for example in examples], pa.large_string()), "golds": golds}


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
    return np.concatenate([[0], np.cumsum(np.asarray(sizes), dtype=np.int64)])


def joined(parts: Sequence[Any]) -> Any:
    """The parts of a column as one."""
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(parts)
    import pyarrow as pa

    return pa.chunked_array(parts)
