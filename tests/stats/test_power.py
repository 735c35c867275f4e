"""Power against the noncentral t, the normal, and how often made studies find an effect."""

# pyright: reportArgumentType=false, reportOptionalOperand=false, reportOperatorIssue=false
from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy.stats import nct, norm, t
from tests.stats.tables import row, study

from layover.stats.interval import Noise, Paired, effect
from layover.stats.power import Design, power, typical
from layover.stats.transfer import transfer


@pytest.mark.parametrize("seeds, wanted, level", [(3, 4.0, 0.05), (5, 2.0, 0.05), (20, 1.0, 0.01)])
def test_seeds_alone_have_the_power_of_the_t_test(seeds, wanted, level) -> None:
    bound, shift = t.isf(level / 2, seeds - 1), wanted / (2.0 / math.sqrt(seeds))
    exact = nct.sf(bound, seeds - 1, shift) + nct.cdf(-bound, seeds - 1, shift)
    assert Design(4.0, 0.0, 0.0).power(wanted, seeds, 0, level) == pytest.approx(float(exact), abs=0.01)


def test_examples_alone_have_the_power_of_a_normal_mean() -> None:
    design = Design(0.0, 1600.0, 0.0)  # of an example: 40 points, of 400 of them: 2
    assert design.power(4.0, 3, 400) == pytest.approx(float(norm.sf(1.966 - 2) + norm.cdf(-1.966 - 2)), abs=2e-3)
    assert design.power(0.0, 3, 400) == pytest.approx(0.05, abs=2e-3)


@pytest.mark.parametrize("wanted", [0.0, 3.0, 7.0])
def test_tests_find_an_effect_as_often_as_foretold(wanted) -> None:
    rng, seeds, rows = np.random.default_rng(7), 3, 200
    found = []
    for _ in range(1500):
        table = wanted + 1.5 * rng.normal(size=seeds) + 20 * rng.normal(size=(rows, 1))
        table = table + 25 * rng.normal(size=(rows, seeds))
        task = Paired(tuple(range(seeds)), table.mean(0), table - table.mean(0))
        found.append(effect(float(table.mean()), [task], "seeds and examples").p < 0.05)
    foretold = Design(1.5**2, 20.0**2, 25.0**2).power(wanted, seeds, rows)
    assert np.mean(found) == pytest.approx(foretold, abs=0.035)


def test_a_design_is_read_off_the_noise_of_a_mean() -> None:
    design = Design(2.0, 300.0, 500.0)
    known = design.noise(4, 100)
    assert known.seeds == pytest.approx(2 / 4 + 500 / 400)
    assert known.examples == pytest.approx(3.0)
    again = Design.of(known, 4)
    assert (again.between, again.examples, again.both) == pytest.approx((2.0, 300.0, 500.0))
    assert Design.of(Noise(1.0, 3, 0.5, 99, 2.0), 4).between == 0  # less between seeds than examples explain


def test_what_is_needed_is_the_least_that_is_enough() -> None:
    design = Design(4.0, 900.0, 900.0)
    seeds = design.seeds_needed(4.0, 1000)
    assert design.power(4.0, seeds, 1000) >= 0.8 > design.power(4.0, seeds - 1, 1000)
    rows = design.rows_needed(6.0, 5)
    assert design.power(6.0, 5, rows) >= 0.8 > design.power(6.0, 5, rows - 1)
    smallest = design.detectable(5, 1000)
    assert design.power(smallest, 5, 1000) == pytest.approx(0.8, abs=1e-3)


def test_examples_limit_what_any_number_of_seeds_can_show() -> None:
    design = Design(4.0, 900.0, 900.0)
    limit = design.limit(100)  # examples alone leave 3 points
    assert limit == pytest.approx((1.984 + 0.842) * 3, rel=0.01)
    assert design.seeds_needed(0.9 * limit, 100) is None
    assert design.seeds_needed(1.2 * limit, 100) > 3
    assert design.detectable(1000, 100) == pytest.approx(limit, rel=0.02)


ROWS, PREDICTIONS = study({("mnli", "rte"): 12.0, ("mnli", "cb"): 1.0}, seeds=5, examples=400, noise=0.02)


def test_cells_of_a_table() -> None:
    cb, rte = power(ROWS, PREDICTIONS.get)
    assert (rte.target, rte.seeds, rte.examples, rte.level) == ("rte", 5, 400, 0.025)
    assert rte.effect == rte.delta
    assert (rte.power > 0.8) == (rte.detectable <= abs(rte.effect)) == (rte.seeds_needed <= 5)
    assert cb.power < rte.power
    assert power(ROWS, PREDICTIONS.get, correct="none")[0].level == 0.05
    asked = power(ROWS, PREDICTIONS.get, effect=3.0)
    assert {one.effect for one in asked} == {3.0}
    json.dumps([one.to_json() for one in asked], allow_nan=False)


def test_what_one_seed_and_scores_alone_cannot_tell_is_not_said() -> None:
    (one,) = power(*study({("mnli", "rte"): 5.0}, seeds=1, examples=300)[:1])
    assert (one.power, one.detectable, one.verdict) == (None, None, "untested")
    rows, predictions = study({("mnli", "rte"): 5.0}, seeds=1, examples=300)
    (seen,) = power(rows, predictions.get)
    assert (seen.seed_sd, seen.seeds_needed, seen.limit) == (None, None, None)
    assert seen.examples_needed > 0
    (alone,) = power(ROWS[:10])
    assert (alone.examples, alone.example_sd, alone.examples_needed, alone.limit) == (None, None, None, None)
    assert alone.seed_sd > 0
    missing = [row("direct", "", "rte", 1, 60), row("stilts", "mnli", "rte", 2, 61)]
    (nothing,) = power(missing)
    assert (nothing.delta, nothing.power, nothing.effect) == (None, None, None)


def test_a_typical_cell_has_the_medians_of_its_roles_cells() -> None:
    rows, predictions = study({("mnli", "rte"): 3.0}, seeds=5, examples=400)
    (one,), (cell,) = typical(transfer(rows, predictions.get)), power(rows, predictions.get, effect=2.0)
    assert (one.cells, one.seeds, one.examples, one.detectable) == (1, 5, 400, cell.detectable)
    assert (one.needed[2.0], one.limit) == (cell.seeds_needed, cell.limit)
    assert list(one.needed) == [1.0, 2.0, 5.0]

    found = transfer(ROWS)
    (alone,) = typical(found)
    spread = sorted(cell.noise.seeds * cell.n for cell in found.matrices[0].cells.values() if cell.noise)
    assert (alone.cells, alone.examples, alone.limit) == (2, None, None)
    assert alone.detectable == Design(sum(spread) / 2, 0.0, 0.0).detectable(5, 0, 0.025)
    assert typical(transfer([one for one in ROWS if one["seed"] == ROWS[0]["seed"]])) == []
