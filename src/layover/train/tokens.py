"""Tokens: inputs through a tokenizer, cut to fit, and the digest of all that this depends on.

The tokenizer behind a transformers tokenizer is called as transformers calls it, but without the lists and dictionaries
that are made of what it returns.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layover.tasks.example import Input, Segment
from layover.tasks.formats import Cut


def fit(
    inputs: Sequence[Input], cut: Cut, tokenizer: Any, max_length: int, with_offsets: bool
) -> tuple[list[Any], NDArray[np.bool_]]:
    """Inputs as encodings of the tokenizer of at most `max_length` tokens, in order, and which of them were cut.

    `cut` is the format's: see `layover.tasks.formats`. `with_offsets` asks for where tokens are in their texts.
    """
    tokens = _tokenize(inputs, tokenizer, with_offsets)
    excess = np.fromiter(map(len, tokens), np.int64, len(tokens)) - max_length
    too_long = np.flatnonzero(excess > 0).tolist()
    if too_long:
        items = [inputs[i] for i in too_long]
        if cut == "first":
            items = _without_ends(items, excess[too_long], tokenizer)
        # the tokenizer's truncation is also the guard where the named piece alone is not long enough to give
        for position, one in zip(too_long, _tokenize(items, tokenizer, with_offsets, max_length), strict=True):
            tokens[position] = one
    return tokens, excess > 0


def digest(tokenizer: Any) -> str:
    """A digest of all that a tokenizer's encodings depend on: its content, its settings and the library's version."""
    import tokenizers

    settings = {
        "inputs": sorted(tokenizer.model_input_names),
        "truncation_side": tokenizer.truncation_side,
        "split_special_tokens": bool(tokenizer.split_special_tokens),
        "library": tokenizers.__version__,
    }
    text = json.dumps(settings, sort_keys=True) + _prepared(tokenizer).to_str()
    return f"sha256:{hashlib.sha256(text.encode('utf-8')).hexdigest()}"


def _prepared(tokenizer: Any) -> Any:
    """The tokenizer behind a transformers tokenizer, without the truncation and padding of its file or last call."""
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = tokenizer.split_special_tokens
    return backend


def _tokenize(inputs: Sequence[Input], tokenizer: Any, with_offsets: bool, max_length: int | None = None) -> list[Any]:
    """Inputs as encodings, cut to `max_length` where one is given. Choices without a context are single texts."""
    backend = _prepared(tokenizer)
    if max_length is not None:
        backend.enable_truncation(max_length, strategy="longest_first", direction=tokenizer.truncation_side)
    texts = [_join(first) if second is None else (_join(first), _join(second)) for first, second in inputs]
    return (backend.encode_batch if with_offsets else backend.encode_batch_fast)(texts)


def _join(segment: Segment) -> str:
    return " ".join(segment)


def _without_ends(items: Sequence[Input], excess: NDArray[np.int64], tokenizer: Any) -> list[Input]:
    """Inputs whose first piece lost its last `excess` tokens, but kept its first."""
    pieces = [first[0] for first, _ in items]
    found: list[Input] = []
    encoded = _prepared(tokenizer).encode_batch(pieces, add_special_tokens=False)
    for (first, second), piece, tokens, more in zip(items, pieces, encoded, excess, strict=True):
        short = piece[: tokens.offsets[max(1, len(tokens) - int(more)) - 1][1]] if len(tokens) else piece
        found.append(((short, *first[1:]), second))
    return found
