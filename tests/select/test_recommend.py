"""The answer: every stop and doing nothing in order, how sure that is, why, and what it costs; and the command."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.kit import Command, own_table, pair_rows, single_rows, study_words, write_rows, write_task

from layover.encoders import find
from layover.errors import StudyError, TaskError, UserError
from layover.select.candidate import DIRECT, Candidate
from layover.select.confirm import alike, confirming, cost_of
from layover.select.named import named
from layover.select.question import Question
from layover.select.reasons import percent
from layover.select.recommend import recommend
from layover.select.target import Reading
from layover.session import Session
from layover.store import Store
from layover.study import Study

SOURCES = ("likeness", "pick", "words")
READING = Reading(rows=24, source_rows=16, max_length=32)


@pytest.fixture(scope="module")
def earlier(bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store in which three sources were tried before RTE, its data, and a file of somebody's rows."""
    folder = tmp_path_factory.mktemp("earlier")
    (folder / "bert").symlink_to(bert)
    write_task(folder / "data", "rte", pair_rows, n_train=40)
    kinds = dict(zip(SOURCES, ("value", "choice", "single"), strict=True))
    tables = {name: own_table(folder / name, kind, 32) for name, kind in kinds.items()}
    words = study_words(
        str(folder / "bert"), folder, name="earlier", seeds=[1, 2], task=tables, tasks={"target": ["rte"]},
        strategies={"direct": {"kind": "direct"}, "stilts": {"kind": "stilts", "sources": list(SOURCES)}},
    )  # fmt: skip
    assert not Session.open(Study(**words), folder / "store", data=[folder / "data"]).run().failed
    write_rows(folder / "tickets.jsonl", single_rows(60, seed=9))
    return folder


