"""One contract for every kind of store: a directory, and buckets in memory, among files, and on a real S3 server.

The server is moto's, in a thread of this process, on a port of the loopback that the system chooses; s3fs talks to it
as to Amazon's. Another machine is another mirror of the same bucket.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.kit import Command, Faking, a_train, fake_work, numbers, publish_fake, study_words, write_study

import layover
from layover import bucket as buckets
from layover import identity, pulse
from layover.bucket import Bucket
from layover.claims import Claim, alive, read_claim
from layover.encoders import Encoder
from layover.errors import MissingExtra, StoreError
from layover.execute import execute, needed
from layover.executors.local import InProcess
from layover.mirror import mirror_of
from layover.objects import Objects
from layover.observations import collect
from layover.places import Places
from layover.plan import Plan, compile_plan
from layover.query import ask
from layover.run import WORK, run_step
from layover.secrets import redacted
from layover.services import SERVICES
from layover.session import Session
from layover.step import Train, key_of
from layover.store import Store
from layover.study import Study
from layover.upkeep import collect_garbage, listing, verify

BUCKETS = ("memory", "files", "s3")
KEY = key_of(a_train())
Action = Callable[..., Any]


@dataclass(frozen=True)
class Place:
    """Where a store is, and how one machine or another opens it."""

    url: str
    caches: Path
    patch: pytest.MonkeyPatch

    def open(self, machine: str = "a", create: bool = True) -> Store:
        self.patch.setenv("LAYOVER_CACHE", str(self.caches / machine))
        return Store.open(self.url, create=create)

    @property
    def objects(self) -> Objects:
        return Objects.at(self.url)


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The address of an S3 server."""
    moto = pytest.importorskip("moto.server", reason="moto is not installed")
    pytest.importorskip("s3fs", reason="s3fs is not installed")
    threaded = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    threaded.start()
    host, port = threaded.get_host_and_port()
    yield f"http://{host}:{port}"
    threaded.stop()


