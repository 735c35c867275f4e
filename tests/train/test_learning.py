"""Every format learns: a few hundred real rows take minilm well above chance, and with shuffled labels they do not.

Where a benchmark's own task is too hard for so little (MultiRC, ReCoRD, WiC, WSC), an easier one is put to the same format
over the same kind of rows. What is compared with is the best prediction that ignores the text.
"""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from tests.kit import trained

from layover.encoders import find
from layover.errors import UserError
from layover.metrics import get_metric
from layover.step import Recipe
from layover.tasks import readers
from layover.tasks.example import Target
from layover.tasks.formats import Choice, Cloze, PassageAnswers, Pair, Single
from layover.tasks.load import TaskData, resolved
from layover.tasks.spans import Coreference, EdgeProbing, Span, Tagging, WordInContext
from layover.tasks.task import Task

DATA = Path(os.environ.get("LAYOVER_TEST_DATA") or Path(__file__).parents[2].parent / "shared" / "data")
N_VALIDATION = 100
Rows = list[dict[str, Any]]


@lru_cache
def released(folder: str, longest: int = 120) -> Rows:
    """The first rows of a release whose text is short."""
    path = DATA / folder / "train.jsonl.gz"
    if not path.is_file():
        pytest.skip(f"{path} is not there: set LAYOVER_TEST_DATA to a data directory")
    short = (dict(row) for _, row in readers.rows(path) if len(str(next(iter(texts_of(row)), ""))) <= longest)
    return list(itertools.islice(short, 2000))


def texts_of(row: Any) -> Iterator[str]:
    for name in ("sentence", "text", "sent", "sentence1", "question1", "context", "question"):
        if isinstance(row.get(name), str):
            yield row[name]
    if isinstance(row.get("question"), dict):
        yield row["question"]["stem"]


def tagged(longest: int = 60) -> Rows:
    """Sentences with their words and parts of speech."""
    rows = released("probing/edge_upos_ewt", longest)
    for row in rows:
        row |= {"words": row["text"].split(" "), "tags": [target["label"] for target in row["targets"]]}
    return [row for row in rows if 3 <= len(row["words"]) == len(row["tags"])]


def two_words() -> Rows:
    """Two words of a sentence: are they both nouns, or a noun and another?"""
    rows, draw = [], random.Random(1)
    for row in tagged():
        nouns = [i for i, tag in enumerate(row["tags"]) if tag in ("NOUN", "PROPN")]
        others = [i for i, tag in enumerate(row["tags"]) if tag in ("VERB", "PRON", "ADP", "DET", "AUX", "PUNCT")]
        alike = len(rows) % 2 == 0
        if len(nouns) < 1 + alike or not others:
            continue
        one, two = draw.sample(nouns, 2) if alike else (draw.choice(nouns), draw.choice(others))
        begins = [len(" ".join(row["words"][:i])) + (i > 0) for i in (one, two)]
        ends = [begin + len(row["words"][i]) for begin, i in zip(begins, (one, two), strict=True)]
        spans = {"span1": row["words"][one], "word1": one, "span2": row["words"][two], "word2": two}
        places = {"b1": begins[0], "e1": ends[0], "b2": begins[1], "e2": ends[1]}
        rows.append({"text": row["text"], **spans, **places, "label": int(alike)})
    return rows


def asked() -> Rows:
    """Questions about a sentence, with the right answer and other words of the sentence."""
    rows, draw = [], random.Random(2)
    for row in released("tasks/qamr", 110):
        words = sorted({w for w in row["sent"].split() if w.isalpha()} - set(row["answer_text"].split()))
        if row["answer_text"] in row["sent"] and len(words) >= 3 and row["question"].strip():
            answers = [row["answer_text"], draw.choice(words)]
            draw.shuffle(answers)
            right = [int(a == row["answer_text"]) for a in answers]
            query = f"{row['question']} @placeholder"
            rows.append({**row, "answers": answers, "right": right, "query": query, "golds": [row["answer_text"]]})
    return rows


def chosen() -> Rows:
    """Which of two texts continues a question: its answer, or that of another question?"""
    rows = asked()
    for i, row in enumerate(rows):
        other = rows[(i + 7) % len(rows)]["answer_text"]
        row |= {"choices": [row["answer_text"], other][:: 1 if i % 2 else -1], "label": 1 - i % 2}
    return rows


