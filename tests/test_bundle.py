"""Bundles: what one store packs another takes in, and what was changed on the way is refused whole."""

from __future__ import annotations

import json
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.kit import Command, a_train, numbers, publish_fake, study_words, write_study

from layover.bundle import INDEX, inside, pack, unpack
from layover.errors import StoreError, UserError
from layover.session import Session
from layover.session import run as run_study
from layover.step import key_of
from layover.store import Store
from layover.upkeep import verify

KEY = key_of(a_train())


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store.open(tmp_path / "store")
    publish_fake(made, a_train(), keep=True)
    publish_fake(made, a_train(seed=2))
    return made


@pytest.fixture
def other(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "other")


@pytest.fixture
def bundle(store: Store, tmp_path: Path) -> Path:
    pack(store, tmp_path / "b.layover", weights=True)
    return tmp_path / "b.layover"


def test_a_store_takes_in_what_another_packed(store: Store, other: Store, bundle: Path) -> None:
    assert unpack(other, bundle) == (store.finished_keys(), [])
    assert numbers(other.root) == numbers(store.root)
    assert verify(other) == []
    assert other.weights(KEY) is not None
    assert unpack(other, bundle) == ([], store.finished_keys())
    assert list((other.root / "work").iterdir()) == []


def test_the_same_steps_make_the_same_bundle(store: Store, bundle: Path, tmp_path: Path) -> None:
    pack(store, tmp_path / "again.layover", weights=True)
    assert (tmp_path / "again.layover").read_bytes() == bundle.read_bytes()


def test_weights_come_where_they_are_asked_for_and_alone_where_the_rest_is_known(
    store: Store, other: Store, bundle: Path, tmp_path: Path
) -> None:
    pack(store, tmp_path / "light.layover")
    unpack(other, tmp_path / "light.layover")
    assert other.weights(KEY) is None
    scores = (other.folder(KEY) / "observations.jsonl").stat().st_mtime_ns
    assert unpack(other, bundle) == ([KEY], [key for key in store.finished_keys() if key != KEY])
    assert other.weights(KEY) is not None
    assert (other.folder(KEY) / "observations.jsonl").stat().st_mtime_ns == scores
    assert verify(other) == []


def test_a_study_goes_from_machine_to_machine(bert: Path, tmp_path: Path, command: Command) -> None:
    words = study_words(bert, tmp_path)
    study = write_study(tmp_path / "study.toml", words)
    direct = {"strategies": {"direct": {"kind": "direct"}}, "task": {"mine": words["task"]["mine"]}}
    less = write_study(tmp_path / "less.toml", {**words, **direct, "name": "less", "seeds": [5]})
    run_study(study, store=tmp_path / "a")
    run_study(less, store=tmp_path / "a")
    packed = command("store", "pack", "b.layover", "--study", "small", "--store", tmp_path / "a")
    assert packed.code == 0, packed.err
    assert "packed: 3 steps, 1 studies" in packed.out
    taken = command("store", "unpack", "b.layover", "--store", tmp_path / "b")
    assert "unpacked: 3 steps, 0 were here before" in taken.out
    assert "0 steps run, 3 reused" in command("run", study, "--store", tmp_path / "b").out
    assert list(Store.open(tmp_path / "b").studies()) == ["small"]
    assert len(Session.open(study, tmp_path / "b").observations().dropna(subset="value")) == 6
    assert command("store", "pack", "b.layover", "--store", tmp_path / "a").code == 2  # nothing is overwritten
    unknown = command("store", "pack", "c.layover", "--study", "smal", "--store", tmp_path / "a")
    assert unknown.code == 2
    assert "studies: less, small" in unknown.err


def test_a_record_that_is_here_stays(store: Store, other: Store, tmp_path: Path) -> None:
    record = {"study": {}, "data": [], "labels": {}, "steps": {}, "cells": []}
    store.record_study("one", **{**record, "data": ["theirs"]})
    other.record_study("one", **{**record, "data": ["ours"]})
    pack(store, tmp_path / "s.layover")
    unpack(other, tmp_path / "s.layover")
    assert other.studies()["one"].data == ["ours"]


# what was changed on the way


Change = Callable[[dict[str, bytes], dict[str, Any]], Any]


def changed(bundle: Path, change: Change, mode: int = 0) -> Path:
    """The bundle with its members, or its index, changed; every member is of this mode."""
    with zipfile.ZipFile(bundle) as old:
        members = {info.filename: old.read(info) for info in old.infolist()}
    index = json.loads(members[INDEX])
    change(members, index)
    if members[INDEX] == zipfile.ZipFile(bundle).read(INDEX):
        members[INDEX] = json.dumps(index).encode()
    target = bundle.with_name("changed.layover")
    with zipfile.ZipFile(target, "w") as new:
        for name, content in members.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            new.writestr(info, content)
    return target


def renamed(name: str) -> Change:
    """A file whose name, in the index and in the bundle, is another."""

    def change(members: dict[str, bytes], index: dict[str, Any]) -> None:
        index["steps"][KEY][name] = index["steps"][KEY].pop("log.txt")
        members[f"steps/{KEY}/{name}"] = members.pop(f"steps/{KEY}/log.txt")

    return change


