"""Whether intervals, corrected tests and foretold power keep their word, on tables of which the truth is known.

    python bench/stats.py coverage    how often a 95 % interval holds the population's difference
    python bench/stats.py family      how often a matrix without any effect shows one, after correction
    python bench/stats.py power       how often an effect is found, against what `layover.stats.power` foretells

A study is made like this: whether run s of an arm is right about example i depends on how hard the example is for every
run, for this arm, and for this run, and on how good the seed made the run. Each part is normal, so that the arm's accuracy
over all seeds and examples is known exactly; other metrics by integrating over seeds. Made observations and predictions go
through `layover.stats.transfer`, many studies at once: each is an "encoder" of the table. Every figure has its own seed.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from common import show
from numpy.typing import NDArray
from scipy.stats import norm

from layover.metrics import METRICS
from layover.predictions import Predictions
from layover.stats.transfer import Matrix, transfer

Array = NDArray[np.float64]
POSITIVE = 0.4  # share of examples of the last class
AT_ONCE = 2_000_000  # predictions that are held at once


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


def luck(setting: Setting) -> float:
    """The standard deviation of a seed's luck on the normal scale."""
    return setting.seed_sd / 100 / float(norm.pdf(norm.ppf(setting.base / 100)))


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
        for arm, effect in enumerate((0.0, *effects)):
            here = hard + np.sqrt(setting.apart) * rng.normal(size=setting.examples)
            own = 1 - setting.hard - setting.apart
            lucks = luck(setting) * (both + np.sqrt(1 - setting.shared) * rng.normal(size=setting.seeds))
            edge = threshold(setting, effect)
            certain = 100 * float(norm.cdf((edge - here) / np.sqrt(own + luck(setting) ** 2)).mean())
            for seed in range(setting.seeds):
                away = here + np.sqrt(own) * rng.normal(size=setting.examples)
                run = _run(setting, gold, away, edge + lucks[seed])
                row = {
                    "encoder": name, "strategy": "stilts" if arm else "direct", "source": f"s{arm}" if arm else "",
                    "target": f"t{target}", "seed": seed, "metric": setting.metric, "value": _score(run, setting.metric),
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
class Studied:
    """What came of one study, with the true difference of each source on these very examples, by (source, target)."""

    matrix: Matrix
    certain: dict[tuple[str, str], float]


def studied(setting: Setting, replicates: int, seed: int) -> Iterator[Studied]:
    """The matrices of so many studies of one setting."""
    rng = np.random.default_rng([20_200_711, seed])
    runs = setting.seeds * sum(1 + len(effects) for effects in setting.effects)
    at_once = max(1, AT_ONCE // (runs * setting.examples))
    for start in range(0, replicates, at_once):
        rows, predictions, certain = [], {}, {}
        for number in range(start, min(replicates, start + at_once)):
            for row, run, score in study(setting, rng, f"e{number:06d}"):
                rows.append(row)
                predictions[row["key"]] = run
                certain[row["encoder"], row["source"], row["target"]] = score
        for matrix in transfer(rows, predictions.get if setting.seen else None).matrices:
            yield Studied(matrix, {
                pair: certain[matrix.encoder, *pair] - certain[matrix.encoder, "", pair[1]] for pair in matrix.cells
            })  # fmt: skip


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
        **{name: [Setting(s, 300, 1.0, ((4.0,),), 80.0, metric=name) for s in seeds] for name in
           ("f1", "mcc", "pearson")},
    }  # fmt: skip
    for what, settings in grid.items():
        for setting in settings:
            rows.append(_covered(what, setting, replicates, len(rows)))
    head = ["", "seeds", "examples", "seed SD", "holds the truth, %", "mean half-width"]
    show("Cells", head, rows)
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
    show("Scores alone, without predictions", ["", *head[1:4], "holds the truth on these examples, %",
         "holds the population's, %"], rows)  # fmt: skip


def _covered(what: str, setting: Setting, replicates: int, seed: int) -> list[str]:
    truth = population(setting, setting.effects[0][0]) - population(setting, 0)
    cells = [one.matrix.cells["s1", "t0"] for one in studied(setting, replicates, seed)]
    return _line(what, setting, [(cell.low, cell.high) for cell in cells], truth)


def _covered_average(what: str, setting: Setting, replicates: int, seed: int) -> list[str]:
    truth = float(np.mean([population(setting, effects[0]) for effects in setting.effects])) - population(setting, 0)
    means = [one.matrix.averages["target", "s1"] for one in studied(setting, replicates, 100 + seed)]
    return _line(what, setting, [(mean.low, mean.high) for mean in means], truth)


def _covered_without(setting: Setting, replicates: int, seed: int) -> list[str]:
    found = list(studied(setting, replicates, 200 + seed))
    cells = [one.matrix.cells["s1", "t0"] for one in found]
    here = [c.low <= one.certain["s1", "t0"] <= c.high for c, one in zip(cells, found, strict=True)]
    everywhere = [c.low <= 0 <= c.high for c in cells]
    return [*_named("", setting), f"{100 * np.mean(here):.1f}", f"{100 * np.mean(everywhere):.1f}"]


def _named(what: str, setting: Setting) -> list[str]:
    return [what, str(setting.seeds), f"{setting.examples:,}", f"{setting.seed_sd:g}"]


def _line(what: str, setting: Setting, intervals: list[Any], truth: float) -> list[str]:
    held = np.mean([low <= truth <= high for low, high in intervals])
    half = np.mean([(high - low) / 2 for low, high in intervals])
    return [*_named(what, setting), f"{100 * held:.1f}", f"{half:.2f}"]


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
        found = [one.matrix for one in studied(setting, replicates, 300 + len(rows))]
        single = [cell.p < 0.05 for matrix in found for cell in matrix.cells.values() if cell.p is not None]
        shares = [single, *(_any_below(found, name) for name in ("cells", "averages"))]
        rows.append([*_named(what, setting), *(f"{100 * np.mean(share):.1f}" for share in shares)])
    show(f"{sources} sources x {targets} targets that share direct's runs, {replicates} tables without an effect", [
        "", "seeds", "examples", "seed SD", "cells with p < 0.05, %", "tables with a cell, %", "with an average, %"
    ], rows)  # fmt: skip


def _any_below(found: list[Matrix], name: str) -> list[bool]:
    return [any(one.p_adjusted < 0.05 for one in getattr(matrix, name).values()) for matrix in found]


# power


def power(replicates: int, tiny: bool) -> None:
    """Print how often an effect is found, and how often it was foretold to be."""
    from layover.stats.interval import Noise
    from layover.stats.power import Design

    rows = []
    for setting in [Setting(3, 277), Setting(5, 277), Setting(3, 2000, 2.0), Setting(5, 2000, 2.0), Setting(20, 277)]:
        for effect in (3.0,) if tiny else (2.0, 4.0, 8.0):
            setting = replace(setting, effects=((effect,),))
            found = [one.matrix.cells["s1", "t0"] for one in studied(setting, replicates, 400 + len(rows))]
            designs = [Design.of(cell.noise, cell.n) for cell in found if isinstance(cell.noise, Noise)]
            known = Design.mean(designs)
            seen = 100 * np.mean([cell.p < 0.05 for cell in found])
            rows.append([*_named("", setting), f"{effect:g}", f"{seen:.1f}", f"{100 * known.power(effect):.1f}"])
    show("Tests at 5 %", ["", "seeds", "examples", "seed SD", "effect", "found, %", "foretold, %"], rows)


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
