"""Layout: where the inputs of a forward pass lie among its tokens.

Packed, they lie end to end in one row [1, tokens] without a wasted one; padded, each has a row of its own
[inputs, length]. What reads hidden states reads them as rows of tokens, [tokens, width] or [inputs x length, width],
and finds an input by where it begins, so that it need not know which it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

# Lengths are similar up to this factor and this many tokens more. Attention is a small part of the arithmetic and a
# large one of the calls: a batch of 32 has two dozen lengths, and some eight groups.
SIMILAR, FEW = 1.25, 4


@dataclass(frozen=True, eq=False)
class Layout:
    """Inputs in the order of their examples; they lie in the order of their lengths.

    `lengths`, `begins` [inputs]: tokens of each input, and the row of its first. `rows` is the number of rows in all,
    `length` the longest input's row, 0 where they are packed. `names` [inputs, 2] are example and number of each.
    """

    lengths: NDArray[np.int64]
    begins: NDArray[np.int64]
    rows: int
    length: int
    names: NDArray[np.int64]

    @classmethod
    def of(cls, lengths: NDArray[np.int64], names: NDArray[np.int64], length: int) -> Layout:
        """Lay inputs down: end to end where `length` is 0, else each in a row of so many tokens."""
        order = np.argsort(lengths, kind="stable")
        begins = np.empty_like(lengths)
        ends = np.cumsum(lengths[order])
        begins[order] = np.arange(len(order)) * length if length else ends - lengths[order]
        return cls(lengths, begins, length * len(order) or int(ends[-1]), length, names)

    def slots(self) -> list[int]:
        """The row [inputs, length] of each input; for padded ones."""
        return (self.begins // self.length).tolist()

    def tokens(self) -> NDArray[np.int64]:
        """The rows of all tokens, input after input."""
        ends = np.cumsum(self.lengths)
        return np.arange(ends[-1]) - np.repeat(ends - self.lengths - self.begins, self.lengths)

    def positions(self) -> NDArray[np.int64]:
        """The place of every token in its input, input after input."""
        return self.tokens() - np.repeat(self.begins, self.lengths)

    def arguments(self, ids: NDArray[Any], padding: int = 0) -> dict[str, NDArray[np.int64]]:
        """An encoder's arguments for the tokens of the inputs, input after input, and where they are or are not."""
        tokens = {"input_ids": self.laid(ids, padding)}
        if self.length:
            return {**tokens, "attention_mask": self.laid(1)}
        return {**tokens, "position_ids": self.laid(self.positions())}

    def laid(self, values: NDArray[Any] | int, empty: int = 0) -> NDArray[np.int64]:
        """Values of the tokens, input after input, as the tokens lie: [1, tokens] or [inputs, length]."""
        found = np.full(self.rows, empty, np.int64)
        found[self.tokens()] = values
        return found.reshape(-1, self.length or self.rows)

    @cached_property
    def groups(self) -> list[Group]:
        """The inputs in groups of similar length, from the shortest to the longest."""
        order = np.argsort(self.lengths, kind="stable")
        lengths, cuts, first = self.lengths[order], [0], 0
        for place, length in enumerate(lengths.tolist()):
            if length > SIMILAR * lengths[first] + FEW:
                cuts.append(place)
                first = place
        return [Group.of(self, order[begin:end]) for begin, end in pairwise([*cuts, len(order)])]


@dataclass(frozen=True, eq=False)
class Group:
    """n inputs of similar length, multiplied together: they are padded for the moment that this takes.

    `numbers` and `lengths` [n] are the inputs' own. `places` [n x longest] are the rows of their tokens, any row where
    there is padding; `padding` [n, longest] says where, None if nowhere. `rows` [tokens] are the rows of the tokens
    alone, and `real` [tokens] their positions among `places`.
    """

    numbers: list[int]
    lengths: list[int]
    places: torch.Tensor
    padding: torch.Tensor | None
    rows: torch.Tensor
    real: torch.Tensor

    @classmethod
    def of(cls, layout: Layout, numbers: NDArray[np.int64]) -> Group:
        """The group of these inputs."""
        lengths = layout.lengths[numbers]
        steps = np.arange(int(lengths.max()))
        there = steps < lengths[:, None]
        places = layout.begins[numbers][:, None] + np.where(there, steps, 0)
        rows, real = places[there], np.flatnonzero(there)
        padding = None if there.all() else torch.from_numpy(~there)
        tensors = (torch.from_numpy(places.ravel()), padding, torch.from_numpy(rows), torch.from_numpy(real))
        return cls(numbers.tolist(), lengths.tolist(), *tensors)

    def cut(self, rows: torch.Tensor) -> torch.Tensor:
        """The group's part of rows [rows, heads, width], as [n, heads, longest, width]."""
        return rows.index_select(0, self.places).unflatten(0, (len(self.numbers), -1)).transpose(1, 2)

    def put(self, rows: torch.Tensor, values: torch.Tensor) -> None:
        """Write values [n, heads, longest, width] into the group's part of rows [rows, heads, width]."""
        flat = values.transpose(1, 2).flatten(0, 1)
        rows.index_copy_(0, self.rows, flat if self.padding is None else flat.index_select(0, self.real))
