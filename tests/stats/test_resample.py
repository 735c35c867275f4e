# pyright: reportArgumentType=false, reportOperatorIssue=false, reportOptionalOperand=false
from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import t
from sklearn.metrics import accuracy_score

from layover.metrics import METRICS, Metric, Predictions
from layover.stats import resample
from layover.stats.resample import align, differences, effect, example_scores, full_scores, mean_draws


def runs(rng, count, examples, classes, rows=None):
    gold = rng.integers(classes, size=examples).astype(float) if classes else np.round(rng.normal(size=examples), 1)
    rows = np.arange(examples) if rows is None else rows
    flips = [rng.random(examples) < 0.3 for _ in range(count)]
    predicted = [np.where(f, rng.integers(classes, size=examples), gold) if classes else gold + f for f in flips]
    return [Predictions(rows, gold, p.astype(float), classes) for p in predicted]


def aligned_runs(name, found):
    aligned = align(found, METRICS[name])
    assert aligned is not None
    return aligned


@pytest.mark.parametrize("name", sorted(METRICS))
def test_fast_scores_equal_scoring_each_resample_one_by_one(name):
    classes = 3 if METRICS[name].from_counts else 0
    found = runs(np.random.default_rng(1), 2, 37, classes)
    fast = example_scores(aligned_runs(name, found), METRICS[name], "rte", 40)
    times = resample._drawn("rte", 37, 0).T
    for number in range(40):
        item = np.repeat(np.arange(37), times[number])
        brute = [METRICS[name].score(run.gold[item], run.predicted[item], classes) for run in found]
        assert fast[number] == pytest.approx(brute)


def test_cells_of_one_task_share_their_examples_and_tasks_do_not():
    aligned = aligned_runs("accuracy", runs(np.random.default_rng(4), 2, 30, 2))
    first, again, other = (example_scores(aligned, METRICS["accuracy"], name, 50) for name in ("rte", "rte", "cb"))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_the_whole_interval_equals_a_brute_force_bootstrap_with_scikit_learn():
    found = runs(np.random.default_rng(2), 4, 25, 2)
    aligned = aligned_runs("accuracy", found)
    full = full_scores(aligned, METRICS["accuracy"])
    deltas = full[:2] - full[2:]
    draws = mean_draws(differences(deltas, aligned, METRICS["accuracy"], "rte", 300), deltas, "bootstrap")
    seed_draws = np.random.default_rng([resample.SEED, 2]).multinomial(2, [0.5, 0.5], size=300)
    for number in range(300):
        item = np.repeat(np.arange(25), resample._drawn("rte", 25, 0)[:, number])
        score = [100 * accuracy_score(run.gold[item], run.predicted[item]) for run in found]
        by_seed = np.array([score[0] - score[2], score[1] - score[3]])
        picked = np.repeat(by_seed, seed_draws[number]).mean()
        assert draws[number] == pytest.approx(by_seed.mean() + np.sqrt(2) * (picked - by_seed.mean()))


def test_a_metric_without_a_fast_form_is_scored_resample_by_resample():
    slow = Metric("slow", METRICS["macro_f1"].score)
    aligned = aligned_runs("macro_f1", runs(np.random.default_rng(3), 2, 30, 3))
    fast = example_scores(aligned, METRICS["macro_f1"], "rte", 20)
    assert example_scores(aligned, slow, "rte", 20) == pytest.approx(fast)


def test_examples_of_one_row_are_drawn_together():
    found = runs(np.random.default_rng(4), 2, 30, 2, rows=np.repeat(np.arange(10), 3))
    scores = example_scores(aligned_runs("accuracy", found), METRICS["accuracy"], "rte", 50)
    times = resample._drawn("rte", 10, 0).T[:50]
    right = (found[0].gold == found[0].predicted).reshape(10, 3).sum(1)
    assert scores[:, 0] == pytest.approx(100 * (times @ right) / 30)


