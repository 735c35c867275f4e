"""What each optimizer step reads of several tasks: probabilities, epochs, and how often each task comes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from layover.step import Mixture
from layover.train.batching import epoch_order
from layover.train.mixture import by_gap, epoch_of, full_pass, probabilities, shared_out

SIZES = [100, 40, 7]


def epoch(sizes: list[int] | None = None, batch_size: int = 8, seed: int = 1, number: int = 0, **words: Any) -> Any:
    mixture, sizes = Mixture(**words), sizes or SIZES
    return epoch_of(sizes, probabilities(sizes, mixture), mixture, batch_size, seed, number)


def tasks_of(examples: Any, sizes: list[int]) -> np.ndarray:
    """Which task each example is of."""
    return np.searchsorted(np.cumsum(sizes), examples, side="right")


def counts(batches: Any, sizes: list[int]) -> list[int]:
    """How many examples of each task the batches hold."""
    return np.bincount(tasks_of(np.concatenate(batches), sizes), minlength=len(sizes)).tolist()


@pytest.mark.parametrize(
    ("words", "weights"),
    [
        ({"sampler": "proportional"}, [100, 40, 7]),
        ({"sampler": "uniform"}, [1, 1, 1]),
        ({"sampler": "temperature", "temperature": 2.0}, [10, math.sqrt(40), math.sqrt(7)]),
        ({"sampler": "temperature", "temperature": 1.0}, [100, 40, 7]),
        ({"sampler": "capped", "cap": 20}, [20, 20, 7]),
        ({"sampler": "dynamic"}, [100, 40, 7]),  # its first epoch
    ],
)
def test_probabilities_are_those_of_the_sampler(words: dict[str, Any], weights: list[float]) -> None:
    assert probabilities(SIZES, Mixture(**words)) == pytest.approx(np.array(weights) / sum(weights))


def test_a_high_temperature_is_even_and_sizes_without_end_do_not_overflow() -> None:
    found = probabilities([10**12, 1], Mixture(sampler="temperature", temperature=1e6))
    assert found == pytest.approx([0.5, 0.5], abs=1e-4)


def test_the_dynamic_sampler_follows_the_gap_to_the_score_alone() -> None:
    # by hand: gaps 0.3 and 0.1, so e^0.3 : e^0.1 = 1.349859 : 1.105171
    assert by_gap([0.9, 0.7], [0.6, 0.6]) == pytest.approx([0.549834, 0.450166], abs=1e-6)
    assert by_gap([0.5, 0.5, 0.5], [0.5, 0.5, 0.5]) == pytest.approx([1 / 3] * 3)
    ahead = by_gap([0.5, 0.5], [0.9, 0.5])  # a task that is better than alone comes less often
    assert ahead[0] < ahead[1]


def test_shares_are_whole_and_nobody_goes_away_empty() -> None:
    assert shared_out(128, probabilities([392_702, 2_490], Mixture())).tolist() == [127, 1]
    assert shared_out(8, np.array([0.97, 0.01, 0.01, 0.01])).tolist() == [5, 1, 1, 1]
    assert shared_out(10, np.array([0.25, 0.75])).sum() == 10
    with pytest.raises(ValueError, match="2 for 3"):
        shared_out(2, np.ones(3) / 3)


# an epoch that is a full pass


@pytest.mark.parametrize("batches", ["heterogeneous", "homogeneous"])
def test_in_proportion_a_full_pass_reads_every_example_once(batches: Any) -> None:
    found = epoch(batches=batches)
    assert sorted(np.concatenate(found).tolist()) == list(range(147))
    assert [len(batch) for batch in found].count(8) >= 17


@pytest.mark.parametrize("batches", ["heterogeneous", "homogeneous"])
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ({"sampler": "uniform"}, [100, 100, 100]),
        ({"sampler": "temperature", "temperature": 2.0}, [100, 63, 26]),  # 100 sqrt(40 / 100), 100 sqrt(7 / 100)
        ({"sampler": "capped", "cap": 20}, [20, 20, 7]),
    ],
)
def test_a_full_pass_reads_each_task_as_its_probability_asks_and_none_less_than_once(
    words: dict[str, Any], expected: list[int], batches: Any
) -> None:
    assert full_pass(SIZES, probabilities(SIZES, Mixture(**words)), Mixture(**words)).tolist() == expected
    found = epoch(batches=batches, **words)
    assert counts(found, SIZES) == expected
    if words["sampler"] != "capped":
        assert set(np.concatenate(found)) == set(range(147))


def test_a_repeated_task_is_read_permutation_after_permutation() -> None:
    read = np.concatenate(epoch(sampler="uniform"))
    small = read[read >= 140]
    for at in range(0, 98, 7):
        assert sorted(small[at : at + 7].tolist()) == list(range(140, 147))
    assert small[:7].tolist() != small[7:14].tolist()


def test_a_capped_task_shows_other_examples_in_the_next_epoch() -> None:
    first, second = (set(np.concatenate(epoch(sampler="capped", cap=20, number=n))) & set(range(100)) for n in (0, 1))
    assert len(first) == len(second) == 20
    assert first != second


def test_the_dynamic_sampler_reads_as_many_examples_as_there_are_in_every_epoch() -> None:
    mixture = Mixture(sampler="dynamic")
    found = epoch_of(SIZES, np.array([0.2, 0.3, 0.5]), mixture, 8, 1, 3)
    assert counts(found, SIZES) == [29, 44, 74]
    assert len(found) == len(epoch(sampler="dynamic")) == math.ceil(147 / 8)


# an epoch that ends with the shortest task


def test_the_shortest_task_ends_an_epoch_as_in_weller_et_al() -> None:
    # papers.md 3.2: MNLI with RTE, and with WNLI, in batches of 128
    for sizes, sampler, steps, each in (
        ([392_702, 2_490], "uniform", 38, [64, 64]),
        ([392_702, 635], "uniform", 9, [64, 64]),
        ([392_702, 2_490], "proportional", 2490, [127, 1]),
    ):
        found = epoch(sizes, 128, sampler=sampler, epoch="shortest")
        assert len(found) == steps
        assert {tuple(counts([batch], sizes)) for batch in (found[0], found[1], found[-1])} == {tuple(each)}
        read = np.concatenate(found)
        assert len(set(read.tolist())) == len(read)  # nothing is read again


def test_batches_of_one_task_each_end_with_the_shortest_task_too() -> None:
    found = epoch([100, 24], sampler="uniform", batches="homogeneous", epoch="shortest")
    assert all(len(batch) == 8 and len(set(tasks_of(batch, [100, 24]))) == 1 for batch in found)
    assert counts(found, [100, 24]) == [24, 24]
    proportional = epoch([100, 24], batches="homogeneous", epoch="shortest")
    assert counts(proportional, [100, 24]) == [96, 16]  # 12 whole batches at most, in the ratio 100 : 24


def test_a_task_smaller_than_its_share_of_a_batch_still_gives_one_step() -> None:
    (only,) = epoch([50, 3], 16, sampler="uniform", epoch="shortest")
    assert counts([only], [50, 3]) == [8, 3]


def test_a_batch_too_small_for_all_tasks_is_refused() -> None:
    with pytest.raises(ValueError, match="2 for 3"):
        epoch(batch_size=2, epoch="shortest")


# seeds


@pytest.mark.parametrize("batches", ["heterogeneous", "homogeneous"])
@pytest.mark.parametrize("ends", ["full", "shortest"])
def test_an_epoch_is_a_function_of_seed_and_number(batches: Any, ends: Any) -> None:
    def read(seed: int, number: int) -> list[list[int]]:
        found = epoch(seed=seed, number=number, sampler="uniform", batches=batches, epoch=ends)
        return [batch.tolist() for batch in found]

    assert read(1, 0) == read(1, 0)
    assert read(1, 0) != read(1, 1)
    assert read(1, 0) != read(2, 0)


@pytest.mark.parametrize("words", [{}, {"sampler": "uniform"}, {"sampler": "capped"}, {"batches": "homogeneous"}])
def test_one_task_is_read_as_by_itself(words: dict[str, Any]) -> None:
    for number in (0, 1):
        found = epoch([37], seed=5, number=number, **words)
        assert [batch.tolist() for batch in found] == [batch.tolist() for batch in epoch_order(37, 8, 5, number)]


@pytest.mark.parametrize("sampler", ["proportional", "uniform", "temperature", "capped"])
@pytest.mark.parametrize("batches", ["heterogeneous", "homogeneous"])
def test_the_first_thing_read_is_of_each_task_as_often_as_its_probability_says(sampler: Any, batches: Any) -> None:
    """Over seeds, where an epoch begins is drawn by the probabilities: chi-square at fixed seeds."""
    mixture = Mixture(sampler=sampler, batches=batches, cap=48)
    sizes, size, seeds = [96, 48, 16], 1 if batches == "heterogeneous" else 8, 600
    shares = probabilities(sizes, mixture)
    first = [tasks_of(epoch_of(sizes, shares, mixture, size, seed, 0)[0][:1], sizes)[0] for seed in range(seeds)]
    assert stats.chisquare(np.bincount(first, minlength=3), seeds * shares).pvalue > 0.01


def test_a_batch_holds_tasks_in_random_order_and_in_proportion() -> None:
    found = epoch([300, 100], 4, sampler="proportional")
    small = np.array([counts([batch], [300, 100])[1] for batch in found])
    ways = [math.comb(100, k) * math.comb(300, 4 - k) for k in range(5)]  # of 400 examples, 100 of them small
    expected = np.array(ways) / math.comb(400, 4) * len(found)
    seen = np.bincount(small, minlength=5)
    pooled = [*seen[:2], seen[2:].sum()], [*expected[:2], expected[2:].sum()]
    assert stats.chisquare(*pooled, sum_check=False).pvalue > 0.01
