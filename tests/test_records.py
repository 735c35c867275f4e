"""What a store remembers of a study: read back as it was, its plan written once, damage told of, older records read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.kit import study_words

from layover.errors import StoreError
from layover.plan import compile_plan
from layover.query import ask
from layover.session import Session
from layover.step import from_json, text_of, to_json
from layover.store import Store
from layover.study import Study
from layover.upkeep import collect_garbage, labels_of


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Session:
    from layover.encoders import Encoder

    monkeypatch.setattr("layover.encoders.find", lambda name, base=None: Encoder(name, f"sha256:{name}", "/nowhere"))
    words = study_words("e", tmp_path, seeds=[1, 2], sweep={"learning_rate": [1e-3, 1e-4]})
    return Session(compile_plan(Study(**words)), Store.open(tmp_path / "store"))


def remembered(session: Session, **other: Any) -> Path:
    """The file of the study's record, once it is written."""
    session.store.record_study("small", **{**session.record(), **other})
    return session.store.root / "studies" / "small.json"


def plans(session: Session) -> list[str]:
    return sorted(path.name for path in (session.store.root / "studies").glob("*.parquet"))


def test_a_record_is_read_as_it_was_written(session: Session) -> None:
    remembered(session)
    record, plan = session.store.studies()["small"], session.plan
    assert record.labels == plan.labels
    assert list(record.steps) == list(plan.steps)
    assert [from_json(step) for step in record.steps.values()] == list(plan.steps.values())
    assert [json.loads(text_of(step)) for step in plan.steps.values()] == [*map(to_json, plan.steps.values())]
    assert record.cells.to_pylist() == [score.__dict__ for score in plan.scores]
    assert json.loads(json.dumps(record.words()))["study"] == record.study


def test_an_unchanged_plan_is_written_once_and_another_beside_it(session: Session) -> None:
    remembered(session)
    first = plans(session)
    times = [path.stat().st_mtime_ns for path in session.store.root.glob("studies/*.parquet")]
    remembered(session, data=["elsewhere"])
    assert plans(session) == first
    assert [path.stat().st_mtime_ns for path in session.store.root.glob("studies/*.parquet")] == times
    assert session.store.studies()["small"].data == ["elsewhere"]
    remembered(session, cells=[])
    assert len(plans(session)) == 4
    assert len(session.store.studies()["small"].cells) == 0


def test_plans_that_no_study_has_any_more_are_collected(session: Session) -> None:
    remembered(session, cells=[])
    old = plans(session)
    remembered(session)
    dropped = [Path(path).name for path, _ in collect_garbage(session.store, dry_run=True)]
    assert dropped == old
    collect_garbage(session.store, dry_run=False)
    assert session.store.studies()["small"].labels == session.plan.labels
    assert collect_garbage(session.store, dry_run=True) == []


def test_what_the_first_layovers_wrote_is_read(session: Session) -> None:
    path = remembered(session)
    whole = session.store.studies()["small"].words()
    cells = [{name: value for name, value in cell.items() if name not in ("condition", "rows")} for cell in
             whole["cells"]]  # fmt: skip
    path.write_text(json.dumps({**whole, "cells": cells}))
    for plan in plans(session):
        (path.parent / plan).unlink()
    assert session.store.studies()["small"].words() == whole
    assert labels_of(session.store) == session.plan.labels
    assert ask(session.store, "select count(*), sum(rows) from cells")[1] == [(len(session.plan.scores), 0)]


@pytest.mark.parametrize("part", ["steps", "cells"])
def test_a_damaged_or_lost_plan_is_a_user_error_that_the_next_run_mends(session: Session, part: str) -> None:
    remembered(session)
    (plan,) = session.store.root.glob(f"studies/*.{part}.parquet")
    plan.write_bytes(plan.read_bytes()[:-20])
    record = session.store.studies()["small"]
    with pytest.raises(StoreError, match=rf"{part}\.parquet: cannot be read.*\n?.*remove it"):
        getattr(record, part)
    plan.unlink()
    with pytest.raises(StoreError, match="cannot be read"):
        getattr(session.store.studies()["small"], part)
    remembered(session)
    assert session.store.studies()["small"].labels == session.plan.labels


@pytest.mark.parametrize("plan", ["../../etc/passwd", "/etc/passwd", "x" * 300, "a\0b", 3, "ABCDEF0123456789"])
def test_a_strangers_record_names_no_other_file(session: Session, plan: Any) -> None:
    path = remembered(session)
    path.write_text(json.dumps({"study": {}, "data": [], "plan": plan}))
    with pytest.raises(StoreError, match=r"small\.json: cannot be read"):
        session.store.studies()


def test_cells_of_several_studies_are_one_table(session: Session) -> None:
    remembered(session)
    session.store.record_study("other", **session.record())
    counted = ask(session.store, "select study, count(*) from cells group by study order by study")[1]
    assert counted == [(name, len(session.plan.scores)) for name in ("other", "small")]
    assert len(plans(session)) == 2  # the same plan


def test_there_are_no_cells_where_no_study_has_run(session: Session) -> None:
    assert ask(session.store, "select count(*) from cells")[1] == [(0,)]
    assert session.store.study("small") is None
