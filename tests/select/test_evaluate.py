"""Judging forecasts: regret, order, calibration and policies, against brute force and the published matrix."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm, spearmanr
from tests.stats.tables import study

from layover.select.calibration import calibration
from layover.select.candidate import DIRECT, Candidate
from layover.select.evaluate import Evaluation, evaluate, versus
from layover.select.formats import catalogue
from layover.select.policies import always, no_transfer, policies, random_source, static
from layover.select.truth import Forecast, Truth, held_out, published, truth_of
from layover.stats.transfer import transfer

NAN = math.nan


def truth(*rows: tuple[float, ...], baseline: float = 80.0) -> Truth:
    delta = np.array(rows, float)
    targets = tuple(f"t{i}" for i in range(len(delta)))
    candidates = tuple(Candidate(f"s{i}") for i in range(delta.shape[1]))
    return Truth(targets, candidates, delta, np.full(delta.shape, NAN), np.full(len(delta), baseline))


def order(*scores: tuple[float, ...]) -> Forecast:
    return Forecast("order", np.array(scores, float))


def points(*scores: tuple[float, ...]) -> Forecast:
    return Forecast("points", np.array(scores, float), points=True)


def percent(found: Evaluation, tries: int = 1) -> float:
    mean = found.mean("percent", tries).mean
    assert mean is not None
    return round(mean, 2)


def test_published_matrix_as_the_field_has_counted_it() -> None:
    whole = published(itself=True)
    peers = {
        "Cosmos QA": (always(whole, [Candidate("cosmosqa")], "Cosmos QA"), 0.82, 2.61, 2.9),
        "HellaSwag": (always(whole, [Candidate("hellaswag")], "HellaSwag"), 1.67, 2.02, 5.7),
        "MNLI": (always(whole, [Candidate("mnli")], "MNLI"), 3.36, 0.64, 9.9),
        "no transfer": (no_transfer(whole), 4.50, 0.0, None),
        "random": (random_source(whole), 6.55, -1.92, None),
    }
    for forecast, regret, gain, worst in peers.values():
        found = evaluate(whole, forecast, oracle="sources")
        assert percent(found) == regret, forecast.name
        assert found.mean("gain").mean == pytest.approx(gain, abs=0.006)
        assert worst is None or round(found.worst(), 1) == worst
    trio = [Candidate(name) for name in ("cosmosqa", "hellaswag", "commonsenseqa")]
    found = evaluate(whole, always(whole, trio, "trio"), oracle="sources")
    assert percent(found, 3) == 0.31
    assert round(found.worst(3), 1) == 1.7


def test_doing_nothing_is_a_candidate_and_a_target_is_nobodys_source() -> None:
    whole = published(itself=True)
    cosmos = evaluate(whole, always(whole, [Candidate("cosmosqa")], "Cosmos QA"))
    assert percent(cosmos) == 0.86  # where no source helps, training directly is the best that there was
    assert percent(evaluate(whole, no_transfer(whole))) == 4.50
    others = published()
    assert np.isnan(others.delta).sum() == 2
    assert percent(evaluate(others, static(others))) == 0.82


scores_of = st.lists(st.sampled_from([0.0, 1.0, 2.0, NAN]), min_size=5, max_size=5)
values_of = st.lists(st.integers(-5, 5).map(float), min_size=5, max_size=5)


@given(values_of, scores_of)
def test_ties_count_as_the_mean_over_all_orders(values: list[float], scores: list[float]) -> None:
    found = evaluate(truth(tuple(values)), order(tuple(scores))).targets[0]
    ranked = [-math.inf if math.isnan(score) else score for score in scores]
    orders = [one for one in itertools.permutations(range(5))
              if all(ranked[a] >= ranked[b] for a, b in itertools.pairwise(one))]  # fmt: skip
    best = max(0.0, *values)
    for tries in (1, 3):
        lost = np.mean([best - max(values[i] for i in one[:tries]) for one in orders])
        assert found.regret(tries).points == pytest.approx(lost)
        assert found.regret(tries).percent == pytest.approx(100 * lost / (80 + best))
    gains = np.maximum(0, values)
    discounts = 1 / np.log2(np.arange(2, 7))
    if gains.any():
        ideal = np.sort(gains)[::-1] @ discounts
        assert found.ndcg == pytest.approx(np.mean([gains[list(one)] @ discounts for one in orders]) / ideal)
    else:
        assert found.ndcg is None


@given(values_of, st.lists(st.floats(-3, 3), min_size=5, max_size=5))
def test_what_is_ranked_below_doing_nothing_is_not_tried(values: list[float], scores: list[float]) -> None:
    found = evaluate(truth(tuple(values)), points(tuple(scores))).targets[0]
    above = [(score, value) for score, value in zip(scores, values, strict=True) if score > 0]
    if len({score for score, _ in above}) == len(above):
        tried = [value for _, value in sorted(above, reverse=True)]
        for tries in (1, 3):
            kept = [*tried, 0.0][:tries]
            assert found.regret(tries).points == pytest.approx(max(0.0, *values) - max(kept))


def test_a_source_that_is_expected_to_add_nothing_is_not_worth_its_cost() -> None:
    assert evaluate(truth((-5.0, -2.0)), points((0.0, 0.0))).targets[0].gain == 0


def test_missing_truth_is_no_candidate_and_a_target_without_any_is_left_out() -> None:
    found = evaluate(truth((NAN, 4.0, 1.0), (NAN, NAN, NAN)), order((9.0, 1.0, 2.0), (1.0, 1.0, 1.0)))
    assert found.left_out == ("t1",)
    assert [one.target for one in found.targets] == ["t0"]
    assert found.targets[0].regret().points == 3.0
    assert evaluate(truth((1.0, 2.0), baseline=NAN), order((1.0, 2.0))).targets[0].regret().percent is None


def test_rank_correlation_is_scipys_over_what_has_a_score() -> None:
    values, scores = (3.0, 1.0, -2.0, 5.0, 0.5), (1.0, 1.0, NAN, 7.0, 0.0)
    found = evaluate(truth(values), order(scores)).targets[0]
    said = [0, 1, 3, 4]
    theirs: Any = spearmanr([values[i] for i in said], [scores[i] for i in said])
    assert found.spearman == pytest.approx(theirs.statistic)
    assert evaluate(truth(values), order((1.0,) * 5)).targets[0].spearman == 0
    assert evaluate(truth((1.0, 1.0)), order((1.0, 2.0))).targets[0].spearman is None


def test_what_is_believed_of_a_target_is_not_learnt_from_it() -> None:
    one = published()
    changed = one.delta.copy()
    changed[3] = -changed[3] * 7
    other = Truth(one.targets, one.candidates, changed, one.error, one.baseline)
    for policy in (static, random_source):
        before, after = policy(one), policy(other)
        assert np.array_equal(before.score[3], after.score[3], equal_nan=True)
        assert before.chance is None or np.array_equal(before.chance[3], after.chance[3])  # type: ignore[index]
    assert not np.array_equal(static(one).score[4], static(other).score[4])
    seen: list[tuple[str, tuple[str, ...]]] = []
    held_out("who", one, lambda others, target: (seen.append((target, others.targets)), (np.zeros(11), None, None))[1])
    assert all(target not in others and len(others) == 9 for target, others in seen)


def test_the_static_ranking_is_the_mean_of_the_others_with_their_spread() -> None:
    found = static(truth((1.0, -1.0), (3.0, NAN), (8.0, -3.0)))
    assert found.score[0].tolist() == [5.5, -3.0]
    assert found.sd is not None
    assert found.sd[0, 0] == pytest.approx(np.std([3, 8], ddof=1) * math.sqrt(1.5))
    assert math.isnan(found.sd[0, 1])  # one other target only


def test_every_policy_says_something_of_the_published_matrix() -> None:
    whole = published()
    tasks = catalogue({*whole.targets, *(one.source for one in whole.candidates)})
    found = {one.name: evaluate(whole, one) for one in policies(whole, tasks)}
    assert set(found) == {
        "same best source", "no transfer", "random source", "size rule", "largest source", "same format",
    }  # fmt: skip
    assert all(len(one.targets) == 10 for one in found.values())
    against = versus(found["same best source"], found["random source"])
    assert (against.better, against.worse) == (10, 0)
    assert against.gain.low is not None
    assert against.gain.low > 0
    assert versus(found["random source"], found["random source"]).gain.mean == 0
    assert found["no transfer"].to_json()["mean"]["regret@1 %"]["mean"] == pytest.approx(4.495, abs=0.001)


def test_chances_and_intervals_that_are_true_are_found_to_hold() -> None:
    draw = np.random.default_rng(5)
    mean, sd, error = draw.normal(0, 2, (200, 50)), draw.uniform(0.5, 3, (200, 50)), np.full((200, 50), 1.5)
    delta = mean + sd * draw.normal(size=mean.shape) + error * draw.normal(size=mean.shape)
    whole = Truth(
        tuple(map(str, range(200))), tuple(Candidate(str(i)) for i in range(50)), delta, error, np.full(200, NAN)
    )
    found = calibration(whole, Forecast("true", mean, True, sd))
    assert found is not None
    assert found.covered80 == pytest.approx(0.80, abs=0.015)
    assert found.covered95 == pytest.approx(0.95, abs=0.01)
    chance = norm.cdf(mean / np.hypot(sd, error))
    assert found.brier == pytest.approx(np.mean(chance * (1 - chance)), abs=0.005)  # what is left when chances are true
    for one in found.bins:
        assert one.positive == pytest.approx(one.chance, abs=0.04)
    sure = calibration(whole, Forecast("too sure", mean, True, sd / 10))
    assert sure is not None
    assert sure.covered80 is not None
    assert sure.covered80 < 0.7


def test_a_brier_score_by_hand() -> None:
    found = calibration(
        truth((1.0, -1.0, 0.0, NAN)), Forecast("x", np.ones((1, 4)), chance=np.array([[0.9, 0.2, 0.5, 0.3]]))
    )
    assert found is not None
    assert (found.n, found.covered80) == (3, None)
    assert found.brier == pytest.approx((0.1**2 + 0.2**2 + 0) / 3)
    assert found.reference == pytest.approx((0.25 + 0.25 + 0) / 3)
    assert [one.n for one in found.bins] == [0, 1, 1, 0, 1]
    assert calibration(truth((1.0,)), order((1.0,))) is None


def test_a_transfer_matrix_is_a_truth_with_errors() -> None:
    rows, predictions = study({("mnli", "rte"): 6.0, ("mnli", "cb"): 2.0, ("qqp", "rte"): -5.0, ("rte", "rte"): 1.0})
    found = transfer(rows, predictions.get)
    whole = truth_of(found.matrices)
    assert whole.targets == ("cb", "rte")
    assert whole.candidates == (Candidate("mnli"), Candidate("qqp"), Candidate("rte"))
    cell = found.matrix().cells["qqp", "rte"]
    assert whole.delta[1, 1] == cell.delta
    assert cell.noise is not None
    assert whole.error[1, 1] == cell.noise.error
    assert np.isnan(whole.delta).tolist() == [[False, True, True], [False, False, True]]
    assert whole.baseline[1] == found.matrix().baseline["rte"]
    assert str(DIRECT) == "direct"
    assert str(whole.candidates[0]) == "stilts · mnli"
