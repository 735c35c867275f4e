"""Own tasks in every format: the how-to's examples are read and trained, and wrong rows are told."""

from __future__ import annotations

import json
import math
import tomllib
from pathlib import Path
from typing import Any

import pytest
from tests.kit import trained
from tests.test_docs import ROOT, blocks, write_files

from layover.errors import TaskError
from layover.metrics import METRICS
from layover.step import Recipe
from layover.tasks.load import load, locate, read
from layover.tasks.own import declaration, from_declaration, own_files, own_task
from layover.tasks.own_layouts import LAYOUTS
from layover.tasks.task import Task

PAGE = ROOT / "docs" / "how-to" / "use-your-own-data.md"
EXAMPLES: dict[str, dict[str, Any]] = {
    name: table
    for block in blocks(PAGE)
    if block.language == "toml" and block.word != "wrong.toml"
    for name, table in tomllib.loads(block.text)["task"].items()
}
BRIEF = Recipe(epochs=1, batch_size=4, max_length=48, learning_rate=1e-3)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_files(PAGE, tmp_path)
    return tmp_path


def test_the_page_has_an_example_of_every_format_and_names_its_keys() -> None:
    assert {table["format"] for table in EXAMPLES.values()} == set(LAYOUTS)
    rows = {
        line.split("`")[1]: line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| [`")
    }
    assert {kind: [key for key in layout.own_keys() if f"`{key}`" not in rows[kind]] for kind, layout in LAYOUTS.items()
            } == {kind: [] for kind in LAYOUTS}  # fmt: skip


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_examples_are_read_and_trained(name: str, folder: Path, bert: Path) -> None:
    table = EXAMPLES[name]
    task = own_task(name, table, "", folder)
    data = load(task, locate(task, [], own_files(table, folder)), selection="holdout", holdout=0.25)
    assert data.train
    assert data.selection
    assert data.validation
    result = trained(bert, data, folder, BRIEF)
    predictions = result.decoded.predictions
    assert len(predictions) > 0
    assert 0 <= METRICS[task.primary].score(predictions) <= 100 or task.format.scored == "value"
    assert math.isfinite(result.state.best_score)


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_worker_builds_the_same_task_from_json(name: str, folder: Path) -> None:
    task = own_task(name, EXAMPLES[name], "", folder)
    stored = json.loads(json.dumps(declaration(EXAMPLES[name], folder)))
    again = from_declaration(name, stored)
    assert again == task
    source = locate(task, [], own_files(EXAMPLES[name], folder))
    assert read(again, source, "train") == read(task, source, "train")


def examples_of(name: str, folder: Path) -> tuple[Task, list[Any]]:
    task = own_task(name, EXAMPLES[name], "", folder)
    return task, read(task, locate(task, [], own_files(EXAMPLES[name], folder)), "train")


def marked(example: Any, target: int = 0) -> list[str]:
    first, second = example.inputs[0]
    texts = [" ".join(first), " ".join(second or ())]
    return [texts[mark.segment][mark.begin : mark.end] for mark in example.targets[target].marks]


def names_of(task: Task, example: Any) -> list[list[str]]:
    return [[task.labels[int(label)] for label in target.labels] for target in example.targets]


def test_what_the_examples_say(folder: Path) -> None:
    _, manual = examples_of("manual", folder)
    assert marked(manual[0]) == ["two seconds"]
    task, products = examples_of("products", folder)
    assert task.labels == ("B", "I", "O")
    assert [marked(products[0], i) for i in range(4)] == [["my"], ["new"], ["phone"], ["fell"]]
    assert names_of(task, products[0]) == [["O"], ["B"], ["I"], ["O"]]
    task, relations = examples_of("relations", folder)
    assert [marked(example) for example in relations[:2]] == [["the nurse", "called"], ["the doctor", "called"]]
    assert names_of(task, relations[4]) == [["agent", "cause"]]
    task, entities = examples_of("entities", folder)
    assert [marked(entities[0], i) for i in (0, 1)] == [["Anna"], ["Oslo"]]
    assert names_of(task, entities[0]) == [["person"], ["place"]]
    _, senses = examples_of("senses", folder)
    assert marked(senses[0]) == ["bank", "bank"]
    _, mentions = examples_of("mentions", folder)
    assert marked(mentions[0]) == ["the cup", "it"]
    task, course = examples_of("course", folder)
    assert task.labels == ("wrong", "right")
    assert [(e.row, e.inputs[0][1][1], e.label) for e in course[:4]] == [
        (0, "it boils", 1), (0, "it freezes", 1), (0, "it burns", 0), (1, "honey", 1)
    ]  # fmt: skip
    _, lessons = examples_of("lessons", folder)
    assert [e.label for e in lessons[:2]] == [1, 0]
    _, news = examples_of("news", folder)
    assert [(e.text, e.golds, e.label) for e in news[:2]] == [("Oslo", ("Bergen",), 0), ("Bergen", ("Bergen",), 1)]


def test_metrics_have_defaults_by_what_is_scored(folder: Path) -> None:
    expected = {"manual": "token_f1", "products": "accuracy", "relations": "micro_f1", "senses": "accuracy",
                "mentions": "accuracy", "course": "f1a_em", "news": "token_f1", "ratings": "spearman"}  # fmt: skip
    assert {name: own_task(name, EXAMPLES[name], "", folder).primary for name in expected} == expected


def told(name: str, folder: Path, change: dict[str, Any]) -> str:
    table = {key: value for key, value in {**EXAMPLES[name], **change}.items() if value is not None}
    with pytest.raises(TaskError) as caught:
        own_task(name, table, f"task.{name}", folder)
    return str(caught.value)


BAD_TABLES: list[tuple[str, dict[str, Any], list[str]]] = [
    ("manual", {"passage": None}, ["task.manual.passage: is missing"]),
    ("manual", {"label": "x"}, ["task.manual.label: format 'span' has no such key"]),
    ("manual", {"metrics": ["accuracy"]}, ["'accuracy' does not suit", "token_f1, exact_match, token_f1_em"]),
    ("manual", {"starts": 3}, ["task.manual.starts: is 3, not a text"]),
    ("products", {"range": [0, 1]}, ["task.products.range: format 'tagging' predicts labels, not a number"]),
    ("products", {"metrics": ["f1"]}, ["'f1' does not suit this task"]),
    ("relations", {"ends": None}, ["task.relations.ends: is missing", "give starts and ends"]),
    ("relations", {"starts": None, "ends": None}, ["lacks a key", "give spans, or starts and ends"]),
    ("relations", {"spans": "s"}, ["has too many keys", "give spans, or starts and ends"]),
    ("relations", {"ends": ["end1"]}, ["starts and ends do not name equally many columns"]),
    ("relations", {"ends": ["a", "b", "c"]}, ["task.relations.ends: is ['a', 'b', 'c']", "one column or two"]),
    ("relations", {"starts": ["begn1", "begin2"]}, ["relations.csv, line 2: field 'begn1' is missing", "begin1"]),
    ("senses", {"word": None}, ["lacks a key", "give word, or starts and ends"]),
    ("senses", {"word": "wrd"}, ["senses.csv, line 2: field 'wrd' is missing"]),
    ("mentions", {"spans": ["name"]}, ["task.mentions.spans: is ['name']", "a column for each of the two"]),
    ("mentions", {"words": None}, ["task.mentions.words: is missing"]),
    ("course", {"labels": None}, ["which label is that of a right answer is not plain: right, wrong", "give labels"]),
    ("course", {"labels": ["a", "b", "c"]}, ["task.course.labels", "that of a wrong answer, then"]),
    ("course", {"group": ["pasage"], "labels": None}, ["course.csv, line 2: field 'pasage' is missing"]),
    ("course", {"group": "passage", "labels": None}, ["line 5: field 'question' differs among the rows"]),
    ("news", {"candidates": None, "answers": 3}, ["news.candidates: is missing", "news.answers: is 3, not a text"]),
    ("news", {"labels": ["a", "b"]}, ["task.news.labels: format 'cloze' has no such key"]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "change", "expected"), BAD_TABLES)
def test_a_wrong_table_is_told(name: str, change: dict[str, Any], expected: list[str], folder: Path) -> None:
    text = told(name, folder, change)
    for part in expected:
        assert part in text


BAD_ROWS: list[tuple[str, str, str, list[str]]] = [
    ("manual", "use cold water only,what water is used,hot water", "train", ["line 2", "'answer'", "'hot water'"]),
    ("products", "my new phone,O B", "train", ["line 2: field 'tags' holds 2 tags for 3 words"]),
    ("products", "my phone,O X", "validation", ["line 2: field 'tags' holds 'X', which is not a label", "B, I, O"]),
    ("products", "\"['my', 'phone']\",O B", "train", ["line 2: field 'sentence' is no JSON list", '["a", "b"]']),
    ("relations", "a b c,0,9,1,2,agent", "train", ["line 2: field 'begin1, end1' is ['0', '9']", "3 words"]),
    ("relations", "a b c,0,x,1,2,agent", "train", ["field 'begin1, end1' holds 'x', not a whole number"]),
    ("relations", "a b c,0,1,1,2,theme", "validation", ["line 2: field 'role' holds 'theme'", "agent, cause, patient"]),
    ("relations", "a b c,0,1,1,2,agent\na b,0,9,0,1,agent\na b,0,1,1,7,agent", "train", ["line 3", "line 4"]),
    ("senses", "the banks,the bank,bank,no", "train", ["line 2: field 'word' holds 'bank', which is no whole word of"]),
    ("mentions", "it fell,it,0,he,1,true", "train", ["line 2: field 'pronoun' holds 'he', which is not in the text"]),
    ("mentions", "it fell,it,0,it,9,true", "train", ["line 2: field 'pronoun_at' is 9, but the text has 2 words"]),
    ("course", "p,q,a,maybe", "validation", ["line 2: field 'label' holds 'maybe'", "right, wrong"]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "rows", "split", "expected"), BAD_ROWS)
def test_a_wrong_row_is_told(name: str, rows: str, split: str, expected: list[str], folder: Path) -> None:
    train = folder / EXAMPLES[name]["train"]
    header = train.read_text(encoding="utf-8").splitlines()[0]
    (folder / "wrong.csv").write_text(f"{header}\n{rows}\n", encoding="utf-8")
    table = {**EXAMPLES[name], "validation": "wrong.csv"}
    task = own_task(name, table, "", folder)
    files = own_files({**table, split: "wrong.csv"}, folder)
    with pytest.raises(TaskError) as caught:
        read(task, locate(task, [], files), split)
    for part in ["wrong.csv", *expected]:
        assert part in str(caught.value)


def test_lists_in_cells_of_every_kind_of_file(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [{"p": "a red cat sat", "q": "who", "a": ["a red cat", "cat"], "at": [0, 6]}] * 2
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "t.parquet")
    cells = 'a red cat sat\twho\t["a red cat", "cat"]\t[0, 6]\n'
    (tmp_path / "t.tsv").write_text("p\tq\ta\tat\n" + 2 * cells, encoding="utf-8")
    quoted = 'a red cat sat,who,"[""a red cat"", ""cat""]","[0, 6]"\n'
    (tmp_path / "t.csv").write_text("p,q,a,at\n" + 2 * quoted, encoding="utf-8")
    found = []
    for name in ("t.jsonl", "t.parquet", "t.tsv", "t.csv"):
        table = {"train": name, "format": "span", "passage": "p", "question": "q", "answers": "a", "starts": "at"}
        task = own_task("spans", table, "", tmp_path)
        found.append(read(task, locate(task, [], own_files(table, tmp_path)), "train"))
    assert found[0][0].golds == ("a red cat", "cat")
    assert found == [found[0]] * 4


def test_a_choice_may_be_a_list_in_a_cell(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text('start,ends,label\nit fell and,"[""broke"", ""flew""]",0\n', encoding="utf-8")
    table = {"train": "c.csv", "format": "choice", "context": "start", "choices": "ends"}
    task = own_task("c", table, "", tmp_path)
    example = read(task, locate(task, [], own_files(table, tmp_path)), "train")[0]
    assert [second for _, second in example.inputs] == [("broke",), ("flew",)]


def test_answers_of_one_question_may_stand_anywhere(tmp_path: Path) -> None:
    rows = "id,text,asked,reply,ok\n1,p,q,a,0\n2,p,r,b,1\n1,p,q,c,1\n2,p,r,d,0\n"
    (tmp_path / "a.csv").write_text(rows, encoding="utf-8")
    table = {"train": "a.csv", "format": "answers", "passage": "text", "question": "asked", "answers": "reply",
             "label": "ok", "group": "id"}  # fmt: skip
    task = own_task("a", table, "", tmp_path)
    found = read(task, locate(task, [], own_files(table, tmp_path)), "train")
    assert [(e.row, e.inputs[0][1], e.label) for e in found] == [
        (0, ("q", "a"), 0), (0, ("q", "c"), 1), (1, ("r", "b"), 1), (1, ("r", "d"), 0)
    ]  # fmt: skip


def test_places_of_a_word_may_be_given(tmp_path: Path) -> None:
    (tmp_path / "w.csv").write_text("a,b,s1,e1,s2,e2,label\nhe ran,they run,3,6,5,8,1\nran,run,0,3,0,3,0\n")
    table = {"train": "w.csv", "format": "words", "first": "a", "second": "b", "starts": ["s1", "s2"],
             "ends": ["e1", "e2"]}  # fmt: skip
    task = own_task("w", table, "", tmp_path)
    assert marked(read(task, locate(task, [], own_files(table, tmp_path)), "train")[0]) == ["ran", "run"]
    (tmp_path / "v.csv").write_text("a,b,w1,w2,label\nhe ran,they run,ran,Run,1\nran,run,ran,run,0\n")
    two = {"train": "v.csv", "format": "words", "first": "a", "second": "b", "word": ["w1", "w2"]}
    task = own_task("v", two, "", tmp_path)
    assert marked(read(task, locate(task, [], own_files(two, tmp_path)), "train")[0]) == ["ran", "run"]
