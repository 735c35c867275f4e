"""Real data, where it is at hand: every declared task that is found reads without a problem, and means what it says."""

from __future__ import annotations

import os
import re
from collections import Counter
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from layover.errors import TaskError
from layover.tasks import TASKS, Task
from layover.tasks.example import Example, Mark
from layover.tasks.formats import Choice, Cloze, Pair, PassageAnswers, Single
from layover.tasks.load import Source, limit, locate, read, resolved
from layover.tasks.readers import SPLITS, rows
from layover.tasks.spans import Span

DATA = Path(os.environ.get("LAYOVER_TEST_DATA") or Path(__file__).parents[2].parent / "shared" / "data")
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="no real data: set LAYOVER_TEST_DATA to a data directory")
SOME = 400  # questions per task that are tokenized
ON_STRETCHES = [task for task in TASKS if not isinstance(task.format, Single | Pair | Choice | PassageAnswers | Cloze)]


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


@lru_cache(maxsize=4)
def examples(name: str, split: str) -> list[Example]:
    task = TASKS.get(name)
    return read(task, found(task), split)


def n_questions(some: list[Example]) -> int:
    return len({(example.row, example.part) for example in some})


def _counts_are_right(task: Task, source: Source) -> None:
    said = counted(source)
    if said is None or source.gathered:
        return
    text, numbers = said
    some = {split: examples(task.name, split) for split in SPLITS}
    for split in SPLITS:
        assert sum(1 for _ in rows(source.files[split])) == numbers[split]
        if task.prepare is None:
            assert len({example.row for example in some[split]}) == numbers[split]
    if "Status: complete" in text or "Nothing was subsampled" in text:
        assert task.published in (None, (n_questions(some["train"]), n_questions(some["validation"])))


def counted(source: Source) -> tuple[str, dict[str, int]] | None:
    """What the folder's SOURCE.md says about it, and how many rows each split has."""
    path = source.folder / "SOURCE.md"
    if not path.is_file():
        return None
    text = path.read_text(encoding="utf-8")
    table = re.findall(r"^\| (train|validation) \| ([\d,]+) \|", text, re.M)
    return text, {split: int(number.replace(",", "")) for split, number in table}


@pytest.mark.parametrize("task", list(TASKS), ids=lambda t: t.name)
def test_reads_as_many_rows_as_the_data_says_and_every_class_occurs(task: Task) -> None:
    source = found(task)
    _counts_are_right(task, source)
    train, validation = examples(task.name, "train"), examples(task.name, "validation")
    assert [e.row for e in train] == sorted(e.row for e in train)
    n_inputs = {len(e.inputs) for e in (*train, *validation)}
    assert len(n_inputs) == 1
    if task.output == "value":
        assert task.bounds is not None
        assert {min(e.label for e in train), max(e.label for e in train)} == set(task.bounds)
        return
    if task.output == "extent":
        return  # the label is where the answer is
    n_classes = len(resolved(task, source).labels) or n_inputs.pop()
    counts, asked = (Counter(x for e in some for t in e.targets for x in t.labels) for some in (train, validation))
    if task.labels_in_data:  # a label may be in one split alone
        assert sorted(counts | asked) == list(range(n_classes))
        return
    assert sorted(counts) == list(range(n_classes))
    if isinstance(task.format, Choice):  # the right answer is spread over the positions
        assert max(counts.values()) < 1.2 * min(counts.values())
    assert set(asked) <= set(counts)


def test_the_folds_of_a_set_share_its_rows_out() -> None:
    folds = [TASKS.get(f"aj_wh_fold{k}") for k in range(1, 11)]
    plain = [[e.inputs for e in examples("aj_wh", split)] for split in SPLITS]
    first = [[e.inputs for e in examples("aj_wh_fold1", split)] for split in SPLITS]
    assert first == plain
    assert len({found(fold).digest for fold in folds}) == 1
    held = Counter(e.inputs for fold in folds for e in read(fold, found(fold), "validation"))
    all_rows = Counter(e.inputs for e in (*examples("aj_wh", "train"), *examples("aj_wh", "validation")))
    assert set(all_rows) <= set(held)  # every row is held out once over the ten folds
    assert sum(held.values()) == 584


def test_the_parts_of_multirc_and_qasrl_are_their_questions() -> None:
    assert n_questions(examples("multirc", "train")) == 5_131
    assert len(examples("multirc", "train")) == 27_243
    assert n_questions(examples("qasrl", "validation")) == 12_519
    assert n_questions(examples("qamr", "train")) == 13_954
    assert n_questions(examples("qamr_full", "train")) == 20_000


def under(mark: Mark, example: Example) -> str:
    return " ".join(example.inputs[0][mark.segment] or ())[mark.begin : mark.end]


@pytest.mark.parametrize("name", ["qamr", "qamr_full", "qasrl"])
@pytest.mark.parametrize("split", SPLITS)
def test_the_answer_is_what_is_under_its_mark(name: str, split: str) -> None:
    found(TASKS.get(name))
    for example in examples(name, split):
        assert under(example.targets[0].marks[0], example) == example.golds[0]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from transformers import AutoTokenizer

    from layover.encoders import find

    return AutoTokenizer.from_pretrained(find("minilm").location)


@pytest.mark.parametrize("task", [t for t in TASKS if isinstance(t.format, Span)], ids=lambda t: t.name)
def test_gold_tokens_decode_back_to_the_answer(task: Task, tokenizer: Any) -> None:
    from layover.train.decode import Raw, decode
    from layover.train.encode import encode

    found(task)
    encoded = encode(limit(examples(task.name, "validation"), SOME), task, tokenizer, 256)
    assert not encoded.lost.any()
    raw = Raw(encoded.spans[:, 0], np.zeros((len(encoded), 2)))
    predictions = decode(task, encoded, raw, 0).predictions
    assert [(text,) for text in predictions.predicted] == list(predictions.gold)


@pytest.mark.parametrize("task", ON_STRETCHES, ids=lambda t: t.name)
def test_the_tokens_of_every_stretch_are_its_words(task: Task, tokenizer: Any) -> None:
    from layover.train.encode import encode

    some = limit(examples(task.name, "validation"), SOME)
    encoded = encode(some, resolved(task, found(task)), tokenizer, 512)
    owners = encoded.example_of_target()
    marks = [target.marks for example in some for target in example.targets]
    assert not encoded.lost.any()
    for owner, spans, asked in zip(owners, encoded.spans, marks, strict=True):
        segments = [" ".join(segment or ()) for segment in some[owner].inputs[0]]
        offsets = tokenizer(*(text for text in segments if text), return_offsets_mapping=True)["offset_mapping"]
        for (first, end), mark in zip(spans, asked, strict=True):
            text = segments[mark.segment][offsets[first][0] : offsets[end - 1][1]]
            assert text == segments[mark.segment][mark.begin : mark.end].strip()


def test_acceptable_sentences_are_the_greater_part_of_cola() -> None:
    found(TASKS.get("cola"))
    labels = [e.label for e in examples("cola", "train")]
    assert 0.68 < sum(labels) / len(labels) < 0.73


def test_both_releases_of_rte_are_the_same_pairs() -> None:
    for name in ("rte", "rte_glue"):
        found(TASKS.get(name))
    pairs = [Counter(e.label for e in examples(name, "validation")) for name in ("rte", "rte_glue")]
    assert pairs[0] == pairs[1]
