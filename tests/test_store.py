"""Stores: a step is there whole or not at all, whatever happens to processes, disks and files."""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
from tests.kit import a_train, fake_work, numbers, publish_fake, study_words

import layover
from layover import identity
from layover.errors import StoreError
from layover.execute import needed
from layover.plan import compile_plan
from layover.query import ask
from layover.run import WORK, run_step
from layover.session import Session
from layover.step import Train, key_of
from layover.store import Store
from layover.study import Study
from layover.upkeep import collect_garbage, listing, verify


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store")


# opening


def test_opening_makes_a_store_and_opening_again_finds_it(tmp_path: Path) -> None:
    made = Store.open(tmp_path / "deep" / "store")
    publish_fake(made, a_train())
    assert Store.open(made.root, create=False).finished_keys() == [key_of(a_train())]


def test_an_existing_empty_directory_becomes_a_store(tmp_path: Path) -> None:
    assert Store.open(tmp_path).finished_keys() == []


def test_a_directory_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(StoreError, match="exists and is not a layover store"):
        Store.open(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(StoreError, match="exists and is not a layover store"):
        Store.open(tmp_path / "thesis.tex")


def test_a_store_that_is_not_there_is_not_made_by_looking(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is not a layover store"):
        Store.open(tmp_path / "store", create=False)
    assert not (tmp_path / "store").exists()


def test_a_store_of_a_newer_layover_is_refused(store: Store) -> None:
    (store.root / "layover.json").write_text(json.dumps({"scheme": identity.SCHEME + 1}))
    with pytest.raises(StoreError, match=r"newer layover(.|\n)*pip install --upgrade"):
        Store.open(store.root)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"scheme": "new"}', "null"])
def test_a_damaged_marker_is_a_user_error(store: Store, content: str) -> None:
    (store.root / "layover.json").write_text(content)
    with pytest.raises(StoreError, match="cannot be read"):
        Store.open(store.root)


@pytest.mark.parametrize(
    "left", [["steps"], ["steps", "work", "claims", "studies"], ["steps", ".layover.json.12ab34cd"]]
)
def test_a_store_whose_making_was_interrupted_is_made_whole(tmp_path: Path, left: list[str]) -> None:
    for name in left:
        (tmp_path / name).mkdir()
    publish_fake(Store.open(tmp_path), a_train())
    assert len(Store.open(tmp_path, create=False).finished_keys()) == 1


@pytest.mark.parametrize("folder", ["steps", "work", "claims", "studies"])
def test_a_folder_that_was_removed_costs_what_was_in_it_and_nothing_else(store: Store, folder: str) -> None:
    key = publish_fake(store, a_train())
    shutil.rmtree(store.root / folder)
    again = Store.open(store.root)
    assert again.finished(key) == (folder != "steps")
    assert again.studies() == {}
    publish_fake(again, a_train(seed=2))


def test_a_damaged_record_of_a_study_is_a_user_error(store: Store) -> None:
    (store.root / "studies" / "x.json").write_text('{"study": ')
    with pytest.raises(StoreError, match=r"x\.json: cannot be read"):
        store.studies()


# publishing


def test_a_step_is_there_only_when_it_is_published(store: Store) -> None:
    step = a_train()
    attempt = store.attempt(key_of(step))
    fake_work(store, attempt, keep=True)
    assert not store.finished(key_of(step))
    assert store.publish(step, attempt)
    assert store.finished(key_of(step))
    assert store.step(key_of(step)) == step
    assert list((store.root / "work").iterdir()) == []
    found = store.predictions(key_of(step))
    assert found is not None
    assert (found.rows.tolist(), found.n_classes) == ([0, 1], 2)


def test_files_and_names_are_on_disk_before_the_rename(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    step = a_train()
    attempt = store.attempt(key_of(step))
    fake_work(store, attempt, keep=True)
    synced: list[tuple[Path, bool]] = []
    monkeypatch.setattr("layover.store.sync", lambda path: synced.append((path, store.finished(key_of(step)))))
    store.publish(step, attempt)
    files = {path.relative_to(store.folder(key_of(step))) for path in store.folder(key_of(step)).rglob("*")}
    assert {path for path, after in synced if not after} == {attempt, *(attempt / path for path in files)}
    assert [path for path, after in synced if after] == [store.root / "steps"]


def test_the_first_numbers_stand_and_weights_are_added(store: Store) -> None:
    key = publish_fake(store, a_train(), value=50.0)
    attempt = store.attempt(key)
    fake_work(store, attempt, keep=True, value=60.0)
    assert not store.publish(a_train(), attempt)
    assert store.read(key, "observations.jsonl")[0]["value"] == 50.0
    assert store.weights(key) is not None
    assert list((store.root / "work").iterdir()) == []


def race(root: str, writer: int, barrier: Any) -> bool:
    store, step = Store(Path(root)), a_train()
    attempt = store.attempt(key_of(step))
    fake_work(store, attempt, keep=writer % 2 == 0, value=float(writer))
    (attempt / "log.txt").write_text(f"{float(writer)}")
    barrier.wait()
    try:
        return store.publish(step, attempt)
    except FileNotFoundError:  # the winner took this attempt's folder away; a worker then finds the step finished
        return False


def test_of_writers_at_once_one_wins_and_nothing_is_mixed(store: Store) -> None:
    context = get_context("fork")
    for round_ in range(5):
        shutil.rmtree(store.folder(key_of(a_train())), ignore_errors=True)
        with context.Manager() as manager, ProcessPoolExecutor(6, context) as pool:
            barrier = manager.Barrier(6)
            won = list(pool.map(race, [str(store.root)] * 6, range(6), [barrier] * 6))
        assert won.count(True) == 1, (round_, won)
        key, winner = key_of(a_train()), float(won.index(True))
        assert {row["value"] for row in store.read(key, "observations.jsonl")} == {winner}
        assert float((store.folder(key) / "log.txt").read_text()) == winner
        assert verify(store) == []


def test_a_worker_that_was_overtaken_finds_the_step_finished(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    step = a_train()

    def overtaken(_: Any, store: Store, places: Any, attempt: Path, keep: bool, report: Any) -> None:
        publish_fake(store, step, value=70.0)  # another worker, after this one's lease ran out
        fake_work(store, attempt, keep)  # its folder is gone

    monkeypatch.setitem(WORK, Train, overtaken)
    outcome = run_step(step, store, a_places())
    assert (outcome.status, outcome.error) == ("finished", "")
    assert store.read(key_of(step), "observations.jsonl")[0]["value"] == 70.0


def a_places() -> Any:
    from layover.step import Places

    return Places()


# failures


def test_a_failed_attempt_keeps_its_folder_and_the_error_is_its_last_line(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from layover.errors import Problem, TaskError

    def fails(*_: Any) -> None:
        raise TaskError(Problem("rte", "the data is wrong", "name the right directory"))

    monkeypatch.setitem(WORK, Train, fails)
    outcome = run_step(a_train(), store, a_places())
    assert outcome.status == "failed"
    assert store.failure(key_of(a_train())) == outcome.error == "TaskError: rte: the data is wrong"
    (error,) = (store.root / "work").glob("*/error.txt")
    assert "Traceback" in error.read_text()
    assert not (store.root / "claims" / f"{key_of(a_train())}.json").exists()
    assert store.failure("0" * 16) == ""


# a read-only and a full disk


def mount(folder: Path, *options: str) -> None:
    folder.mkdir(exist_ok=True)
    if os.geteuid() != 0 or not shutil.which("mount"):
        pytest.skip("needs root to mount a small file system")
    ran = subprocess.run(["mount", *options, str(folder)], capture_output=True, text=True, check=False)
    if ran.returncode:
        pytest.skip(f"this system mounts nothing here: {ran.stderr.strip()}")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 96 MiB."""
    disk = tmp_path / "disk"
    mount(disk, "-t", "tmpfs", "-o", "size=96m", "tmpfs")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=False)


def fill(disk: Path, leave: int = 0) -> Path:
    """Take all room but `leave` bytes."""
    filler = disk / "filler"
    room = os.statvfs(disk)
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, room.f_bavail * room.f_bsize - leave)
    return filler


def remount(disk: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", str(disk)], check=True)


def test_a_full_disk_is_said_at_once(small_disk: Path) -> None:
    store = Store.open(small_disk / "store")
    store.check_writable(1000)
    with pytest.raises(StoreError, match=r"GB free; this study needs about 5\.00 GB"):
        store.check_writable(5 * 10**9)
    fill(small_disk)
    for action in (store.check_writable, lambda: Store.open(small_disk / "other")):
        with pytest.raises(StoreError, match=r"the disk is full(.|\n)*finished steps are kept"):
            action()
    assert list((store.root / "work").iterdir()) == []


def test_a_read_only_disk_is_said_at_once_and_can_be_read(small_disk: Path) -> None:
    store = Store.open(small_disk / "store")
    key = publish_fake(store, a_train())
    remount(small_disk, "ro")
    assert Store.open(store.root).finished_keys() == [key]
    for action in (store.check_writable, lambda: Store.open(small_disk / "other")):
        with pytest.raises(StoreError, match="cannot be written"):
            action()
    with pytest.raises(StoreError, match="cannot be written"):
        store.record_study("x", study={}, data=[], labels={}, steps={}, cells=[])


@pytest.mark.parametrize("leave", [0, 300_000], ids=["no room at all", "room for the error but not for the weights"])
def test_a_disk_that_fills_up_in_a_run_stops_it_and_more_room_completes_it(
    small_disk: Path, bert: Path, tmp_path: Path, command: Any, monkeypatch: pytest.MonkeyPatch, leave: int
) -> None:
    from tests.kit import write_study

    study = write_study(tmp_path / "study.toml", study_words(bert, tmp_path))
    real, done = WORK[Train], []

    def fills(*arguments: Any) -> Any:
        if done:
            fill(small_disk, leave)
        yield from real(*arguments)
        done.append(arguments[0])

    monkeypatch.setitem(WORK, Train, fills)
    monkeypatch.setattr("layover.train.work.write_weights", weights_of_a_large_encoder(leave))
    store = small_disk / "store"
    ran = command("run", study, "--store", store)
    assert ran.code == 2, ran
    assert "the disk is full" in ran.err
    assert "finished steps are kept" in ran.err
    assert Store.open(store, create=False).finished_keys() == [key_of(done[0])]
    before = {path: path.read_bytes() for path in (store / "steps").rglob("*.jsonl")}
    (small_disk / "filler").unlink()
    monkeypatch.setitem(WORK, Train, real)
    again = command("run", study, "--store", store)
    assert again.code == 0, again
    assert "2 steps run, 1 reused" in again.out
    assert {path: path.read_bytes() for path in before} == before
    assert command("store", "verify", "--store", store).code == 0


@pytest.mark.parametrize(
    ("writes", "before"),
    [("layover.train.work.write_weights", 1), ("layover.kinds.common.write_jsonl", 0),
     ("layover.integrity.write_json", 0)],
    ids=["weights", "observations", "manifest"],
)  # fmt: skip
def test_a_disk_that_is_full_at_any_file_of_a_step_leaves_it_unfinished(
    small_disk: Path,
    bert: Path,
    tmp_path: Path,
    command: Any,
    monkeypatch: pytest.MonkeyPatch,
    writes: str,
    before: int,
) -> None:
    from tests.kit import write_study

    study = write_study(tmp_path / "study.toml", study_words(bert, tmp_path))
    module, name = writes.rsplit(".", 1)
    real = getattr(importlib.import_module(module), name)
    full: list[Path] = []

    def fills(*arguments: Any, **options: Any) -> Any:
        if not full:
            full.append(fill(small_disk))
        return real(*arguments, **options)

    monkeypatch.setattr(writes, fills)
    store = small_disk / "store"
    ran = command("run", study, "--store", store)
    assert ran.code == 2, ran
    assert "the disk is full" in ran.err
    assert len(Store.open(store, create=False).finished_keys()) == before  # direct keeps no weights
    full[0].unlink()
    again = command("run", study, "--store", store)
    assert again.code == 0, again
    assert f"{3 - before} steps run, {before} reused" in again.out
    assert command("store", "verify", "--store", store).code == 0
    assert command("run", study, "--store", tmp_path / "calm").code == 0
    assert numbers(store) == numbers(tmp_path / "calm")


def weights_of_a_large_encoder(leave: int) -> Any:
    """write_weights with a tensor that does not fit where only `leave` bytes are free."""
    import torch
    from safetensors.torch import save_file

    from layover.train.work import write_weights

    def write(folder: Path, task: Any, result: Any) -> None:
        write_weights(folder, task, result)
        save_file({"x": torch.zeros(leave)}, folder / "large.safetensors")

    return write


# damage


@pytest.mark.parametrize(
    "name",
    ["step.json", "observations.jsonl", "curve.jsonl", "provenance.json", "predictions.parquet",
     "weights/encoder.safetensors"],
)  # fmt: skip
@pytest.mark.parametrize("damage", ["cut", "emptied", "gone"])
def test_verify_finds_a_damaged_file(store: Store, name: str, damage: str) -> None:
    key = publish_fake(store, a_train(), keep=True)
    publish_fake(store, a_train(seed=2))
    assert verify(store) == []
    path = store.folder(key) / name
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-7] if damage == "cut" else b"")
    found = {problem.place for problem in verify(store)}
    assert str(path) in found
    assert not any(key_of(a_train(seed=2)) in place for place in found)


def test_verify_finds_a_step_under_another_key(store: Store) -> None:
    key = publish_fake(store, a_train())
    store.folder(key).rename(store.folder("f" * 16))
    (problem,) = verify(store)
    assert key in problem.message


def test_reading_a_damaged_file_names_it_and_the_command_that_checks(store: Store) -> None:
    key = publish_fake(store, a_train())
    (store.folder(key) / "observations.jsonl").write_text('{"split": ')
    with pytest.raises(StoreError, match=r"observations\.jsonl: cannot be read(.|\n)*layover store verify"):
        store.read(key, "observations.jsonl")


# what is kept and what is collected


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Session:
    """A study of stop -> mine with finished `stop` and `mine`, recorded; `stop -> mine` is to be run."""
    from layover.encoders import Encoder

    monkeypatch.setattr("layover.encoders.find", lambda name, base=None: Encoder(name, f"sha256:{name}", "/nowhere"))
    store = Store.open(tmp_path / "store")
    session = Session(compile_plan(Study(**study_words("e", tmp_path))), store)
    for step in session.plan.steps.values():
        if isinstance(step, Train) and step.start is None:
            publish_fake(store, step, keep=True)
    store.record_study("small", **session.record())
    return session


def test_gc_keeps_the_weights_that_an_unfinished_step_starts_from(session: Session) -> None:
    store, plan = session.store, session.plan
    stop, mine = plan.find("e · stop · s1"), plan.find("e · mine · s1")
    collect_garbage(store, dry_run=False)
    assert store.weights(stop) is not None
    assert store.weights(mine) is None
    child = plan.steps[plan.find("→")]
    assert isinstance(child, Train)
    publish_fake(store, child, keep=True)
    collect_garbage(store, dry_run=False)
    assert store.weights(stop) is None
    assert len(store.finished_keys()) == 3
    assert needed(plan, store) == []  # all is finished: nothing asks for the weights again


def test_gc_that_is_dry_drops_nothing_and_says_what_it_would(session: Session) -> None:
    mine = session.plan.find("e · mine · s1")
    found = collect_garbage(session.store, dry_run=True)
    assert [path for path, _ in found] == [session.store.folder(mine) / "weights"]
    assert session.store.weights(mine) is not None


def test_gc_keeps_checkpoints_that_can_be_gone_on_with_and_attempts_that_live(session: Session) -> None:
    from layover.claims import Claim

    store, child = session.store, session.plan.find("→")
    finished = session.plan.find("e · stop · s1")
    for key in (child, finished):
        store.resume_folder(key).mkdir()
    live, dead = store.attempt("1" * 16), store.attempt("2" * 16)
    (store.root / "work" / "probe.12ab34cd").write_bytes(b"x")
    claim = Claim(store.root / "claims" / f"{'1' * 16}.json", dict)
    assert claim.take()
    with claim:
        collect_garbage(store, dry_run=False)
    assert {p.name for p in (store.root / "work").iterdir()} == {live.name, f"{child}.resume"}
    assert not dead.exists()


def test_weights_that_were_dropped_are_needed_again_only_by_a_step_that_must_run(session: Session) -> None:
    store, plan = session.store, session.plan
    stop, child = plan.find("e · stop · s1"), plan.find("→")
    shutil.rmtree(store.folder(stop) / "weights")
    assert needed(plan, store) == [stop, child]
    publish_fake(store, plan.steps[child])  # type: ignore[arg-type]
    assert needed(plan, store) == []


def test_listing_and_queries_see_the_whole_store(session: Session) -> None:
    rows = listing(session.store)
    assert sorted(row["label"] for row in rows) == ["e · mine · s1", "e · stop · s1"]
    assert {row["weights"] for row in rows} == {"kept"}
    columns, answer = ask(session.store, "select strategy, target, value from observations where split = 'validation'")
    assert columns == ["strategy", "target", "value"]
    assert sorted(answer) == [("direct", "mine", 50.0), ("stilts", "stop", 50.0)]
    assert ask(session.store, "select count(*) from steps")[1] == [(2,)]


def test_a_query_cannot_read_files_and_a_wrong_one_is_a_user_error(session: Session, tmp_path: Path) -> None:
    from layover.errors import UserError

    (tmp_path / "secret.csv").write_text("a\n1\n")
    sqls = ("selec 1", "select nothing from steps", f"select * from '{tmp_path}/secret.csv'", "")
    for sql in (*sqls, f"copy steps to '{tmp_path}/out.csv'", "set enable_external_access = true"):
        with pytest.raises(UserError, match="query"):
            ask(session.store, sql)
    assert not (tmp_path / "out.csv").exists()


def test_an_empty_store_can_be_asked(store: Store) -> None:
    assert ask(store, "select count(*) from observations")[1] == [(0,)]
    assert listing(store) == []
    assert verify(store) == []


def test_steps_of_other_studies_are_shared(tmp_path: Path, session: Session) -> None:
    other = {**study_words("e", tmp_path), "name": "other", "strategies": {"direct": {"kind": "direct"}}}
    del other["task"]["stop"]
    plan = compile_plan(Study(**other))
    assert needed(plan, session.store) == []


def test_the_predictions_of_a_step_without_any_are_none(store: Store) -> None:
    key = publish_fake(store, dataclasses.replace(a_train(), seed=3))
    (store.folder(key) / "predictions.parquet").unlink()
    assert store.predictions(key) is None


def test_a_process_that_opens_a_store_while_another_makes_it_gets_the_same(tmp_path: Path) -> None:
    program = "import sys; from layover.store import Store; Store.open(sys.argv[1]); print('open')"
    environment = {**os.environ, "PYTHONPATH": str(Path(layover.__file__).parents[1])}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path / "store")], stdout=subprocess.PIPE, text=True, env=environment
        )
        for _ in range(4)
    ]
    assert [process.communicate()[0] for process in started] == ["open\n"] * 4
