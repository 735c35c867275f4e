"""`layover tasks --check`: known oddities planted in generated data are counted, and real data has its known counts."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.kit import FAMILIES, Command, choice_rows, write_rows
from tests.test_live import Terminal

from layover.datacheck.check import check
from layover.datacheck.facts import DataCheck, Elsewhere, Overlap, Split, Spread, TaskFacts, Tokens
from layover.datacheck.prints import Prints, elsewhere, overlap
from layover.datacheck.tally import Tally
from layover.datacheck.words import markdown, share
from layover.tasks import TASKS
from layover.tasks.example import Example, Mark, Omitted, Target
from layover.tasks.formats import Choice, PassageAnswers
from layover.tasks.spans import EdgeProbing, Span
from layover.tasks.task import Task
from layover.train.encode import encode

DATA = Path(os.environ.get("LAYOVER_TEST_DATA") or Path(__file__).parents[2] / "shared" / "data")
real_data = pytest.mark.skipif(not DATA.is_dir(), reason="no real data: set LAYOVER_TEST_DATA to a data directory")
Rows = Sequence[Mapping[str, Any]]


def put(data: Path, task: str, train: Rows, validation: Rows) -> Path:
    write_rows(data / task / "train.jsonl", train)
    write_rows(data / task / "validation.jsonl", validation)
    return data


def acceptable(*texts: str, label: int = 1) -> list[dict[str, Any]]:
    return [{"sentence": text, "label": label} for text in texts]


def quiet(task: str, done: int, total: int, rows: int) -> None:
    """Nobody is told."""


def check_one(data: Path, task: str, encoder: Path | None = None) -> TaskFacts:
    (facts,) = check(task, [data], str(encoder) if encoder else None, quiet).tasks
    return facts


def read(facts: TaskFacts) -> tuple[Split, Split]:
    assert facts.train is not None
    assert facts.validation is not None
    return facts.train, facts.validation


def tally(task: Task, rows: Rows) -> Split:
    counted = Tally(task, None)
    for row in rows:
        counted.add(row)
    return counted.facts(task.labels or [str(n) for n in range(1, 9)], None)


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """A data directory with one of everything that is odd about CoLA."""
    train = [*acceptable("One two.", "one  TWO.", "three four", "five six"), *acceptable("three four", label=0)]
    seen = acceptable("FIVE six", "five seven")
    return put(tmp_path / "data", "cola", train, [*seen, *acceptable("one two.", label=0)])


def test_repeats_and_overlap_are_counted_by_what_an_encoder_reads(odd: Path) -> None:
    facts = check_one(odd, "cola")
    train, _ = read(facts)
    assert (train.repeats, train.disputed) == (2, 1)
    assert facts.overlap is not None
    assert (facts.overlap.asked, facts.overlap.relabelled, facts.overlap.texts) == (2, 1, 2)


def test_labels_are_counted_by_name(odd: Path) -> None:
    facts = check_one(odd, "cola")
    train, validation = read(facts)
    assert train.labels == {"acceptable": 4, "unacceptable": 1}
    assert validation.labels == {"acceptable": 2, "unacceptable": 1}
    assert facts.unseen == {}


def test_labels_that_train_has_not_are_named(tmp_path: Path) -> None:
    data = put(tmp_path, "cola", acceptable("a", "b"), [*acceptable("c"), *acceptable("d", "e", label=0)])
    assert check_one(data, "cola").unseen == {"unacceptable": 2}


def test_choices_in_another_order_ask_the_same() -> None:
    task = Task("t", 1, Choice("c", ("x", "y")), ("accuracy",))
    first = {"c": "why", "x": "so", "y": "not", "label": 0}
    split = tally(task, [first, {**first, "x": "not", "y": "so", "label": 1}, {**first, "label": 1}])
    assert (split.repeats, split.disputed) == (2, 1)
    assert split.labels == {"2": 2, "1": 1}


def test_choices_of_varying_number_and_equal_ones_are_counted() -> None:
    task = Task("t", 1, Choice("c", ("x",)), ("accuracy",))
    rows = [{"c": "a", "x": ["p", "q"], "label": 1}, {"c": "b", "x": ["p", "q", "p"], "label": 0}]
    split = tally(task, rows)
    assert split.spread is not None
    assert (split.spread.of, split.spread.lowest, split.spread.highest) == ("choices", 2, 3)
    assert split.odd == {"questions with the same choice twice": 1}


def test_answers_that_are_empty_or_all_alike_are_counted() -> None:
    task = Task("t", 1, PassageAnswers("p", "q", "a", blank=True), ("f1a",), ("no", "yes"), label="l")
    rows = [{"p": "a b", "q": "which", "a": ["", "b"], "l": [0, 0]}, {"p": "a b", "q": "who", "a": ["c"], "l": [1]}]
    split = tally(task, rows)
    assert split.odd == {
        "questions without a right answer": 1, "questions without a wrong answer": 1, "empty answers": 1,
    }  # fmt: skip
    assert (split.questions, split.examples) == (2, 3)


def test_rows_without_an_example_are_counted_by_reason() -> None:
    def divided(row: Mapping[str, Any]) -> list[Any]:
        return [Omitted("not valid"), {"text": "a b", "targets": []}, row]

    target = {"span1": [0, 1], "label": ["x", "y"]}
    task = Task("t", 1, EdgeProbing(1), ("micro_f1",), ("x", "y"), prepare=divided)
    split = tally(task, [{"text": "a b", "targets": [target, target]}])
    assert split.omitted == {"not valid": 1, "there is nothing to predict": 1}
    assert (split.questions, split.targets, split.rows) == (1, 2, 1)
    assert split.odd == {"targets about the same stretch as another": 1}
    assert split.labels == {"x": 2, "y": 2}


def test_answers_to_one_question_are_no_repeats() -> None:
    task = Task("t", 1, Span("p", "q", "a", each=True), ("exact_match",))
    row = {"p": "a b a", "q": "which", "a": ["a", "b"]}
    split = tally(task, [row, {**row, "a": ["b"]}, {**row, "p": "a c b"}])
    assert (split.questions, split.examples, split.repeats, split.disputed) == (3, 5, 1, 1)
    assert split.odd == {"questions with an answer that occurs more than once in the passage": 1}


def test_stretches_make_questions_about_one_text_differ() -> None:
    def asked(begin: int) -> Example:
        return Example(0, ((("a b",), None),), (Target((0,), (Mark(0, begin, begin + 1),)),))

    train, validation = Prints(), Prints()
    train.add(asked(0), "classes")
    validation.add(asked(2), "classes")
    found = overlap(train, validation)
    assert (found.asked, found.texts) == (0, 1)
    assert elsewhere({"s": train, "t": Prints()}, {"s": Prints(), "t": validation})["t"][0].inputs == 1


def test_texts_of_validation_in_the_train_split_of_another_task_are_found(tmp_path: Path) -> None:
    put(tmp_path, "cola", acceptable("a b", "c d", "c d"), acceptable("e f"))
    put(tmp_path, "sst2", acceptable("x"), acceptable("C d", "a b", "a b", "g"))
    facts = {one.task: one for one in check(None, [tmp_path], None, quiet).tasks}
    (found,) = facts["sst2"].elsewhere
    assert (found.source, found.inputs, found.texts) == ("cola", 3, 3)
    assert facts["cola"].elsewhere == ()


def test_stretches_that_are_not_at_their_word_are_counted(tmp_path: Path) -> None:
    def row(word: int) -> dict[str, Any]:
        target = {"span1_text": "Ann", "span1_index": 0, "span2_text": "she", "span2_index": word}
        return {"text": "Ann left, and she came.", "target": target, "label": True}

    train, validation = read(check_one(put(tmp_path, "wsc", [row(3), row(4)], [row(3)]), "wsc"))
    assert train.odd == {"stretches that are not at the word that the row names": 1}
    assert validation.odd == {}


def test_what_is_cut_and_what_is_lost_with_it(tmp_path: Path, bert: Path) -> None:
    long = "the film was a story about trains that stop on their way to you and " * 30

    def row(first: str) -> dict[str, Any]:
        begin = len(first)
        places = {"start1": begin, "end1": begin + 4, "start2": 0, "end2": 4}
        return {"sentence1": f"{first}good", "sentence2": "good", "label": True, **places}

    data = put(tmp_path, "wic", [row(""), row(long)], [row("")])
    train, validation = read(check_one(data, "wic", bert))
    assert train.tokens is not None
    assert validation.tokens is not None
    assert (train.tokens.cut, train.tokens.lost) == ({128: 0.5, 256: 0.5}, {128: 0.5, 256: 0.5})
    assert (validation.tokens.cut[128], validation.tokens.lost) == (0.0, {128: 0.0, 256: 0.0})
    assert validation.tokens.median == validation.tokens.longest == 5
    assert train.tokens.longest > 256


@pytest.mark.parametrize("family", FAMILIES)
def test_lengths_are_those_of_training(family: str, encoder: Callable[[str], Path]) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(encoder(family))
    choice = Task("t", 1, Choice("context", ("choices",), question="question"), ("accuracy",))
    alone = Task("t", 1, Choice(None, ("choices",)), ("accuracy",))
    for task in (choice, alone):
        counted, examples = Tally(task, tokenizer), []
        for index, row in enumerate(choice_rows(20, n_choices=3)):
            counted.add(row)
            examples += task.examples(index, row)
        found = counted.facts(("1", "2", "3"), None).tokens
        longest = encode(examples, task, tokenizer, 1000).longest
        assert found is not None
        assert (found.longest, found.median) == (longest.max(), np.sort(longest)[9])


def test_a_stretch_that_no_token_holds_is_counted(tmp_path: Path, bert: Path) -> None:
    places = {"start1": 0, "end1": 1, "start2": 0, "end2": 4}
    row = {"sentence1": "\u200b good", "sentence2": "good", "label": True, **places}
    train, _ = read(check_one(put(tmp_path, "wic", [row], [row]), "wic", bert))
    assert train.tokens is not None
    assert train.tokens.unheld == 1
    assert train.tokens.lost == {128: 0.0, 256: 0.0}


@pytest.mark.parametrize(
    ("published", "omitted", "expected"),
    [(100, {}, "equal"), (103, {}, "differs"), (99, {}, "differs"), (112, {}, "sample"), (None, {}, ""),
     (110, {"why": 10}, "equal"), (100, {"why": 10}, "equal")],
)  # fmt: skip
def test_counts_are_compared_with_the_published_ones(published: int, omitted: dict[str, int], expected: str) -> None:
    split = Split(100, 100, 100, 100, omitted, 0, {}, {}, None, 0, 0, published, None)
    assert split.against == expected


def test_a_broken_row_is_a_problem_and_the_rest_is_counted(tmp_path: Path, command: Command) -> None:
    put(tmp_path, "cola", acceptable("a", "b"), acceptable("c"))
    put(tmp_path, "sst2", acceptable("d"), acceptable("e"))
    with (tmp_path / "cola" / "train.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"sentence": "f", "label": "perhaps"}\nno json\n')
    (tmp_path / "wnli").mkdir()
    write_rows(tmp_path / "wnli" / "train.jsonl", [])
    ran = command("tasks", "--check", "--json", "--data", tmp_path)
    assert ran.code == 1
    facts = {one["task"]: one for one in ran.json["tasks"]}
    assert [facts["cola"]["train"][name] for name in ("rows", "broken", "questions")] == [4, 2, 2]
    assert [problem["place"].rsplit(", ")[-1] for problem in facts["cola"]["problems"]] == ["line 3", "line 4"]
    assert facts["sst2"]["problems"] == []
    assert "validation split is missing" in facts["wnli"]["problems"][0]["message"]
    assert facts["wnli"]["train"] is None
    shown = command("tasks", "--check", "--data", tmp_path)
    assert shown.code == 1
    assert "'perhaps', which is not a label" in shown.err
    assert "rows that cannot be read: 2 of train" in shown.out


def test_a_split_without_a_row_that_can_be_read_is_a_problem(tmp_path: Path) -> None:
    facts = check_one(put(tmp_path, "cola", acceptable("a"), []), "cola")
    assert [problem.message for problem in facts.problems] == [
        "the file holds no rows", "its validation split has no row that can be read",
    ]  # fmt: skip


def test_json_has_everything_in_json_types(odd: Path, command: Command) -> None:
    ran = command("tasks", "cola", "--check", "--json", "--data", odd)
    assert ran.code == 0
    (facts,) = ran.json["tasks"]
    assert ran.json["lengths"] == [128, 256]
    assert facts["overlap"] == {"asked": 2, "relabelled": 1, "texts": 2}
    assert facts["folders"] == [str(odd / "cola")]
    assert set(facts["train"]) >= {"rows", "questions", "omitted", "odd", "labels", "tokens", "published", "against"}
    assert "cola" in ran.err


def test_the_table_fits_a_terminal_and_says_what_is_odd(odd: Path, command: Command) -> None:
    put(odd, "coal", acceptable("a"), acceptable("b"))
    ran = command("tasks", "--check", "--data", odd)
    assert ran.code == 0
    lines = ran.out.splitlines()
    (row,) = [line.split() for line in lines if line.startswith("cola ") and "/" in line]
    assert row == ["cola", "2", "/", "0", "2", "1", "2", "acceptable", "66.7%"]
    assert "2 of validation are in train, 1 of them with another label" in ran.out
    assert "no task of the catalogue: `coal`" in ran.out
    assert max(len(line) for line in lines if line[:4] in ("task", "cola") and ";" not in line) <= 120


def test_markdown_is_written_and_holds_no_text_of_the_data(odd: Path, command: Command, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    assert command("tasks", "--check", "--data", odd, "--out", page).code == 0
    text = page.read_text(encoding="utf-8")
    assert "| `cola` | 2 / 0 | 2 | 1 | 2 | acceptable | 66.7% |" in text
    assert "three" not in text
    assert text.endswith("\n")
    assert command("tasks", "--check", "--data", odd, "--out", tmp_path / "no" / "page.md").code == 2


def test_what_is_absent_is_named_with_its_licence() -> None:
    found = markdown(DataCheck("", (), {"rte": "", "ccg": "needs CCGbank"}))
    assert "Not in these directories: `rte`." in found
    assert "`ccg` is not in these directories: it needs CCGbank" in found


def test_lengths_are_left_out_without_an_encoder(odd: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("layover.encoders.Alias.directory", lambda _: None)
    ran = command("tasks", "cola", "--check", "--data", odd)
    assert ran.code == 0
    assert "no lengths: name an encoder with --encoder" in ran.out
    assert "longest" not in ran.out


@pytest.mark.parametrize(
    ("words", "said"),
    [(["--check"], "there is no data directory"), (["--encoder", "minilm"], "goes with --check"),
     (["colla", "--check"], "did you mean 'cola'?"), (["edge_ner", "--check"], "its data was not found"),
     (["micro_pair", "--check", "--encoder", "nowhere/at/all"], "nowhere/at/all")],
)  # fmt: skip
def test_nothing_to_read_is_wrong_input(words: list[str], said: str, command: Command) -> None:
    ran = command("tasks", *words)
    assert ran.code == 2
    assert said in ran.err


def test_a_generated_task_can_be_checked_by_name(command: Command) -> None:
    ran = command("tasks", "micro_pair", "--check", "--json")
    assert ran.code == 0
    assert ran.json["tasks"][0]["train"]["questions"] > 0


def test_a_terminal_shows_a_bar(odd: Path, tmp_path: Path) -> None:
    terminal = Terminal(tmp_path, "tasks", "--check", "--data", str(odd))
    assert terminal.end() == 0, terminal.shown
    assert "1/1" in terminal.shown
    assert "2 of validation are in train" in terminal.shown.replace("\r\n", " ")


def test_shares_are_nought_only_where_there_is_none() -> None:
    assert [share(value) for value in (0.0, 0.0001, 0.123, 1.0)] == ["0", "<0.1%", "12.3%", "100.0%"]


def test_case_blanks_and_width_of_letters_make_no_difference() -> None:
    prints = Prints()
    for text in ("Ａ  b", "a B", "a b."):
        prints.add(Example(0, (((text,), None),), (Target((1,)),)), "classes")
    assert len(np.unique(prints.asked)) == 2


def test_every_task_of_the_catalogue_can_be_tallied_empty() -> None:
    for task in TASKS:
        assert Tally(task, None).facts(task.labels, None).questions == 0


@real_data
@pytest.mark.parametrize(
    ("task", "train", "validation"),
    [("cb", (250, 250), (56, 56)), ("copa", (400, 400), (100, 100)), ("wsc", (554, 554), (104, 104)),
     ("rte", (2490, 2490), (277, 277)), ("wic", (5428, 5428), (638, 638)), ("multirc", (5131, 27243), (953, 4848)),
     ("boolq", (2045, 2045), (3270, 3270))],
)  # fmt: skip
def test_real_data_has_its_known_counts(task: str, train: tuple[int, int], validation: tuple[int, int]) -> None:
    from layover.tasks.load import locate, rows

    found = TASKS.get(task)
    source = locate(found, [DATA])
    for split, expected in (("train", train), ("validation", validation)):
        counted = Tally(found, None)
        for _, row in rows(found, source, split):
            assert isinstance(row, dict)
            counted.add(row)
        facts = counted.facts(found.labels or ["1", "2"], None)
        assert (facts.questions, facts.examples) == expected
        assert facts.broken == 0


def test_the_published_page_is_what_the_command_writes() -> None:
    page = Path(__file__).parents[1] / "docs" / "results" / "data.md"
    head = markdown(DataCheck("minilm", ())).split("## ")[0]
    assert page.read_text(encoding="utf-8").startswith(head)


def test_every_field_of_the_json_is_in_the_reference() -> None:
    page = (Path(__file__).parents[1] / "docs" / "reference.md").read_text(encoding="utf-8")
    section = page.split("## What a check of data finds")[1].split("\n## ")[0]
    kinds = (DataCheck, TaskFacts, Split, Spread, Tokens, Overlap, Elsewhere)
    names = {name for kind in kinds for name in kind.__dataclass_fields__} | {"lengths", "against"}
    assert sorted(name for name in names if f"`{name}`" not in section) == []


def test_json_survives_json() -> None:
    found = DataCheck("", (), {"rte": ""}, ("x",))
    assert json.loads(json.dumps(found.to_json()))["absent"] == {"rte": ""}
