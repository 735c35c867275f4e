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
from layover.step import Probe, Train, key_of
from layover.store import Store


def finished(store: Store, seconds: float, **fields: Any) -> None:
    step = a_train(**fields)
    attempt = store.attempt(key_of(step))
    fake_work(store, attempt, keep=False)
    write_json(attempt / "provenance.json", {"seconds": seconds})
    store.publish(step, attempt)


def asked(store: Store, *steps: Train) -> Estimate:
    plan: Any = SimpleNamespace(steps={key_of(step): step for step in steps})
    return estimate(plan, store, list(plan.steps))


def test_an_estimate_is_the_median_of_the_most_similar_steps(tmp_path: Path) -> None:
    store, rte = Store.open(tmp_path / "store"), a_train().task
    small, other = replace(rte, limit_train=100), replace(rte, name="cb")
    for seed, seconds in enumerate((10.0, 12.0, 50.0)):
        finished(store, seconds, seed=seed)
    finished(store, 2.0, task=small)
    finished(store, 7.0, encoder="sha256:other", task=other)

    assert asked(store, a_train(seed=9)) == Estimate(12.0, 5, 0)  # the same task with as many rows
    assert asked(store, a_train(seed=9, task=small)).seconds == 2.0
    assert asked(store, a_train(task=replace(rte, limit_train=7))).seconds == 11.0  # the same task, any rows
    assert asked(store, a_train(task=other)).seconds == 11.0  # the same encoder, any task
    assert asked(store, a_train(seed=8), a_train(seed=9, task=small)).seconds == 14.0
    assert asked(store, a_train(encoder="sha256:new")) == Estimate(0.0, 5, 1)


def test_a_probe_is_not_expected_to_take_what_a_training_takes(tmp_path: Path) -> None:
    store, train = Store.open(tmp_path / "store"), a_train()
    finished(store, 60.0)
    probe = Probe(train.encoder, train.task, train.recipe, 1, 2)
    plan: Any = SimpleNamespace(steps={key_of(probe): probe})
    assert estimate(plan, store, list(plan.steps)) == Estimate(0.0, 1, 1)


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.4, "0 s"), (59.6, "1 min 0 s"), (75, "1 min 15 s"), (7500, "2 h 05 min")]
)
def test_durations_are_said_in_words(seconds: float, said: str) -> None:
    assert words(seconds) == said