EDGE = EdgeProbing
CASES: dict[str, tuple[Callable[[], Rows], Task, int, float]] = {
    # rows, task, rows to train on, learning rate
    "single": (
        lambda: released("tasks/sst2", 60),
        Task("c", 1, Single("sentence"), ("accuracy",), ("0", "1")),
        300,
        3e-4,
    ),
}
CASES |= {
    "pair": (
        lambda: released("tasks/qqp", 60),
        Task("p", 1, Pair("question1", "question2"), ("accuracy",), ("0", "1")), 300, 3e-4,
    ),
    "value": (
        lambda: released("tasks/stsb", 60),
        Task("v", 1, Pair("sentence1", "sentence2", "value"), ("spearman",), bounds=(0.0, 5.0)), 200, 3e-4,
    ),
    "choice": (chosen, Task("h", 1, Choice("sent", ("choices",), "question"), ("accuracy",)), 200, 3e-4),
    "span": (asked, Task("s", 1, Span("sent", "question", "answer_text"), ("token_f1",)), 300, 5e-4),
    "tagging": (tagged, Task("t", 1, Tagging("words"), ("accuracy",), labels_in_data=True, label="tags"), 150, 5e-4),
    "edge": (tagged, Task("e", 1, EdgeProbing(1), ("micro_f1",), labels_in_data=True), 200, 1e-3),
    "edges": (
        lambda: released("probing/edge_dep_ewt", 60),
        Task("d", 1, EdgeProbing(2), ("micro_f1",), labels_in_data=True), 250, 1e-3,
    ),
    "words": (
        two_words,
        Task("w", 1, WordInContext("text", "text", ("b1", "e1", "b2", "e2")), ("accuracy",), ("no", "yes")), 250, 5e-4,
    ),
    "coreference": (
        two_words,
        Task("o", 1, Coreference("text", ("span1", "span2"), ("word1", "word2")), ("accuracy",), ("no", "yes")), 250, 5e-4,
    ),
    "answers": (
        asked,
        Task("a", 1, PassageAnswers("sent", "question", "answers"), ("accuracy",), ("no", "yes"), "right"), 200, 3e-4,
    ),
    "cloze": (asked, Task("z", 1, Cloze("sent", "query", "answers", "golds"), ("exact_match",), ("no", "yes")), 200, 3e-4),
}  # fmt: skip


def score_of(name: str, shuffled: bool, folder: Path) -> tuple[float, float]:
    """The score of a short run on validation, and that of the best prediction that ignores the text."""
    rows, task, n_train, rate = CASES[name]
    found = random.Random(3).sample(rows(), n_train + N_VALIDATION)
    if task.labels_in_data:
        labels = sorted({label for row in found for label in task.written_labels(row)})
        task = replace(task, labels=tuple(labels))
    train, validation = (
        tuple(e for i, row in enumerate(part) for e in task.examples(i, row))
        for part in (found[:n_train], found[n_train:])
    )
    data = TaskData(task, shuffle(train) if shuffled else train, (), validation, 0, 0)
    try:
        encoder = find("minilm").location
    except UserError:
        pytest.skip("minilm is not installed")
    recipe = Recipe(learning_rate=rate, epochs=3, batch_size=16, max_length=64, checkpoint="last", patience=0,
                    pooling="mean", dropout=0.0)  # fmt: skip
    result = trained(Path(encoder), data, folder, recipe)
    metric = get_metric(task.primary)
    return metric.score(result.decoded.predictions), 0.0


def shuffle(examples: tuple[Any, ...]) -> tuple[Any, ...]:
    """The same texts with the labels of others: all that a target says is drawn anew, where it is stays."""
    draw = random.Random(4)
    if examples[0].golds and examples[0].targets[0].marks:
        return tuple(replace(e, targets=(random_stretch(e, draw),)) for e in examples)
    labels = [target.labels for example in examples for target in example.targets]
    draw.shuffle(labels)
    drawn = iter(labels)
    return tuple(replace(e, targets=tuple(Target(next(drawn), t.marks) for t in e.targets)) for e in examples)


def random_stretch(example: Any, draw: random.Random) -> Target:
    """One word of a passage as its answer."""
    words = example.text.split()
    place = draw.randrange(len(words))
    begin = len(" ".join(words[:place])) + (place > 0)
    mark = replace(example.targets[0].marks[0], begin=begin, end=begin + len(words[place]))
    return Target((0.0,), (mark,))


@pytest.mark.parametrize("name", CASES)
def test_a_format_learns_from_real_rows_and_not_from_shuffled_labels(name: str, tmp_path: Path) -> None:
    import time

    t = time.time()
    real, chance = score_of(name, False, tmp_path / "real")
    t2 = time.time()
    control, _ = score_of(name, True, tmp_path / "shuffled")
    print(name, round(real, 1), round(control, 1), round(t2 - t, 1), round(time.time() - t2, 1))
    with open("/tmp/learn.txt", "a") as f:
        f.write(f"{name} {real:.1f} {control:.1f} {t2 - t:.1f}\n")