@pytest.fixture
def place(earlier: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may write into."""
    return Path(shutil.copytree(earlier, tmp_path / "place", symlinks=True))


@pytest.fixture
def ask(place: Path, earlier: Path) -> Callable[..., Question]:
    def question(target: Any = "tickets.jsonl", **words: Any) -> Question:
        known = {
            "sources": SOURCES,
            "data": (place / "data",),
            "by": ("logme",),
            "reading": READING,
            "device": "cpu",
            "threads": 1,
        }
        chosen = named(str(place / target)) if (place / target).exists() else named(target)
        encoder = find(str(earlier / "bert"))
        return Question(Store.open(place / "store"), chosen, encoder, **{**known, **words})

    return question


# the answer


def test_every_stop_and_doing_nothing_in_the_order_of_what_they_are_expected_to_add(ask: Any) -> None:
    found = recommend(ask())
    assert sorted(str(one.candidate) for one in found.options) == ["direct", *(f"stilts · {one}" for one in SOURCES)]
    means = [one.expected.mean for one in found.options]
    assert means == sorted(means, reverse=True)
    direct = next(one for one in found.options if one.candidate == DIRECT)
    assert (direct.expected.mean, direct.expected.low, direct.expected.high) == (0, 0, 0)
    for one in found.stops:
        assert one.expected.low < one.expected.mean < one.expected.high
        assert "before one other task with" in one.reason
        assert f"logme puts it at {1 + sum(o.scores['logme'] > one.scores['logme'] for o in found.stops)} of 3" in (
            one.reason
        )
        assert one.measured is None
    assert found.advice == ("stop" if found.stops[0].expected.mean > 0 else "direct")
    assert (found.best.candidate == DIRECT) == (found.advice == "direct")
    told = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert [one["source"] for one in told["options"]] == [one.candidate.source for one in found.options]
    assert told["answer"] == found.answer
    assert told["source"] == found.best.candidate.source


def test_what_is_not_worth_it_is_not_recommended(ask: Any) -> None:
    found = recommend(ask(worth=50.0, by=()))
    assert found.advice == "direct"
    assert found.answer.startswith("Train on tickets directly: no stop is expected to add more than 50 points.")
    assert all(not one.scores for one in found.options)


def test_a_source_with_the_targets_rows_is_named_and_left_out(ask: Any, place: Path) -> None:
    rows = [json.loads(line) for line in (place / "words" / "single.train.jsonl").read_text().splitlines()]
    write_rows(place / "seen.jsonl", [*rows[:20], *single_rows(20, seed=5)])
    found = recommend(ask("seen.jsonl"))
    assert list(found.excluded) == ["words"]
    assert "it was trained on the target's own rows: on " in found.excluded["words"]
    assert {one.candidate.source for one in found.stops} == {"likeness", "pick"}


def test_a_source_that_is_not_trained_yet_is_looked_through_for_the_targets_rows_too(ask: Any, place: Path) -> None:
    pairs = [json.loads(line) for line in (place / "data" / "rte" / "train.jsonl").read_text().splitlines()]
    write_rows(place / "mine.jsonl", pairs[:30])
    found = recommend(ask("mine.jsonl", sources=("rte", "qnli", "words")))
    assert list(found.excluded) == ["rte"]
    assert "it has the target's own rows: " in found.excluded["rte"]
    assert any("their data is not here: qnli" in note for note in found.notes)
    assert {one.candidate.source for one in found.stops} == {"qnli", "words"}


def test_without_labels_only_estimators_that_need_none_run_and_the_answer_says_so(ask: Any, place: Path) -> None:
    write_rows(place / "plain.jsonl", [{"text": row["text"]} for row in single_rows(40, seed=7)])
    asked = ask("plain.jsonl", by=("logme", "textemb"))
    found = recommend(asked)
    assert found.silent == {"logme": "the target has no labels"}
    assert all(set(one.scores) == {"textemb"} for one in found.stops)
    assert any("the target has no labels" in note for note in found.notes)
    with pytest.raises(StudyError, match="has no labels, so no run can be judged"):
        confirming(asked.target, asked.encoder, [one.candidate for one in found.stops], None)


def test_an_encoder_that_nothing_was_trained_with_gets_what_others_say(place: Path, encoder: Any) -> None:
    new = find(str(encoder("roberta")))
    asked = Question(Store.open(place / "store"), named(str(place / "tickets.jsonl")), new, ("mnli", "qqp"),
                     by=("logme",),
                     data=(place / "data",), reading=READING, device="cpu", threads=1)  # fmt: skip
    found = recommend(asked)
    assert found.silent == {"logme": "no source that is left is trained in this store with this encoder"}
    assert all("with roberta-large" in one.reason for one in found.stops)
    assert all(math.isfinite(one.expected.mean) and one.expected.sd > 2 for one in found.stops)
    assert {one.candidate.source for one in recommend(Question(asked.store, asked.target, new)).stops} >= {
        "mnli",
        "cosmosqa",
    }


def test_a_source_whose_data_is_gone_is_judged_by_its_results_alone(ask: Any, place: Path, earlier: Path) -> None:
    asked = ask(data=())
    moved = earlier.rename(earlier.with_name("moved"))  # the files that the store's study declared
    try:
        found = recommend(Question(asked.store, asked.target, find(str(moved / "bert")), SOURCES, by=("logme",),
                                   reading=READING, device="cpu", threads=1))  # fmt: skip
    finally:
        moved.rename(earlier)
    assert found.excluded == {}
    assert {one.candidate.source for one in found.stops} == set(SOURCES)
    assert all(not one.scores for one in found.stops)
    assert sum("whether it has seen the target's rows cannot be known" in note for note in found.notes) == 3


def test_joint_training_is_a_way_to_use_a_source_too(ask: Any) -> None:
    found = recommend(ask(strategies=("stilts", "multitask"), by=()))
    assert {one.candidate for one in found.stops} == {
        Candidate(name, kind) for name in SOURCES for kind in ("stilts", "multitask")
    }


def test_what_cannot_be_asked_is_said_at_once(ask: Any) -> None:
    with pytest.raises(UserError) as told:
        recommend(ask(sources=("cosmosq", "rte"), strategies=("direct", "stilt")))
    assert len(told.value.problems) == 3
    assert "did you mean 'cosmosqa'?" in str(told.value)
    assert "'direct' is no strategy that uses one source at a time" in str(told.value)
    with pytest.raises(UserError, match="names nothing but the target"):
        recommend(ask("rte", sources=("rte",)))


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (single_rows(3), "has 2 training rows; a ranking needs 10 or more"),
        (
            [{"text": "the same", "label": label} for label in ("no", "yes") * 20],
            "that ask 1 different thing; a ranking needs 10 or more",
        ),
        ([{**row, "label": "yes"} for row in single_rows(30)], "column 'label' holds 1 different labels: yes"),
    ],
)
def test_rows_that_nothing_can_be_ranked_for_are_refused(ask: Any, place: Path, rows: Any, words: str) -> None:
    write_rows(place / "bad.jsonl", rows)
    with pytest.raises(TaskError) as told:
        recommend(ask("bad.jsonl"))
    assert words in str(told.value)


# which target is meant


def test_a_file_of_rows_is_read_by_the_names_of_its_columns(tmp_path: Path) -> None:
    one = named(str(write_rows(tmp_path / "My Tickets.v2.jsonl", single_rows(20))))
    assert (one.task.name, one.labelled, one.task.labels) == ("my_tickets", True, ("no", "yes"))
    assert one.table is not None
    assert Path(one.table["train"]).is_absolute()
    two = named(str(write_rows(tmp_path / "pairs.jsonl", pair_rows(20))))
    assert type(two.task.format).__name__ == "Pair"
    plain = named(str(write_rows(tmp_path / "plain.jsonl", [{"text": "a b"}, {"text": "c d"}])))
    assert not plain.labelled


def test_a_file_that_declares_a_task_is_that_task(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", single_rows(20))
    (tmp_path / "mine.toml").write_text('[task.tickets]\ntrain = "rows.jsonl"\nformat = "single"\ntext = "text"\n')
    assert named(str(tmp_path / "mine.toml")).task.name == "tickets"
    (tmp_path / "two.toml").write_text("[task.a]\n[task.b]\n")
    with pytest.raises(TaskError, match="has to declare one task, and declares: a, b"):
        named(str(tmp_path / "two.toml"))
    (tmp_path / "bad.toml").write_text("[task")
    with pytest.raises(TaskError, match="is not a TOML file that can be read"):
        named(str(tmp_path / "bad.toml"))


def test_other_columns_take_a_table_which_the_error_shows(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "odd.jsonl", [{"utterance": "a b", "stars": 3}] * 4)
    with pytest.raises(TaskError) as told:
        named(str(path))
    assert "its columns are utterance, stars" in str(told.value)
    assert "[task.odd]" in str(told.value)
    assert 'text   = "utterance"' in str(told.value)
    with pytest.raises(TaskError, match=r"there is no task called 'rtee'"):
        named("rtee")
    with pytest.raises(TaskError):
        named(str(tmp_path / "nowhere.csv"))


# what would settle it


def test_the_confirming_study_is_an_ordinary_one_with_the_recipe_of_the_stores(ask: Any, place: Path) -> None:
    asked = ask()
    like = alike(asked.store, asked.encoder.name)
    assert like is not None
    assert like.name == "earlier"
    study = confirming(asked.target, asked.encoder, [Candidate("pick"), DIRECT, Candidate("words")], like, [1, 2])
    assert study.strategies["stilts"] == {"kind": "stilts", "sources": ["pick", "words"]}
    assert study.recipe_for("tickets", "target") == like.recipe_for("rte", "target")
    assert set(study.task) == {"tickets", "pick", "words"}
    limited = like.changed(limit={"train": 16, "role": {"source": {"train": 12}}, "task": {"pick": {"validation": 8}}})
    small = confirming(asked.target, asked.encoder, [Candidate("pick"), Candidate("words", "multitask")], limited, [1])
    assert small.limit_for("pick", "source") == {"train": 12, "validation": 8}
    assert small.limit_for("words", "joint") == {"train": 12, "validation": None}
    assert small.limit_for("tickets", "target") == {"train": None, "validation": None}  # all rows of one's own
    known = confirming(named("rte"), asked.encoder, [Candidate("pick")], limited, [1])
    assert known.limit_for("rte", "target") == {"train": 16, "validation": None}
    other = confirming(asked.target, asked.encoder, [Candidate("pick")], like, [1, 2])
    assert other.name != study.name
    assert alike(asked.store, "nobody") is None

    def opened(one: Study) -> Session:
        return Session.open(one, place / "store", [place / "data"], stand_in=True)

    cost = cost_of(study, opened)
    assert (cost.trainings, cost.new) == (10, 6)  # two seeds: direct, two stops before the target, and two sources
    assert cost.seconds is not None
    assert cost.examples > 0
    with pytest.raises(StudyError, match="no stop left to try"):
        confirming(asked.target, asked.encoder, [DIRECT], like)


# the command


def test_the_command_answers_then_runs_the_best_and_answers_again(place: Path, earlier: Path, command: Command) -> None:
    words = ("recommend", "--target", place / "tickets.jsonl", "--encoder", earlier / "bert", "--store",
             place / "store", "--data", place / "data", "--sources", "pick, words", "--rows", 24)  # fmt: skip
    first = command(*words, "--out", place / "answers" / "page.html")
    assert first.code == 0, first.err
    assert "(train directly)" in first.out
    assert "to find out: 15 trainings, 11 of them new" in first.out
    page = (place / "answers" / "page.html").read_text(encoding="utf-8")
    assert "Which stop before tickets?" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    ran = command(*words, "--run", "top:1", "--seeds", 2)
    assert ran.code == 0, ran.err
    assert "measured here: " in ran.out
    again = command(*words, "--seeds", 2, "--run", "top:1", "--json").json
    tried = [one for one in again["options"] if one["measured"]]
    assert len(tried) == 1
    assert tried[0]["measured"]["study"].startswith("recommend-tickets-")
    assert abs(tried[0]["gain"] - tried[0]["measured"]["gain"]) < 15
    rows = command("query", "select distinct source from cells where target = 'tickets'", "--json",
                   "--store", place / "store").json  # fmt: skip
    assert {row["source"] for row in rows} == {"", tried[0]["source"]}


def test_a_search_tries_all_at_a_part_of_the_cost(place: Path, earlier: Path, command: Command) -> None:
    found = command(
        "recommend", "--target", place / "tickets.jsonl", "--encoder", earlier / "bert", "--store", place / "store",
        "--data", place / "data", "--by", "none", "--run", "search:0.9", "--seeds", 2,
    )  # fmt: skip
    assert found.code == 0, found.err
    assert "rung 1: " in found.out
    assert "searched with " in found.out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--run", "best"), "say top:3 (or another number), search, or search:0.5"),
        (("--run", "top:0"), "say top:3"),
        (("--by", "logmee"), "did you mean 'logme'?"),
        (("--by", "nce:mean"), "nce reads no layers"),
        (("--target", "rtee"), "did you mean 'rte'?"),
        (("--encoder", "./nowhere"), "there is no such directory"),
        (("--sources", "mnlli"), "did you mean 'mnli'?"),
        (("--data", "nowhere"), "there is no such data directory"),
        (("--like", "nobody"), "there is no such study file"),
    ],
)
def test_bad_input_is_named_with_the_choices(
    place: Path, earlier: Path, command: Command, words: tuple[str, ...], told: str
) -> None:
    usual = {"--target": str(place / "tickets.jsonl"), "--encoder": str(earlier / "bert"), "--by": "none",
             "--store": str(place / "store"), "--data": str(place / "data")}  # fmt: skip
    line = [word for pair in {**usual, words[0]: words[1]}.items() for word in pair]
    found = command("recommend", *line)
    assert found.code == 2
    assert told in " ".join(found.err.split())


def test_a_run_that_nothing_can_be_judged_on_is_refused(place: Path, earlier: Path, command: Command) -> None:
    write_rows(place / "plain.jsonl", [{"text": row["text"]} for row in single_rows(40, seed=7)])
    words = ("recommend", "--target", place / "plain.jsonl", "--encoder", earlier / "bert", "--store", place / "store",
             "--data", place / "data")  # fmt: skip
    assert command(*words).code == 0
    found = command(*words, "--run", "top:1")
    assert found.code == 2
    assert "has no labels, so no run can be judged on it" in " ".join(found.err.split())
    found = command(
        *words[:-4], "--store", place / "store", "--data", place / "data", "--out", place / "store" / "steps"
    )
    assert found.code == 2
    assert "cannot be written" in found.err


def test_all_that_is_wrong_is_said_at_once(command: Command, tmp_path: Path) -> None:
    found = command("recommend", "--target", "rtee", "--encoder", "./nowhere", "--by", "logmee,nce:mean")
    assert found.code == 2
    assert sum(word in found.err for word in ("'rtee'", "nowhere", "'logmee'", "nce:mean")) == 4


def test_no_chance_is_called_certain() -> None:
    assert [percent(chance) for chance in (0.001, 0.5, 0.999, math.nan)] == ["<1%", "50%", ">99%", "–"]