def test_runs_are_aligned_by_row_and_not_by_position():
    one, two = runs(np.random.default_rng(5), 2, 20, 2)
    shuffled = np.random.default_rng(6).permutation(20)
    moved = Predictions(two.rows[shuffled], two.gold[shuffled], two.predicted[shuffled], 2)
    straight, crossed = aligned_runs("accuracy", [one, two]), aligned_runs("accuracy", [one, moved])
    assert np.array_equal(straight.predicted, crossed.predicted)


@pytest.mark.parametrize("fault", ["gold", "classes", "range", "missing", "nan", "disjoint"])
def test_runs_that_cannot_be_paired_by_example_are_not(fault):
    one, two = runs(np.random.default_rng(7), 2, 20, 2)
    changed = {
        "gold": Predictions(two.rows, 1 - two.gold, two.predicted, 2),
        "classes": Predictions(two.rows, two.gold, two.predicted, 3),
        "range": Predictions(two.rows, two.gold, two.predicted + 5, 2),
        "missing": None,
        "nan": Predictions(two.rows, two.gold, np.full(20, np.nan), 2),
        "disjoint": Predictions(two.rows + 100, two.gold, two.predicted, 2),
    }[fault]
    assert align([one, two], METRICS["accuracy"]) is not None
    assert align([one, changed], METRICS["accuracy"]) is None


def test_student_draws_give_the_paired_t_interval_where_only_seeds_vary():
    deltas = np.array([1.0, 4.0, 2.5, 3.0])
    draws = mean_draws(differences(deltas, None, None, "rte", 60_000), deltas, "student")
    found = effect(2.625, draws, "seeds")
    half = t.ppf(0.975, 3) * deltas.std(ddof=1) / 2
    assert found.low == pytest.approx(2.625 - half, abs=0.1)
    assert found.high == pytest.approx(2.625 + half, abs=0.1)


def test_bootstrap_draws_have_the_unbiased_seed_variance():
    deltas = np.array([1.0, 4.0, 2.5])
    draws = mean_draws(differences(deltas, None, None, "rte", 60_000), deltas, "bootstrap")
    assert draws.mean() == pytest.approx(2.5, abs=0.02)
    assert draws.var() == pytest.approx(deltas.var(ddof=1) / 3, rel=0.03)


@pytest.mark.parametrize("examples", [0, 300])
def test_without_an_effect_one_test_in_twenty_rejects(examples):
    rng, rejected = np.random.default_rng(8), 0
    for number in range(200):
        if examples:
            found = runs(rng, 6, examples, 2)
            gold = found[0].gold
            found = [
                Predictions(run.rows, gold, np.where(rng.random(examples) < 0.3, 1 - gold, gold), 2) for run in found
            ]
            aligned = aligned_runs("accuracy", found)
            full = full_scores(aligned, METRICS["accuracy"])
            deltas = full[:3] - full[3:]
        else:
            aligned, deltas = None, rng.normal(size=3)
        drawn = differences(deltas, aligned, METRICS["accuracy"], f"task {number}", 500)
        p = effect(float(deltas.mean()), mean_draws(drawn, deltas), "seeds").p
        rejected += p is not None and p < 0.05
    assert 2 <= rejected <= 24  # 10 expected


def test_p_is_never_zero_and_never_above_one():
    assert effect(5.0, np.full(999, 5.0), "seeds").p == pytest.approx(2 / 1000)
    assert effect(0.0, np.zeros(999), "seeds").p == 1.0


def test_more_resamples_extend_fewer():
    aligned = aligned_runs("accuracy", runs(np.random.default_rng(9), 2, 20, 2))
    few = example_scores(aligned, METRICS["accuracy"], "rte", 100)
    many = example_scores(aligned, METRICS["accuracy"], "rte", 2500)
    assert np.array_equal(few, many[:100])
    assert not np.array_equal(many[:400], many[2000:2400])
