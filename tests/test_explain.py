"""What would happen to a step and why, and what sets it apart from what has run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.kit import publish_fake, study_words

from layover.encoders import Encoder
from layover.errors import StoreError
from layover.explain import decide, drift, nearest, to_do
from layover.files import write_json
from layover.plan import compile_plan
from layover.provenance import provenance_now
from layover.session import Session
from layover.step import Train, key_of
from layover.store import Store
from layover.study import Study

GIGABYTE = 10**9


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Session:
    """A study of stop -> mine and direct of which nothing has run."""
    found = Encoder("e", "sha256:e", "/nowhere", bytes=GIGABYTE)
    monkeypatch.setattr("layover.encoders.find", lambda name, base=None: found)
    return Session(compile_plan(Study(**study_words("e", tmp_path))), Store.open(tmp_path / "store"))


def direct(session: Session) -> tuple[str, Train]:
    key = session.plan.find("e · mine · s1")
    step = session.plan.steps[key]
    assert isinstance(step, Train)
    return key, step


def test_reasons_say_what_waits_and_what_goes_on(session: Session) -> None:
    store, stop = session.store, session.plan.find("e · stop · s1")
    reasons = {one.label: one.reason for one in decide(session.plan, store)}
    assert reasons["e · stop · s1"] == "first time; 1 step waits for it"
    assert reasons["e · mine · s1"] == "first time"
    store.resume_folder(stop).mkdir()
    reasons = {one.label: one.reason for one in decide(session.plan, store)}
    assert reasons["e · stop · s1"] == "goes on from its checkpoint; 1 step waits for it"
    publish_fake(store, direct(session)[1])
    assert to_do(decide(session.plan, store)) == [key for key in session.plan.steps if key != direct(session)[0]]


def test_the_nearest_step_is_the_one_with_the_fewest_differences(session: Session) -> None:
    key, step = direct(session)
    assert nearest(session.plan, session.store, key) is None
    far = replace(step, seed=5, recipe=replace(step.recipe, batch_size=3, warmup=0.5))
    near = replace(step, recipe=replace(step.recipe, batch_size=3))
    for other in (far, near, replace(far, seed=6)):
        publish_fake(session.store, other)
    found = nearest(session.plan, session.store, key)
    assert found is not None
    assert found[0] == key_of(near)
    assert [(one.path, one.other, one.this) for one in found[1]] == [("recipe.batch_size", 3, step.recipe.batch_size)]


def test_drift_names_versions_and_code_that_have_changed(session: Session) -> None:
    key = publish_fake(session.store, direct(session)[1])
    now = provenance_now()
    path = session.store.folder(key) / "provenance.json"
    write_json(path, now)
    assert drift(session.store, key) == []
    write_json(path, {"versions": {**now["versions"], "torch": "1.4.0"}, "source": "older"})
    assert [(one.path, one.other) for one in drift(session.store, key)] == [
        ("versions.torch", "1.4.0"), ("source of train/", "older"),
    ]  # fmt: skip


def test_a_run_that_would_fill_the_disk_is_not_begun(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """One source's weights are kept, and a checkpoint holds four times the encoder."""
    for free, enough in ((5.0, False), (5.1, True)):
        monkeypatch.setattr("shutil.disk_usage", lambda _, free=free: SimpleNamespace(free=free * GIGABYTE))
        if enough:
            session.check()
        else:
            with pytest.raises(StoreError, match=r"has 5\.00 GB free; this study needs about 5\.07 GB"):
                session.check()
