"""Encode: examples -> token ids, flat, with offsets.

Pairs use the tokenizer's own pair form, never a written-out separator. An input that does not fit loses tokens of
the piece that its format names, and how many examples lost some is counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layover.tasks.task import Example, Input, Segment

CHUNK = 1024  # inputs per tokenizer call: large enough to be fast, small enough to keep memory flat


@dataclass(frozen=True)
class Encoded:
    """Encoded examples.

    `ids` [tokens] and `types` [tokens] (None where the tokenizer makes none) hold all inputs end to end; input i is at
    `offsets[i]:offsets[i+1]`; the inputs of example e are `groups[e]:groups[e+1]` (more than one for choices).
    `labels` [examples]; `rows` [examples] are positions in the split's file; `truncated` counts examples that were cut.
    """

    ids: NDArray[np.int32]
    types: NDArray[np.uint8] | None
    offsets: NDArray[np.int64]
    groups: NDArray[np.int64]
    labels: NDArray[np.float64]
    rows: NDArray[np.int64]
    truncated: int

    def __len__(self) -> int:
        return len(self.labels)

    def input_lengths(self) -> NDArray[np.int64]:
        """Tokens of each input."""
        return np.diff(self.offsets)

    def longest(self) -> NDArray[np.int64]:
        """Tokens of the longest input of each example."""
        lengths = self.input_lengths()
        return np.maximum.reduceat(lengths, self.groups[:-1]) if len(self) else lengths


def encode(examples: Sequence[Example], cut: str, tokenizer: Any, max_length: int) -> Encoded:
    """Encode examples with a transformers tokenizer, no input longer than `max_length` tokens.

    `cut` is the format's policy: "text" or "longest" (the tokenizer's truncation), or "first" (the end of the first
    piece of the first segment goes, everything else stays).
    """
    inputs = [item for example in examples for item in example.inputs]
    group_sizes = [len(example.inputs) for example in examples]
    ids, types, too_long = [], [], np.zeros(len(inputs), dtype=bool)
    for begin in range(0, len(inputs), CHUNK):
        chunk = inputs[begin : begin + CHUNK]
        encoded = _tokenize(chunk, tokenizer)
        for position, tokens in enumerate(encoded["input_ids"]):
            if len(tokens) > max_length:
                too_long[begin + position] = True
                shorter = _shorten(chunk[position], cut, len(tokens) - max_length, tokenizer, max_length)
                for name in encoded:
                    encoded[name][position] = shorter[name]
        ids.extend(encoded["input_ids"])
        types.extend(encoded.get("token_type_ids", []))
    groups = np.concatenate([[0], np.cumsum(group_sizes)]).astype(np.int64)
    return Encoded(
        ids=_flat(ids, np.int32),
        types=_flat(types, np.uint8) if types else None,
        offsets=np.concatenate([[0], np.cumsum([len(tokens) for tokens in ids])]).astype(np.int64),
        groups=groups,
        labels=np.array([example.label for example in examples], dtype=np.float64),
        rows=np.array([example.row for example in examples], dtype=np.int64),
        truncated=int(np.logical_or.reduceat(too_long, groups[:-1]).sum()) if inputs else 0,
    )


def _flat(lists: list[list[int]], dtype: Any) -> NDArray[Any]:
    return np.concatenate([np.asarray(tokens, dtype=dtype) for tokens in lists]) if lists else np.zeros(0, dtype)


def _join(segment: Segment) -> str:
    return " ".join(segment)


def _tokenize(inputs: Sequence[Input], tokenizer: Any, **options: Any) -> dict[str, list[list[int]]]:
    firsts = [_join(first) for first, _ in inputs]
    seconds = [_join(second) for _, second in inputs if second is not None]
    pair = (firsts, seconds) if seconds else (firsts,)
    encoded = tokenizer(*pair, return_attention_mask=False, verbose=False, **options)
    return {name: encoded[name] for name in ("input_ids", "token_type_ids") if name in encoded}


def _shorten(item: Input, cut: str, excess: int, tokenizer: Any, max_length: int) -> dict[str, list[int]]:
    """One input, cut to at most `max_length` tokens."""
    first, second = item
    if cut == "first":
        first = (_drop_tokens(first[0], excess, tokenizer), *first[1:])
    # the tokenizer's truncation is also the guard where the named piece alone is not long enough to give
    encoded = _tokenize([(first, second)], tokenizer, truncation=True, max_length=max_length)
    return {name: values[0] for name, values in encoded.items()}


def _drop_tokens(text: str, excess: int, tokenizer: Any) -> str:
    """`text` without its last `excess` tokens, but with at least its first."""
    offsets = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)["offset_mapping"]
    return text[: offsets[max(1, len(offsets) - excess) - 1][1]] if offsets else text
