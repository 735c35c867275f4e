"""Whether intervals, corrected tests and foretold power keep their word, on tables of which the truth is known.

    python bench/stats.py coverage    how often a 95 % interval holds the population's difference
    python bench/stats.py family      how often a matrix without any effect shows one, after correction
    python bench/stats.py power       how often an effect is found, against what `layover.stats.power` foretells

A study is made like this: whether run s of an arm is right about example i depends on how hard the example is for
every run, for this arm, and for this run, and on how good the seed made the run. Each part is normal, so that the arm's
accuracy over all seeds and examples is known exactly; other metrics by integrating over seeds. Accuracies go straight
to `layover.stats.interval`; the other metrics through `layover.stats.transfer` as observations and predictions, many
studies at once, each an "encoder" of the table. Every figure has its own seed.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import astuple, dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from common import show
from numpy.typing import NDArray
from scipy.stats import norm

from layover.metrics import METRICS
from layover.predictions import Predictions
from layover.stats.interval import LEVEL, Effect, Noise, Paired, effect
from layover.stats.judge import adjust
from layover.stats.paired import Cell
from layover.stats.power import Design
from layover.stats.transfer import transfer

Array = NDArray[np.float64]
POSITIVE = 0.4  # share of examples of the last class
AT_ONCE = 40  # studies in one table
MUCH = 40_000_000  # predictions of a figure, above which fewer studies are made, 200 at least


@dataclass(frozen=True)
class Setting:
    """A study: `effects` in points by target and source; `seed_sd` is what seeds do to a run's score, in points.

    `hard` and `apart` are the shares of the variance that examples have for all runs, and for all runs of one arm.
    `shared` is how much of a seed's luck both arms have. `seen`: with predictions, or scores alone.
    """

    seeds: int
    examples: int
    seed_sd: float = 1.0
    effects: tuple[tuple[float, ...], ...] = ((0.0,),)
    base: float = 70.0
    hard: float = 0.5
    apart: float = 0.1
    shared: float = 0.5
    metric: str = "accuracy"
    seen: bool = True


@cache
def luck(setting: Setting) -> float:
    """The standard deviation of a seed's luck on the normal scale."""
    return setting.seed_sd / 100 / float(norm.pdf(norm.ppf(setting.base / 100)))


@cache
def threshold(setting: Setting, effect: float) -> float:
    """Below which normal number a run is right, so that `base + effect` per cent of all runs and examples are."""
    return float(norm.ppf((setting.base + effect) / 100)) * np.hypot(1, luck(setting))


def population(setting: Setting, effect: float) -> float:
    """The score in points of an arm, over all seeds and examples."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    right = norm.cdf(threshold(setting, effect) + luck(setting) * nodes)
    if setting.metric == "pearson":
        score = 1 / np.hypot(1, 2 - 2 * right)
    elif setting.metric == "f1":
        score = 2 * POSITIVE * right / (POSITIVE + POSITIVE * right + (1 - POSITIVE) * (1 - right))
    elif setting.metric == "mcc":
        said = POSITIVE * right + (1 - POSITIVE) * (1 - right)
        both = POSITIVE * right - POSITIVE * said
        score = both / np.sqrt(POSITIVE * (1 - POSITIVE) * said * (1 - said))
    else:
        score = right
    return 100 * float(weights @ score / weights.sum())


def study(setting: Setting, rng: np.random.Generator, name: str) -> Iterator[tuple[dict[str, Any], Predictions, float]]:
    """Rows with predictions, and the score in points that the arm's runs have on these examples over all seeds."""
    both = np.sqrt(setting.shared) * rng.normal(size=setting.seeds)
    for target, effects in enumerate(setting.effects):
        gold = (rng.random(setting.examples) < POSITIVE).astype(float)
        if setting.metric == "pearson":
            gold = rng.normal(size=setting.examples)
        hard = np.sqrt(setting.hard) * rng.normal(size=setting.examples)
        for arm, adds in enumerate((0.0, *effects)):
            here = hard + np.sqrt(setting.apart) * rng.normal(size=setting.examples)
            own = 1 - setting.hard - setting.apart
            lucks = luck(setting) * (both + np.sqrt(1 - setting.shared) * rng.normal(size=setting.seeds))
            edge = threshold(setting, adds)
            certain = 100 * float(norm.cdf((edge - here) / np.sqrt(own + luck(setting) ** 2)).mean())
            for seed in range(setting.seeds):
                away = here + np.sqrt(own) * rng.normal(size=setting.examples)
                run = _run(setting, gold, away, edge + lucks[seed])
                row = {
                    "encoder": name, "strategy": "stilts" if arm else "direct", "source": f"s{arm}" if arm else "",
                    "target": f"t{target}", "seed": seed, "metric": setting.metric,
                    "value": _score(run, setting.metric),
                    "key": f"{name} {arm} {target} {seed}",
                }  # fmt: skip
                yield row, run, certain


def _run(setting: Setting, gold: Array, away: Array, edge: float) -> Predictions:
    rows = np.arange(len(gold))
    if setting.metric == "pearson":
        return Predictions(rows, gold, gold + (2 - 2 * norm.cdf(edge)) * away, 0, "value")
    return Predictions(rows, gold, np.where(away < edge, gold, 1 - gold), 2)


