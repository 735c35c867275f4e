"""What earlier studies are taken to say of a stop: planted sums are found again, and noise is no knowledge."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from statsmodels.regression.mixed_linear_model import MixedLM

from layover.select import mixed
from layover.select.candidate import DIRECT, Candidate
from layover.select.evaluate import evaluate
from layover.select.formats import TaskFacts
from layover.select.knowledge import Knowledge, knowledge
from layover.select.observed import Observed, of_figure2, of_truth
from layover.select.rated import Rated
from layover.select.truth import Truth, held_out, published

SOURCES, TARGETS = [f"s{i:02}" for i in range(12)], [f"t{i:02}" for i in range(10)]
CANDIDATES = [Candidate(name) for name in SOURCES]


def planted(source: float, target: float, noise: float, seed: int = 0) -> tuple[list[Observed], np.ndarray, np.ndarray]:
    """Observations [targets x sources] of 1 + source + target + noise, and what was planted of either."""
    draw = np.random.default_rng(seed)
    of_sources, of_targets = draw.normal(0, source, len(SOURCES)), draw.normal(0, target, len(TARGETS))
    off = draw.normal(0, noise, (len(TARGETS), len(SOURCES)))
    seen = [Observed(s, t, 1 + of_sources[j] + of_targets[i] + off[i, j])
            for i, t in enumerate(TARGETS) for j, s in enumerate(SOURCES)]  # fmt: skip
    return seen, of_sources, of_targets


def means(found: Knowledge, target: str) -> np.ndarray:
    return np.array([one.mean for one in found.expect(target, CANDIDATES)])


def test_a_planted_sum_is_found_again_for_targets_seen_and_not() -> None:
    seen, of_sources, of_targets = planted(3.0, 2.0, 0.3)
    found = knowledge(seen)
    assert means(found, "t04") == pytest.approx(1 + of_sources + of_targets[4], abs=0.6)
    new = found.expect("mine", CANDIDATES)
    assert np.array([one.mean for one in new]) == pytest.approx(1 + of_sources + of_targets.mean(), abs=0.4)
    assert all(1.2 < one.sd < 3.2 for one in new)  # a new target's own part, SD 2, is what is not known
    assert all(one.sd < 0.8 for one in found.expect("t04", CANDIDATES))


def test_of_pure_noise_everything_is_the_mean() -> None:
    seen, _, _ = planted(0.0, 0.0, 3.0, seed=1)
    found, overall = knowledge(seen), float(np.mean([one.delta for one in seen]))
    for target in ("t00", "mine"):
        assert means(found, target) == pytest.approx(overall, abs=0.6)
    averages = [np.mean([one.delta for one in seen if one.source == name]) for name in SOURCES]
    assert np.ptp(means(found, "mine")) < np.ptp(averages) / 4


def test_a_new_target_gets_each_sources_average_pulled_to_the_mean() -> None:
    seen, _, _ = planted(2.0, 1.0, 2.0, seed=2)
    found = knowledge(seen)
    averages = np.array([np.mean([one.delta for one in seen if one.source == name]) for name in SOURCES])
    away, pulled = averages - averages.mean(), means(found, "mine") - averages.mean()
    kept = (away @ pulled) / (away @ away)
    assert 0.6 < kept < 0.98  # 10 targets, SD 2 of sources and of noise: 10 * 4 / (10 * 4 + 4) = 0.91
    assert np.corrcoef(away, pulled)[0, 1] > 0.98
    few = knowledge([one for one in seen if one.target in TARGETS[:3]])
    few_averages = np.array([np.mean([o.delta for o in few.observed if o.source == name]) for name in SOURCES])
    few_pulled = means(few, "mine") - few_averages.mean()
    away = few_averages - few_averages.mean()
    assert (away @ few_pulled) / (away @ away) < kept  # fewer results are believed less


def test_a_source_that_was_never_seen_is_as_others_and_less_sure() -> None:
    seen, _, _ = planted(3.0, 1.0, 0.5, seed=3)
    known, new = knowledge(seen).expect("t00", [Candidate("s00"), Candidate("unheard of")])
    own = np.mean([one.delta for one in seen if one.target == "t00"])
    assert new.mean == pytest.approx(own, abs=1.0)
    assert new.sd > 2 * known.sd
    assert 0 < new.chance < 1


def test_doing_nothing_adds_exactly_nothing() -> None:
    seen, _, _ = planted(1.0, 1.0, 1.0)
    for found in (knowledge(seen), knowledge()):
        direct = found.expect("t00", [CANDIDATES[0], DIRECT])[1]
        assert (direct.candidate, direct.mean, direct.sd, direct.chance) == (DIRECT, 0.0, 0.0, 0.0)


def test_without_a_target_nothing_of_its_results_is_known() -> None:
    seen, _, _ = planted(2.0, 2.0, 1.0)
    changed = [replace(one, delta=-9 * one.delta) if one.target == "t03" else one for one in seen]
    one, other = (knowledge(rows).without("t03").expect("t03", CANDIDATES) for rows in (seen, changed))
    assert one == other
    assert knowledge(seen).expect("t03", CANDIDATES) != one
    assert all(row.target != "t03" for row in knowledge(seen).without("t03").observed)


def test_the_same_result_told_twice_counts_once_and_nothing_known_is_said_so() -> None:
    seen, _, _ = planted(1.0, 1.0, 1.0)
    assert knowledge(seen, seen).observed == tuple(seen)
    assert all(math.isnan(one.mean) for one in knowledge().expect("t00", CANDIDATES))


def test_of_very_many_results_some_are_learnt_from(monkeypatch: pytest.MonkeyPatch) -> None:
    seen, of_sources, _ = planted(3.0, 1.0, 0.3)
    monkeypatch.setattr("layover.select.knowledge.MOST", 60)
    found = knowledge(seen)
    assert np.corrcoef(means(found, "mine"), of_sources)[0, 1] > 0.98
    assert means(found, "mine").tolist() == means(knowledge(seen), "mine").tolist()


def test_one_observation_says_little() -> None:
    found = knowledge([Observed("s00", "t00", 5.0)]).expect("t01", CANDIDATES[:2])
    assert all(one.mean == pytest.approx(5.0) for one in found)
    assert all(one.sd > 2 for one in found)


def test_a_noisy_result_is_believed_less_than_a_sure_one() -> None:
    seen, _, _ = planted(2.0, 0.5, 0.5, seed=4)
    base = [replace(one, error=0.1) for one in seen if one.source != "s00"]
    sure, unsure = (
        knowledge([*base, *(Observed("s00", t, 9.0, error) for t in TARGETS[:2])]).expect("mine", CANDIDATES[:1])[0]
        for error in (0.1, 6.0)
    )
    assert sure.mean > unsure.mean + 2
    assert unsure.sd > sure.sd


def test_a_few_ruined_encoders_do_not_decide_how_sure_the_rest_is() -> None:
    seen, _, _ = planted(1.0, 0.5, 0.7, seed=5)
    ruined = [replace(one, delta=-60.0) if place in (17, 88) else one for place, one in enumerate(seen)]
    clean, hurt = (knowledge(rows).expect("mine", CANDIDATES) for rows in (seen, ruined))
    assert np.mean([one.sd for one in hurt]) < 2 * np.mean([one.sd for one in clean])
    assert means(knowledge(ruined), "mine") == pytest.approx(means(knowledge(seen), "mine"), abs=1.0)
    assert np.std([one.delta for one in ruined]) > 4 * np.std([one.delta for one in seen])


def test_what_form_and_size_explain_is_learnt_and_goes_on_to_new_tasks() -> None:
    draw = np.random.default_rng(6)
    kinds = ["one text", "two texts", "several inputs"]
    tasks = {name: TaskFacts(name, kinds[i % 3], "classes", "classes", int(10 ** draw.uniform(2.5, 5)))
             for i, name in enumerate([*SOURCES, *TARGETS])}  # fmt: skip

    def planted_of(source: TaskFacts, target: TaskFacts) -> float:
        assert source.size
        return 6.0 * (source.reads == target.reads) + 2.0 * math.log10(source.size) - 8

    rows = [Observed(s, t, planted_of(tasks[s], tasks[t]) + draw.normal(0, 0.5)) for s in SOURCES for t in TARGETS]
    new = {name: TaskFacts(name, kinds[i % 3], "classes", "classes", 3_000 * 4**i) for i, name in enumerate("abcdef")}
    found = Knowledge(tuple(rows), tasks).about(
        *new.values(), TaskFacts("mine", "two texts", "classes", "classes", 500)
    )
    expected = [planted_of(new[name], TaskFacts("mine", "two texts", "", "", 500)) for name in new]
    assert [one.mean for one in found.expect("mine", [Candidate(name) for name in new])] == pytest.approx(
        expected, abs=1.2
    )
    blind = Knowledge(tuple(rows), tasks).expect("mine", [Candidate(name) for name in new])
    assert np.ptp([one.mean for one in blind]) < 1e-9  # of tasks that are not known nothing tells one from another


def test_strategies_and_encoders_have_parts_of_their_own() -> None:
    seen, of_sources, of_targets = planted(2.0, 1.0, 0.3, seed=7)
    both = [replace(one, strategy="multitask", delta=one.delta + 4) for one in seen]
    other = [replace(one, encoder="other", delta=one.delta - 3) for one in [*seen, *both]]
    found = knowledge(seen, both, other)
    stilts, multitask = found.expect("t02", [Candidate("s01"), Candidate("s01", "multitask")])
    assert multitask.mean - stilts.mean == pytest.approx(4, abs=0.4)
    assert stilts.mean == pytest.approx(1 + of_sources[1] + of_targets[2], abs=0.6)
    (elsewhere,) = found.expect("t02", [Candidate("s01")], encoder="other")
    assert stilts.mean - elsewhere.mean == pytest.approx(3, abs=0.4)
    (unheard,) = found.expect("t02", [Candidate("s01")], encoder="unheard of")
    assert unheard.sd > stilts.sd


def test_stated_intervals_and_chances_hold_for_targets_left_out() -> None:
    covered, briers, references = [], [], []
    for seed in range(6):
        seen, _, _ = planted(2.0, 1.5, 1.5, seed=10 + seed)
        delta = np.array([one.delta for one in seen]).reshape(len(TARGETS), len(SOURCES))
        blank = np.full(delta.shape, math.nan)
        truth = Truth(tuple(TARGETS), tuple(CANDIDATES), delta, blank, np.full(len(TARGETS), 80.0))
        known = knowledge(of_truth(truth))
        found = evaluate(truth, held_out("knowledge", truth, known.believe)).calibration
        assert found is not None
        covered.append(found.covered80)
        briers.append(found.brier)
        references.append(found.reference)
    assert 0.7 < np.mean(covered) < 0.9
    assert np.mean(briers) < 0.9 * np.mean(references)


def test_variances_are_those_of_restricted_maximum_likelihood(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mixed, "FREEDOM", 1e9)  # normal errors, as statsmodels takes them
    monkeypatch.setattr(mixed, "WORTH", 0.0)
    draw = np.random.default_rng(8)
    groups = np.repeat(np.arange(25), 8)
    values = 2 + draw.normal(0, 1.5, 25)[groups] + draw.normal(0, 1.0, 200)
    fit = mixed.fitted(values, np.full(200, math.nan), {"source": [str(g) for g in groups]}, {})
    theirs = MixedLM(values, np.ones((200, 1)), groups).fit(reml=True)
    assert fit.variances["source"] == pytest.approx(float(np.asarray(theirs.cov_re)[0, 0]), rel=0.01)
    assert fit.variances["error"] == pytest.approx(theirs.scale, rel=0.01)
    assert fit.mean == pytest.approx(float(theirs.fe_params[0]), abs=0.005)
    mean, _ = fit.predict({"source": ["3"]}, {})
    assert mean[0] == pytest.approx(float(theirs.fe_params[0] + np.ravel(theirs.random_effects[3])[0]), abs=0.01)


def test_the_slope_of_the_likelihood_is_its_derivative() -> None:
    draw = np.random.default_rng(9)
    values, noise = draw.normal(size=12), draw.uniform(0.1, 1, 12)
    one = mixed._same(list("aabbccddeeff"), list("aabbccddeeff"))
    matrices = [one, np.eye(12)]

    def loss(logs: np.ndarray) -> tuple[float, np.ndarray]:
        sizes = np.exp(logs)
        total = np.diag(noise) + sum(size * matrix for size, matrix in zip(sizes, matrices, strict=True))
        return mixed._restricted(values, total, sizes, matrices)

    at = np.array([0.3, -0.4])
    for step in np.eye(2) * 1e-5:
        numeric = (loss(at + step)[0] - loss(at - step)[0]) / 2e-5
        assert loss(at)[1] @ (step / 1e-5) == pytest.approx(numeric, rel=1e-5)


def test_on_the_published_matrix_it_is_as_good_as_the_static_ranking_and_says_how_sure_it_is() -> None:
    truth, known = published(), knowledge(of_figure2())
    found = evaluate(truth, held_out("knowledge", truth, known.believe))
    assert found.mean("percent").mean == pytest.approx(0.82, abs=0.1)
    assert found.calibration is not None
    assert found.calibration.brier < 0.2 < found.calibration.reference
    assert 0.7 < (found.calibration.covered80 or 0) < 0.9
    assert len(known.observed) == 108
    assert {one.encoder for one in known.observed} == {"roberta-large"}


def rated_by(truth: np.ndarray, skill: float, seed: int) -> list[Rated]:
    """An estimator whose scores are the planted values [targets x sources] with so much of them in it."""
    draw = np.random.default_rng(seed)
    return [
        Rated(target, "", tuple(SOURCES), ("one",), (skill * row + (1 - skill) * draw.normal(0, 2, len(SOURCES)))[None])
        for target, row in zip([*TARGETS, "mine"], truth, strict=True)
    ]


@pytest.mark.parametrize(("skill", "least", "most"), [(0.95, 0.6, 1.0), (0.0, -0.5, 0.5)])
def test_what_estimators_say_is_believed_as_far_as_it_was_right_for_others(
    skill: float, least: float, most: float
) -> None:
    draw = np.random.default_rng(11)
    truth = draw.normal(0, 2, (len(TARGETS) + 1, len(SOURCES)))  # nothing but the pair counts
    seen = [Observed(s, t, truth[i, j] + draw.normal(0, 0.3), 0.3)
            for i, t in enumerate(TARGETS) for j, s in enumerate(SOURCES)]  # fmt: skip
    plain = knowledge(seen)
    found = plain.seeing(*rated_by(truth, skill, seed=12))
    assert np.ptp(means(plain, "mine")) < 1.0  # without estimators all sources look alike
    moved = means(found, "mine") - means(found, "mine").mean()
    kept = float(moved @ truth[-1]) / float(truth[-1] @ truth[-1])
    assert least < kept <= most
    sd, without = (np.mean([one.sd for one in know.expect("mine", CANDIDATES)]) for know in (found, plain))
    assert (sd < 0.7 * without) if skill else (sd == pytest.approx(without, rel=0.2))


def test_estimators_of_which_nothing_was_learnt_change_nothing() -> None:
    seen, _, _ = planted(2.0, 1.0, 1.0, seed=13)
    plain = knowledge(seen)
    only_mine = rated_by(np.zeros((11, 12)), 0.0, seed=1)[-1:]  # no other target's results go with any score
    assert means(plain.seeing(*only_mine), "mine") == pytest.approx(means(plain, "mine"), abs=1e-6)


def test_an_interval_holds_what_its_chance_says() -> None:
    found = knowledge(planted(2.0, 1.0, 1.0)[0]).expect("mine", CANDIDATES)
    for one in found:
        assert one.low < one.mean < one.high
        assert (one.low + one.high) / 2 == pytest.approx(one.mean)
        assert (one.chance > 0.975) == (one.low > 0)


def test_what_was_measured_on_the_target_itself_is_believed_as_far_as_it_is_no_noise() -> None:
    seen, _, _ = planted(1.0, 1.0, 4.0, seed=21)  # what a pair is off by is most of it
    sure = [replace(one, error=0.2) for one in seen]
    noisy = [replace(one, error=8.0) for one in seen]
    measured = np.array([one.delta for one in seen if one.target == "t03"])
    for rows, near in ((sure, 0.35), (noisy, None)):
        found = knowledge(rows).expect("t03", CANDIDATES)
        off = np.array([one.mean for one in found]) - measured
        if near is not None:
            assert np.abs(off).max() < near
            assert all(one.sd < 0.4 for one in found)
        else:
            assert np.abs(off).max() > 2
    unknown = knowledge(seen).expect("t03", CANDIDATES)  # how noisy it is, nobody said
    assert all(one.sd > 1 for one in unknown)
    elsewhere = knowledge(sure).expect("t03", CANDIDATES, encoder="another")
    assert all(one.sd > 2 for one in elsewhere)