@pytest.fixture
def s3(server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of a new bucket there; processes that are started find the server too."""
    import boto3

    secret = {"AWS_ACCESS_KEY_ID": "AKIATESTTESTTESTTEST", "AWS_SECRET_ACCESS_KEY": "a-secret-that-nobody-may-see"}
    settings = {"AWS_ENDPOINT_URL": server, "AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true"}
    for name, value in (secret | settings).items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.delenv(name, raising=False)
    name = f"results-{uuid.uuid4().hex[:8]}"
    boto3.client("s3", endpoint_url=server).create_bucket(Bucket=name)
    return f"s3://{name}/a/prefix"


def address(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    if kind == "s3":
        return request.getfixturevalue("s3")
    return {
        "directory": str(tmp_path / "store"),
        "memory": f"memory://{uuid.uuid4().hex}/prefix",
        "files": f"file://{tmp_path}/bucket",
    }[kind]


@pytest.fixture(params=("directory", *BUCKETS))
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    return Place(address(request.param, tmp_path, request), tmp_path / "caches", monkeypatch)


@pytest.fixture(params=BUCKETS)
def remote(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """As `place`, of buckets alone."""
    return Place(address(request.param, tmp_path, request), tmp_path / "caches", monkeypatch)


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    monkeypatch.setattr("layover.encoders.find", lambda name, base=None: Encoder(name, f"sha256:{name}", "/nowhere"))
    return compile_plan(Study(**study_words("e", tmp_path)))


SOURCE, TARGET, FROM = "e · stop · s1", "e · mine · s1", "e · stop → mine · s1"


@pytest.fixture
def run(plan: Plan, tmp_path: Path) -> Callable[[Store], list[str]]:
    """Run the plan with fake trainings; the labels of those that were run."""
    times = iter(range(100))

    def go(store: Store) -> list[str]:
        faking = Faking(InProcess(), tmp_path / f"runs{next(times)}")
        assert execute(plan, store, faking, lambda *_: None).complete
        return sorted(plan.labels[key] for key in faking.runs())

    return go


def value_of(store: Store, key: str = KEY) -> float:
    return store.read(key, "observations.jsonl")[0]["value"]


def spoil(place: Place, name: str) -> None:
    """Change one bit in the middle of an object, which keeps its size."""
    data = bytearray(place.objects.read(name) or b"")
    data[len(data) // 2] ^= 1
    place.objects.put(name, bytes(data))


def object_of(store: Store, key: str, name: str) -> str:
    """The object that a file of a step is in."""
    return store.address(store.folder(key) / name).removeprefix(f"{store.place}/")


# opening


def test_opening_makes_a_store_and_every_machine_finds_what_is_in_it(place: Place) -> None:
    first, second = place.open("a"), place.open("b")
    publish_fake(first, a_train(), keep=True)
    assert first.finished_keys() == [KEY]
    second.refresh()
    for store in (second, place.open("c", create=False)):
        assert store.finished_keys() == [KEY]
        assert store.step(KEY) == a_train()
        assert value_of(store) == 50.0
        found, weights = store.predictions(KEY), store.weights(KEY)
        assert found is not None
        assert found.rows.tolist() == [0, 1]
        assert weights is not None
        assert (weights / "encoder.safetensors").read_bytes() == b"\x02\0\0\0\0\0\0\0{}"
        assert verify(store) == []


def test_a_store_that_is_not_there_is_not_made_by_looking(place: Place) -> None:
    with pytest.raises(StoreError, match=r"is not a layover store(.|\n)*name one with --store"):
        place.open(create=False)
    assert place.open().finished_keys() == []


def test_a_place_with_something_else_in_it_is_left_alone(place: Place) -> None:
    if place.url.partition("://")[1]:
        place.objects.put("thesis.tex", b"x")
    else:
        Path(place.url).mkdir()
        (Path(place.url) / "thesis.tex").write_text("x")
    with pytest.raises(StoreError, match="exists and is not a layover store"):
        place.open()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (json.dumps({"scheme": identity.SCHEME + 1}), r"newer layover(.|\n)*pip install --upgrade"),
        ("{", "cannot be read"),
    ],
)
def test_a_store_of_a_newer_layover_or_with_a_damaged_marker_is_refused(
    place: Place, content: str, message: str
) -> None:
    store = place.open()
    if isinstance(store.shared, Bucket):
        place.objects.put("layover.json", content.encode())
    else:
        (store.root / "layover.json").write_text(content)
    with pytest.raises(StoreError, match=message) as caught:
        place.open()
    assert place.url in caught.value.problems[0].place


def test_a_store_crosses_process_borders_and_has_a_mirror_wherever_it_arrives(place: Place) -> None:
    key = publish_fake(place.open("a"), a_train())
    sent = pickle.dumps(place.open("a"))
    place.patch.setenv("LAYOVER_CACHE", str(place.caches / "elsewhere"))
    arrived = pickle.loads(sent)
    assert arrived.place == place.open("a").place
    assert value_of(arrived, key) == 50.0  # without that anybody looked at all that there is
    assert arrived.finished(key)


# publishing


def test_a_step_is_there_only_when_it_is_published(place: Place) -> None:
    store, step = place.open(), a_train()
    attempt = store.attempt(KEY)
    fake_work(store, attempt, keep=True)
    assert not store.finished(KEY)
    assert store.publish(step, attempt)
    assert store.finished(KEY)
    assert list((store.root / "work").iterdir()) == []
    assert place.open("b").finished(KEY)


def test_the_first_numbers_stand_and_weights_are_added(place: Place) -> None:
    store, other = place.open("a"), place.open("b")
    publish_fake(store, a_train(), value=50.0)
    assert store.weights(KEY) is None
    attempt = other.attempt(KEY)
    fake_work(other, attempt, keep=True, value=60.0)
    assert not other.publish(a_train(), attempt)
    for seen in (other, place.open("a"), place.open("c")):
        assert value_of(seen) == 50.0
        assert seen.weights(KEY) is not None
        assert verify(seen) == []
    assert list((other.root / "work").iterdir()) == []


def test_of_writers_at_once_one_wins_and_nothing_is_mixed(place: Place) -> None:
    writers = 4
    stores = [place.open(f"machine {number}") for number in range(writers)]
    for seed in range(2):
        step, barrier = a_train(seed=seed), threading.Barrier(writers)

        def race(number: int, step: Train = step, barrier: threading.Barrier = barrier) -> bool:
            store = stores[number]
            attempt = store.attempt(key_of(step))
            fake_work(store, attempt, keep=True, value=float(number))
            (attempt / "log.txt").write_text(f"{number}")
            (attempt / "weights" / "log.txt").write_text(f"{number}")
            barrier.wait(60)
            try:
                return store.publish(step, attempt)
            except FileNotFoundError:  # in one directory the winner takes the others' attempts away
                return False

        with ThreadPoolExecutor(writers) as pool:
            won = list(pool.map(race, range(writers)))
        assert won.count(True) == 1, won
        winner = won.index(True)
        for store in (stores[winner], stores[winner - 1], place.open("another")):
            store.refresh()
            assert value_of(store, key_of(step)) == winner
            assert (store.fetched(key_of(step)) / "log.txt").read_text() == f"{winner}"
            weights = store.weights(key_of(step))
            assert weights is not None
            assert (weights / "log.txt").read_text() == f"{winner}"
    assert verify(place.open("last")) == []


@pytest.mark.parametrize("sent", [0, 1, 4, 7])
def test_an_upload_that_was_cut_off_counts_for_nothing_and_is_collected(
    remote: Place, sent: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by a kill after so many of the seven files: the last is the manifest."""
    store, way, done = remote.open("a"), SERVICES[remote.url.partition(":")[0]].way, []
    real = type(way).upload

    class Killed(BaseException):
        """What nothing catches."""

    def upload(self: Any, files: Any, local: Path, path: str) -> None:
        if len(done) >= sent:
            raise Killed
        done.append(path)
        real(self, files, local, path)

    attempt = store.attempt(KEY)
    fake_work(store, attempt, keep=True, value=10.0)
    with monkeypatch.context() as cut:
        cut.setattr(type(way), "upload", upload)
        cut.setattr("layover.objects.AT_ONCE", 1)
        cut.setattr(Objects, "put_once", partial(_killed, Killed))
        with pytest.raises(Killed):
            store.publish(a_train(), attempt)
    other = remote.open("b")
    for seen in (store, other):
        seen.refresh()
        assert not seen.finished(KEY)
    before = remote.objects.listed("files")
    assert len(before) == min(sent, 7)
    publish_fake(other, a_train(), value=20.0)
    assert value_of(remote.open("a")) == 20.0
    assert set(before) <= set(remote.objects.listed("files"))
    collect_garbage(other, dry_run=False)
    assert set(before) <= set(remote.objects.listed("files"))  # it might be on its way still
    monkeypatch.setattr(buckets, "ORPHAN_SECONDS", -3600.0)
    would = [str(path) for path, _ in collect_garbage(other, dry_run=True)]
    assert set(would) == {f"{other.place}/{name}" for name in before}
    collect_garbage(other, dry_run=False)
    assert set(before).isdisjoint(remote.objects.listed("files"))
    assert verify(remote.open("c")) == []
    assert value_of(remote.open("c")) == 20.0


def _killed(kind: type[BaseException], *_: Any) -> bool:
    raise kind


def test_the_manifest_is_written_last_and_once(remote: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    store, wrote = remote.open(), []
    for name in ("put", "put_once", "upload"):
        real = getattr(Objects, name)

        def noted(self: Objects, to: str, *rest: Any, name: str = name, real: Action = real) -> Any:
            wrote.append((name, to))
            return real(self, to, *rest)

        monkeypatch.setattr(Objects, name, noted)
    publish_fake(store, a_train(), keep=True)
    uploads = [to for how, to in wrote if how == "upload"]
    assert wrote[: len(uploads)] == [("upload", to) for to in uploads]
    last = [("put_once", f"manifests/{KEY}.json"), ("put_once", f"manifests/{KEY}.weights.json")]
    assert wrote[len(uploads) :] == last
    manifest = json.loads(remote.objects.read(f"manifests/{KEY}.json") or b"")
    assert {f"files/{KEY}/{manifest['attempt']}/{name}" for name in manifest["files"]} < set(uploads)
    assert all({"bytes", "sha256"} == set(about) for about in manifest["files"].values())


def test_an_attempt_whose_files_were_collected_meanwhile_is_not_published(
    remote: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = remote.open()
    real = Objects.upload

    def lost(self: Objects, name: str, local: Path) -> None:
        real(self, name, local)
        if name.endswith("curve.jsonl"):
            self.remove([name])

    monkeypatch.setattr(Objects, "upload", lost)
    with pytest.raises(StoreError, match=r"curve\.jsonl: was uploaded and is not there"):
        publish_fake(store, a_train())
    assert not remote.open("b").finished(KEY)


# weights


def test_weights_are_kept_dropped_and_made_again(place: Place, plan: Plan, run: Callable[[Store], list[str]]) -> None:
    store = place.open("a")
    run(store)
    store.record_study("small", **Session(plan, store).record())
    source = plan.find(SOURCE)
    assert place.open("b").has_weights(source)
    collect_garbage(store, dry_run=False)
    after = place.open("b")
    assert [seen.weights(source) for seen in (store, after)] == [None, None]
    assert needed(plan, after) == []
    child = plan.find(FROM)
    after.quarantine(child, after.folder(child), "to be done again")
    assert run(after) == [SOURCE, FROM]
    assert place.open("a").weights(source) is not None
    assert verify(place.open("c")) == []


# damage


def test_a_corrupted_object_is_found_by_verify_and_done_again_by_the_next_run_of_any_machine(
    remote: Place, plan: Plan, run: Callable[[Store], list[str]]
) -> None:
    store = remote.open("a")
    run(store)
    key = plan.find(TARGET)
    name = object_of(store, key, "predictions.parquet")
    spoil(remote, name)
    (problem,) = verify(store)
    assert problem.place == f"{store.place}/{name}"
    assert "has changed since it was written" in problem.message
    other = remote.open("b")
    assert other.finished(key)
    assert run(other) == [TARGET]
    assert run(other) == []
    store = remote.open("a")
    assert verify(store) == verify(other) == []
    assert remote.objects.listed("quarantine")
    assert not remote.objects.listed("manifests").keys() & {f"manifests/{key}.damaged.json"}
    collect_garbage(store, dry_run=False)
    assert not remote.objects.listed("quarantine")


@pytest.mark.parametrize("lost", [False, True])
def test_what_a_step_to_run_reads_is_read_before_it_runs(
    remote: Place, plan: Plan, run: Callable[[Store], list[str]], lost: bool
) -> None:
    """Of damaged weights the weights alone are made again."""
    store = remote.open("a")
    run(store)
    source, child = plan.find(SOURCE), plan.find(FROM)
    score = remote.objects.read(object_of(store, source, "observations.jsonl"))
    name = object_of(store, source, "weights/encoder.safetensors")
    remote.objects.remove([name]) if lost else spoil(remote, name)
    store.quarantine(child, store.folder(child), "to be done again")
    other = remote.open("b")
    assert run(other) == [SOURCE, FROM]
    assert remote.objects.read(object_of(other, source, "observations.jsonl")) == score
    assert verify(remote.open("c")) == []


def test_a_file_that_is_not_what_was_written_is_never_read(remote: Place, plan: Plan, run: Action) -> None:
    run(remote.open("a"))
    key = plan.find(TARGET)
    store = remote.open("b")
    name = object_of(store, key, "observations.jsonl")
    spoil(remote, name)
    with pytest.raises(StoreError, match=r"has changed since it was written(.|\n)*next run of its study") as caught:
        collect(plan, store)
    assert caught.value.problems[0].place == f"{store.place}/{name}"
    assert not (store.folder(key) / "observations.jsonl").exists()
    assert run(remote.open("c")) == [TARGET]  # what was read here is known there
    store.refresh()
    assert {row["status"] for row in collect(plan, store)} == {"ok"}


@pytest.mark.parametrize("content", [b"{", b'{"attempt": "../../x", "files": {}}'])
def test_a_manifest_that_cannot_be_read_is_damage(remote: Place, plan: Plan, run: Action, content: bytes) -> None:
    run(remote.open("a"))
    key = plan.find(TARGET)
    remote.objects.put(f"manifests/{key}.json", content)
    store = remote.open("b")
    assert any(problem.place == f"{store.place}/manifests/{key}.json" for problem in verify(store))
    assert run(store) == [TARGET]
    assert verify(remote.open("c")) == []


def test_a_name_that_would_lead_out_of_the_mirror_is_not_followed(remote: Place, tmp_path: Path) -> None:
    store = remote.open("a")
    key = publish_fake(store, a_train())
    manifest = json.loads(remote.objects.read(f"manifests/{key}.json") or b"")
    evil = f"../../../../{tmp_path.name}/planted"
    manifest["files"] |= {evil: manifest["files"]["log.txt"], f"{tmp_path}/planted": manifest["files"]["log.txt"]}
    remote.objects.put(f"manifests/{key}.json", json.dumps(manifest).encode())
    remote.objects.put("studies/../planted.json", b"{}")
    other = remote.open("b")
    other.fetched(key)
    assert sorted(path.name for path in other.folder(key).iterdir()) == sorted({*manifest["files"], "manifest.json"} - {
        evil, f"{tmp_path}/planted"})  # fmt: skip
    assert not list(tmp_path.rglob("planted*"))[1:]  # the object itself, where the bucket is files


def test_a_mirror_that_is_damaged_or_gone_costs_nothing_but_time(
    remote: Place, plan: Plan, run: Callable[[Store], list[str]]
) -> None:
    store = remote.open("a")
    run(store)
    for key in store.finished_keys():
        (store.fetched(key) / "observations.jsonl").write_text("{")
    shutil.rmtree(store.root)
    again = remote.open("a")
    assert run(again) == []
    assert {row["value"] for row in collect(plan, again)} == {50.0}
    source = plan.find(SOURCE)
    assert again.weights(source)
    (again.folder(source) / "weights" / "encoder.safetensors").write_bytes(b"")
    child = plan.find(FROM)
    again.quarantine(child, again.folder(child), "to be done again")
    assert run(again) == [FROM]  # what starts from the weights has them fetched anew
    assert verify(again) == []


# what one machine sees of another


def test_a_finished_folder_does_not_outlive_its_manifest(remote: Place) -> None:
    first, second = remote.open("a"), remote.open("b")
    publish_fake(first, a_train(), value=10.0)
    second.refresh()
    assert value_of(second) == 10.0
    first.quarantine(KEY, first.folder(KEY), "damaged")
    second.refresh([KEY])
    assert not second.finished(KEY)
    publish_fake(first, a_train(), value=20.0)
    for look in ([KEY], None):
        second.refresh(look)
        assert value_of(second) == 20.0
    first.quarantine(KEY, first.folder(KEY), "damaged")
    second.refresh()
    assert second.finished_keys() == []


def test_what_another_machine_did_again_meanwhile_is_not_taken_back(remote: Place) -> None:
    first, second = remote.open("a"), remote.open("b")
    publish_fake(first, a_train(), value=10.0)
    second.refresh()
    first.quarantine(KEY, first.folder(KEY), "damaged")
    publish_fake(first, a_train(), value=20.0)
    second.quarantine(KEY, second.folder(KEY), "damaged")  # it saw the first attempt
    second.refresh()
    assert value_of(second) == value_of(remote.open("c")) == 20.0


def test_a_question_to_a_store_is_about_what_is_there_now(remote: Place) -> None:
    first, second = remote.open("a"), remote.open("b")
    publish_fake(first, a_train(), value=10.0)
    sql = "select value from scores where split = 'validation'"
    assert ask(remote.open("b"), sql)[1] == [(10.0,)]
    first.quarantine(KEY, first.folder(KEY), "damaged")
    publish_fake(first, a_train(), value=20.0)
    assert ask(remote.open("b"), sql)[1] == [(20.0,)]
    assert second.place == first.place


def test_a_claim_holds_on_every_machine(place: Place) -> None:
    first, second = place.open("a"), place.open("b")
    held = Claim(first.slot(KEY), lambda: {"step": 3}, beat=60)
    assert held.take()
    with held:
        assert not Claim(second.slot(KEY), dict, beat=60).take()
        assert run_step(a_train(), second, Places()).status == "claimed"
        copy = read_claim(place.open("c").claim(KEY))
        assert copy is not None
        assert copy["progress"] == {"step": 3}
        assert alive(copy)
    assert Claim(second.slot(KEY), dict, beat=60).take()


def test_of_claimers_at_once_one_wins(remote: Place) -> None:
    stores, barrier = [remote.open(f"machine {number}") for number in range(6)], threading.Barrier(6)

    def take(store: Store) -> bool:
        claim = Claim(store.slot(KEY), dict, beat=60)
        barrier.wait(60)
        return claim.take()

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(take, stores)).count(True) == 1


def test_a_claim_whose_machine_was_lost_is_taken_over(remote: Place) -> None:
    store = remote.open("a")
    assert Claim(store.slot(KEY), dict, beat=60).take()
    claim = json.loads(remote.objects.read(f"claims/{KEY}.json") or b"")
    remote.objects.put(f"claims/{KEY}.json", json.dumps({**claim, "host": "elsewhere", "expires": 1.0}).encode())
    assert Claim(remote.open("b").slot(KEY), dict, beat=60).take()


def test_a_step_that_another_machine_has_finished_is_not_done_again(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = place.open("a"), place.open("b")
    publish_fake(first, a_train(), value=10.0)
    monkeypatch.setitem(WORK, Train, lambda *_: pytest.fail("it was done again"))
    assert run_step(a_train(), second, Places()).status == "finished"
    assert value_of(second) == 10.0


def test_a_step_that_was_stopped_goes_on_elsewhere(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[str] = []

    def stopped(step: Any, store: Store, places: Any, attempt: Path, keep: bool, report: Any) -> None:
        file = store.resume_folder(KEY) / "checkpoint.safetensors"
        begun.append(file.read_text() if file.is_file() else "nothing")
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"{len(begun)} epochs")
        if len(begun) < 4:
            raise pulse.Stopped
        fake_work(store, attempt, keep)

    monkeypatch.setitem(WORK, Train, stopped)
    statuses = [run_step(a_train(), place.open(machine), Places()).status for machine in ("a", "b", "a", "b")]
    assert statuses == ["stopped", "stopped", "stopped", "finished"]
    assert begun == ["nothing", "1 epochs", "2 epochs", "3 epochs"]
    store = place.open("a")
    if isinstance(store.shared, Bucket):
        assert not place.objects.listed("resume")
        assert not place.objects.listed("claims")
    assert not (place.open("b").resume_folder(KEY)).exists()


def test_a_checkpoint_is_uploaded_while_a_step_runs(remote: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a machine that is lost costs a minute's work."""
    monkeypatch.setattr("layover.underway.UPLOAD_SECONDS", 0.01)
    store, there = remote.open("a"), threading.Event()
    real = Objects.upload

    def upload(self: Objects, name: str, local: Path) -> None:
        real(self, name, local)
        there.set()

    monkeypatch.setattr(Objects, "upload", upload)
    folder = store.resume_folder(KEY)
    folder.mkdir()
    with store.keeping(KEY):
        (folder / "checkpoint.safetensors").write_text("far")
        assert there.wait(60)
    assert remote.objects.read(f"resume/{KEY}/checkpoint.safetensors") == b"far"


def test_studies_and_errors_are_known_everywhere(place: Place, plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = place.open("a"), place.open("b")

    def fails(*_: Any) -> None:
        raise RuntimeError("out of luck\nsecond line")

    monkeypatch.setitem(WORK, Train, fails)
    assert run_step(a_train(), first, Places()).status == "failed"
    content = Session(plan, first).record()
    first.record_study("mine", **{**content, "data": ["x"]})
    second.refresh()
    assert first.failure(KEY) == second.failure(KEY) == "RuntimeError: out of luck"
    assert [store.studies()["mine"].data for store in (first, second)] == [["x"], ["x"]]
    assert second.studies()["mine"].words() == first.studies()["mine"].words()
    assert second.studies()["mine"].labels == plan.labels
    second.record_study("mine", **{**content, "data": ["y"]})
    publish_fake(second, a_train())
    first.refresh()
    assert first.studies()["mine"].data == ["y"]
    assert first.finished(KEY)
    if isinstance(first.shared, Bucket):
        assert not place.objects.listed("errors")


# studies


def test_a_study_that_ran_on_one_machine_is_finished_on_every_other(
    place: Place, plan: Plan, run: Callable[[Store], list[str]]
) -> None:
    assert FROM in run(place.open("a"))
    other = place.open("b")
    assert needed(plan, other) == []
    assert run(other) == []
    assert {row["value"] for row in collect(plan, other)} == {50.0}
    rows = [row for row in listing(other) if row["kind"] == "train"]
    assert all(float(row["MB"]) >= 0 for row in rows)
    assert other.size(other.folder(plan.find(SOURCE))) > other.size(other.folder(plan.find(SOURCE)) / "weights") > 0


def drive(folder: Path, machine: str, url: str, *words: str) -> subprocess.Popen[str]:
    """The command in a process of its own, with a mirror of its own."""
    path = os.pathsep.join([str(Path(layover.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    env = {**os.environ, "LAYOVER_CACHE": str(folder / machine), "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    line = [sys.executable, "-m", "layover.cli", *words, "--store", url]
    return subprocess.Popen(line, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "killed"), [("files", True), ("s3", False)])
def test_two_drivers_at_once_finish_a_study_which_is_then_asked_and_reported(
    kind: str, killed: bool, bert: Path, tmp_path: Path, request: pytest.FixtureRequest, command: Command,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    url = address(kind, tmp_path, request)
    study = write_study(tmp_path / "study.toml", study_words(bert, tmp_path))
    both = [drive(tmp_path, machine, url, "run", str(study)) for machine in ("a", "b")]
    if killed:
        deadline = time.monotonic() + 120
        while not Objects.at(url).listed("manifests") and time.monotonic() < deadline:
            time.sleep(0.05)
        both[0].kill()
        both.pop(0).communicate()
    for process in both:
        out, _ = process.communicate(timeout=280)
        assert process.returncode == 0, out
        assert f"store: {url}" in out
    monkeypatch.setenv("LAYOVER_CACHE", str(tmp_path / "c"))
    again = command("run", study, "--store", url)
    assert again.code == 0, again.err
    assert "0 steps run, 3 reused" in again.out
    counted = command("query", "select count(*) as n from steps", "--store", url, "--json")
    assert counted.json == [{"n": 3}]
    report = command("report", study, "--store", url, "--out", "report.html")
    assert report.code == 0, report.err
    assert command("store", "verify", "--store", url).out == "3 finished steps, 0 problems\n"
    assert len(command("store", "ls", "--store", url, "--json").json) >= 3
    exported = command("store", "pack", "all.layover", "--weights", "--store", url)
    assert exported.code == 0, exported.err
    assert command("store", "unpack", "all.layover", "--store", "here").code == 0
    assert command("store", "gc", "--store", url).code == 0
    alone = command("run", study, "--store", "alone")
    assert alone.code == 0, alone.err
    assert numbers(Path("here")) == numbers(Path("alone"))
    if secret := os.environ.get("AWS_SECRET_ACCESS_KEY"):
        written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
        assert not any(secret.encode() in content for content in written)


# what cannot be


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("ftp://host/store", r"is no place for a store(.|\n)*s3://, gs://, file://, memory://"),
        ("simplecache::s3://bucket/x", "is no place for a store"),
        ("s3://", "names no bucket"),
        ("s3://bucket/x?versionId=3", "has \\?"),
        ("s3://me:hunter22@bucket/x", r"has credentials in it(.|\n)*AWS_PROFILE"),
    ],
)
def test_an_address_that_is_no_place_for_a_store_is_refused(
    url: str, message: str, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAYOVER_CACHE", str(tmp_path / "cache"))
    with pytest.raises(StoreError, match=message):
        Store.open(url)
    ran = command("store", "ls", "--store", url)
    assert ran.code == 2
    assert "hunter22" not in ran.out + ran.err
    assert list(tmp_path.glob("cwd/*")) == []


def test_an_address_that_became_a_path_is_told_apart() -> None:
    with pytest.raises(StoreError, match=r"has become a path(.|\n)*s3://"):
        Store.open(Path("s3://bucket/x"))


def test_a_package_that_is_missing_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LAYOVER_CACHE", str(tmp_path))
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(MissingExtra, match=r"'gcsfs'(.|\n)*layover\[gcs\]"):
        Store.open("gs://bucket/x")


def test_a_bucket_that_is_not_there_and_a_server_that_is_not_are_user_errors(
    s3: str, server: str, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAYOVER_CACHE", str(tmp_path / "cache"))
    with pytest.raises(StoreError, match=r"there is no such bucket(.|\n)*make it first"):
        Store.open("s3://no-such-bucket-anywhere/x")
    looked = command("store", "ls", "--store", "s3://no-such-bucket-anywhere/x")
    assert looked.code == 2
    assert "s3://no-such-bucket-anywhere/x" in looked.err
    found = command("doctor", "--store", s3, "--json").json
    assert [(item["state"]) for item in found if item["topic"] == "store"] == ["ok"]
    import s3fs

    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    s3fs.S3FileSystem.clear_instance_cache()
    try:
        ran = command("store", "ls", "--store", s3)
    finally:
        s3fs.S3FileSystem.clear_instance_cache()
    assert ran.code == 2
    assert "cannot be reached" in ran.err
    assert f"layover doctor --store {s3}" in ran.err
    assert "a-secret" not in ran.err


def test_a_server_without_conditional_puts_is_refused(s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As older servers of that kind are, which take the condition for nothing."""
    monkeypatch.setenv("LAYOVER_CACHE", str(tmp_path))
    way = SERVICES["s3"].way
    monkeypatch.setattr(type(way), "create", type(way).put)
    with pytest.raises(StoreError, match=r"puts an object where there is one already(.|\n)*another store"):
        Store.open(s3)
    assert Objects.at(s3).listed() == {}


@pytest.mark.parametrize("kind", BUCKETS)
def test_of_conditional_puts_at_once_exactly_one_is_the_first(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    objects, writers = Objects.at(address(kind, tmp_path, request)), 8
    for turn in range(5):
        barrier = threading.Barrier(writers)

        def put(number: int, turn: int = turn, barrier: threading.Barrier = barrier) -> bool:
            barrier.wait(60)
            return objects.put_once(f"once/{turn}", b"%d" % number * 10_000)

        with ThreadPoolExecutor(writers) as pool:
            first = list(pool.map(put, range(writers)))
        assert first.count(True) == 1
        assert objects.read(f"once/{turn}") == b"%d" % first.index(True) * 10_000
    assert objects.put_once("once/0", objects.read("once/0") or b"")  # as after an answer that was lost
    assert not objects.put_once("once/0", b"other")


def test_a_mirror_is_named_after_its_bucket(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LAYOVER_CACHE", str(tmp_path))
    names = {mirror_of(Objects.at(url).url).name for url in ("s3://b/x", "s3a://b/x/", "S3://b//x")}
    assert len(names) == 1
    assert names.pop().startswith("b-x-")
    assert mirror_of("s3://b/y") != mirror_of("s3://b-y/")


def test_what_fsspec_was_told_in_secret_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec.config

    options = {"key": "AnIdOfSomebody", "secret": "something-private", "anon": False, "endpoint_url": "http://here"}
    monkeypatch.setitem(fsspec.config.conf, "s3", options)
    told = redacted("AnIdOfSomebody may not open http://here with something-private")
    assert told == "*** may not open http://here with ***"
