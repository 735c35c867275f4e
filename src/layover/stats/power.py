"""Power: how many seeds and how many examples would settle a cell.

A cell's own seeds and examples tell how much each makes its difference vary. From that follows how often the test of
`layover.stats.interval` would find an effect, at any number of seeds and examples: over all that S seeds may happen to
show of their own variance. More seeds leave what the examples add as it is, so there are effects that no number of
seeds can show.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from layover.metrics import Array
from layover.stats.interval import LEVEL, Noise
from layover.stats.paired import Cell, Correction, Lookup, Verdict
from layover.stats.transfer import Matrix, Transfer, transfer

if TYPE_CHECKING:
    from pandas import DataFrame

WANTED = 0.8  # the power that is asked for (Cohen 1988)
MOST_SEEDS, MOST_EXAMPLES = 1_000, 10_000_000
NODES = 64  # what seeds may show of their variance


@dataclass(frozen=True)
class Design:
    """The variances behind a difference, in points squared, each of one seed or one example alone.

    `between` is of a seed's difference over all examples, `examples` of an example's difference over all seeds, `both`
    of what one seed does to one example.
    """

    between: float
    examples: float
    both: float

    @classmethod
    def of(cls, noise: Noise, seeds: int) -> Design:
        """What the noise of a mean over so many seeds says of each alone."""
        between = max(0.0, noise.seeds - noise.interaction) * seeds
        return cls(between, noise.examples * noise.rows, noise.interaction * seeds * noise.rows)

    def noise(self, seeds: int, rows: int) -> Noise:
        """The noise to be expected of so many seeds and examples; 0 rows: scores without predictions."""
        both = self.both / (seeds * rows) if rows else 0.0
        examples = self.examples / rows if rows else 0.0
        return Noise(self.between / seeds + both, seeds - 1, examples, rows - 1, both)

    def power(self, effect: float, seeds: int, rows: int, level: float = LEVEL) -> float:
        """How often a true difference in points is found at a level."""
        return _power(self.noise(seeds, rows), effect, level)

    def detectable(self, seeds: int, rows: int, level: float = LEVEL) -> float:
        """The smallest true difference in points that is found with 80 % power."""
        return _detectable(self.noise(seeds, rows), level)

    def limit(self, rows: int, level: float = LEVEL) -> float:
        """The smallest true difference in points that any number of seeds would find with 80 % power."""
        return _detectable(Noise(0.0, 0.0, self.noise(1, rows).examples, rows - 1, 0.0), level)

    def seeds_needed(self, effect: float, rows: int, level: float = LEVEL) -> int | None:
        """The fewest seeds for 80 % power with these examples; None where no number (up to 1,000) will do."""
        return _fewest(lambda seeds: self.power(effect, seeds, rows, level) >= WANTED, 2, MOST_SEEDS)

    def rows_needed(self, effect: float, seeds: int, level: float = LEVEL) -> int | None:
        """The fewest examples for 80 % power with these seeds; None where no number (up to ten million) will do."""
        return _fewest(lambda rows: self.power(effect, seeds, rows, level) >= WANTED, 2, MOST_EXAMPLES)


def _power(noise: Noise, effect: float, level: float) -> float:
    from scipy.special import ndtr

    if noise.error == 0:
        return float(effect != 0)
    shown = _shown(noise.seeds_df) if noise.seeds else np.ones(1)  # as a share of what seeds truly add
    variances = noise.seeds * shown + noise.examples
    shares, ratios = _criticals(noise.seeds_df, noise.examples_df, level)
    bound = np.interp(noise.seeds * shown / variances, shares, ratios) * np.sqrt(variances)
    found = ndtr((effect - bound) / noise.error) + ndtr((-effect - bound) / noise.error)
    return float(found.mean())


@lru_cache(maxsize=256)
def _shown(df: float) -> Array:
    """What a variance known on `df` degrees of freedom is found to be, over the true one: equally likely values."""
    from scipy.special import chdtri

    return np.asarray(chdtri(df, 1 - (np.arange(NODES) + 0.5) / NODES)) / df


@lru_cache(maxsize=256)
def _criticals(seeds_df: float, examples_df: float, level: float) -> tuple[Array, Array]:
    """Shares of the seeds in the variance, and the difference in standard errors that is at the level for each."""
    shares = np.linspace(0, 1, 49) ** 3
    if seeds_df < 1 or examples_df < 1:
        shares = np.array([0.0 if seeds_df < 1 else 1.0])
    found = [Noise(share, seeds_df, 1 - share, examples_df, 0.0).critical(level) for share in shares.tolist()]
    return shares, np.array(found)


def _detectable(noise: Noise, level: float) -> float:
    from scipy.optimize import brentq

    if noise.error == 0:
        return 0.0
    most = noise.error
    while _power(noise, most, level) < WANTED:
        most *= 2
    return float(brentq(lambda effect: _power(noise, effect, level) - WANTED, 0.0, most))  # pyright: ignore[reportArgumentType]


def _fewest(enough: Callable[[int], bool], least: int, most: int) -> int | None:
    """The smallest number from `least` to `most` that is enough, where every larger one is too."""
    if not enough(most):
        return None
    while least < most:
        middle = (least + most) // 2
        least, most = (least, middle) if enough(middle) else (middle + 1, most)
    return most


@dataclass(frozen=True)
class CellPower:
    """What would settle a cell. Effects and standard deviations are in points, powers are shares of 1.

    `level` is that of one test, after correction: a family's first step, so that what is said errs on the safe side.
    `effect` is the one asked about, else the one observed. `seed_sd` is of one seed's difference, `example_sd` of one
    example's difference of one seed. `limit` is the smallest effect that any number of seeds would show. What cannot be
    known is None: a single seed tells nothing of seeds, scores without predictions nothing of examples.
    """

    encoder: str
    strategy: str
    source: str
    target: str
    role: str
    delta: float | None
    verdict: Verdict
    seeds: int
    examples: int | None
    seed_sd: float | None
    example_sd: float | None
    level: float
    detectable: float | None
    effect: float | None
    power: float | None
    seeds_needed: int | None
    examples_needed: int | None
    limit: float | None

    def to_json(self) -> dict[str, Any]:
        """The fields as plain data."""
        return asdict(self)


def power(
    observations: DataFrame | Iterable[Mapping[str, Any]],
    predictions: Lookup | None = None,
    against: str = "direct",
    metric: str | None = None,
    correct: Correction = "holm",
    without_degenerate: bool = False,
    effect: float | None = None,
) -> list[CellPower]:
    """What would settle each cell of `transfer`, for the effect that it shows or for one that is asked about.

    Tests are at 0.05 over the number of tests in the cell's family: Holm's first step, and the safe side of Benjamini
    and Hochberg's. Raises ObservationsError.
    """
    found = transfer(observations, predictions, against, metric, correct, without_degenerate)
    rows = []
    for matrix in found.matrices:
        levels = _levels(matrix, correct)
        rows += [_settled(cell, levels[cell.role], effect) for cell in matrix.cells.values()]
    return rows


def _levels(matrix: Matrix, correct: Correction) -> dict[str, float]:
    """The level of one test by role: of all that are corrected together, the first step's."""
    tested = Counter(cell.role for cell in matrix.cells.values() if cell.p is not None)
    return {role: LEVEL / (1 if correct == "none" else max(1, tested[role])) for role in matrix.roles}


