"""What tasks have in common, and what sizes recommend."""

from __future__ import annotations

import math

import pytest

from layover.select.candidate import Candidate
from layover.select.formats import (
    READS,
    TaskFacts,
    catalogue,
    facts_of,
    match,
    match_scores,
    size_rule_scores,
    size_scores,
)
from layover.stats.size_rule import preferred
from layover.tasks import TASKS


@pytest.mark.parametrize(
    ("source", "target", "agree"),
    [("mnli", "rte", 3), ("cosmosqa", "copa", 3), ("sst2", "rte", 2), ("stsb", "rte", 1), ("cosmosqa", "rte", 0),
     ("multirc", "boolq", 2), ("ccg", "wic", 3), ("sst2", "stsb", 0)],
)  # fmt: skip
def test_the_share_of_what_agrees(source: str, target: str, agree: int) -> None:
    tasks = catalogue([source, target])
    assert match(tasks[source], tasks[target]) == pytest.approx(agree / 3)
    assert match(tasks[target], tasks[source]) == match(tasks[source], tasks[target])


def test_every_task_of_the_catalogue_has_facts_and_is_like_itself() -> None:
    for task in TASKS:
        facts = facts_of(task)
        assert facts.reads == READS[type(task.format).__name__]
        assert match(facts, facts) == 1
        assert facts.size is None or facts.size > 0
    assert catalogue(["mnli", "no such task"]).keys() == {"mnli"}


def test_sizes_are_the_published_ones_and_unknown_where_none_are() -> None:
    tasks = catalogue(["mnli", "rte", "micro_pair"])
    assert tasks["mnli"].size == 392_702
    assert tasks["rte"].size == 2_490
    assert tasks["micro_pair"].size is None
    scores = size_scores([Candidate("rte"), Candidate("micro_pair"), Candidate("mine")], tasks)
    assert scores[0] == 2_490
    assert all(map(math.isnan, scores[1:]))


def test_the_rule_of_size_chooses_how_to_use_each_source() -> None:
    tasks = catalogue(["mnli", "rte", "cb"])
    candidates = [Candidate(s, kind) for s in ("mnli", "cb", "mine") for kind in ("multitask", "stilts", "merge")]
    found = size_rule_scores("rte", candidates, tasks)
    assert found[:2] == [1, 0]  # rte is smaller than mnli: both at once
    assert found[3:5] == [0, 1]  # and larger than cb: one after the other
    assert all(map(math.isnan, [found[2], *found[5:]]))


def test_the_rule_says_nothing_of_equals() -> None:
    assert (preferred(1), preferred(None), preferred(1.5), preferred(0.5)) == (None, None, "multitask", "stilts")
    assert preferred(3, threshold=4) == "stilts"


def test_a_task_that_is_not_known_matches_nothing() -> None:
    mine = TaskFacts("mine", "two texts", "classes", "classes", 300)
    tasks = catalogue(["mnli"]) | {"mine": mine}
    found = match_scores("mine", [Candidate("mnli"), Candidate("odd")], tasks)
    assert found[0] == 1
    assert math.isnan(found[1])
    assert math.isnan(match_scores("odd", [Candidate("mnli")], tasks)[0])
