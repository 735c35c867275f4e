"""Every format learns: a few hundred real rows take minilm well above chance, and with shuffled labels they do not.

Benchmarks' own tasks are too hard for so little (MultiRC, ReCoRD, WiC, WSC), or too slow for a test. So most formats
are given a question that real rows answer: is this word a noun, does this sentence say the same as that.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from tests.kit import trained

from layover.encoders import find
from layover.errors import UserError
from layover.metrics import get_metric
from layover.step import Recipe
from layover.tasks import readers
from layover.tasks.example import Example, Target
from layover.tasks.formats import Choice, Cloze, Pair, PassageAnswers, Single
from layover.tasks.load import TaskData
from layover.tasks.spans import Coreference, EdgeProbing, Span, Tagging, WordInContext, word_marks
from layover.tasks.task import Format, Task

DATA = Path(os.environ.get("LAYOVER_TEST_DATA") or Path(__file__).parents[2].parent / "shared" / "data")
N_VALIDATION = 80
Rows = list[dict[str, Any]]


@lru_cache
def released(folder: str, field: str, longest: int) -> Rows:
    """The first rows of a release whose text is short."""
    path = DATA / folder / "train.jsonl.gz"
    if not path.is_file():
        pytest.skip(f"{path} is not there: set LAYOVER_TEST_DATA to a data directory")
    short = (dict(row) for _, row in readers.rows(path) if isinstance(row, dict) and len(row[field]) <= longest)
    return list(islice(short, 3000))


def reviews() -> Rows:
    """Phrases from film reviews."""
    return released("tasks/sst2", "sentence", 60)


def likeness() -> Rows:
    """Two sentences, how alike they are from 0 to 5, and whether that is much."""
    rows = released("tasks/stsb", "sentence1", 60)
    return [{**row, "alike": int(row["label"] >= 3)} for row in rows]


def matching() -> Rows:
    """A sentence, and two others of which one says the same; the question about them in several forms."""
    same = [row for row in released("tasks/stsb", "sentence1", 60) if row["label"] >= 4]
    rows = []
    for i, row in enumerate(same):
        choices = [row["sentence2"], same[i - 7]["sentence2"]][:: 1 if i % 2 else -1]
        forms = {"question": "which says the same", "query": "it says: @placeholder", "golds": [row["sentence2"]]}
        right = [int(choice == row["sentence2"]) for choice in choices]
        if sum(right) == 1:
            rows.append({"text": row["sentence1"], "choices": choices, "right": right, "label": 1 - i % 2, **forms})
    return rows


KINDS = {"NOUN": "noun", "PROPN": "noun", "VERB": "verb", "AUX": "verb", "PUNCT": "mark"}


def words() -> Rows:
    """Sentences with a coarse part of speech for every word."""
    rows = []
    for row in released("probing/edge_upos_ewt", "text", 60):
        tags = [KINDS.get(target["label"], "other") for target in row["targets"]]
        targets = [{**target, "label": tag} for target, tag in zip(row["targets"], tags, strict=True)]
        if len(tags) == len(row["text"].split(" ")) >= 3:
            rows.append({"text": row["text"], "words": row["text"].split(" "), "tags": tags, "targets": targets})
    return rows


def two_words() -> Rows:
    """Two words of a sentence: are both nouns, or one of them only? In the forms of three formats."""
    rows, draw = [], random.Random(1)
    for row in words():
        nouns, others = ([i for i, tag in enumerate(row["tags"]) if (tag == "noun") == is_noun] for is_noun in (1, 0))
        both = len(rows) % 2 == 0
        if len(nouns) < 1 + both or not others:
            continue
        pair = draw.sample(nouns, 2) if both else [draw.choice(nouns), draw.choice(others)]
        marks = word_marks(row["words"])
        found = {"text": row["text"], "label": int(both)}
        for n, place in enumerate(pair, 1):
            found |= {f"word{n}": row["words"][place], f"at{n}": place}
            found |= {f"begin{n}": marks[place].begin, f"end{n}": marks[place].end}
        one, two = ([place, place + 1] for place in pair)
        rows.append({**found, "targets": [{"span1": one, "span2": two, "label": str(int(both))}]})
    return rows


def one_verb() -> Rows:
    """Sentences with one verb, which is asked for."""
    rows = [row for row in words() if row["tags"].count("verb") == 1]
    return [{**row, "question": "what is the verb", "verb": row["words"][row["tags"].index("verb")]} for row in rows]


def task(form: Format, metric: str, *labels: str, **fields: Any) -> Task:
    return Task("learning", 1, form, (metric,), labels, **fields)


@dataclass(frozen=True)
class Case:
    """Rows and a task for a format, what it has to reach, and what it must not reach with shuffled labels."""

    rows: Callable[[], Rows]
    task: Task
    reached: float
    control: float
    n_train: int = 100
    learning_rate: float = 3e-4
    epochs: int = 3


WORD_PLACES = ("begin1", "end1", "begin2", "end2")
CASES = {
    "single": Case(reviews, task(Single("sentence"), "accuracy", "0", "1"), 70, 62, 150),
    "pair": Case(likeness, task(Pair("sentence1", "sentence2"), "accuracy", "0", "1", label="alike"), 68, 62, 130),
    "value": Case(likeness, task(Pair("sentence1", "sentence2", "value"), "spearman", bounds=(0.0, 5.0)), 60, 40, 150),
    "choice": Case(matching, task(Choice("text", ("choices",), "question"), "accuracy"), 85, 75, 60),
    "answers": Case(
        matching,
        task(PassageAnswers("text", "question", "choices"), "accuracy", "no", "yes", label="right"), 80, 65, 60,
    ),
    "cloze": Case(matching, task(Cloze("text", "query", "choices", "golds"), "exact_match", "no", "yes"), 85, 70, 60),
    "span": Case(one_verb, task(Span("text", "question", "verb"), "token_f1"), 70, 40, 150, 5e-4),
    "tagging": Case(words, task(Tagging("words"), "accuracy", "noun", "verb", "mark", "other", label="tags"), 80, 55),
    "edge": Case(words, task(EdgeProbing(1), "micro_f1", "noun", "verb", "mark", "other"), 80, 50, 120, 5e-4),
    "edges": Case(two_words, task(EdgeProbing(2), "micro_f1", "0", "1"), 75, 62, 150, 5e-4),
    "words": Case(
        two_words, task(WordInContext("text", "text", WORD_PLACES), "accuracy", "0", "1"), 75, 62, 120, 5e-4
    ),
    "coreference": Case(
        two_words,
        task(Coreference("text", ("word1", "word2"), ("at1", "at2")), "accuracy", "0", "1"), 75, 62, 120, 5e-4,
    ),
}  # fmt: skip


def score_of(case: Case, shuffled: bool, folder: Path) -> float:
    """The score on validation of a short run."""
    rows = random.Random(3).sample(case.rows(), case.n_train + N_VALIDATION)
    examples = [case.task.examples(i, row) for i, row in enumerate(rows)]
    train = tuple(example for some in examples[: case.n_train] for example in some)
    validation = tuple(example for some in examples[case.n_train :] for example in some)
    try:
        encoder = find("minilm").location
    except UserError:
        pytest.skip("minilm is not installed")
    recipe = Recipe(
        learning_rate=case.learning_rate, epochs=case.epochs, batch_size=8, max_length=64, checkpoint="last",
        patience=0, pooling="mean", dropout=0.0, precision="bf16",
    )  # fmt: skip
    data = TaskData(case.task, shuffle(train) if shuffled else train, (), validation, 0, 0)
    return get_metric(case.task.primary).score(trained(Path(encoder), data, folder, recipe).decoded.predictions)


def shuffle(examples: tuple[Example, ...]) -> tuple[Example, ...]:
    """The same texts with the labels of others; the answers in passages are words at random."""
    draw = random.Random(4)
    if examples[0].golds and examples[0].targets[0].marks:
        return tuple(replace(example, targets=(some_word(example, draw),)) for example in examples)
    labels = [target.labels for example in examples for target in example.targets]
    draw.shuffle(labels)
    drawn = iter(labels)
    return tuple(replace(e, targets=tuple(Target(next(drawn), t.marks) for t in e.targets)) for e in examples)


def some_word(example: Example, draw: random.Random) -> Target:
    """A word of the passage as its answer."""
    return Target((0.0,), (draw.choice(word_marks(example.text.split(" "))),))


@pytest.mark.parametrize("name", CASES)
def test_a_format_learns_from_real_rows_and_not_from_shuffled_labels(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    real, control = (score_of(case, shuffled, tmp_path / str(shuffled)) for shuffled in (False, True))
    assert real >= case.reached
    assert control <= case.control
