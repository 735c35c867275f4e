"""Merging weights: hand-worked vectors, and what holds whatever the weights are."""

from __future__ import annotations

from itertools import permutations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from layover.errors import StepError
from layover.train.merging import Method, Weights, merged

METHODS: tuple[Method, ...] = ("average", "arithmetic", "ties")


def weights(*values: float) -> dict[str, torch.Tensor]:
    """Two tensors that hold the values, all but the last in the first, and a buffer of integers."""
    *most, last = values
    parts = {"layer.0.weight": torch.tensor([most]), "layer.1.bias": torch.tensor([last])}
    return {**parts, "positions": torch.arange(3)}


def values(found: Weights) -> list[float]:
    assert found["positions"].tolist() == [0, 1, 2]
    assert list(found) == ["layer.0.weight", "layer.1.bias", "positions"]
    return [*found["layer.0.weight"][0].tolist(), *found["layer.1.bias"].tolist()]


# by hand: plain weights, and what two sources add to them; five numbers each
PLAIN = (1.0, 2.0, 3.0, 4.0, 5.0)
FIRST = (4.0, -3.0, 0.5, 2.0, -0.25)
SECOND = (2.0, 1.0, 8.0, -2.0, 0.125)


def moved(*changes: float) -> dict[str, torch.Tensor]:
    return weights(*(p + c for p, c in zip(PLAIN, changes, strict=True)))


def test_an_average_is_the_mean_of_every_weight() -> None:
    found = merged(weights(*PLAIN), [moved(*FIRST), moved(*SECOND)], "average")
    assert values(found) == [4.0, 1.0, 7.25, 4.0, 4.9375]


def test_task_arithmetic_adds_the_scaled_sum_of_changes() -> None:
    found = merged(weights(*PLAIN), [moved(*FIRST), moved(*SECOND)], "arithmetic", scale=0.5)
    # sums of changes: 6, -2, 8.5, 0, -0.125
    assert values(found) == [4.0, 1.0, 7.25, 4.0, 4.9375]
    whole = merged(weights(*PLAIN), [moved(*FIRST), moved(*SECOND)], "arithmetic", scale=1.0)
    assert values(whole) == [7.0, 0.0, 11.5, 4.0, 4.875]


def test_ties_trims_elects_a_sign_and_merges_what_agrees() -> None:
    # density 0.6 keeps three of five changes, over both tensors: 4, -3, 2 of the first, and of the second 8 and, being
    # equally large, 2 and -2; what is left is (4, -3, 0, 2, 0) and (2, 0, 8, -2, 0)
    found = merged(weights(*PLAIN), [moved(*FIRST), moved(*SECOND)], "ties", scale=1.0, density=0.6)
    # sums 6, -3, 8, 0, 0: means of those that agree 3, -3, 8; nothing where they cancel out or were trimmed
    assert values(found) == [4.0, -1.0, 11.0, 4.0, 5.0]
    halved = merged(weights(*PLAIN), [moved(*FIRST), moved(*SECOND)], "ties", scale=0.5, density=0.6)
    assert values(halved) == [2.5, 0.5, 7.0, 4.0, 5.0]


def test_ties_elects_by_size_and_not_by_number() -> None:
    changes = ([-1.0], [-1.0], [5.0])
    plain = {"w": torch.zeros(1)}
    found = merged(plain, [{"w": torch.tensor(c)} for c in changes], "ties", density=1.0)
    assert found["w"].tolist() == [5.0]


def test_ties_trims_over_the_whole_task_vector() -> None:
    plain = {"small": torch.zeros(2), "large": torch.zeros(2)}
    source = {"small": torch.tensor([0.1, 0.2]), "large": torch.tensor([3.0, -4.0])}
    found = merged(plain, [source], "ties", density=0.5)
    assert found["small"].tolist() == [0.0, 0.0]
    assert found["large"].tolist() == [3.0, -4.0]


number = st.floats(-1e3, 1e3, width=32, allow_subnormal=False)
vector = st.lists(number, min_size=5, max_size=5)


@given(vector, vector)
@settings(max_examples=60)
def test_a_merger_of_one_is_itself(plain: list[float], source: list[float]) -> None:
    for method in METHODS:
        found = merged(weights(*plain), [weights(*source)], method, scale=1.0, density=1.0)
        assert values(found) == pytest.approx(values(weights(*source)), rel=1e-6, abs=1e-12), method


@given(vector, vector, st.integers(2, 5))
@settings(max_examples=60)
def test_equal_sources_give_themselves(plain: list[float], source: list[float], n: int) -> None:
    same = [weights(*source) for _ in range(n)]
    assert values(merged(weights(*plain), same, "average")) == values(weights(*source))
    ties = merged(weights(*plain), same, "ties", density=1.0)
    assert values(ties) == pytest.approx(values(weights(*source)), rel=1e-6, abs=1e-12)


@given(vector, st.lists(vector, min_size=2, max_size=3), st.floats(0.05, 1.0))
@settings(max_examples=60)
def test_the_order_of_sources_changes_nothing_but_rounding(
    plain: list[float], sources: list[list[float]], density: float
) -> None:
    for method in METHODS:
        orders = [
            values(merged(weights(*plain), [weights(*s) for s in order], method, 0.5, density))
            for order in permutations(sources)
        ]
        assert all(order == pytest.approx(orders[0], rel=1e-6, abs=1e-9) for order in orders), method


@given(vector, st.lists(vector, min_size=2, max_size=4))
@settings(max_examples=60)
def test_the_average_is_arithmetic_scaled_by_their_number(plain: list[float], sources: list[list[float]]) -> None:
    parts = [weights(*source) for source in sources]
    average = values(merged(weights(*plain), parts, "average"))
    assert average == pytest.approx(
        values(merged(weights(*plain), parts, "arithmetic", 1 / len(parts))), rel=1e-5, abs=1e-6
    )


@given(vector, st.lists(vector, min_size=2, max_size=3), st.floats(0.05, 1.0))
@settings(max_examples=60)
def test_ties_stays_between_the_plain_weight_and_the_largest_change(
    plain: list[float], sources: list[list[float]], density: float
) -> None:
    found = values(merged(weights(*plain), [weights(*s) for s in sources], "ties", 1.0, density))
    for new, old, *changed in zip(found, plain, *sources, strict=True):
        ends = [old, *changed]
        assert min(ends) - 1e-4 <= new <= max(ends) + 1e-4


def test_a_merger_keeps_precision_and_touches_no_source() -> None:
    plain, source = {"w": torch.zeros(3, dtype=torch.bfloat16)}, {"w": torch.ones(3, dtype=torch.bfloat16)}
    found = merged(plain, [source, source], "arithmetic", scale=0.25)
    assert found["w"].dtype == torch.bfloat16
    assert found["w"].tolist() == [0.5] * 3
    assert source["w"].tolist() == [1.0] * 3
    assert plain["w"].tolist() == [0.0] * 3


@pytest.mark.parametrize(
    ("source", "told"),
    [({"w": torch.zeros(2)}, r"w is \(2,\) there, \(3,\)"), ({}, "w is missing there"),
     ({"w": torch.zeros(3), "x": torch.zeros(1)}, r"x is \(1,\) there, missing in")],
)  # fmt: skip
def test_a_source_of_another_shape_is_refused(source: dict[str, torch.Tensor], told: str) -> None:
    fitting = {"w": torch.zeros(3)}
    with pytest.raises(StepError, match=f"source 2 is not of the plain encoder's shape.*{told}"):
        merged(fitting, [fitting, source], "average")
