"""Successive halving: what is decided, and that it finds what the full matrix would at a quarter of its cost."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from layover.select.halving import LEAST, Rung, decide, effect_of, halve, next_rung
from layover.stats.interval import Paired


def paired(*deltas: float, influences: np.ndarray | None = None) -> Paired:
    return Paired(tuple(range(len(deltas))), np.array(deltas, float), influences)


def test_the_better_half_rounded_up_goes_on_best_first() -> None:
    found = decide({name: paired(value) for name, value in zip("abcde", (1.0, 3.0, 2.0, -1.0, 0.0), strict=True)})
    assert found.kept == ("b", "c", "a")
    assert found.dropped == {"d": "outside the best half", "e": "outside the best half"}


def test_of_equals_the_first_by_name_goes_on_and_what_failed_never_does() -> None:
    found = decide({"z": paired(1.0), "a": paired(1.0), "b": None})
    assert found.kept == ("a",)
    assert found.dropped == {"z": "outside the best half", "b": "failed"}
    assert decide({"a": None}).kept == ()


def test_a_source_of_the_better_half_that_is_beaten_beyond_noise_goes() -> None:
    seen = {"best": paired(5.0, 5.2, 4.9), "worse": paired(1.0, 1.1, 0.9), "c": paired(-3.0, -2.0, 0.0), "d": None}
    found = decide({**seen, "e": paired(-9.0, -8.0, 0.0)})
    assert found.kept == ("best",)
    assert found.dropped["worse"] == "beaten beyond noise"
    noisy = decide({**seen, "worse": paired(1.0, 9.0, -6.0), "e": paired(-9.0, -8.0, 0.0)})
    assert noisy.kept == ("best", "worse")


def test_training_directly_beats_what_hurts_and_never_goes_itself() -> None:
    assert decide({"a": paired(-5.0, -5.1, -4.9)}).dropped == {"a": "beaten beyond noise"}
    assert decide({"a": paired(-5.0, 6.0, -4.9)}).kept == ("a",)


def test_of_one_seed_nothing_is_beyond_noise_however_sure_examples_seem() -> None:
    sure = np.random.default_rng(0).normal(size=(500, 1)) * 0.01
    assert effect_of(paired(-5.0, influences=sure)).p < 0.001  # pyright: ignore[reportOptionalOperand]
    assert decide({"a": paired(-5.0, influences=sure)}).kept == ("a",)


def test_pairs_of_two_sources_are_compared_on_the_examples_and_seeds_that_both_have() -> None:
    easy = np.random.default_rng(1).normal(size=(400, 1)) * 20  # what is easy is so for both: it says nothing of them
    both = np.repeat(easy, 2, axis=1)
    seen = {"a": paired(9.0, 9.1, influences=both), "b": paired(8.0, 8.1, influences=both), "c": None, "d": None}
    assert decide(seen | {"e": paired(0.0), "f": paired(0.0)}).dropped["b"] == "beaten beyond noise"
    assert decide({name: one and Paired(one.seeds, one.deltas, None) for name, one in seen.items()}).kept == ("a",)


@given(st.integers(1, 40), st.integers(1, 5), st.floats(1e-4, 10), st.floats(0, 3))
def test_a_rung_costs_no_more_than_its_part_and_grows_as_sources_go(
    count: int, seeds: int, budget: float, direct: float
) -> None:
    names = [str(i) for i in range(count)]

    def cost(sources: tuple[str, ...], share: float) -> float:
        return share * (direct + len(sources))

    full = seeds * cost(tuple(names), 1)
    rung = next_rung(1, names, cost, seeds, budget * full)  # type: ignore[arg-type]
    part = budget * full / max(1, math.ceil(math.log2(count)))
    assert rung.seeds * cost(rung.sources, rung.share) <= part * (1 + 1e-9) or rung.share == LEAST
    assert rung.share == 1 or rung.seeds == 1
    assert rung.seeds <= seeds
    later = next_rung(2, names[: math.ceil(count / 2)], cost, seeds, budget * full)  # type: ignore[arg-type]
    assert later.seeds * later.share >= rung.seeds * rung.share


def test_fewer_rows_that_are_read_more_often_do_not_break_the_budget() -> None:
    def cost(sources: object, share: float) -> float:
        return 10_000 * share * (3 if share > 0.5 else 10)

    rung = next_rung(1, ["a", "b", "c", "d"], cost, 1, 40_000)
    assert cost(rung.sources, rung.share) <= 20_000
    assert 0.5 < rung.share < 2 / 3


class Planted:
    """Sources whose true differences are planted; what a rung measures is nearer to them the more it reads."""

    def __init__(self, seed: int, count: int = 8, seeds: int = 3, sd: float = 3.0, noise: float = 1.0) -> None:
        draw = self.draw = np.random.default_rng(seed)
        self.names = [f"s{i:02}" for i in range(count)]
        self.truth = dict(zip(self.names, draw.normal(-0.5, sd, count), strict=True))
        self.bias = dict(zip(self.names, draw.normal(0, 0.5, count), strict=True))
        self.rows = dict(zip(self.names, draw.lognormal(10, 1, count), strict=True))
        self.seeds, self.noise, self.done = seeds, noise, set[tuple[str, float, int]]()
        self.run: dict[tuple[str, float, int], float] = {}

    def cost(self, sources: list[str], share: float) -> float:
        return share * (2_500 + sum(self.rows[name] + 2_500 for name in sources))

    def measure(self, rung: Rung) -> tuple[dict[str, Paired], float]:
        found, new = {}, 0.0
        for name in rung.sources:
            value = self.truth[name] * (0.4 + 0.6 * math.sqrt(rung.share)) + self.bias[name] * (1 - rung.share)
            for seed in range(rung.seeds):
                if (name, rung.share, seed) not in self.run:  # a step is done once
                    self.run[name, rung.share, seed] = value + self.noise * self.draw.normal()
                    new += rung.share * (self.rows[name] + 2_500)
            found[name] = paired(*(self.run[name, rung.share, seed] for seed in range(rung.seeds)))
        for seed in range(rung.seeds):
            if ("", rung.share, seed) not in self.run:
                self.run["", rung.share, seed] = 0.0
                new += rung.share * 2_500
        return found, new

    def lost(self, best: str) -> float:
        return max(0.0, *self.truth.values()) - (self.truth[best] if best else 0.0)


@pytest.mark.parametrize("count", [8, 13])
def test_it_finds_what_the_full_matrix_would_or_one_within_noise_at_a_quarter_of_the_cost(count: int) -> None:
    lost, shares, right = [], [], 0
    for seed in range(200):
        planted = Planted(seed, count)
        full = planted.seeds * planted.cost(planted.names, 1)
        found = halve(planted.names, planted.cost, planted.seeds, 0.25 * full, planted.measure)  # type: ignore[arg-type]
        assert found.full == pytest.approx(full)
        shares.append(found.share)
        lost.append(planted.lost(found.best))
        right += lost[-1] == 0
        assert len(found.rungs) <= math.ceil(math.log2(count))
    within = 1.96 * math.sqrt(2 / 3)  # what three seeds of either can tell apart, in SDs of a seed's noise
    assert max(shares) <= 0.25 + 1e-9
    assert np.mean(np.array(lost) <= within) >= 0.95
    assert right >= 140
    assert np.mean(lost) < 0.4


def test_where_every_source_hurts_the_answer_is_to_train_directly() -> None:
    planted = Planted(3)
    planted.truth = dict.fromkeys(planted.names, -6.0)
    full = planted.seeds * planted.cost(planted.names, 1)
    found = halve(planted.names, planted.cost, 3, 0.25 * full, planted.measure)  # type: ignore[arg-type]
    assert found.best == ""
    assert {one.source for one in found.standings} == set(planted.names)


def test_every_source_says_how_far_it_came_and_why_it_went() -> None:
    planted = Planted(1, noise=0.01)
    full = planted.seeds * planted.cost(planted.names, 1)
    found = halve(planted.names, planted.cost, 3, 0.25 * full, planted.measure)  # type: ignore[arg-type]
    first, *others = found.standings
    assert first.source == found.best
    assert not first.dropped
    assert all(one.dropped for one in others)
    assert [one.rung for one in found.standings] == sorted((one.rung for one in found.standings), reverse=True)
    told = found.to_json()
    assert told["share"] == found.spent / found.full
    assert told["rungs"][0]["sources"] == tuple(planted.names)


def test_one_source_is_held_against_training_directly() -> None:
    planted = Planted(0, count=1)
    planted.truth["s00"] = 8.0
    found = halve(planted.names, planted.cost, 3, 1e9, planted.measure)  # type: ignore[arg-type]
    assert found.best == "s00"
    assert len(found.rungs) == 1
    effect = found.standings[0].effect
    assert effect is not None
    assert effect.low is not None
    assert found.rungs[0][0].seeds == 3
