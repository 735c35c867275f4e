# pyright: reportArgumentType=false, reportOperatorIssue=false, reportOptionalOperand=false
from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import t
from sklearn.metrics import accuracy_score

from layover.metrics import METRICS
from layover.predictions import Predictions
from layover.stats import resample
from layover.stats.align import align
from layover.stats.resample import differences, effect, example_scores, full_scores, mean_draws


def runs(rng, count, examples, classes=2):
    gold = rng.integers(classes, size=examples).astype(float)
    flips = [rng.random(examples) < 0.3 for _ in range(count)]
    predicted = [np.where(flip, rng.integers(classes, size=examples), gold) for flip in flips]
    return [Predictions(np.arange(examples), gold, p.astype(float), classes) for p in predicted]


def aligned_runs(found, name="accuracy"):
    aligned = align(found, METRICS[name])
    assert aligned is not None
    return aligned


def test_cells_of_one_task_share_their_examples_and_tasks_do_not():
    aligned = aligned_runs(runs(np.random.default_rng(4), 2, 30))
    first, again, other = (example_scores(aligned, name, 50) for name in ("rte", "rte", "cb"))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_the_whole_interval_equals_a_brute_force_bootstrap_with_scikit_learn():
    found = runs(np.random.default_rng(2), 4, 25)
    aligned = aligned_runs(found)
    full = full_scores(aligned)
    deltas = full[:2] - full[2:]
    draws = mean_draws(differences(deltas, aligned, "rte", 300), deltas, "bootstrap")
    seed_draws = np.random.default_rng([resample.SEED, 2]).multinomial(2, [0.5, 0.5], size=300)
    for number in range(300):
        item = np.repeat(np.arange(25), resample._drawn("rte", 25, 0)[number])
        score = [100 * accuracy_score(run.gold[item], run.predicted[item]) for run in found]
        by_seed = np.array([score[0] - score[2], score[1] - score[3]])
        picked = np.repeat(by_seed, seed_draws[number]).mean()
        assert draws[number] == pytest.approx(by_seed.mean() + np.sqrt(2) * (picked - by_seed.mean()))


def test_student_draws_give_the_paired_t_interval_where_only_seeds_vary():
    deltas = np.array([1.0, 4.0, 2.5, 3.0])
    draws = mean_draws(differences(deltas, None, "rte", 60_000), deltas, "student")
    found = effect(2.625, draws, "seeds")
    half = t.ppf(0.975, 3) * deltas.std(ddof=1) / 2
    assert found.low == pytest.approx(2.625 - half, abs=0.1)
    assert found.high == pytest.approx(2.625 + half, abs=0.1)


def test_bootstrap_draws_have_the_unbiased_seed_variance():
    deltas = np.array([1.0, 4.0, 2.5])
    draws = mean_draws(differences(deltas, None, "rte", 60_000), deltas, "bootstrap")
    assert draws.mean() == pytest.approx(2.5, abs=0.02)
    assert draws.var() == pytest.approx(deltas.var(ddof=1) / 3, rel=0.03)


@pytest.mark.parametrize("examples", [0, 300])
def test_without_an_effect_one_test_in_twenty_rejects(examples):
    rng, rejected = np.random.default_rng(8), 0
    for number in range(200):
        if examples:
            found = runs(rng, 6, examples)
            gold = found[0].gold
            found = [
                Predictions(run.rows, gold, np.where(rng.random(examples) < 0.3, 1 - gold, gold), 2) for run in found
            ]
            aligned = aligned_runs(found)
            full = full_scores(aligned)
            deltas = full[:3] - full[3:]
        else:
            aligned, deltas = None, rng.normal(size=3)
        drawn = differences(deltas, aligned, f"task {number}", 500)
        p = effect(float(deltas.mean()), mean_draws(drawn, deltas), "seeds").p
        rejected += p is not None and p < 0.05
    assert 2 <= rejected <= 24  # 10 expected


def test_p_is_never_zero_and_never_above_one():
    assert effect(5.0, np.full(999, 5.0), "seeds").p == pytest.approx(2 / 1000)
    assert effect(0.0, np.zeros(999), "seeds").p == 1.0


def test_every_row_is_drawn_once_on_average_and_the_same_numbers_come_out_for_ever():
    drawn = resample._drawn("rte", 10, 0)
    assert (drawn.sum(1) == 10).all()
    assert drawn.mean(0).tolist() == pytest.approx([1.0] * 10, abs=0.1)
    assert drawn.var(0).tolist() == pytest.approx([0.9] * 10, abs=0.15)  # binomial: 10 draws with chance 1/10
    assert drawn[0].tolist() == [0, 0, 1, 0, 2, 1, 1, 0, 3, 2]
    assert resample._drawn("cb", 10, 1)[0].tolist() == [2, 2, 0, 2, 0, 2, 0, 1, 1, 0]


def test_more_resamples_extend_fewer():
    aligned = aligned_runs(runs(np.random.default_rng(9), 2, 20))
    few = example_scores(aligned, "rte", 100)
    many = example_scores(aligned, "rte", 2500)
    assert (len(few), len(many)) == (100, 2500)
    assert np.array_equal(few, many[:100])
    assert not np.array_equal(many[:400], many[2000:2400])
