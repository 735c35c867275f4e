"""STILTs: fine-tune on an intermediate task first, then on the target (Phang et al. 2018)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from layover.step import Train
from layover.strategies.strategy import Cell


@dataclass(frozen=True)
class Stilts:
    """Train on a source, then continue its encoder on the target with a new head and a fresh optimizer.

    Seed s of the target starts from seed s of the source, so that a restart varies both stages, as in
    Pruksachatkun et al. 2020, section 3.
    """

    kind: ClassVar[str] = "stilts"

    sources: tuple[str, ...]

    def columns(self) -> tuple[str, ...]:
        """One column per source."""
        return self.sources

    def reach(self, cell: Cell) -> Train:
        """Train on the source, then on the target from there."""
        start = cell.train(cell.source, "source")
        return cell.train(cell.target, cell.role, start=start)