@dataclass(frozen=True)
class Typical:
    """What the seeds and examples of a matrix can show in a typical cell: the variances are the medians of its cells'.

    `needed` has for effects of some points the seeds that 80 % power takes with these examples, None where no number
    will do. Without predictions `examples` and `limit` are None.
    """

    encoder: str
    strategy: str
    role: str
    cells: int
    seeds: int
    examples: int | None
    detectable: float
    needed: Mapping[float, int | None]
    limit: float | None


def typical(found: Transfer, effects: Iterable[float] = (1.0, 2.0, 5.0)) -> list[Typical]:
    """By encoder, strategy and role: what a typical cell can show; nothing where no cell has two seeds."""
    rows = []
    for matrix in found.matrices:
        levels = _levels(matrix, found.correct)
        for role in matrix.roles:
            cells = [cell for cell in matrix.cells.values() if cell.role == role and cell.n > 1 and cell.noise]
            if not cells or not any(cell.noise and cell.noise.error for cell in cells):
                continue
            rows.append(_typical(matrix, role, cells, levels[role], effects))
    return rows


def _typical(matrix: Matrix, role: str, cells: list[Cell], level: float, effects: Iterable[float]) -> Typical:
    designs = [Design.of(cell.noise, cell.n) for cell in cells if cell.noise]
    middle = Design(*(statistics.median(getattr(one, name) for one in designs) for name in Design.__annotations__))
    seeds = statistics.median_low(cell.n for cell in cells)
    rows = statistics.median_low(cell.noise.rows for cell in cells if cell.noise)
    needed = {effect: middle.seeds_needed(effect, rows, level) for effect in effects}
    limit = middle.limit(rows, level) if rows else None
    detectable = middle.detectable(seeds, rows, level)
    return Typical(matrix.encoder, matrix.strategy, role, len(cells), seeds, rows or None, detectable, needed, limit)


def _settled(cell: Cell, level: float, asked: float | None) -> CellPower:
    wished = cell.delta if asked is None else asked
    known: dict[str, Any] = dict.fromkeys(
        ("seed_sd", "example_sd", "detectable", "power", "seeds_needed", "examples_needed", "limit")
    )
    noise = cell.noise
    if noise is not None and wished is not None and noise.error > 0:
        design, rows = Design.of(noise, cell.n), noise.rows
        known["detectable"] = design.detectable(cell.n, rows, level)
        known["power"] = design.power(wished, cell.n, rows, level)
        if cell.n > 1:
            known["seed_sd"] = math.sqrt(design.between)
            known["seeds_needed"] = design.seeds_needed(wished, rows, level)
        if rows:
            known["example_sd"] = math.sqrt(design.examples + design.both)
            known["examples_needed"] = design.rows_needed(wished, cell.n, level)
        if rows and cell.n > 1:
            known["limit"] = design.limit(rows, level)
    return CellPower(
        cell.encoder, cell.strategy, cell.source, cell.target, cell.role, cell.delta, cell.verdict, cell.n,
        noise.rows or None if noise is not None else None, level=level, effect=wished, **known,
    )  # fmt: skip
