"""Flips: the examples that are right under the baseline and wrong after a stop, and back, of every cell of a matrix.

Two runs that differ in nothing but their seed flip examples too, so a cell says how many as well.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import combinations
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from layover.metrics.texts import same_words
from layover.predictions import Predictions
from layover.stats.paired import Cell, Lookup, Pair
from layover.stats.transfer import Transfer

Way = Literal["lost", "gained"]
Place = tuple[int, int]
"""A row of the validation file, from 0, and which of the things asked about it."""
MOST = 12  # examples that are listed of a cell
LONGEST = 200  # characters of a text that are shown
KEPT = 64  # runs whose predictions are kept: a baseline is compared with every source


@dataclass(frozen=True)
class Flip:
    """One example: in how many `seeds` it flipped that way, and what either arm predicted in the first of these.

    `way` is "lost" where the baseline was right, "gained" where the strategy is. `text` is "" where it is not shown.
    """

    place: Place
    way: Way
    seeds: int
    gold: str
    baseline: str
    run: str
    text: str = ""


@dataclass(frozen=True)
class CellFlips:
    """What flipped in a cell, of `n` examples: (lost, gained) by seed, and the examples that flipped in most seeds.

    `churn` is the mean number of examples on which two seeds of the baseline differ in being right; None with one seed.
    """

    n: int
    seeds: Mapping[int, tuple[int, int]]
    churn: float | None
    examples: Sequence[Flip] = ()


@dataclass(frozen=True)
class Flips:
    """Flips by the runs of a cell (see `runs_of`); `shown` texts at most of each cell are on the page."""

    cells: Mapping[tuple[str, ...], CellFlips] = field(default_factory=dict)
    shown: int = 0


@dataclass(frozen=True)
class Wording:
    """How a run's predictions are put into words: by its key, its task and the names of its classes.

    `texts` reads what is asked in some rows of a task's validation file; None where no text is to be shown.
    """

    task: Callable[[str], str]
    names: Callable[[str], Sequence[str]]
    texts: Callable[[str, Sequence[int]], Mapping[Place, str]] | None = None


def runs_of(cell: Cell) -> tuple[str, ...]:
    """What names a cell's flips: the keys of its pairs of runs."""
    return tuple(key for pair in _complete(cell) for key in _keys(pair))


def flips_of(found: Iterable[Transfer], predictions: Lookup, wording: Wording, shown: int = 0) -> Flips:
    """The flips of all cells whose runs have predictions; of `shown` examples of each (12 at most) with their text."""
    shown = min(shown, MOST) if wording.texts else 0
    arms = lru_cache(KEPT)(lambda key: _Arm.of(predictions(key)))
    cells: dict[tuple[str, ...], CellFlips] = {}
    for cell in (cell for one in found for matrix in one.matrices for cell in matrix.cells.values()):
        pairs = [(pair.seed, *map(arms, _keys(pair))) for pair in _complete(cell)]
        usable = [(seed, run, base) for seed, run, base in pairs if run and base and run.matches(base)]
        if runs_of(cell) not in cells and usable and all(run.matches(usable[0][1]) for _, run, _ in usable):
            listed = _most(usable, wording.names(runs_of(cell)[0]))
            untold = not shown and usable[0][1].given.kind == "text"
            listed = [_without_answers(flip) for flip in listed] if untold else listed
            cells[runs_of(cell)] = replace(_counted(usable), examples=listed)
    return Flips(_with_texts(cells, wording, shown) if shown else cells, shown)


@dataclass(frozen=True, eq=False)
class _Arm:
    """A run's predictions, and in the order of rows and parts: what each is about [n, 2], whether it is right [n]."""

    given: Predictions
    order: NDArray[np.int64]
    places: NDArray[np.int64]
    right: NDArray[np.bool_]

    @classmethod
    def of(cls, given: Predictions | None) -> _Arm | None:
        if given is None or given.kind in ("value", "tokens"):
            return None
        parts = given.part_of_each()
        order = np.lexsort((parts, given.rows))
        return cls(given, order, np.stack([given.rows, parts], axis=1)[order], is_right(given)[order])

    def matches(self, other: _Arm) -> bool:
        return np.array_equal(self.places, other.places)

    def said(self, index: int, names: Sequence[str]) -> str:
        return _said(self.given, self.given.predicted[self.order[index]], names)


_Arms = tuple[int, _Arm, _Arm]


