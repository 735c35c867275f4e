"""Direct: fine-tune the plain encoder on the target. What every other strategy is measured against."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from layover.step import Train
from layover.strategies.strategy import Cell, Column


@dataclass(frozen=True)
class Direct:
    """Train the plain encoder on the target, with nothing in between."""

    kind: ClassVar[str] = "direct"

    def columns(self, depth: int | None) -> tuple[Column, ...]:
        """One, without a source."""
        return (Column(),)

    def uses(self) -> tuple[str, ...]:
        """No task but the target."""
        return ()

    def reach(self, cell: Cell) -> Train:
        """Train on the target."""
        return cell.train(cell.target, cell.role)
