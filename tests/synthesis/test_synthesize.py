"""Synthesize: what is in the folder, that a killed run goes on to the same bytes, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tests.kit import write_text

from layover.errors import TaskError, UserError
from layover.files import digest
from layover.synthesis import synthesize as module
from layover.synthesis.sentences import Rules
from layover.synthesis.synthesize import Synthesis, study_table, synthesize


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PIECE", 4)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    return write_text(tmp_path / "text.txt", 40)


def make(wanted: Synthesis, out: Path, batch_size: int = 16, tell: Any = lambda *_: None) -> dict[str, Any]:
    return synthesize(wanted, out, batch_size, tell)


def of(text: Path, **fields: Any) -> Synthesis:
    """Ten questions and four to validate with, of words in another order where the fields do not say."""
    source = {} if "generator" in fields else {"corrupt": "shuffle"}
    return Synthesis(text, **{"train": 10, "validation": 4, **source, **fields})


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def kinds(generator: Path) -> list[dict[str, Any]]:
    return [{"corrupt": "shuffle"}, {"corrupt": "ngram"}, {"corrupt": "swap"}, {"generator": str(generator)}]


def test_a_folder_holds_questions_of_real_endings(text: Path, generator: Path, tmp_path: Path) -> None:
    sentences = {s for line in text.read_text(encoding="utf-8").splitlines() for s in line.rstrip(".").split(". ")}
    for i, kind in enumerate(kinds(generator)):
        out = tmp_path / str(i)
        record = make(of(text, **kind), out)
        assert {path.name for path in out.iterdir()} == {"train.jsonl", "validation.jsonl", "synthesis.json"}
        assert record["files"] == {f"{s}.jsonl": digest(out / f"{s}.jsonl") for s in ("train", "validation")}
        lines: dict[str, set[int]] = {}
        for split, n in (("train", 10), ("validation", 4)):
            found = rows(out / f"{split}.jsonl")
            assert (len(found), record["counts"][split]) == (n, n)
            lines[split] = {row["line"] for row in found}
            for row in found:
                assert len(set(row["endings"])) == 4
                real = [
                    each for each in row["endings"] if any(s.startswith(f"{row['context']} {each}") for s in sentences)
                ]
                assert row["endings"][row["label"]] in real
                assert len({len(each.split()) for each in row["endings"]}) == 1 or "swap" in kind.values()
        assert lines["train"].isdisjoint(lines["validation"])


def test_the_real_ending_may_stand_anywhere(tmp_path: Path) -> None:
    make(of(write_text(tmp_path / "t.txt", 200), train=200), tmp_path / "out")
    places = Counter(row["label"] for row in rows(tmp_path / "out" / "train.jsonl"))
    assert set(places) == {0, 1, 2, 3}
    assert max(places.values()) < 80


def test_a_row_for_each_text(text: Path, tmp_path: Path) -> None:
    make(of(text, form="single", fakes=1), tmp_path / "out")
    make(of(text, fakes=1), tmp_path / "choice")
    found, choices = rows(tmp_path / "out" / "train.jsonl"), rows(tmp_path / "choice" / "train.jsonl")
    expected = [
        (f"{row['context']} {each}", "real" if i == row["label"] else "fake")
        for row in choices for i, each in enumerate(row["endings"])
    ]  # fmt: skip
    assert [(row["text"], row["label"]) for row in found] == expected


def test_a_killed_run_goes_on_to_the_same_bytes(text: Path, generator: Path, tmp_path: Path) -> None:
    for i, kind in enumerate(kinds(generator)):
        whole, killed = tmp_path / f"whole{i}", tmp_path / f"killed{i}"
        make(of(text, **kind), whole)

        def die(done: int, _: int) -> None:
            if done >= 4:
                raise KeyboardInterrupt

        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                make(of(text, **kind), killed, 1, die)
        assert len(list((killed / ".partial").glob("train-*"))) == 1
        assert not (killed / "train.jsonl").exists()
        told: list[int] = []
        make(of(text, **kind), killed, 2, lambda done, _, told=told: told.append(done))
        assert told[0] == 4  # what was there is not made again
        assert contents(killed) == contents(whole)


def test_a_finished_folder_is_left_alone(text: Path, tmp_path: Path) -> None:
    first = make(of(text), tmp_path / "out")
    before = contents(tmp_path / "out")
    again = make(of(text), tmp_path / "out", tell=lambda *_: pytest.fail("it was made again"))
    assert again == first
    assert contents(tmp_path / "out") == before


@pytest.mark.parametrize(
    ("fields", "said"),
    [({"seed": 7}, "seed was 42, now 7"), ({"fakes": 1}, "fakes was 3, now 1"),
     ({"corrupt": "ngram"}, "corrupt was shuffle, now ngram; order was not given, now 3"),
     ({"rules": Rules(10, 30)}, "min_words was 20, now 10"), ({"train": 11}, "train was 10, now 11")],
)  # fmt: skip
@pytest.mark.parametrize("finished", [True, False])
def test_a_folder_of_other_settings_is_refused(
    text: Path, tmp_path: Path, fields: dict[str, Any], said: str, finished: bool
) -> None:
    out = tmp_path / "out"
    make(of(text), out)
    if not finished:
        (out / ".partial").mkdir()
        (out / "synthesis.json").rename(out / ".partial" / "settings.json")
    with pytest.raises(UserError, match=said) as raised:
        make(of(text, **fields), out)
    assert f"rm -r {out}" in str(raised.value)


def test_another_text_is_another_setting(text: Path, tmp_path: Path) -> None:
    make(of(text), tmp_path / "out")
    shutil.copy(text, tmp_path / "same.txt")
    make(of(tmp_path / "same.txt"), tmp_path / "out")
    with pytest.raises(UserError, match="text was sha256:"):
        make(of(write_text(tmp_path / "other.txt", 40, seed=1)), tmp_path / "out")


def test_a_folder_of_somebody_else_is_refused(text: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not empty, and was not begun by this command"):
        make(of(text), tmp_path)
    with pytest.raises(UserError, match="is a file"):
        make(of(text), text)


def test_settings_are_checked_all_at_once(text: Path, tmp_path: Path) -> None:
    wanted = of(text, corrupt="shufle", generator="gpt2", rules=Rules(3, 2), top_p=0.0)
    with pytest.raises(UserError) as raised:
        make(wanted, tmp_path / "out")
    said = str(raised.value)
    for part in ("not both", "'shufle'", "choices: shuffle, ngram, swap", "are 3 and 2", "are 0.0 and 1.0"):
        assert part in said
    with pytest.raises(UserError, match="say where fakes come from"):
        make(Synthesis(text), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["no-such-folder/model", "./absent"])
def test_a_generator_that_is_not_there_is_refused(text: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="choices: gpt2, gpt2-medium") as raised:
        make(of(text, generator=name), tmp_path / "out")
    assert name in str(raised.value)


def test_an_encoder_is_refused_before_anything_is_written(text: Path, bert: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no causal language model"):
        make(of(text, generator=str(bert)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_one_paragraph_cannot_be_divided(tmp_path: Path) -> None:
    line = ". ".join(path for path in write_text(tmp_path / "t", 9).read_text(encoding="utf-8").split(".\n"))
    (tmp_path / "one.txt").write_text(line, encoding="utf-8")
    with pytest.raises(TaskError, match="in paragraphs that validation has"):
        make(of(tmp_path / "one.txt"), tmp_path / "out")
    record = make(of(tmp_path / "one.txt", validation=0), tmp_path / "out")
    assert list(record["files"]) == ["train.jsonl"]
    assert "validation" not in study_table(tmp_path / "out", "mine", record)


def test_where_no_question_can_be_made_nothing_is_left(text: Path, tmp_path: Path) -> None:
    with pytest.raises(
        TaskError, match=r"no question for train could be made of \d+ sentences: no usable fakes \d+"
    ) as raised:
        make(of(text, fakes=30, rules=Rules(4, 4)), tmp_path / "out")
    assert "fewer --fakes" in str(raised.value)
    assert not (tmp_path / "out").exists()


def test_dropped_sentences_are_replaced_from_the_reserve(tmp_path: Path) -> None:
    words = [f"w{i}" for i in range(60)]
    same = [" ".join([f"p{i}"] * 10 + ["alike"] * 10) for i in range(30)]
    other = [" ".join(words[i : i + 20]) for i in range(30)]
    (tmp_path / "t.txt").write_text("\n".join([*same, *other]), encoding="utf-8")
    record = make(of(tmp_path / "t.txt", train=20), tmp_path / "out")
    counts = record["counts"]
    assert counts["train"] == 20
    assert counts["no usable fakes"] >= 10
    assert all("alike" not in row["endings"][0] for row in rows(tmp_path / "out" / "train.jsonl"))