def _score(run: Predictions, name: str) -> float:
    metric = METRICS[name]
    if metric.summands is None or metric.from_sums is None:
        return metric.score(run)
    return float(metric.from_sums(metric.summands(run).sum(0)))


@dataclass(frozen=True)
class Made:
    """One study: the differences of every source and target, and those that its arms truly have on these examples."""

    cells: dict[tuple[str, str], Paired]
    certain: dict[tuple[str, str], float]

    def effect(self, source: str, target: str = "t0") -> Effect:
        """A cell, as `transfer` has it."""
        return _effect([self.cells[source, target]])

    def average(self, source: str) -> Effect:
        """The mean over the targets, as `transfer` has it."""
        return _effect([cell for (name, _), cell in self.cells.items() if name == source])


def _effect(tasks: list[Paired]) -> Effect:
    basis = "seeds" if tasks[0].influences is None else "seeds and examples" if len(tasks[0].deltas) > 1 else "examples"
    return effect(float(np.mean([task.deltas.mean() for task in tasks])), tasks, basis)


def made(setting: Setting, replicates: int, seed: int) -> Iterator[Made]:
    """So many studies whose metric is accuracy: what an example adds to it is whether it is right."""
    rng = np.random.default_rng([20_200_711, seed])
    for _ in range(_replicates(setting, replicates)):
        right, certain = defaultdict(list), {}
        for row, run, score in study(setting, rng, ""):
            right[row["source"], row["target"]].append(100.0 * (run.gold == run.predicted))
            certain[row["source"], row["target"]] = score
        tables = {arm: np.stack(columns, axis=1) for arm, columns in right.items()}
        cells = {}
        for source, target in tables:
            if source:
                table = tables[source, target] - tables["", target]
                around = table - table.mean(0) if setting.seen else None
                cells[source, target] = Paired(tuple(range(setting.seeds)), table.mean(0), around)
        yield Made(cells, {pair: certain[pair] - certain["", pair[1]] for pair in cells})


def studied(setting: Setting, replicates: int, seed: int) -> Iterator[Effect | Cell]:
    """The cell of each study, by way of a table and predictions: for every metric."""
    rng = np.random.default_rng([20_200_711, seed])
    left = _replicates(setting, replicates)
    while left > 0:
        rows, predictions = [], {}
        for number in range(min(left, AT_ONCE)):
            for row, run, _ in study(setting, rng, f"e{number:06d}"):
                rows.append(row)
                predictions[row["key"]] = run
        left -= AT_ONCE
        for matrix in transfer(rows, predictions.get).matrices:
            yield matrix.cells["s1", "t0"]


