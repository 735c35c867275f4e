"""The order of steps, and when the last one ends: hand-worked plans, and bounds that any schedule keeps."""

from __future__ import annotations

import math
from statistics import NormalDist
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layover.schedule import levels, makespan, ranked


def plan_of(parents: dict[str, str]) -> Any:
    """A plan of steps by name, in order, each with its parents' letters."""
    return SimpleNamespace(steps={key: SimpleNamespace(parents=tuple(of)) for key, of in parents.items()})


# a source of 5 with targets of 1, 2 and 3, and two trainings by themselves, of 4 and 6
PLAN = plan_of({"a": "", "b": "a", "c": "a", "d": "a", "x": "", "y": ""})
TIMES = {"a": 5.0, "b": 1.0, "c": 2.0, "d": 3.0, "x": 4.0, "y": 6.0}


def test_a_level_is_the_longest_way_to_an_end() -> None:
    assert levels(PLAN, TIMES) == {"a": 8.0, "b": 1.0, "c": 2.0, "d": 3.0, "x": 4.0, "y": 6.0}


def test_the_critical_path_comes_first_and_equals_as_they_stand() -> None:
    assert list(ranked(PLAN, TIMES)) == ["a", "y", "x", "d", "c", "b"]
    assert list(ranked(PLAN, dict.fromkeys(TIMES, 1.0))) == ["a", "b", "c", "d", "x", "y"]


@pytest.mark.parametrize(
    ("workers", "ends"),
    [
        (1, 21.0),  # the sum
        (2, 11.0),  # a 0-5, y 0-6, x 5-9, d 6-9, c 9-11, b 9-10
        (3, 8.0),  # a 0-5, y 0-6, x 0-4, d 5-8, c 5-7, b 6-7
        (9, 8.0),  # the critical path
        (0, 21.0),  # in this process
    ],
)
def test_the_end_is_that_of_a_schedule_worked_by_hand(workers: int, ends: float) -> None:
    assert makespan(PLAN, TIMES, workers) == ends


def test_of_two_that_run_at_once_the_slower_one_is_expected_to_end_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """E max(X, Y) of two log-normal times of mean 10, sigma s: 20 times the normal distribution's Phi(s / sqrt 2)."""
    two = plan_of({"a": "", "b": ""})
    times = {"a": 10.0, "b": 10.0}
    monkeypatch.setattr("layover.schedule.DRAWS", 20_000)
    monkeypatch.setattr("layover.schedule.DRAWN", 40_000)
    for spread in (0.1, 0.5):
        expected = 20 * NormalDist().cdf(spread / math.sqrt(2))
        assert makespan(two, times, 2, spread) == pytest.approx(expected, rel=0.01)
    assert makespan(two, times, 2) == 10.0
    assert makespan(two, times, 1, 0.5) == 20.0  # one after the other: the slow ones and the quick ones add up


def test_only_what_is_to_do_counts() -> None:
    assert makespan(PLAN, {"b": 1.0, "c": 2.0}, 1) == 3.0
    assert makespan(PLAN, {}, 4) == 0.0


@st.composite
def plans(draw: st.DrawFn) -> tuple[Any, dict[str, float]]:
    count = draw(st.integers(1, 12))
    names = [chr(97 + i) for i in range(count)]
    parents = {
        name: "".join(draw(st.lists(st.sampled_from(names[:i]), max_size=2, unique=True))) if i else ""
        for i, name in enumerate(names)
    }
    times = {name: draw(st.sampled_from([0.0, 0.5, 1.0, 2.0, 7.0])) for name in names}
    return plan_of(parents), times


@given(plans(), st.integers(1, 5))
def test_no_end_is_before_the_bounds_or_after_grahams(made: tuple[Any, dict[str, float]], workers: int) -> None:
    plan, times = made
    path, total, end = max(levels(plan, times).values()), sum(times.values()), makespan(plan, times, workers)
    assert max(path, total / workers) <= end + 1e-9
    assert end <= total / workers + (1 - 1 / workers) * path + 1e-9
    assert makespan(plan, times, 1) == pytest.approx(total)
    assert makespan(plan, times, 99) == pytest.approx(path)
