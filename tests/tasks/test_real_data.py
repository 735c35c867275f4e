"""Real data, where it is at hand: every declared task that is found reads without a problem."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from layover.errors import TaskError
from layover.tasks import TASKS, Task
from layover.tasks.load import Source, locate, read
from layover.tasks.task import Choice

DATA = Path(os.environ.get("LAYOVER_TEST_DATA") or Path(__file__).parents[2].parent / "shared" / "data")
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="no real data: set LAYOVER_TEST_DATA to a data directory")


def found(task: Task) -> Source:
    try:
        source = locate(task, [DATA])
    except TaskError as error:
        if "its data was not found" not in str(error):
            raise
        source = Source("", {})
    if not source.files:
        pytest.skip(f"the data directory lacks {task.name}")
    return source


@pytest.mark.parametrize("task", list(TASKS), ids=lambda t: t.name)
def test_reads_and_every_class_occurs(task: Task) -> None:
    source = found(task)
    train, validation = read(task, source, "train"), read(task, source, "validation")
    assert [e.row for e in train] == list(range(len(train)))
    n_inputs = {len(e.inputs) for e in (*train, *validation)}
    assert len(n_inputs) == 1
    if task.output == "value":
        assert task.bounds is not None
        assert {min(e.label for e in train), max(e.label for e in train)} == set(task.bounds)
        return
    n_classes = len(task.labels) or n_inputs.pop()
    counts = Counter(e.label for e in train)
    assert sorted(counts) == list(range(n_classes))
    if isinstance(task.format, Choice):  # the right answer is spread over the positions
        assert max(counts.values()) < 1.2 * min(counts.values())
    assert {e.label for e in validation} <= set(counts)


def test_acceptable_sentences_are_the_greater_part_of_cola() -> None:
    cola = TASKS.get("cola")
    labels = [e.label for e in read(cola, found(cola), "train")]
    assert 0.68 < sum(labels) / len(labels) < 0.73


def test_both_releases_of_rte_are_the_same_pairs() -> None:
    super_glue, glue = TASKS.get("rte"), TASKS.get("rte_glue")
    pairs = [Counter(e.label for e in read(task, found(task), "validation")) for task in (super_glue, glue)]
    assert pairs[0] == pairs[1]