def indexed(**about: Any) -> Change:
    return lambda _, index: index["steps"][KEY]["log.txt"].update(about)


def content(value: bytes) -> Change:
    return lambda members, _: members.update({f"steps/{KEY}/log.txt": value})


def under_another_key(members: dict[str, bytes], index: dict[str, Any]) -> None:
    index["steps"]["f" * 16] = index["steps"].pop(KEY)
    for name in [name for name in members if KEY in name]:
        members[name.replace(KEY, "f" * 16)] = members.pop(name)


def record(value: Any, name: str = "one") -> Change:
    return lambda _, index: index["studies"].update({name: value})


BAD: dict[str, tuple[Change, str]] = {
    "traversal": (renamed("../../../../outside"), "would lead out of the step's folder"),
    "absolute": (renamed("/tmp/outside"), "would lead out"),
    "windows": (renamed("C:\\outside"), "would lead out"),
    "backslash": (renamed("..\\outside"), "would lead out"),
    "nul": (renamed("a\0b"), "would lead out"),
    "long": (renamed("x" * 300), "would lead out"),
    "hidden": (renamed(".profile"), "would lead out"),
    "dot": (renamed("./log.txt"), "would lead out"),
    "larger": (content(b"fake\n" * 2), "has 10 bytes, the index says 5"),
    "other content": (content(b"FAKE\n"), "its digest is another"),
    "size in the index": (indexed(bytes=4), "has 5 bytes, the index says 4"),
    "digest in the index": (indexed(sha256="0" * 64), "its digest is another"),
    "no digest": (indexed(sha256="x"), "has no size or no digest"),
    "size no number": (indexed(bytes="5"), "has no size or no digest"),
    "one too few": (lambda members, _: members.pop(f"steps/{KEY}/log.txt") and None, "is in the index, and not in"),
    "one too many": (lambda members, _: members.update({"steps/evil.sh": b"rm"}), "is not in the index"),
    "another key": (under_another_key, f"holds the step {KEY}"),
    "no key": (lambda _, index: index["steps"].update({"../x": index["steps"][KEY]}), "is not the key of a step"),
    "no step": (lambda _, index: index["steps"][KEY].pop("step.json") and None, "has no step.json"),
    "no index": (lambda members, _: members.update({INDEX: b"{"}), "is not a bundle of layover"),
    "odd index": (lambda members, _: members.update({INDEX: b"[]"}), "is not a bundle of layover"),
    "newer": (lambda _, index: index.update(bundle=99), "was written by a newer layover"),
    "study as a path": (record({}, "../../x"), "is not a study's name and record"),
    "odd record": (record({"steps": 3}), "is not a study's name and record"),
    "record of a path": (
        record({"study": {}, "data": [], "labels": {"../../x": ""}, "steps": {}, "cells": []}),
        "is not a study's name and record",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_what_was_changed_on_the_way_is_refused_and_nothing_of_it_is_taken(
    bundle: Path, other: Store, tmp_path: Path, what: str
) -> None:
    change, told = BAD[what]
    before = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    file = changed(bundle, change)
    with pytest.raises(StoreError) as caught:
        unpack(other, file)
    assert told in str(caught.value)
    assert other.finished_keys() == []
    assert other.studies() == {}
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file() and path != file) == before


def test_a_link_is_refused(bundle: Path, other: Store) -> None:
    file = changed(bundle, lambda *_: None, stat.S_IFLNK | 0o777)
    with pytest.raises(StoreError, match="is no plain file"):
        unpack(other, file)


def test_a_member_that_is_there_twice_is_refused(bundle: Path, other: Store) -> None:
    with zipfile.ZipFile(bundle, "a") as added, pytest.warns(UserWarning, match="Duplicate name"):
        added.writestr(f"steps/{KEY}/log.txt", "fake\n")
    with pytest.raises(StoreError, match="is there twice"):
        unpack(other, bundle)


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "gone", "flipped"])
def test_a_file_that_is_no_bundle_is_refused(bundle: Path, other: Store, damage: str) -> None:
    whole = bytearray(bundle.read_bytes())
    whole[len(whole) // 3] ^= 0xFF
    made = {"cut": whole[: len(whole) // 2], "empty": b"", "text": b"hello", "flipped": whole}
    bundle.unlink() if damage == "gone" else bundle.write_bytes(made[damage])
    with pytest.raises(StoreError):
        unpack(other, bundle)
    assert other.finished_keys() == []


def test_a_bundle_is_there_whole_or_not_at_all(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("layover.bundle.shutil.copyfileobj", full)
    with pytest.raises(OSError, match="No space"):
        pack(store, tmp_path / "x.layover")
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == []


def test_nothing_is_packed_over_a_file_that_exists(store: Store, bundle: Path) -> None:
    with pytest.raises(UserError, match="nothing is overwritten"):
        pack(store, bundle)


@pytest.mark.parametrize("name", ["log.txt", "weights/0/head.json", "tasks/1/facts.json", "a_b-c.d"])
def test_names_of_files_of_steps_are_inside(name: str) -> None:
    assert inside(name)
