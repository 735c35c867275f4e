"""The contract of every declared task, and rows as each release and the Hub have them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from layover.metrics import METRICS, fitting
from layover.tasks import TASKS, Task
from layover.tasks.example import Example, Omitted
from layover.tasks.fields import FieldError
from layover.tasks.formats import Choice, Pair, Single
from layover.tasks.spans import EdgeProbing

CATALOGUE = list(TASKS)
PLAIN = [task for task in CATALOGUE if isinstance(task.format, Single | Pair | Choice) and task.prepare is None]
PAPER_EDGES = ("pos", "ner", "srl", "coref", "const", "spr1", "spr2", "dpr", "semeval_rel", "dep_ewt")
TWO_SPANS = {"srl", "coref", "dep_ewt", "spr1", "spr2", "dpr", "semeval_rel", "srl_ewt", "coref_gum"}
SENTEVAL = (
    "sentence_length",
    "word_content",
    "tree_depth",
    "top_constituents",
    "bigram_shift",
    "past_present",
    "subj_number",
    "obj_number",
    "odd_man_out",
    "coordination_inversion",
)
PAPERS = {
    "intermediate": [
        "qamr",
        "qasrl",
        "commonsenseqa",
        "scitail",
        "cosmosqa",
        "socialiqa",
        "hellaswag",
        "sst2",
        "qqp",
        "mnli",
        "ccg",
    ],
    "target": ["cb", "copa", "wsc", "rte", "multirc", "wic", "boolq", "commonsenseqa", "cosmosqa", "record"],
    "probing": [
        *(f"edge_{name}" for name in PAPER_EDGES),
        *(f"se_{name}" for name in SENTEVAL),
        *["cola", "aj_wh", "aj_def", "aj_coord", "aj_eos"],
    ],
    "glue": ["cola", "sst2", "mrpc", "qqp", "stsb", "mnli", "qnli", "rte_glue", "wnli"],
    "chang_lu": [
        "hellaswag",
        "hellaswag_p",
        "winogrande_xs",
        "winogrande_m",
        "winogrande_l",
        "mednli",
        "socialiqa_clip60",
        "wic",
    ],
}


@pytest.mark.parametrize("paper", PAPERS)
def test_every_task_of_the_papers_is_declared(paper: str) -> None:
    assert [name for name in PAPERS[paper] if name not in TASKS] == []


@pytest.mark.parametrize("task", CATALOGUE, ids=lambda t: t.name)
def test_declaration(task: Task) -> None:
    assert re.fullmatch(r"[a-z0-9_]+", task.name)
    assert task.version >= 1
    assert task.about.strip()
    assert task.source.strip()
    assert task.metrics
    assert set(task.metrics) <= set(METRICS)
    assert set(task.metrics) <= set(fitting(task.format.scored, len(task.labels)))
    assert len(set(task.labels)) == len(task.labels)
    assert (len(task.labels) >= 2 or task.labels_in_data) == (task.output in ("classes", "labels"))
    assert (task.bounds is not None) == (task.output == "value")
    assert task.published is None or min(task.published) > 0
    if task.hub:
        assert re.fullmatch(r"[0-9a-f]{40}", task.hub.revision)
    if task.labels:
        assert set(task.spellings.values()) <= set(task.labels)
    if task.licence:  # says what is lacking, and nothing of it is on the Hub
        assert task.licence.startswith("needs ")
        assert task.hub is None


def test_names_are_unique() -> None:
    names = [task.name for task in CATALOGUE]
    assert len(names) == len(set(names)) >= 120


def test_edge_probing_tasks_say_how_many_stretches_and_which_label_is_positive() -> None:
    edges = {task.name.removeprefix("edge_"): task for task in CATALOGUE if isinstance(task.format, EdgeProbing)}
    assert {name for name, task in edges.items() if task.format.reads.marks == 2} == TWO_SPANS
    assert {name: task.labels[-1] for name, task in edges.items() if task.labels} == {
        "coref": "1",
        "coref_gum": "1",
        "dpr": "entailed",
    }
    for task in edges.values():
        assert task.primary == "micro_f1"
        assert ("last_label_f1" in task.metrics) == bool(task.labels)
    licensed = {name for name, task in edges.items() if task.licence}
    assert licensed == {"pos", "ner", "srl", "coref", "const", "spr1"}


def test_a_family_of_folds_has_ten_and_their_own_names() -> None:
    for name in ("aj_wh", "aj_def", "aj_coord", "aj_eos"):
        folds = [task for task in CATALOGUE if task.family == f"{name}_fold1..10"]
        assert sorted(task.name for task in folds) == sorted(f"{name}_fold{k}" for k in range(1, 11))
        assert {task.release.folder for task in folds} == {name}


def layouts(task: Task) -> Iterator[tuple[dict[str, Any], str]]:
    """A synthetic row without label in each layout that the declaration's paths allow, and the label's path."""
    paths = (*task.format.paths(), task.label)
    for n in range(max(path.count("|") + 1 for path in paths)):
        row: dict[str, Any] = {}
        for path in task.format.paths():
            put(row, path.split("|")[min(n, path.count("|"))], f"text of {path}")
        yield row, task.label.split("|")[min(n, task.label.count("|"))]


def put(row: dict[str, Any], path: str, text: str) -> None:
    """Set a path such as `a.b` or `a.b[].c`; `endings` is a list of its own."""
    *parents, last = path.split(".")
    for parent in parents:
        if parent.endswith("[]"):
            row[parent[:-2]] = [{last: f"{text} {i}"} for i in range(5)]
            return
        row = row.setdefault(parent, {})
    row[last] = [f"{text} {i}" for i in range(5)] if path in ("choices.text", "endings") else text


@pytest.mark.parametrize("task", PLAIN, ids=lambda t: t.name)
def test_a_row_of_every_layout_and_label_is_read(task: Task) -> None:
    for row, label in layouts(task):
        written = {**{name: name for name in task.labels}, **task.spellings}
        if task.output == "choice" and not task.spellings:
            written = {"0": "0", "1": "1"}
        if task.output == "value":
            written = {"0": "0", "2.5": "2.5"}
        for text, name in written.items():
            (example,) = task.examples(7, {**row, label: text})
            assert example.row == 7
            assert example.label == (task.labels.index(name) if task.labels else float(name))
            assert all(piece for first, second in example.inputs for piece in (*first, *(second or ())))


def read(name: str, **row: Any) -> list[Example]:
    return TASKS.get(name).examples(0, row)


def read_row(name: str, **row: Any) -> Example:
    (example,) = read(name, **row)
    return example


def refusal(name: str, row: dict[str, Any]) -> str:
    """What is said about a row that is wrong."""
    with pytest.raises(FieldError) as caught:
        TASKS.get(name).examples(0, row)
    return str(caught.value)


def marked(example: Example) -> list[list[str]]:
    """The text under every mark of every target."""
    texts = [" ".join(segment or ()) for segment in example.inputs[0]]
    return [[texts[m.segment][m.begin : m.end] for m in target.marks] for target in example.targets]


def test_copa_asks_its_question_in_words() -> None:
    row = {"premise": "It rained.", "choice1": "Wet.", "choice2": "Dry."}
    example = read_row("copa", **row, question="effect", label=0)
    assert example.inputs == (
        (("It rained.", "What happened as a result?"), ("Wet.",)),
        (("It rained.", "What happened as a result?"), ("Dry.",)),
    )
    assert "cause of this?" in read_row("copa", **row, question="cause", label=1).inputs[0][0][1]
    assert "holds 'why'" in refusal("copa", {**row, "question": "why", "label": 1})


def test_labels_of_the_releases() -> None:
    pair = {"premise": "a", "hypothesis": "b"}
    assert [read_row("cb", **pair, label=x).label for x in (1, "contradiction", 2)] == [1, 1, 2]
    assert [read_row("mnli", **pair, label=x).label for x in (2, "contradiction", 1)] == [2, 2, 1]
    assert [read_row("rte", **pair, label=x).label for x in (0, "entailment", "not_entailment")] == [0, 0, 1]
    assert [read_row("scitail", **pair, label=x).label for x in ("entails", "entailment", "neutral")] == [0, 0, 1]
    asked = {"passage": "a", "question": "b"}
    assert [read_row("boolq", **asked, label=x).label for x in (True, False, "True", "false", 1)] == [1, 0, 1, 0, 1]
    assert read_row("boolq", **asked, answer=False).label == 0
    told = {"context": "a", "question": "b", "answerA": "c", "answerB": "d", "answerC": "e"}
    assert [read_row("socialiqa", **told, label=x).label for x in ("1", 3)] == [0, 2]
    assert read_row("socialiqa", **told, correct="B").label == 1
    scene = {"ctx": "a", "endings": ["b", "c", "d", "e"]}
    assert [read_row("hellaswag", **scene, label=x).label for x in ("3", 3)] == [3, 3]
    assert read_row("hellaswag_p", **scene, label=1).inputs == tuple(((e,), None) for e in "bcde")


def test_the_files_of_glue_itself_are_read() -> None:
    row = {"Quality": "1", "#1 ID": "7", "#2 ID": "8", "#1 String": "a", "#2 String": "b"}
    assert TASKS.get("mrpc").examples(0, row)[0].inputs == ((("a",), ("b",)),)
    assert read_row("qqp", question1="a", question2="b", is_duplicate="1").label == 1
    assert read_row("stsb", sentence1="a", sentence2="b", score="3.80").label == 3.8
    assert read_row("mnli", sentence1="a", sentence2="b", label1="neutral", gold_label="neutral").label == 1


def test_both_layouts_of_commonsenseqa() -> None:
    letters, texts = list("ABCDE"), ["a", "b", "c", "d", "e"]
    listed = [{"label": x, "text": t} for x, t in zip(letters, texts, strict=True)]
    release = read_row("commonsenseqa", question={"stem": "why?", "choices": listed}, answerKey="C")
    hub = read_row("commonsenseqa", question="why?", choices={"label": letters, "text": texts}, answerKey="C")
    assert release == hub
    assert release.label == 2
    assert [second for _, second in release.inputs] == [(t,) for t in texts]


def test_winogrande_is_what_is_before_the_gap_and_each_option_with_the_rest() -> None:
    row = {"sentence": "The cup broke since _ was thin.", "option1": "the cup", "option2": "the floor", "answer": "2"}
    example = read_row("winogrande_xs", **row)
    assert example.label == 1
    assert example.inputs == (
        (("The cup broke since",), ("the cup was thin.",)),
        (("The cup broke since",), ("the floor was thin.",)),
    )
    assert read_row("winogrande_l", **{**row, "sentence": "_ broke."}).inputs[0] == (("the cup broke.",), None)
    assert "has no gap '_'" in refusal("winogrande_s", {**row, "sentence": "The cup broke."})


MULTIRC = {
    "passage": {
        "text": "Ann met Bob.",
        "questions": [
            {"question": "Who?", "answers": [{"text": "Ann", "label": 1}, {"text": "", "label": 0}]},
            {"question": "Where?", "answers": [{"text": "home", "label": 0}]},
        ],
    }
}


def test_multirc_reads_the_same_from_the_release_and_from_the_hub() -> None:
    release = TASKS.get("multirc").examples(3, MULTIRC)
    assert [(e.part, e.inputs[0][1], e.label) for e in release] == [
        (0, ("Who?", "Ann"), 1),
        (0, ("Who?",), 0),
        (1, ("Where?", "home"), 0),
    ]
    answers = [("Who?", "Ann", 1, 0), ("Who?", "", 0, 0), ("Where?", "home", 0, 1)]
    rows = [
        {
            "paragraph": "Ann met Bob.",
            "question": q,
            "answer": a,
            "label": label,
            "idx": {"paragraph": 0, "question": n},
        }
        for q, a, label, n in answers
    ]
    assert TASKS.get("multirc").examples(3, {"rows": rows}) == release
    assert "holds 'x', not a list" in refusal("multirc", {"passage": {"text": "a", "questions": "x"}})


def test_record_reads_the_same_from_the_release_and_from_the_hub() -> None:
    text = "Ann met Bob."
    places = [{"start": 0, "end": 2}, {"start": 8, "end": 10}]
    query = {"query": "@placeholder was met.", "answers": [{"start": 8, "end": 10, "text": "Bob"}]}
    release = read("record", passage={"text": text, "entities": places}, qas=[query])
    assert [(e.text, e.label, e.golds) for e in release] == [("Ann", 0, ("Bob",)), ("Bob", 1, ("Bob",))]
    hub = {"passage": text, "query": query["query"], "entities": ["Ann", "Bob"], "answers": ["Bob"]}
    assert TASKS.get("record").examples(0, hub) == release
    row = {"passage": {"text": text, "entities": [{"start": 8, "end": 12}]}, "qas": [query]}
    assert "has [8, 12], but the passage has 12 characters" in refusal("record", row)


def test_wsc_and_wic_read_the_same_from_the_release_and_from_the_hub() -> None:
    spans = {"span1_text": "Ann", "span1_index": 0, "span2_text": "she", "span2_index": 3}
    release = read_row("wsc", text="Ann left because she could.", target=spans, label=True)
    assert release == read_row("wsc", text="Ann left because she could.", **spans, label=1)
    assert marked(release) == [["Ann", "she"]]
    places = {"start1": 2, "end1": 6, "start2": 0, "end2": 4}
    words = read_row("wic", sentence1="a bank of sand", sentence2="bank on it", word="bank", **places, label="false")
    assert marked(words) == [["bank", "bank"]]


QAMR = {"sent": "The old cup fell down .", "question": "What fell?", "answer": "2 1"}


def test_qamr_takes_the_stretch_from_the_least_to_the_greatest_index() -> None:
    example = read_row("qamr", **QAMR)
    assert example.golds == ("old cup",)
    assert marked(example) == [["old cup"]]
    assert read_row("qamr", **{**QAMR, "answer": "3 1"}).golds == ("old cup fell",)  # an answer with a gap
    assert "field 'answer' is [5, 7], not [begin, end) in a text of 6 words" in refusal(
        "qamr", {**QAMR, "answer": "6 5"}
    )
    assert "field 'answer' is empty" in refusal("qamr_full", {**QAMR, "answer": ""})
    assert "field 'answer' holds 'two', not a whole number" in refusal("qamr", {**QAMR, "answer": "two"})


def test_qamr_omits_what_is_not_in_the_filtered_set_where_the_row_says_so() -> None:
    assert [len(read("qamr", **QAMR, in_filtered=kept)) for kept in (True, False)] == [1, 0]
    (why,) = TASKS.get("qamr").parts({**QAMR, "in_filtered": False})
    assert isinstance(why, Omitted)
    assert "filtered" in why.why
    assert len(read("qamr_full", **QAMR, in_filtered=False)) == 1


def qasrl_row(judgements: list[dict[str, Any]]) -> dict[str, Any]:
    asked = {"answerJudgments": [{"isValid": True, "spans": [[0, 1]]}]}
    entries = {
        "2": {"questionLabels": {"Who fell?": asked, "Where?": {"answerJudgments": judgements}}},
        "4": {"questionLabels": {"What broke?": asked}},
    }
    return {"sentenceTokens": ["Ann", "and", "fell", "and", "broke"], "verbEntries": entries}


def test_qasrl_has_one_example_per_valid_span_and_numbers_the_questions() -> None:
    row = qasrl_row([{"isValid": True, "spans": [[0, 3], [1, 3]]}, {"isValid": True, "spans": [[0, 3]]}])
    examples = TASKS.get("qasrl").examples(9, row)
    assert [(e.row, e.part, e.golds) for e in examples] == [
        (9, 0, ("Ann",)),
        (9, 1, ("Ann and fell",)),  # spans that overlap, and one that two judgements share
        (9, 1, ("and fell",)),
        (9, 1, ("Ann and fell",)),
        (9, 2, ("Ann",)),
    ]
    assert [marked(e)[0] for e in examples] == [list(e.golds) for e in examples]


def test_qasrl_omits_questions_that_no_judgement_calls_valid() -> None:
    row = qasrl_row([{"isValid": False}])
    assert [e.part for e in TASKS.get("qasrl").examples(0, row)] == [0, 2]
    assert [isinstance(part, Omitted) for part in TASKS.get("qasrl").parts(row)] == [False, True, False]


@pytest.mark.parametrize(
    ("judgement", "message"),
    [
        ({"isValid": True, "spans": [[3, 6]]}, "field 'spans' is [3, 6], not [begin, end) in a text of 5 words"),
        ({"isValid": True, "spans": [[2, 2]]}, "field 'spans' is [2, 2]"),
        ({"isValid": True}, "field 'spans' is missing"),
        ({"spans": [[0, 1]]}, "field 'isValid' is missing"),
    ],
)
def test_a_judgement_that_is_wrong(judgement: dict[str, Any], message: str) -> None:
    assert message in refusal("qasrl", qasrl_row([judgement]))


def test_rows_of_another_shape_are_refused_and_do_not_break_anything() -> None:
    assert "field 'verbEntries' holds [], not an object" in refusal(
        "qasrl", {"sentenceTokens": ["a"], "verbEntries": []}
    )
    assert "field 'sentenceTokens' holds 'a'" in refusal("qasrl", {"sentenceTokens": "a", "verbEntries": {}})
    assert "field 'passage.text' is missing" in refusal("multirc", {"passage": {}})
    assert "'passage.text' is missing" in refusal("record", {"passage": [], "qas": []})


def test_edge_targets_may_overlap_and_have_to_be_in_the_text() -> None:
    row = {"text": "Ann met Bob", "targets": [{"span1": [0, 3], "label": "0", "span2": [1, 3]}]}
    row["targets"] += [{"span1": [0, 1], "span2": [0, 1], "label": ["1"]}]
    assert marked(read_row("edge_coref", **row)) == [["Ann met Bob", "met Bob"], ["Ann", "Ann"]]
    for span in ([0, 4], [2, 2], [-1, 1], [0], "0:1", [0.5, 1]):
        broken = {**row, "targets": [{"span1": [0, 1], "span2": span, "label": "1"}]}
        assert "field 'span2'" in refusal("edge_coref", broken)
    broken = {**row, "targets": [{"span1": [0, 1], "span2": [1, 2], "label": "2"}]}
    assert "holds '2', which is not a label" in refusal("edge_coref", broken)
    assert "field 'span2' is missing" in refusal("edge_dpr", {"text": "a b", "targets": [{"span1": [0, 1]}]})
    assert read("edge_coref", text="a b", targets=[]) == []
