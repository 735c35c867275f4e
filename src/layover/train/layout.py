"""Layout: where the inputs of a forward pass lie among its tokens.

Packed, they lie end to end in one row [1, tokens] without a wasted one; padded, each has a row of its own
[inputs, length]. What reads hidden states reads them as rows of tokens, [tokens, width] or [inputs x length, width],
and finds an input by where it begins, so that it need not know which it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


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

    def groups(self) -> Iterator[tuple[int, int, NDArray[np.int64]]]:
        """Inputs of equal length that lie one after the other: first row, length, and the inputs' numbers."""
        order = np.argsort(self.begins)
        lengths = self.lengths[order]
        changes = np.flatnonzero(np.diff(lengths)) + 1
        for part in np.split(order, changes):
            yield int(self.begins[part[0]]), int(self.lengths[part[0]]), part
