"""Data: what the page's script draws from, as small as it can be: cells with their runs, curves and flips."""

from __future__ import annotations

import json
from collections.abc import Hashable
from typing import Any

from layover.report.facts import ReportInputs, RunFacts
from layover.report.flips import CellFlips, runs_of
from layover.report.words import arrow, interval, p_value, points, score, title
from layover.stats.paired import Cell, Pair, Run

MOST_POINTS = 60  # of a curve that are drawn


def data_of(inputs: ReportInputs) -> str:
    """JSON that may stand in a script element: runs, cells by matrix (the order of the page), texts and flips."""
    places = {run.key: number for number, run in enumerate(inputs.runs)}
    steps, flips, texts = _Interned(), _Interned(), _Interned()
    runs = [_run(run, steps) for run in inputs.runs]
    matrices = [
        [_cell(cell, one.against, title(matrix), places, inputs, flips, texts) for cell in matrix.cells.values()]
        for one in inputs.transfer
        for matrix in one.matrices
    ]
    content = {"steps": steps.values, "runs": runs, "matrices": matrices, "flips": flips.values, "texts": texts.values}
    written = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return written.replace("<", "\\u003c").replace("&", "\\u0026").replace("\u2028", "\\u2028")


class _Interned:
    """Values that many places share, each once."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._places: dict[Hashable, int] = {}

    def place(self, name: Hashable, value: Any) -> int:
        if name not in self._places:
            self._places[name] = len(self.values)
            self.values.append(value)
        return self._places[name]


def _run(run: RunFacts, steps: _Interned) -> list[Any]:
    """[way, key, status, task, through, steps, selection, loss, kept step]."""
    points_of = _thinned(run)
    at = tuple(point["step"] for point in points_of)
    selection, loss = ([_short(point.get(name)) for point in points_of] for name in ("selection", "loss"))
    drawn = [values if any(value is not None for value in values) else 0 for values in (selection, loss)]
    through = " → ".join(run.lineage[1:-1])
    return [run.way, run.key[:12], run.status, run.task, through, steps.place(at, at), *drawn, run.best_step]


def _thinned(run: RunFacts) -> list[Any]:
    """The points of a curve, every so many of a long one, and always the last and the one that was kept."""
    curve = [point for point in run.curve if point.get("step") is not None]
    every = -(-len(curve) // MOST_POINTS)
    last = len(curve) - 1
    return [point for number, point in enumerate(curve)
            if number % every == 0 or number == last or point["step"] == run.best_step]  # fmt: skip


def _cell(
    cell: Cell,
    against: str,
    named: str,
    places: dict[str, int],
    inputs: ReportInputs,
    flips: _Interned,
    texts: _Interned,
) -> list[Any]:
    """[title, matrix, strategy, baseline, verdict, effect, pairs, flips or -1]."""
    found = inputs.flips.cells.get(runs_of(cell))
    flipped = -1 if found is None else flips.place(runs_of(cell), _flips(found, cell.target, texts))
    effect = f"{points(cell.delta)} points"
    if cell.low is not None:
        effect += f", 95% {interval(cell.low, cell.high)}, over {cell.basis}"
        effect += f"; p {p_value(cell.p)}, adjusted {p_value(cell.p_adjusted)}"
    pairs = [_pair(pair, places) for pair in cell.pairs]
    return [arrow(cell.source, cell.target), named, cell.strategy, against, cell.verdict, effect, pairs, flipped]


def _pair(pair: Pair, places: dict[str, int]) -> list[Any]:
    return [pair.seed, points(pair.delta), *_arm(pair.baseline, places), *_arm(pair.run, places)]


def _arm(run: Run | None, places: dict[str, int]) -> list[Any]:
    """[value, status, place of the run or its key]; numbers are printed here, as on the rest of the page."""
    if run is None:
        return ["", "no such run", ""]
    return [
        "" if run.value is None else score(run.value),
        "" if run.status == "ok" else run.status,
        places.get(run.key, run.key[:12]),
    ]


def _flips(found: CellFlips, target: str, texts: _Interned) -> list[Any]:
    """[examples, churn, [seed, lost, gained]..., [row, part, gained, seeds, gold, baseline, run, text or -1]...]."""
    several = any(flip.place[1] for flip in found.examples)
    listed = [
        [flip.place[0], flip.place[1] if several else -1, int(flip.way == "gained"), flip.seeds, flip.gold,
         flip.baseline, flip.run, texts.place((target, flip.place), flip.text) if flip.text else -1]
        for flip in found.examples
    ]  # fmt: skip
    churn = None if found.churn is None else _short(found.churn)
    return [found.n, churn, [[seed, *counts] for seed, counts in found.seeds.items()], listed]


def _short(value: Any) -> float | None:
    """A number with four digits, None where it is not known."""
    if not isinstance(value, (int, float)) or value != value or value in (float("inf"), float("-inf")):
        return None
    return float(f"{value:.4g}")
