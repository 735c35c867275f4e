"""How long a plan takes, from what the store has seen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.kit import a_train, fake_work

from layover.cost import Estimate, estimate, words
from layover.files import write_json
from layover.step import Choose, Joint, Mixture, Probe, Recipe, Step, key_of
from layover.store import Store


def finished(store: Store, seconds: float, facts: Any = None, **fields: Any) -> None:
    step = a_train(**fields)
    attempt = store.attempt(key_of(step))
    fake_work(store, attempt, keep=False)
    write_json(attempt / "provenance.json", {"seconds": seconds, **(facts or {})})
    store.publish(step, attempt)


def asked(store: Store, *steps: Step, workers: int = 1) -> Estimate:
    plan: Any = SimpleNamespace(steps={key_of(step): step for step in steps})
    return estimate(plan, store, list(plan.steps), workers)


def test_an_estimate_is_the_median_of_the_most_similar_steps(tmp_path: Path) -> None:
    store, rte = Store.open(tmp_path / "store"), a_train().task
    small, other = replace(rte, limit_train=100), replace(rte, name="cb")
    for seed, seconds in enumerate((10.0, 12.0, 50.0)):
        finished(store, seconds, seed=seed)
    finished(store, 2.0, task=small)
    finished(store, 7.0, encoder="sha256:other", task=other)

    assert asked(store, a_train(seed=9)) == Estimate(12.0, 5, 0, 1, 12.0)  # the same task with as many rows
    assert asked(store, a_train(seed=9, task=small)).seconds == 2.0
    assert asked(store, a_train(task=replace(rte, limit_train=7))).seconds == 11.0  # the same task, any rows
    assert asked(store, a_train(task=other)).seconds == 11.0  # the same encoder, any task
    assert asked(store, a_train(seed=8), a_train(seed=9, task=small)).seconds == 14.0
    assert asked(store, a_train(encoder="sha256:new")) == Estimate(0.0, 5, 1, 1, 0.0)


def test_what_no_step_has_trained_on_is_reckoned_by_the_example(tmp_path: Path) -> None:
    """RTE: 2,000 examples of 2,500 in 10 epochs took 400 s, which is a fiftieth of a second each."""
    store, rte, ten = Store.open(tmp_path / "store"), a_train().task, Recipe(epochs=10)
    facts = {"examples": {"train": 2000}, "available": {"train": 2500}}
    finished(store, 400.0, facts, recipe=ten)
    selection = 1 - rte.holdout
    three = asked(store, a_train(recipe=Recipe(epochs=3)))
    assert three.seconds == pytest.approx(0.02 * 2500 * selection * 3)
    less = asked(store, a_train(recipe=ten, task=replace(rte, limit_train=1000)))
    assert less.seconds == pytest.approx(0.02 * 1000 * selection * 10)
    last = Recipe(epochs=10, checkpoint="last", patience=0)  # trains on all rows
    assert asked(store, a_train(recipe=last, task=replace(rte, limit_train=100))).seconds == pytest.approx(20.0)
    other = replace(rte, name="cb", limit_train=200)
    assert asked(store, a_train(recipe=ten, task=other)).seconds == pytest.approx(0.02 * 200 * selection * 10)
    unseen = replace(rte, name="cb")  # nobody knows how large it is
    assert asked(store, a_train(recipe=ten, task=unseen)).seconds == 400.0
    both = Joint("sha256:abc", (rte, other), ten, 1, Mixture())
    assert asked(store, both).unknown == 1  # no joint training has finished


def test_steps_that_only_read_files_take_no_time_until_they_have(tmp_path: Path) -> None:
    store, train = Store.open(tmp_path / "store"), a_train()
    finished(store, 30.0)
    choose = Choose((key_of(train),), ("learning_rate",))
    assert asked(store, choose) == Estimate(0.0, 1, 0, 1, 0.0)


def test_with_more_workers_the_end_comes_sooner_but_not_before_the_longest_chain(tmp_path: Path) -> None:
    store, source = Store.open(tmp_path / "store"), a_train()
    finished(store, 10.0, seed=100)
    targets = [a_train(seed=seed, start=key_of(source)) for seed in range(4)]
    found = [asked(store, source, *targets, workers=n) for n in (1, 2, 4, 9)]
    assert [one.seconds for one in found] == [50.0] * 4
    assert [one.makespan for one in found] == [50.0, 30.0, 20.0, 20.0]


def test_a_probe_is_not_expected_to_take_what_a_training_takes(tmp_path: Path) -> None:
    store, train = Store.open(tmp_path / "store"), a_train()
    finished(store, 60.0)
    probe = Probe(train.encoder, train.task, train.recipe, 1, 2)
    plan: Any = SimpleNamespace(steps={key_of(probe): probe})
    assert estimate(plan, store, list(plan.steps)) == Estimate(0.0, 1, 1, 1, 0.0)


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.4, "0 s"), (59.6, "1 min 0 s"), (75, "1 min 15 s"), (7500, "2 h 05 min")]
)
def test_durations_are_said_in_words(seconds: float, said: str) -> None:
    assert words(seconds) == said


def test_small_steps_whose_time_is_not_their_examples_count_for_little(tmp_path: Path) -> None:
    """A hundred examples in 10 s and 10,000 in 100 s: of 10,000 others nobody expects 1,000 s."""
    store, rte = Store.open(tmp_path / "store"), a_train().task
    once = Recipe(epochs=1, checkpoint="last", patience=0)
    for name, examples, seconds in (("cb", 100, 10.0), ("qnli", 10_000, 100.0)):
        facts = {"examples": {"train": examples}, "available": {"train": examples}}
        finished(store, seconds, facts, recipe=once, task=replace(rte, name=name))
    new = a_train(recipe=once, task=replace(rte, name="new", limit_train=10_000))
    assert asked(store, new).seconds == pytest.approx(110 / 10_100 * 10_000)