def _replicates(setting: Setting, asked: int) -> int:
    runs = setting.seeds * sum(1 + len(effects) for effects in setting.effects)
    return min(asked, max(200, MUCH // (runs * setting.examples * (100 if setting.metric == "pearson" else 1))))


# coverage


def coverage(replicates: int, tiny: bool) -> None:
    """Print how often intervals hold the truth, by setting."""
    rows = []
    seeds, sizes = ((3,), (100,)) if tiny else ((3, 5, 20), (100, 1000, 10_000))
    grid = {
        "": [Setting(s, n, sd) for s in seeds for n in sizes for sd in (0.0, 1.0, 3.0)],
        "effect of 5": [Setting(s, 1000, effects=((5.0,),)) for s in seeds],
        "seeds of the arms independent": [Setting(s, 1000, 3.0, shared=0.0) for s in seeds],
        "arms alike": [Setting(s, n, 1.0, apart=0.0) for s in seeds for n in sizes[:2]],
        "arms very different": [Setting(s, n, 1.0, apart=0.4) for s in seeds for n in sizes[:2]],
        "one seed": [Setting(1, n, 0.0) for n in sizes],
        "two seeds": [Setting(2, n, 1.0) for n in sizes],
    }  # fmt: skip
    for what, settings in grid.items():
        rows += [_covered(what, setting, replicates, 50 + len(rows) + i) for i, setting in enumerate(settings)]
    head = ["", "seeds", "examples", "seed SD", "studies", "holds the truth, %", "mean half-width"]
    show("Cells", head, rows)
    rows = []
    for name in ("f1", "mcc", "pearson"):
        for s in seeds[:2]:
            setting = Setting(s, 300, 1.0, ((4.0,),), 80.0, metric=name)
            rows.append(_covered(name, setting, replicates, 20 + len(rows)))
    show("Other metrics, by way of a table", head, rows)
    rows = []
    for what, setting in {
        "average of 8 targets": Setting(3, 300, effects=((2.0,),) * 8),
        "average of 8 targets, noisy seeds": Setting(3, 300, 3.0, ((2.0,),) * 8),
        "average of 8 targets, 5 seeds": Setting(5, 300, effects=((2.0,),) * 8),
    }.items():
        rows.append(_covered_average(what, setting, max(2, replicates // 2), len(rows)))
    show("Averages", head, rows)
    rows = []
    for s in seeds:
        for n in sizes:
            rows.append(_covered_without(Setting(s, n, 1.0, seen=False), replicates, len(rows)))
    show("Scores alone, without predictions", [*head[:5], "holds the truth on these examples, %",
         "holds the population's, %"], rows)  # fmt: skip


def _covered(what: str, setting: Setting, replicates: int, seed: int) -> list[str]:
    truth = population(setting, setting.effects[0][0]) - population(setting, 0)
    if setting.metric == "accuracy":
        return _line(what, setting, [one.effect("s1") for one in made(setting, replicates, seed)], truth)
    return _line(what, setting, list(studied(setting, replicates, seed)), truth)


def _covered_average(what: str, setting: Setting, replicates: int, seed: int) -> list[str]:
    truth = population(setting, setting.effects[0][0]) - population(setting, 0)
    return _line(what, setting, [one.average("s1") for one in made(setting, replicates, 110 + seed)], truth)


def _covered_without(setting: Setting, replicates: int, seed: int) -> list[str]:
    found = [(one.effect("s1"), one.certain["s1", "t0"]) for one in made(setting, replicates, 200 + seed)]
    here = [one.low <= certain <= one.high for one, certain in found]
    everywhere = [one.low <= 0 <= one.high for one, _ in found]
    return [*_named("", setting), str(len(found)), f"{100 * np.mean(here):.1f}", f"{100 * np.mean(everywhere):.1f}"]


def _named(what: str, setting: Setting) -> list[str]:
    return [what, str(setting.seeds), f"{setting.examples:,}", f"{setting.seed_sd:g}"]


def _line(what: str, setting: Setting, found: list[Any], truth: float) -> list[str]:
    held = np.mean([one.low <= truth <= one.high for one in found])
    half = np.mean([(one.high - one.low) / 2 for one in found])
    return [*_named(what, setting), str(len(found)), f"{100 * held:.1f}", f"{half:.2f}"]


# families


def family(replicates: int, tiny: bool) -> None:
    """Print how often 6 sources x 8 targets without any effect show one."""
    sources, targets = (2, 2) if tiny else (6, 8)
    null = Setting(3, 300, effects=((0.0,) * sources,) * targets)
    rows = []
    for what, setting in {
        "": null, "more seeds": replace(null, seeds=5), "noisy seeds": replace(null, seed_sd=4.0),
        "noisy seeds, many examples": replace(null, seed_sd=4.0, examples=2000),
        "without predictions": replace(null, seen=False, seed_sd=4.0, apart=0.0, hard=0.0),
    }.items():  # fmt: skip
        single, tables, averages = [], [], []
        for one in made(setting, replicates, 300 + len(rows)):
            p_values = [one.effect(*pair).p for pair in one.cells]
            single += [p < 0.05 for p in p_values if p is not None]
            tables.append(_any_below(p_values))
            averages.append(_any_below([one.average(f"s{number + 1}").p for number in range(sources)]))
        shares = [f"{100 * np.mean(share):.1f}" for share in (single, tables, averages)]
        rows.append([*_named(what, setting), str(len(tables)), *shares])
    head = ["", "seeds", "examples", "seed SD", "tables", "cells with p < 0.05, %", "tables with a cell, %"]
    title = f"{sources} sources x {targets} targets that share direct's runs, without an effect; corrected by Holm"
    show(title, [*head, "with an average, %"], rows)


def _any_below(p_values: list[float | None]) -> bool:
    return any(p is not None and p < LEVEL for p in adjust(p_values, "holm"))


# power


def power(replicates: int, tiny: bool) -> None:
    """Print how often an effect is found, and how often it was foretold to be."""
    rows = []
    for setting in [Setting(3, 277), Setting(5, 277), Setting(3, 2000, 2.0), Setting(5, 2000, 2.0), Setting(20, 277)]:
        for adds in (3.0,) if tiny else (2.0, 4.0, 8.0):
            setting = replace(setting, effects=((adds,),))
            found = [one.effect("s1") for one in made(setting, replicates, 400 + len(rows))]
            noises = [astuple(one.noise) for one in found if one.noise is not None]
            known = Design.of(Noise(*np.mean(noises, axis=0)), setting.seeds)
            seen = 100 * np.mean([one.p < LEVEL for one in found if one.p is not None])
            foretold = 100 * known.power(adds, setting.seeds, setting.examples)
            rows.append([*_named("", setting), str(len(found)), f"{adds:g}", f"{seen:.1f}", f"{foretold:.1f}"])
    show("Tests at 5 %", ["", "seeds", "examples", "seed SD", "studies", "effect", "found, %", "foretold, %"], rows)


PARTS = {"coverage": (coverage, 1000), "family": (family, 400), "power": (power, 1000)}


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--replicates", type=int, help="made studies of each setting; default 1,000 (family: 400)")
    parser.add_argument("--tiny", action="store_true", help="a few studies of few settings, to see that it runs")
    asked = parser.parse_args()
    measure, usual = PARTS[asked.part]
    measure(asked.replicates or (20 if asked.tiny else usual), asked.tiny)


if __name__ == "__main__":
    main()
