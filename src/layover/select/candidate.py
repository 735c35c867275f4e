"""Candidate: what can be done for a target: a stop at a source by some strategy, or nothing."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Candidate:
    """A source and the strategy that brings it to the target; without a source, training on the target directly."""

    source: str
    strategy: str = "stilts"

    def __str__(self) -> str:
        return f"{self.strategy} · {self.source}" if self.source else self.strategy


DIRECT = Candidate("", "direct")
"""Do nothing. What it adds to a target is 0 by definition, without error."""
