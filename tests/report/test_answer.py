"""The answer in sentences: of one cell and of many, of what pays, hurts, is noise, collapses or is not known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from tests.stats.tables import row

from layover.report.answer import Answer, answers
from layover.report.words import interval, points
from layover.stats.transfer import transfer

SEEDS = range(5)


def of(
    effects: dict[tuple[str, str], float], spread: float = 0.2, status: str = "ok", seeds: Sequence[int] = SEEDS
) -> Answer:
    rng = np.random.default_rng(7)
    rows = [row("direct", "", target, seed, 60) for target in {target for _, target in effects} for seed in seeds]
    rows += [
        row("stilts", source, target, seed, 60 + effect + float(rng.normal(0, spread)), status=status)
        for (source, target), effect in effects.items()
        for seed in seeds
    ]
    (answer,) = answers([transfer(rows)])
    return answer


def test_one_cell_is_one_sentence() -> None:
    assert of({("mnli", "rte"): 8}).lead.startswith("mnli helps rte: +")
    assert of({("mnli", "rte"): -8}).lead.startswith("mnli hurts rte: −")
    noise = of({("mnli", "rte"): 0.3}, spread=4)
    assert noise.lead.startswith("mnli changes rte by ")
    assert noise.lead.endswith(": within noise.")
    assert "typical" not in dict(noise.details)["Noise"]
    assert "one pair of runs" in of({("mnli", "rte"): 8}, seeds=[1]).lead
    collapsed = of({("mnli", "rte"): -20}, status="degenerate: constant prediction")
    assert collapsed.lead == "mnli before rte is a collapse: 5 of 5 pairs of runs have a degenerate one."


def test_a_matrix_is_counts_and_the_largest() -> None:
    effects = {(f"s{s}", f"t{t}"): 0.0 for s in range(11) for t in range(10)}
    effects |= {("s1", f"t{t}"): 5 + t for t in range(5)} | {("s2", "t0"): -9.0}
    answer = of(effects)
    details = dict(answer.details)
    assert answer.lead == "stilts pays in 5 of 110 cells and hurts in 1; 104 are within noise."
    assert [part.split(" +")[0] for part in details["Pays"].split("), ")[:3]] == ["s1 → t4", "s1 → t3", "s1 → t2"]
    assert details["Pays"].endswith("and 2 more cells.")
    assert details["Hurts"].startswith("s2 → t0 −")
    assert details["On average"].startswith("Over 10 targets s1 does best: +3.")
    assert "1 of 11 beats direct beyond noise" in details["On average"]


def test_what_is_best_on_average_has_its_interval() -> None:
    rng = np.random.default_rng(0)
    rows = [row("direct", "", target, seed, 60) for target in "ab" for seed in SEEDS]
    rows += [row("stilts", source, target, seed, 60 + up + float(rng.normal(0, 3)))
             for source, up in (("x", 0.5), ("y", -0.5)) for target in "ab" for seed in SEEDS]  # fmt: skip
    found = transfer(rows)
    best = max(found.matrix().averages.values(), key=lambda mean: mean.delta or 0)
    said = dict(answers([found])[0].details)["On average"]
    assert f"{points(best.delta)} points, 95% {interval(best.low, best.high)}, within noise; none of 2 beat" in said


@pytest.mark.parametrize(("keys", "told"), [(False, "there is no interval"), (True, "over validation examples alone")])
def test_one_seed_is_a_caution(keys, told) -> None:
    from layover.predictions import Predictions

    gold = np.arange(50) % 2
    said = {"a": Predictions(np.arange(50), gold, gold, 2), "b": Predictions(np.arange(50), gold, gold * 0, 2)}
    rows = [row("direct", "", "rte", 1, 50, key="b", metric="accuracy"),
            row("stilts", "mnli", "rte", 1, 100, key="a", metric="accuracy")]  # fmt: skip
    (answer,) = answers([transfer(rows, said.get if keys else None)])
    assert told in dict(answer.details)["Caution"]


def test_several_matrices_begin_with_all_of_them() -> None:
    rng = np.random.default_rng(1)
    rows = [row("direct", "", target, seed, 60) for target in "ab" for seed in SEEDS]
    rows += [row(strategy, "mnli", target, seed, 60 + up + float(rng.normal(0, 0.2)))
             for strategy, up in (("stilts", 6), ("merge", -6)) for target in "ab" for seed in SEEDS]  # fmt: skip
    found = answers([transfer(rows)])
    assert found[0].lead == "Of 4 cells against direct, 2 pay and 2 hurt beyond noise; no cell is within noise."
    assert len(found) == 3
    assert all(one.title for one in found[1:])
