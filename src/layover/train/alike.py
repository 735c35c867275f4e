"""Alike: how much two encoders' vectors of the same tokens are alike, whatever axes they use (linear CKA).

Centered kernel alignment (Kornblith et al. 2019, section 3) is 1 for vectors that a rotation and a scale turn into each
other, and about 0 for independent ones. With HSIC estimated as in that paper it is too large where tokens are few for
the width of the vectors; so this is the debiased form: HSIC_1 of Song et al. 2012 (section 4.1), a mean over pairs of
different tokens, of which the ratio is taken as in Nguyen et al. 2021 (section 2.1). For linear kernels it needs only
sums over tokens, so that memory does not grow with their number.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

LEAST = 4  # tokens, below which HSIC_1 is not defined


@dataclass
class _Sums:
    """Sums over tokens of vectors a and b, of which p and r are the squared lengths; all in fp64."""

    outer: torch.Tensor
    a: torch.Tensor
    b: torch.Tensor
    ra: torch.Tensor
    pb: torch.Tensor
    p: torch.Tensor
    r: torch.Tensor
    pr: torch.Tensor

    @staticmethod
    def of(a: torch.Tensor, b: torch.Tensor) -> _Sums:
        p, r = a.square().sum(1), b.square().sum(1)
        parts = (a.T @ b, a.sum(0), b.sum(0), r @ a, p @ b, p.sum(), r.sum(), p @ r)
        return _Sums(*(part.double() for part in parts))

    def add(self, other: _Sums) -> None:
        for name, part in vars(other).items():
            getattr(self, name).add_(part)

    def hsic(self, n: int) -> float:
        """HSIC_1 of n tokens, with linear kernels whose diagonals are left out."""
        both = self.a @ self.outer @ self.b - self.a @ self.ra - self.b @ self.pb + self.pr
        sides = (self.a @ self.a - self.p) * (self.b @ self.b - self.r)
        trace = self.outer.square().sum() - self.pr
        return float(trace + sides / ((n - 1) * (n - 2)) - 2 * both / (n - 2)) / (n * (n - 3))


@dataclass
class Alike:
    """What has been seen of two encoders' vectors of the same tokens in one layer; `add` more, then ask for `cka`."""

    tokens: int = 0
    _shifts: tuple[torch.Tensor, torch.Tensor] | None = None
    _pairs: list[_Sums] = field(default_factory=list)

    def add(self, first: torch.Tensor, second: torch.Tensor) -> None:
        """Take in the vectors [tokens, width] of some more tokens; widths may differ."""
        if not len(first):
            return
        if self._shifts is None:
            # CKA is the same whatever is subtracted from all vectors, and near zero the sums lose no digits
            self._shifts = first.mean(0), second.mean(0)
        a, b = first - self._shifts[0], second - self._shifts[1]
        new = [_Sums.of(a, b), _Sums.of(a, a), _Sums.of(b, b)]
        for sums, more in zip(self._pairs, new, strict=False):
            sums.add(more)
        self._pairs, self.tokens = self._pairs or new, self.tokens + len(first)

    def cka(self) -> float:
        """Debiased linear CKA, at most 1; 0 where one encoder gives all tokens the same vector.

        Raises ValueError for fewer than four tokens.
        """
        if self.tokens < LEAST:
            raise ValueError(f"CKA needs {LEAST} tokens at least, there are {self.tokens}")
        both, first, second = (sums.hsic(self.tokens) for sums in self._pairs)
        if first <= 0 or second <= 0:
            return 0.0
        return min(1.0, both / (first**0.5 * second**0.5))
