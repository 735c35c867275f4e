"""Direct: fine-tune the plain encoder on the target. What every other strategy is measured against."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from layover.step import Train
from layover.strategies.strategy import Cell


@dataclass(frozen=True)
class Direct:
    """Train the plain encoder on the target, with nothing in between."""

    kind: ClassVar[str] = "direct"

    def columns(self) -> tuple[str, ...]:
        """No source."""
        return ("",)

    def reach(self, cell: Cell) -> Train:
        """Train on the target."""
        return cell.train(cell.target, cell.role)
