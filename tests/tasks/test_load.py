"""Finding a task's data and dividing it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layover.errors import TaskError
from layover.tasks.example import Example, Target
from layover.tasks.formats import Single
from layover.tasks.load import Source, limit, load, locate, read, split_holdout
from layover.tasks.release import Release
from layover.tasks.task import Hub, Task

TASK = Task("mine", 1, Single("text"), ("accuracy",), labels=("no", "yes"))
ON_HUB = Task("mine", 1, Single("text"), ("accuracy",), labels=("no", "yes"), hub=Hub("a/b", "c", "d" * 40))


def fill(folder: Path, n: int = 10, splits: tuple[str, ...] = ("train", "validation")) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for split in splits:
        rows = [{"text": f"{split} {i}", "label": i % 2} for i in range(n)]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_the_first_directory_with_the_task_wins(tmp_path: Path) -> None:
    first, second = fill(tmp_path / "a" / "mine", 3), fill(tmp_path / "b" / "mine", 4)
    other = fill(tmp_path / "c" / "other", 4).parent
    source = locate(ON_HUB, [other, first.parent, second.parent])
    assert source.files["train"] == first / "train.jsonl"


def test_a_task_is_found_one_level_down_but_directly_first(tmp_path: Path) -> None:
    fill(tmp_path / "z" / "mine")
    assert locate(TASK, [tmp_path]).files["train"] == tmp_path / "z" / "mine" / "train.jsonl"
    fill(tmp_path / "m" / "mine")
    assert locate(TASK, [tmp_path]).files["train"] == tmp_path / "m" / "mine" / "train.jsonl"
    fill(tmp_path / "mine")
    assert locate(TASK, [tmp_path]).files["train"] == tmp_path / "mine" / "train.jsonl"


def test_the_digest_is_of_the_content_and_not_of_the_path(tmp_path: Path) -> None:
    here = fill(tmp_path / "here" / "mine")
    shutil.copytree(here, tmp_path / "there" / "mine")
    source, copy = locate(TASK, [tmp_path / "here"]), locate(TASK, [tmp_path / "there"])
    assert source.digest == copy.digest
    assert source.digest.startswith("sha256:")
    assert len(source.digest) == 71
    with (here / "validation.jsonl").open("a") as file:
        file.write('{"text": "one more", "label": 1}\n')
    assert locate(TASK, [tmp_path / "here"]).digest != source.digest


def test_digests_are_kept_over_versions(tmp_path: Path) -> None:
    digest = locate(TASK, [fill(tmp_path / "mine", 2).parent]).digest
    assert digest == "sha256:5a551b250e65796f482d37e661593a7b8a82d0f6d46e3540a4d18e4975da30f8"


def test_of_several_folders_one_level_down_the_largest_is_taken(tmp_path: Path) -> None:
    small, large = fill(tmp_path / "a" / "mine"), fill(tmp_path / "b" / "mine")
    with (large / "train.jsonl").open("a") as file:
        file.write('{"text": "one more", "label": 0}\n')
    assert locate(TASK, [tmp_path]).files["train"].parent == large
    assert locate(TASK, [tmp_path / "a", tmp_path]).files["train"].parent == small  # directories keep their order


def test_a_split_that_is_missing_is_named(tmp_path: Path) -> None:
    fill(tmp_path / "mine", splits=("train",))
    (tmp_path / "mine" / "test.jsonl").touch()
    with pytest.raises(TaskError, match="the validation split is missing") as caught:
        locate(ON_HUB, [tmp_path])
    assert "the folder holds: test.jsonl, train.jsonl" in str(caught.value)


@pytest.mark.parametrize("name", ["dev", "val", "valid", "development", "va"])
def test_a_validation_file_may_be_called_as_releases_call_it(tmp_path: Path, name: str) -> None:
    folder = fill(tmp_path / "mine", splits=("train", name))
    assert locate(TASK, [tmp_path]).files["validation"] == folder / f"{name}.jsonl"
    fill(folder, splits=("validation",))
    assert locate(TASK, [tmp_path]).files["validation"] == folder / "validation.jsonl"


def test_a_release_may_have_a_folder_and_files_of_its_own_names(tmp_path: Path) -> None:
    task = replace(TASK, release=Release("MINE", ("train", "dev_matched|dev_all")))
    released = fill(tmp_path / "z" / "MINE", splits=("train", "dev_all"))
    assert locate(task, [tmp_path]).files["validation"] == released / "dev_all.jsonl"
    mine = fill(tmp_path / "z" / "mine")
    assert locate(task, [tmp_path]).folder == mine  # its own name comes first


def test_in_the_folder_of_another_task_only_the_named_files_count(tmp_path: Path) -> None:
    task = replace(TASK, name="mine_small", release=Release("mine", ("train_small", "dev")))
    folder = fill(tmp_path / "mine", splits=("train", "dev"))
    with pytest.raises(TaskError, match="its data was not found") as caught:
        locate(task, [tmp_path])
    assert "or DIR/mine/{train_small,dev} of these kinds" in str(caught.value)
    fill(folder, splits=("train_small",))
    assert locate(task, [tmp_path]).files == {"train": folder / "train_small.jsonl", "validation": folder / "dev.jsonl"}


def test_a_licence_is_named_where_the_data_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="needs the Corpus, licensed by the Shop; then pass --data DIR with DIR/mine/"):
        locate(replace(TASK, licence="needs the Corpus, licensed by the Shop"), [tmp_path])


def test_a_data_directory_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="the data directory does not exist") as caught:
        locate(ON_HUB, [tmp_path / "no", tmp_path / "nor"])
    assert [p.place for p in caught.value.problems] == [str(tmp_path / "no"), str(tmp_path / "nor")]


def test_the_hub_comes_last(tmp_path: Path) -> None:
    assert locate(ON_HUB, [tmp_path]) == Source("hub:a/b/c@" + "d" * 40, {})


def test_no_data_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(TaskError) as caught:
        locate(TASK, [tmp_path])
    text = str(caught.value)
    assert "task 'mine': its data was not found" in text
    assert str(tmp_path) in text
    assert "--data DIR with DIR/mine/{train,validation}.{jsonl," in text
    assert "fields 'text', 'label'" in text


def test_a_users_files_win_and_need_no_validation(tmp_path: Path) -> None:
    fill(tmp_path / "data" / "mine")
    path = fill(tmp_path, splits=("train",)) / "train.jsonl"
    source = locate(ON_HUB, [tmp_path / "data"], {"train": path})
    assert source.files == {"train": path}


def test_a_users_files_are_checked_all_at_once(tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("x")
    with pytest.raises(TaskError) as caught:
        locate(TASK, [], {"validation": tmp_path / "notes.md", "dev": tmp_path / "dev.csv"})
    text = str(caught.value)
    assert "has no train file" in text
    assert "there is no split called 'dev'" in text
    assert "files of this kind are not read" in text
    assert "kinds: .jsonl, " in text
    with pytest.raises(TaskError, match="the file does not exist"):
        locate(TASK, [], {"train": tmp_path / "gone.csv"})


def test_generated_tasks_are_read_and_identified_by_version() -> None:
    rows = {"train": [{"text": "a", "label": 0}], "validation": [{"text": "b", "label": 3}]}
    task = Task("made", 2, Single("text"), ("accuracy",), labels=("no", "yes"), generate=lambda: rows)
    source = locate(task, [])
    assert source == Source("generated:made@2", {})
    assert len(read(task, source, "train")) == 1
    with pytest.raises(TaskError, match="task 'made', validation row 1: field 'label' holds 3"):
        read(task, source, "validation")


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read every file")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    (fill(tmp_path / "mine") / "train.jsonl").chmod(0)
    with pytest.raises(TaskError, match="cannot be read"):
        locate(TASK, [tmp_path])


def example(row: int, part: int = 0) -> Example:
    return Example(row, ((("text",), None),), (Target((0.0,)),), part)


def of_rows(rows: Iterable[int]) -> list[Example]:
    """An example per row."""
    return [example(row) for row in rows]


def rows_of(examples: Iterable[Example]) -> list[int]:
    return [e.row for e in examples]


@given(st.integers(1, 200), st.integers(1, 200), st.integers(1, 200))
def test_a_smaller_subset_is_part_of_a_larger_one(n: int, small: int, large: int) -> None:
    small, large = sorted((small, large))
    some, more = rows_of(limit(of_rows(range(n)), small)), rows_of(limit(of_rows(range(n)), large))
    assert set(some) <= set(more)
    assert len(some) == min(small, n)
    assert some == sorted(some)


def test_subsets_are_kept_over_versions() -> None:
    some = of_rows(range(1000))
    assert rows_of(limit(some, 8)) == [164, 222, 323, 475, 486, 786, 826, 924]
    assert rows_of(limit(some, 8, salt="other")) == [29, 167, 176, 402, 405, 419, 434, 970]
    assert rows_of(split_holdout(some[:20], 0.2)[1]) == [2, 9, 12, 17]


def test_no_limit_keeps_all_and_an_empty_one_is_refused() -> None:
    assert rows_of(limit(of_rows([3, 1, 2]), None)) == [3, 1, 2]
    with pytest.raises(TaskError, match="a limit of 0 leaves no examples"):
        limit(of_rows([1, 2]), 0)


def test_a_limit_counts_questions_and_a_holdout_keeps_what_is_asked_about_a_row_together() -> None:
    asked = [example(row, part) for row in range(10) for part in range(3) for _ in range(2)]
    some = limit(asked, 7)
    assert len(some) == 14
    assert len({(e.row, e.part) for e in some}) == 7
    rest, held = split_holdout(asked, 0.2)
    assert len(set(rows_of(held))) == 2
    assert not set(rows_of(rest)) & set(rows_of(held))
    assert len(rest) + len(held) == len(asked)


@given(st.integers(2, 300), st.floats(0.01, 0.99), st.integers(1, 5))
def test_a_holdout_divides_and_is_at_most_half(n: int, share: float, n_classes: int) -> None:
    rest, held = (rows_of(part) for part in split_holdout(of_rows(range(n)), share, n_classes))
    assert sorted([*rest, *held]) == list(range(n))
    assert 1 <= len(held) <= n // 2
    assert len(held) >= min(n_classes, n // 2)
    assert len(held) >= min(int(share * n), n // 2)


def test_one_example_cannot_be_divided() -> None:
    with pytest.raises(TaskError, match="at least 2"):
        split_holdout(of_rows([1]), 0.5)


def test_train_is_limited_first_then_divided(tmp_path: Path) -> None:
    source = locate(TASK, [fill(tmp_path / "mine", 50).parent])
    data = load(TASK, source, selection="holdout", holdout=0.2, limit_train=20, limit_validation=5)
    assert (len(data.train), len(data.selection), len(data.validation)) == (16, 4, 5)
    assert (data.n_train_total, data.n_validation_total) == (50, 50)
    used = limit(read(TASK, source, "train"), 20)
    assert sorted([*data.train, *data.selection], key=lambda e: e.row) == used


def test_selection_on_validation_uses_all_of_train(tmp_path: Path) -> None:
    source = locate(TASK, [fill(tmp_path / "mine", 50).parent])
    data = load(TASK, source, selection="validation", holdout=0.2, limit_validation=5)
    assert len(data.train) == 50
    assert data.selection == data.validation
    assert len(data.validation) == 5


def test_without_a_validation_file_a_fifth_of_train_stands_in(tmp_path: Path) -> None:
    source = locate(TASK, [], {"train": fill(tmp_path, 50, ("train",)) / "train.jsonl"})
    data = load(TASK, source, selection="holdout", holdout=0.1)
    assert (data.n_train_total, data.n_validation_total) == (40, 10)
    assert (len(data.train), len(data.selection), len(data.validation)) == (36, 4, 10)
    rows = [e.row for part in (data.train, data.selection, data.validation) for e in part]
    assert sorted(rows) == list(range(50))
    limited = load(TASK, source, selection="holdout", holdout=0.1, limit_train=10)
    assert limited.validation == data.validation
