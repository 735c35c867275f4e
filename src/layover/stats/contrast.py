"""Contrast: the comparisons that a study declares, judged as one family."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from layover.errors import ObservationsError, Problem, did_you_mean, raise_all
from layover.stats.judge import judge
from layover.stats.paired import Cell, Correction, Lookup, compare, select
from layover.stats.table import check

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True)
class Contrast:
    """A declared comparison: strategies against one other, a row for each encoder, strategy, source and target."""

    of: tuple[str, ...]
    against: str
    correct: Correction
    rows: tuple[Cell, ...]

    def to_json(self) -> dict[str, Any]:
        """The contrast as plain data; a number that is not known is null."""
        names = ("encoder", "strategy", "source", "target", "role", "metric", "n", "degenerate", "verdict")
        numbers = ("low", "high", "p", "p_adjusted")
        rows = [
            {name: getattr(row, name) for name in names}
            | {"effect": row.delta}
            | {name: getattr(row, name) for name in numbers}
            for row in self.rows
        ]
        return {"of": list(self.of), "against": self.against, "correct": self.correct, "rows": rows}


def contrast(
    observations: DataFrame | Iterable[Mapping[str, Any]],
    of: Sequence[str],
    against: str = "direct",
    predictions: Lookup | None = None,
    correct: Correction = "holm",
    metric: str | None = None,
    without_degenerate: bool = False,
) -> Contrast:
    """The difference of each strategy in `of` to `against`, for each encoder, source and target.

    Effects and intervals are those of `transfer`; p-values are corrected over all rows of the contrast, since a
    study declares it as one question. Raises ObservationsError for a strategy without rows.
    """
    frame = select(check(observations), metric, without_degenerate)
    known = set(frame["strategy"])
    raise_all(
        ObservationsError,
        [
            Problem("contrast", f"no row has strategy {name!r}", did_you_mean(name, known))
            for name in (*of, against)
            if name not in known
        ],
    )
    rows = judge(compare(frame, of, against, predictions), correct)
    return Contrast(tuple(of), against, correct, tuple(rows))