def is_right(given: Predictions) -> NDArray[np.bool_]:
    """Whether each prediction is right [n]: the class or all labels, or the words of an accepted text (SQuAD)."""
    if given.kind == "text":
        pairs = zip(given.gold, given.predicted, strict=True)
        return np.array([bool(said) and any(same_words(gold, said) for gold in golds) for golds, said in pairs], bool)
    same = given.gold == given.predicted
    return same.all(axis=1) if same.ndim == 2 else same


def _without_answers(flip: Flip) -> Flip:
    """A flip whose answers are parts of a text, which is not to be shown."""
    said = {"lost": ("right", "wrong"), "gained": ("wrong", "right")}[flip.way]
    return replace(flip, gold="a text", baseline=said[0], run=said[1])


def _counted(arms: Sequence[_Arms]) -> CellFlips:
    seeds = {
        seed: (int((base.right & ~run.right).sum()), int((run.right & ~base.right).sum())) for seed, run, base in arms
    }
    between = [int((one[2].right != other[2].right).sum()) for one, other in combinations(arms, 2)]
    return CellFlips(len(arms[0][1].right), seeds, float(np.mean(between)) if between else None)


def _most(arms: Sequence[_Arms], names: Sequence[str]) -> list[Flip]:
    """The examples that flipped in most seeds, as many of one way as of the other where there are, in file order."""
    lost = _flipped(arms, "lost", [base.right & ~run.right for _, run, base in arms], names)
    gained = _flipped(arms, "gained", [run.right & ~base.right for _, run, base in arms], names)
    half = max(MOST // 2, MOST - len(gained))
    return [*lost[:half], *gained[: MOST - len(lost[:half])]]


def _flipped(arms: Sequence[_Arms], way: Way, flipped: list[NDArray[np.bool_]], names: Sequence[str]) -> list[Flip]:
    by_seed = np.stack(flipped)
    counts = by_seed.sum(axis=0)
    found = []
    for index in np.argsort(-counts, kind="stable")[:MOST].tolist():
        if counts[index]:
            _, run, base = arms[int(by_seed[:, index].argmax())]
            row, part = run.places[index].tolist()
            gold = _said(run.given, run.given.gold[run.order[index]], names)
            said = base.said(index, names), run.said(index, names)
            found.append(Flip((row, part), way, int(counts[index]), gold, *said))
    return found


def _with_texts(
    cells: Mapping[tuple[str, ...], CellFlips], wording: Wording, shown: int
) -> dict[tuple[str, ...], CellFlips]:
    """The cells with the texts of `shown` examples each; the rows of a task are read once."""
    assert wording.texts is not None
    first = {key: _first(cell.examples, shown) for key, cell in cells.items()}
    wanted: dict[str, set[int]] = defaultdict(set)
    for key, flips in first.items():
        wanted[wording.task(key[0])] |= {flip.place[0] for flip in flips}
    read = {task: wording.texts(task, sorted(rows)) for task, rows in wanted.items() if rows}
    return {
        key: replace(cell, examples=[
            replace(flip, text=cut(read[wording.task(key[0])].get(flip.place, ""))) if flip in first[key] else flip
            for flip in cell.examples
        ])
        for key, cell in cells.items()
    }  # fmt: skip


def _first(flips: Sequence[Flip], shown: int) -> list[Flip]:
    """`shown` of the flips, as many of one way as of the other where there are."""
    lost, gained = ([flip for flip in flips if flip.way == way] for way in ("lost", "gained"))
    half = max(shown // 2, shown - len(gained))
    return lost[:half] + gained[: shown - len(lost[:half])]


def _said(given: Predictions, value: Any, names: Sequence[str]) -> str:
    """A gold label or a prediction in words."""
    if given.kind == "text":
        return cut(" / ".join(value) if isinstance(value, tuple) else str(value))
    if given.kind == "labels":
        return ", ".join(_name(int(i), names) for i in np.flatnonzero(value)) or "none"
    if given.kind == "choice":
        return f"choice {int(value) + 1}" if value >= 0 else "none"
    return _name(int(value), names)


def _name(index: int, names: Sequence[str]) -> str:
    if index < 0:
        return "none"
    return names[index] if index < len(names) else f"class {index}"


def cut(text: str) -> str:
    """A text on one line, of 200 characters at most."""
    line = " ".join(text.split())
    return line if len(line) <= LONGEST else line[: LONGEST - 1].rstrip() + "…"


def _complete(cell: Cell) -> list[Pair]:
    return [pair for pair in cell.pairs if pair.delta is not None and all(_keys(pair))]


def _keys(pair: Pair) -> tuple[str, str]:
    return pair.run.key if pair.run else "", pair.baseline.key if pair.baseline else ""
