"""Damaged files of finished steps: found, put aside, and done again, with what nothing happened to left as it is."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.kit import Command, Faking, numbers, publish_fake, study_words, write_study

from layover import integrity
from layover.encoders import Encoder
from layover.errors import StepError
from layover.execute import execute
from layover.executors.local import InProcess
from layover.kinds.common import weights_of
from layover.plan import Plan, compile_plan
from layover.session import Session
from layover.session import run as run_study
from layover.store import Store
from layover.study import Study
from layover.upkeep import collect_garbage, verify

Run = Callable[[], tuple[list[str], dict[str, str]]]


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    monkeypatch.setattr("layover.encoders.find", lambda name, base=None: Encoder(name, f"sha256:{name}", "/nowhere"))
    return compile_plan(Study(**study_words("e", tmp_path, sweep={"learning_rate": [1e-3, 1e-4]})))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store")


@pytest.fixture
def run(plan: Plan, store: Store, tmp_path: Path) -> Run:
    """Run the plan with fake trainings; the labels of those that were run, and what was said of damaged steps."""
    times = iter(range(100))

    def go() -> tuple[list[str], dict[str, str]]:
        faking, damaged = Faking(InProcess(), tmp_path / f"runs{next(times)}"), {}

        def note(what: str, key: str, outcome: object) -> None:
            if what == "damaged":
                damaged[plan.labels[key]] = getattr(outcome, "error", "")

        assert execute(plan, store, faking, note).complete
        return sorted(plan.labels[key] for key in faking.runs()), damaged

    return go


SOURCE, TARGET, FROM = "e · stop · s1", "e · mine · s1", "e · stop → mine · s1"


def flip(path: Path) -> None:
    """Change one bit in the middle of a file, and nothing else: neither its size nor its time."""
    stat, content = path.stat(), bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


# what a manifest finds


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    folder = tmp_path / "folder"
    for name in ("step.json", "tasks/0/facts.json", "weights/encoder.safetensors", "weights/0/head.json"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"the content of {name}")
    integrity.seal(folder)
    return folder


def test_a_manifest_lists_every_file_once_and_weights_apart(sealed: Path) -> None:
    own = json.loads((sealed / "manifest.json").read_text())["files"]
    weights = json.loads((sealed / "weights" / "manifest.json").read_text())["files"]
    assert sorted(own) == ["step.json", "tasks/0/facts.json"]
    assert sorted(weights) == ["0/head.json", "encoder.safetensors"]
    assert own["step.json"]["bytes"] == len("the content of step.json")
    assert integrity.damage(sealed) == integrity.damage(sealed / "weights") == []
    assert not integrity.suspect(sealed)


@pytest.mark.parametrize("name", ["step.json", "tasks/0/facts.json"])
@pytest.mark.parametrize("what", ["flipped", "cut", "emptied", "gone", "rewritten"])
def test_damage_is_found_by_content_and_suspected_by_size_and_time(sealed: Path, name: str, what: str) -> None:
    path = sealed / name
    if what == "gone":
        path.unlink()
    elif what == "flipped":
        flip(path)
    else:
        path.write_text({"cut": "the", "emptied": "", "rewritten": path.read_text().upper()}[what])
        after = (sealed / "manifest.json").stat().st_mtime_ns + 1_000_000
        os.utime(path, ns=(after, after))
    ((found, _),) = integrity.damage(sealed)
    assert found == path
    assert integrity.suspect(sealed) == (what != "flipped")
    assert integrity.damage(sealed / "weights") == []


@pytest.mark.parametrize("content", ["", "{", "[]", '{"files": 3}', '{"files": {"step.json": 3}}', "null"])
def test_a_manifest_that_cannot_be_read_is_damage(sealed: Path, content: str) -> None:
    (sealed / "manifest.json").write_text(content)
    ((found, what),) = integrity.damage(sealed)
    assert found == sealed / "manifest.json"
    assert "cannot be read" in what
    assert integrity.suspect(sealed)


def test_what_an_older_layover_wrote_has_no_manifest_and_is_left_alone(sealed: Path) -> None:
    (sealed / "manifest.json").unlink()
    flip(sealed / "step.json")
    assert integrity.damage(sealed) == []
    assert not integrity.suspect(sealed)


# what a run does about it


def test_a_run_does_a_damaged_step_again_and_nothing_else(run: Run, plan: Plan, store: Store) -> None:
    run()
    before = numbers(store.root)
    path = store.folder(plan.find(TARGET)) / "observations.jsonl"
    path.write_text(path.read_text().replace("50.0", "99.0"))
    assert run() == ([TARGET], {TARGET: "observations.jsonl has changed since it was written"})
    assert numbers(store.root) == before
    assert verify(store) == []
    (aside,) = (store.root / "quarantine").iterdir()
    assert "99.0" in (aside / "observations.jsonl").read_text()
    assert "observations.jsonl has changed" in (aside / "why.txt").read_text()
    assert run() == ([], {})


def test_a_bit_that_flipped_unseen_is_found_by_verify_and_mended_by_the_next_run(
    run: Run, plan: Plan, store: Store
) -> None:
    run()
    before, path = numbers(store.root), store.folder(plan.find(TARGET)) / "predictions.parquet"
    flip(path)
    assert run() == ([], {})
    (problem,) = verify(store)
    assert problem.place == str(path)
    assert "the next run of its study does the step again" in problem.hint
    assert run()[0] == [TARGET]
    assert numbers(store.root) == before
    assert verify(store) == []


def test_what_was_mended_by_hand_is_no_longer_noted(run: Run, plan: Plan, store: Store) -> None:
    run()
    path = store.folder(plan.find(TARGET)) / "log.txt"
    flip(path)
    assert len(verify(store)) == 1
    flip(path)
    assert run() == ([], {})
    assert verify(store) == []
    assert not (path.parent / integrity.NOTE).exists()


def test_what_a_step_to_run_reads_is_read_before_it_runs(run: Run, plan: Plan, store: Store) -> None:
    """Of damaged weights the weights alone are made again; of a damaged choice the choice."""
    run()
    source, choice = plan.find(SOURCE), plan.find("e · stop · best of the sweep")
    scores = (store.folder(source) / "observations.jsonl").read_bytes()
    flip(store.weights(source) / "encoder.safetensors")  # type: ignore[operator]
    shutil.rmtree(store.folder(plan.find(FROM)))
    assert run() == ([SOURCE, FROM], {SOURCE: "weights/encoder.safetensors has changed since it was written"})
    assert (store.folder(source) / "observations.jsonl").read_bytes() == scores
    flip(store.folder(choice) / "choice.json")
    shutil.rmtree(store.folder(source))
    ran, damaged = run()
    assert ran == [SOURCE]
    assert list(damaged) == ["e · stop · best of the sweep"]
    assert verify(store) == []


def test_a_step_whose_parents_are_damaged_in_a_row_waits_for_all_of_them(run: Run, plan: Plan, store: Store) -> None:
    run()
    flip(store.folder(plan.find("e · stop · best of the sweep")) / "choice.json")
    flip(store.folder(plan.find(SOURCE)) / "step.json")
    shutil.rmtree(store.folder(plan.find(FROM)))
    ran, damaged = run()
    assert ran == [SOURCE, FROM]
    assert sorted(damaged) == ["e · stop · best of the sweep", SOURCE]


def test_a_worker_refuses_weights_that_are_damaged(run: Run, plan: Plan, store: Store) -> None:
    run()
    source = plan.find(SOURCE)
    weights = weights_of(source, store)
    assert weights is not None
    shutil.copytree(weights, weights.with_name("copy"))
    shutil.rmtree(weights)
    weights.with_name("copy").rename(weights)  # read anew: another folder than the one that was sound
    (weights / "encoder.safetensors").write_bytes(b"")
    with pytest.raises(StepError, match=rf"the weights of step {source}, .* are damaged: encoder\.safetensors has 0"):
        weights_of(source, store)


def test_what_was_put_aside_is_collected(run: Run, plan: Plan, store: Store) -> None:
    run()
    (store.folder(plan.find(TARGET)) / "log.txt").unlink()
    assert run()[0] == [TARGET]
    (aside,) = (store.root / "quarantine").iterdir()
    assert aside in [path for path, _ in collect_garbage(store, dry_run=False)]
    assert list((store.root / "quarantine").iterdir()) == []


def test_a_step_of_no_plan_is_not_touched(run: Run, store: Store) -> None:
    from tests.kit import a_train

    key = publish_fake(store, a_train())
    (store.folder(key) / "log.txt").write_text("other")
    assert run()[1] == {}
    assert store.finished(key)


def test_a_real_study_ends_with_the_numbers_of_an_undisturbed_one(bert: Path, tmp_path: Path, command: Command) -> None:
    study = write_study(tmp_path / "study.toml", study_words(bert, tmp_path))
    session = run_study(study, store=tmp_path / "store")
    before = numbers(tmp_path / "store")
    source, child = session.plan.find("stop · s1"), session.plan.find("→")
    flip(session.store.folder(source) / "weights" / "encoder.safetensors")
    flip(session.store.folder(child) / "curve.jsonl")
    found = command("store", "verify", "--store", tmp_path / "store")
    assert found.code == 1
    assert "encoder.safetensors: has changed since it was written" in found.out
    ran = command("run", study, "--store", tmp_path / "store")
    assert ran.code == 0, ran.err
    assert "curve.jsonl has changed since it was written: it is done again" in ran.out
    assert numbers(tmp_path / "store") == before
    assert command("store", "verify", "--store", tmp_path / "store").code == 0
    assert Session.open(study, tmp_path / "store").run().finished == []
