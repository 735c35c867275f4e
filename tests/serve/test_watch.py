"""What the page of a running study is told: everything that is so, nothing that is private, and the store stays."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.kit import own_table, publish_fake, study_words, write_study

from layover import Session
from layover.claims import Claim, told
from layover.serve.public import PATH
from layover.serve.watch import Watch, rounded
from layover.step import Train

SECRET = "hf_abcdefghijklmnopqrstuvwx"


@pytest.fixture
def session(bert: Path, tmp_path: Path) -> Session:
    """Two seeds of direct and of a stop: two trainings on the source, four on the target."""
    words = study_words(bert, tmp_path, seeds=[1, 2])
    return Session.open(write_study(tmp_path / "study.toml", words), store=tmp_path / "store")


def finish(session: Session, label: str, value: float = 50.0) -> str:
    step = session.plan.steps[session.plan.find(label)]
    assert isinstance(step, Train)
    return publish_fake(session.store, step, keep=True, value=value)


def cells(parts: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The cells of the only matrix by strategy; the study has one target."""
    (matrix,) = parts["matrix"]["encoders"]
    assert [target["name"] for target in matrix["targets"]] == ["mine"]
    return {row["strategy"]: row["cells"]["mine"] for row in matrix["rows"]}


def files(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {str(p): (p.stat().st_mtime_ns, p.read_bytes()) for p in folder.rglob("*") if p.is_file()}


def test_a_study_that_nothing_has_been_run_of(session: Session) -> None:
    parts = Watch(session.plan, session.store).look()
    assert parts["progress"] == {
        "total": 6, "finished": 0, "running": 0, "waiting": 6, "failed": 0, "blocked": 0, "seconds": None
    }  # fmt: skip
    assert {name: (cell["n"], cell["of"], cell["mean"]) for name, cell in cells(parts).items()} == {
        "direct": (0, 2, None),
        "stilts": (0, 2, None),
    }
    assert parts["running"] == parts["recent"] == {"steps": []}


def test_the_matrix_fills_as_steps_finish(session: Session) -> None:
    watch = Watch(session.plan, session.store)
    watch.look()
    direct, stilts = {1: 50.0, 2: 62.5}, {1: 61.0, 2: 60.5}
    finish(session, "bert · mine · s1", direct[1])
    found = cells(watch.look())
    assert (found["direct"]["mean"], found["direct"]["n"]) == (50.0, 1)
    finish(session, "bert · stop → mine · s2", stilts[2])
    found = cells(watch.look())
    assert (found["stilts"]["mean"], found["stilts"]["delta"]) == (60.5, None)  # no seed has both
    finish(session, "bert · mine · s2", direct[2])
    found = cells(watch.look())
    assert found["stilts"]["delta"] == stilts[2] - direct[2]
    assert found["direct"]["mean"] == statistics.mean(direct.values())
    finish(session, "bert · stop → mine · s1", stilts[1])
    found = cells(watch.look())
    assert found["stilts"]["delta"] == pytest.approx(statistics.mean(stilts[s] - direct[s] for s in (1, 2)))
    assert (found["stilts"]["n"], found["stilts"]["of"]) == (2, 2)
    assert found == cells(Watch(session.plan, session.store).look())  # one who has not looked before sees the same


def test_the_same_numbers_as_the_analysis(session: Session) -> None:
    for label, value in {"mine · s1": 50.0, "mine · s2": 61.0}.items():
        finish(session, f"bert · {label}", value)
        finish(session, f"→ {label}", value + 2.5)
    (cell,) = session.transfer().matrix().cells.values()
    assert cells(Watch(session.plan, session.store).look())["stilts"]["delta"] == cell.delta


def test_a_step_in_hand_has_its_curve(session: Session) -> None:
    finish(session, "bert · mine · s1")
    key = session.plan.find("bert · mine · s2")
    curve = [{"epoch": 0.5, "step": 5, "loss": 0.75, "selection": 50.0}]
    progress = {"step": 8, "steps": 10, "epoch": 1, "epochs": 1, "best": 50.0, "loss": 0.5, "curve": curve}
    with Claim(session.store.claim(key), lambda: told(progress)) as claim:
        assert claim.take()
        parts = Watch(session.plan, session.store).look()
    (step,) = parts["running"]["steps"]
    assert (step["label"], step["step"], step["steps"], step["loss"]) == ("…/bert · mine · s2", 8, 10, 0.5)
    assert step["curve"] == [{"step": 5, "loss": 0.75, "selection": 50.0}]
    assert step["metric"] == "accuracy"
    progress_part = parts["progress"]
    assert progress_part["running"] == 1
    # a fake takes half a second: four others are to be done, and a fifth of this one
    assert progress_part["seconds"] == rounded(4.2 * 0.5)


def test_failed_and_blocked_steps_say_why(session: Session, tmp_path: Path) -> None:
    key, store = session.plan.find("bert · stop · s1"), session.store
    error = f"FileNotFoundError: {tmp_path}/data/x.jsonl, {store.root}/work, /etc/layover/conf.d/a.toml, {SECRET}"
    store.failed(key, store.attempt(key), f"Traceback\n{error}\n")
    parts = Watch(session.plan, store).look()
    (failed,), (blocked,) = parts["troubles"]["failed"], parts["troubles"]["blocked"]
    assert failed["label"] == "…/bert · stop · s1"
    assert failed["why"].endswith("…/work, …/a.toml, ***")
    assert blocked["why"] == "stands on: …/bert · stop · s1"
    assert parts["progress"]["failed"] == parts["progress"]["blocked"] == 1
    text = json.dumps(parts, ensure_ascii=False)
    assert str(tmp_path) not in text
    assert SECRET not in text


def test_a_failed_cell_is_marked(session: Session) -> None:
    key = session.plan.find("bert · mine · s1")
    session.store.failed(key, session.store.attempt(key), "OutOfMemory: too much\n")
    assert cells(Watch(session.plan, session.store).look())["direct"]["failed"] == 1


def test_the_store_stays_as_it_is(session: Session) -> None:
    for label in ("bert · stop · s1", "bert · mine · s1"):
        finish(session, label)
    before = files(session.store.root)
    watch = Watch(session.plan, session.store)
    with Claim(session.store.claim(session.plan.find("bert · mine · s2")), dict) as claim:
        assert claim.take()
        assert watch.look()["progress"]["seconds"] is not None  # what needs to read all that steps took
    watch.look()
    assert files(session.store.root) == before


def test_a_damaged_step_stops_nobody(session: Session) -> None:
    key = finish(session, "bert · mine · s1")
    (session.store.folder(key) / "observations.jsonl").write_text("{", encoding="utf-8")
    parts = Watch(session.plan, session.store).look()
    assert cells(parts)["direct"]["n"] == 0
    assert parts["progress"]["finished"] == 1


def test_the_conditions_of_a_strategy_are_rows_of_their_own(bert: Path, tmp_path: Path) -> None:
    words = study_words(bert, tmp_path, sizes={"target": [8, 0]}, task={"mine": own_table(tmp_path)})
    words["strategies"] = {"direct": {"kind": "direct"}, "cut": {"kind": "reinit", "keep": [0, 1]}}
    session = Session.open(write_study(tmp_path / "study.toml", words), store=tmp_path / "store")
    (matrix,) = Watch(session.plan, session.store).look()["matrix"]["encoders"]
    assert [target["name"] for target in matrix["targets"]] == ["mine @ 8", "mine"]
    assert [(row["strategy"], row["source"]) for row in matrix["rows"]] == [
        ("direct", ""), ("cut", "keep 0"), ("cut", "keep 1")
    ]  # fmt: skip


NAMES = st.text("abcXYZ019_-.é", min_size=1, max_size=8).filter(lambda name: set(name) != {"."})


@given(st.lists(NAMES, min_size=2, max_size=6), st.sampled_from(["", "in ", "'", "(", "error:", "a=", "file:"]))
def test_of_a_path_its_last_part_stays(parts: list[str], before: str) -> None:
    for path in ("/" + "/".join(parts), "C:\\" + "\\".join(parts)):
        shown = PATH.sub("…/", before + path)
        assert shown == f"{before}…/{parts[-1]}"


@pytest.mark.parametrize("text", ["a/b", "1/2 of 3/4", "s3://bucket/prefix/x", "https://a.b/c/d", "n/a", "and/or/not"])
def test_what_is_no_path_stays(text: str) -> None:
    assert PATH.sub("…/", text) == text
