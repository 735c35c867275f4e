"""Releases as they lie, on small synthetic files: folds, SentEval, CCGbank, QAMR, lists of labels, GLUE's folders."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from layover.errors import TaskError
from layover.listing import describe_task, list_tasks
from layover.tasks import TASKS
from layover.tasks.example import Example
from layover.tasks.load import Source, load, locate, read


def put(folder: Path, files: Mapping[str, str]) -> Path:
    """Write files, packed where their names say so."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".gz"):
            path.write_bytes(gzip.compress(text.encode()))
        else:
            path.write_text(text, encoding="utf-8")
    return folder


def jsonl(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def splits(name: str, data: Path) -> tuple[Source, list[Example], list[Example]]:
    task = TASKS.get(name)
    source = locate(task, [data])
    return source, read(task, source, "train"), read(task, source, "validation")


def texts(examples: list[Example]) -> list[str]:
    return [" ".join(example.inputs[0][0]) for example in examples]


def refusal(name: str, data: Path) -> str:
    with pytest.raises(TaskError) as caught:
        splits(name, data)
    return str(caught.value)


# folds

PARTS = ("train", "validation", "test")
TURNS = ("train", "dev", "test")


def fold_rows(which: int) -> list[dict[str, Any]]:
    """Three rows of one file: row i of it is in fold k the part whose number is (which + i * k) modulo 3."""
    return [
        {"sentence": f"{PARTS[which]} {i}", "label": i % 2, "folds": [TURNS[(which + i * k) % 3] for k in range(10)]}
        for i in range(3)
    ]


def fold_files() -> dict[str, str]:
    return {f"aj_wh/{part}.jsonl.gz": jsonl(fold_rows(which)) for which, part in enumerate(PARTS)}


def test_a_fold_pools_three_files_and_divides_them_anew(tmp_path: Path) -> None:
    put(tmp_path, fold_files())
    _, train, validation = splits("aj_wh", tmp_path)
    assert (texts(train), texts(validation)) == (
        ["train 0", "train 1", "train 2"],
        ["validation 0", "validation 1", "validation 2"],
    )
    first, *_ = sources = [splits(f"aj_wh_fold{k}", tmp_path) for k in (1, 2)]
    assert (texts(first[1]), texts(first[2])) == (texts(train), texts(validation))
    assert texts(sources[1][1]) == ["train 0", "validation 2", "test 1"]
    assert texts(sources[1][2]) == ["train 1", "validation 0", "test 2"]
    assert [example.row for example in sources[1][1]] == [0, 1, 2]
    data = load(TASKS.get("aj_wh_fold2"), sources[1][0], selection="validation", holdout=0.1)
    assert (data.n_train_total, data.n_validation_total) == (3, 3)


def test_the_three_files_are_a_folds_identity(tmp_path: Path) -> None:
    put(tmp_path, fold_files())
    fold, plain = TASKS.get("aj_wh_fold2"), TASKS.get("aj_wh")
    before = locate(fold, [tmp_path]).digest, locate(plain, [tmp_path]).digest
    put(tmp_path, {"aj_wh/test.jsonl.gz": jsonl([*fold_rows(2), *fold_rows(2)])})
    assert locate(fold, [tmp_path]).digest != before[0]
    assert locate(plain, [tmp_path]).digest == before[1]


def test_a_fold_without_one_of_the_files(tmp_path: Path) -> None:
    put(tmp_path, fold_files())
    (tmp_path / "aj_wh" / "test.jsonl.gz").unlink()
    text = refusal("aj_wh_fold3", tmp_path)
    assert f"{tmp_path / 'aj_wh'}: there is no test file; the folder holds: train.jsonl.gz, validation.jsonl.gz" in text
    assert "train, validation and test" in text
    assert len(splits("aj_wh", tmp_path)[1]) == 3  # the files as they are divided need no test


@pytest.mark.parametrize(
    ("folds", "message"),
    [
        (["train"] * 9, "field 'folds' has 9 parts, one for each of 10 folds is needed"),
        ([*["train"] * 9, "held"], "field 'folds' holds 'held' for fold 10\n    choices: train, dev, test"),
        ([*["train"] * 9, None], "field 'folds' holds None for fold 10"),
        ("train", "field 'folds' holds 'train', not a list"),
        (None, "field 'folds' is missing"),
    ],
)
def test_a_row_whose_folds_are_wrong(tmp_path: Path, folds: Any, message: str) -> None:
    files = fold_files()
    files["aj_wh/test.jsonl.gz"] += jsonl([{"sentence": "a", "label": 0, "folds": folds}])
    assert f"{tmp_path / 'aj_wh' / 'test.jsonl.gz'}, line 4: {message}" in refusal("aj_wh_fold2", put(tmp_path, files))


def test_folds_are_one_row_of_the_list_and_all_of_them_in_json(tmp_path: Path) -> None:
    put(tmp_path, fold_files())
    shown = {row["name"]: row for row in list_tasks([tmp_path], families=True)}
    assert shown["aj_wh_fold1..10"]["data"] == str(tmp_path / "aj_wh")
    assert "aj_wh_fold2" not in shown
    assert {"aj_wh", *(f"aj_wh_fold{k}" for k in range(1, 11))} <= {row["name"] for row in list_tasks([tmp_path])}


# SentEval

SENTENCES = "tr\t5\tA long , \"odd' one .\ntr\t7\tAnother\u2028line .\nva\t12\tOne .\nte\t5\tTwo .\ntr\t5\tThree .\n"


@pytest.mark.parametrize("name", ["tree_depth.txt", "tree_depth.txt.gz"])
def test_sentevals_one_file_is_divided_by_its_first_column(tmp_path: Path, name: str) -> None:
    put(tmp_path / "se_tree_depth", {name: SENTENCES})
    source, train, validation = splits("se_tree_depth", tmp_path)
    assert texts(train) == ["A long , \"odd' one .", "Another\u2028line .", "Three ."]
    assert texts(validation) == ["One ."]
    data = load(TASKS.get("se_tree_depth"), source, selection="validation", holdout=0.1)
    assert data.task.labels == ("5", "7", "12")  # of train and validation, as numbers
    assert [example.label for example in (*data.train, *data.validation)] == [0, 1, 0, 2]


@pytest.mark.parametrize(
    "files",
    [
        {"train.tsv": "O\tone\nI\ttwo\n", "validation.tsv": "I\tthree\n"},
        {"tr.txt": "tr\tO\tone\ntr\tI\ttwo\n", "va.txt": "va\tI\tthree\n"},
        {"train.jsonl": jsonl([{"sentence": "one", "label": "O"}, {"sentence": "two", "label": "I"}]),
         "dev.json": jsonl([{"sentence": "three", "label": "I"}])},
    ],
)  # fmt: skip
def test_senteval_may_be_one_file_per_split(tmp_path: Path, files: dict[str, str]) -> None:
    put(tmp_path / "se_bigram_shift", files)
    _, train, validation = splits("se_bigram_shift", tmp_path)
    assert (texts(train), texts(validation)) == (["one", "two"], ["three"])
    assert [example.label for example in (*train, *validation)] == [1, 0, 0]


def test_senteval_files_that_are_wrong(tmp_path: Path) -> None:
    path = put(tmp_path / "se_tree_depth", {"tree_depth.txt": SENTENCES + "xx\t5\tFour .\ntr\t5\n"}) / "tree_depth.txt"
    text = refusal("se_tree_depth", tmp_path)
    assert f"{path}, line 6: field 'part' holds 'xx', which is not a part\n    choices: tr, va, te" in text
    put(tmp_path / "se_tree_depth", {"tree_depth.txt": "tr\t5\tone\nva\n"})
    assert "line 2: has 1 cells, but rows have 3: part, label, sentence" in refusal("se_tree_depth", tmp_path)


# CCGbank

TREE = "(<T S[dcl] 0 2> (<L NP NN NN {word} NP>) (<L S[dcl]\\NP VBD VBD fell S[dcl]\\NP>) )"


def ccgbank() -> dict[str, str]:
    return {
        f"AUTO/{n:02}/wsj_{n:02}01.auto": f"ID=wsj_{n:02}01.1 PARSER=GOLD NUMPARSE=1\n{TREE.format(word=f'w{n}')}\n"
        for n in range(25)
    }


@pytest.mark.parametrize("top", ["", "data/"])
def test_ccgbank_is_read_from_the_leaves_and_divided_by_sections(tmp_path: Path, top: str) -> None:
    put(tmp_path / "ccg", {top + name: text for name, text in ccgbank().items()})
    source, train, validation = splits("ccg", tmp_path)
    assert texts(train) == [f"w{n} fell" for n in range(19)]
    assert texts(validation) == [f"w{n} fell" for n in range(19, 22)]
    task = load(TASKS.get("ccg"), source, selection="validation", holdout=0.1).task
    assert task.labels == ("NP", "S[dcl]\\NP")
    assert [[target.labels for target in example.targets] for example in train[:1]] == [[(0,), (1,)]]
    assert [[(m.begin, m.end) for m in target.marks] for target in train[0].targets] == [[(0, 2)], [(3, 7)]]


def test_prepared_ccg_is_words_and_tags(tmp_path: Path) -> None:
    rows = [{"words": ["a", "b"], "tags": ["NP", "S"]}]
    put(tmp_path / "ccg", {"train.jsonl": jsonl(rows), "validation.jsonl": jsonl(rows)})
    assert texts(splits("ccg", tmp_path)[1]) == ["a b"]
    put(tmp_path / "ccg", {"validation.jsonl": jsonl([{"words": ["a", "b"], "tags": ["NP"]}])})
    assert "line 1: field 'tags' holds 1 tags for 2 words" in refusal("ccg", tmp_path)


def test_ccgbank_with_a_section_or_a_leaf_that_is_broken(tmp_path: Path) -> None:
    files = ccgbank()
    files["AUTO/20/wsj_2001.auto"] += TREE.replace("VBD VBD", "VBD")
    put(tmp_path / "ccg", files)
    assert "wsj_2001.auto, line 3: 1 of 2 leaves are whole" in refusal("ccg", tmp_path)
    (tmp_path / "ccg" / "AUTO" / "07" / "wsj_0701.auto").unlink()
    assert "there are no .auto files of section 07" in refusal("ccg", tmp_path)


# QAMR

QAMR_ROW = "{id}\t1 2\t7\t0\t1\tWhat fell?\t{answer}\t8:1\t9:1\n"


def qamr_files(version: str) -> dict[str, str]:
    return {
        f"{version}/train.tsv": QAMR_ROW.format(id="s:1", answer="1 2") + QAMR_ROW.format(id="s:2", answer="0"),
        f"{version}/dev.tsv": QAMR_ROW.format(id="s:2", answer="1"),
        "wiki-sentences.tsv": 's:1\tThe old cup fell\ns:2\tIt "fell\n',
    }


def test_qamrs_own_tables_are_joined_with_their_sentences(tmp_path: Path) -> None:
    put(tmp_path / "qamr" / "data", qamr_files("filtered") | qamr_files("full"))
    put(tmp_path / "qamr" / "data", {"full/dev.tsv": QAMR_ROW.format(id="s:1", answer="3")})
    _, train, validation = splits("qamr", tmp_path)
    assert [example.golds for example in (*train, *validation)] == [("old cup",), ("It",), ('"fell',)]
    assert [example.golds for example in splits("qamr_full", tmp_path)[2]] == [("fell",)]


def test_qamr_tables_that_are_wrong(tmp_path: Path) -> None:
    folder = put(tmp_path / "qamr", qamr_files("filtered"))
    put(folder, {"filtered/dev.tsv": QAMR_ROW.format(id="s:9", answer="1")})
    assert "dev.tsv, line 1: field 'sent_id' holds 's:9', which is no sentence" in refusal("qamr", tmp_path)
    (folder / "wiki-sentences.tsv").unlink()
    text = refusal("qamr", tmp_path)
    assert "filtered/ has tables, but not all that are needed" in text
    assert "needed: {filtered/train.tsv,filtered/dev.tsv,wiki-sentences.tsv}" in text


# lists of labels

SOCIAL = {"context": "a", "question": "b", "answerA": "c", "answerB": "d", "answerC": "e"}


def social_files(train: str = "train") -> dict[str, str]:
    return {
        f"{train}.jsonl": jsonl([SOCIAL, SOCIAL]),
        f"{train}-labels.lst": "3\n1\n",
        "dev.jsonl": jsonl([SOCIAL]),
        "dev-labels.lst": "2\n",
    }


def test_social_iqas_labels_are_in_a_list_beside_its_rows(tmp_path: Path) -> None:
    folder = put(tmp_path / "socialiqa", social_files())
    _, train, validation = splits("socialiqa", tmp_path)
    assert [example.label for example in (*train, *validation)] == [2, 0, 1]
    put(folder, {"train-labels.lst": "3\n"})
    assert "train.jsonl, line 2: train.jsonl and its list of labels do not have as many lines" in refusal(
        "socialiqa", tmp_path
    )


def test_clip60_is_another_training_file_of_social_iqa(tmp_path: Path) -> None:
    put(tmp_path / "socialiqa", social_files())
    assert "Chang and Lu 2021 neither released nor described" in refusal("socialiqa_clip60", tmp_path)
    put(tmp_path / "socialiqa", social_files("clip60_iqa_train"))
    assert len(splits("socialiqa_clip60", tmp_path)[1]) == 2


# GLUE and others by their own names


@pytest.mark.parametrize(
    ("name", "files", "label"),
    [
        ("cola", {"CoLA/train.tsv": "gj04\t1\t\tA b .\n", "CoLA/dev.tsv": "gj04\t0\t*\tB \"a .\n"}, 1),
        ("cola", {"cola/in_domain_train.tsv": "gj04\t1\t\tA b .\n", "cola/in_domain_dev.tsv": "gj04\t0\t*\tA .\n"}, 1),
        ("sst2", {f"SST-2/{s}.tsv": "sentence\tlabel\na b \t1\n" for s in ("train", "dev")}, 1),
        ("mnli", {f"MNLI/{s}.tsv": "index\tsentence1\tsentence2\tlabel1\tgold_label\n0\ta\tb\tneutral\tentailment\n"
                  for s in ("train", "dev_matched", "dev_mismatched")}, 0),
        ("rte_glue", {f"RTE/{s}.tsv": "index\tsentence1\tsentence2\tlabel\n0\ta\tb\tnot_entailment\n"
                      for s in ("train", "dev")}, 1),
        ("boolq", {f"BoolQ/{s}.jsonl": jsonl([{"question": "a", "passage": "b", "label": True}])
                   for s in ("train", "val")}, 1),
        ("scitail", {f"scitail/scitail_1.0_{s}.tsv": "a\tb\tentails\n" for s in ("train", "dev")}, 0),
        ("mednli", {f"mednli/mli_{s}_v1.jsonl": jsonl([{"sentence1": "a", "sentence2": "b", "gold_label": "neutral"}])
                    for s in ("train", "dev")}, 2),
        ("winogrande_m", {f"winogrande/{s}.jsonl": jsonl([{"sentence": "a _ b", "option1": "c", "option2": "d",
                                                           "answer": "2"}])
                          for s in ("train_m", "train_xs", "dev")}, 1),
        ("edge_ner", {f"edge_ner/{s}.json": jsonl([{"text": "a b", "targets": [
            {"span1": [0, 1], "label": "X"}, {"span1": [1, 2], "label": "Y"}]}])
                      for s in ("train", "development")}, 0),
    ],
)  # fmt: skip
def test_the_files_of_a_release_are_found_and_read(
    tmp_path: Path, name: str, files: dict[str, str], label: float
) -> None:
    put(tmp_path, files)
    _, train, validation = splits(name, tmp_path)
    assert train[0].label == label
    assert len(validation) == 1


def test_qqps_broken_lines_are_left_out(tmp_path: Path) -> None:
    header = "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n"
    rows = "0\t1\t2\ta\tb\t0\n1\t3\t4\tcut off\n2\t5\t6\tc\td\t1\n"
    put(tmp_path, {"QQP/train.tsv": header + rows, "QQP/dev.tsv": header + rows})
    assert [example.label for example in splits("qqp", tmp_path)[1]] == [0, 1]


def test_hellaswag_p_reads_the_data_of_hellaswag(tmp_path: Path) -> None:
    row = {"ctx": "a", "endings": ["b", "c", "d", "e"], "label": 2}
    put(tmp_path, {"hellaswag/hellaswag_train.jsonl": jsonl([row]), "hellaswag/hellaswag_val.jsonl": jsonl([row])})
    whole, endings = splits("hellaswag", tmp_path), splits("hellaswag_p", tmp_path)
    assert whole[0].files == endings[0].files
    assert endings[1][0].inputs[0] == (("b",), None)


@pytest.mark.parametrize(("name", "said"), [("ccg", "LDC2005T13"), ("edge_srl", "LDC2013T19"), ("mednli", "PhysioNet")])
def test_a_licensed_task_says_what_is_lacking(tmp_path: Path, name: str, said: str) -> None:
    assert said in refusal(name, tmp_path)
    assert said in describe_task(name, [tmp_path])["licence"]
