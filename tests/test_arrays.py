"""A folder of arrays is whole and what was asked for, or it is not there."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from layover import arrays
from layover.arrays import MANIFEST, damage, opened, publish

WHAT = {"kind": "test", "n": 3}


def chunk(n: int, seed: int = 0) -> dict[str, Any]:
    draw = np.random.default_rng(seed)
    return {
        "ids": draw.integers(0, 9, n).astype(np.int32),
        "spans": draw.integers(0, 9, (n, 2, 2)),
        "lost": draw.integers(0, 2, n).astype(bool),
        "texts": pa.array([f"text {i} · é" for i in range(n)], pa.large_string()),
        "golds": pa.array([["a", ""][: i % 3] for i in range(n)], pa.list_(pa.large_string())),
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    publish(tmp_path / "one", WHAT, {"labels": ["no"]}, [chunk(3), chunk(0), chunk(1000, 1)])
    return tmp_path / "one"


def test_chunks_are_read_back_end_to_end_and_cannot_be_written(folder: Path) -> None:
    found = opened(folder, WHAT)
    assert found is not None
    assert found.facts == {"labels": ["no"]}
    for name, expected in chunk(3).items():
        whole, second = found.columns[name], chunk(1000, 1)[name]
        if isinstance(expected, np.ndarray):
            assert whole.dtype == expected.dtype
            assert np.array_equal(whole, np.concatenate([expected, second]))
            assert np.array_equal(whole, np.load(folder / f"{name}.npy"))  # anybody's NumPy reads it
            with pytest.raises(ValueError, match="read-only"):
                whole[0] = 1
        else:
            assert whole.to_pylist() == expected.to_pylist() + second.to_pylist()
    assert damage(folder) == ""
    assert [path.name for path in folder.parent.iterdir()] == ["one"]


def test_columns_without_items_are_columns(tmp_path: Path) -> None:
    publish(tmp_path / "none", WHAT, {}, [chunk(0)])
    found = opened(tmp_path / "none", WHAT)
    assert found is not None
    assert {name: len(column) for name, column in found.columns.items()} == dict.fromkeys(chunk(0), 0)
    assert found.columns["spans"].shape == (0, 2, 2)


def test_a_folder_is_not_taken_for_another(folder: Path) -> None:
    for other in ({**WHAT, "n": 4}, {"kind": "test"}, {**WHAT, "more": None}, {}):
        assert opened(folder, other) is None
    assert opened(folder.parent / "two", WHAT) is None


DAMAGE = {
    "a file is shorter": lambda folder: os.truncate(folder / "ids.npy", 100),
    "a file is longer": lambda folder: (folder / "ids.npy").open("ab").write(b"x"),
    "a file is gone": lambda folder: (folder / "texts.arrow").unlink(),
    "there is no manifest": lambda folder: (folder / MANIFEST).unlink(),
    "the manifest is empty": lambda folder: (folder / MANIFEST).write_text(""),
    "the manifest is cut": lambda folder: os.truncate(folder / MANIFEST, 80),
    "the manifest says nothing": lambda folder: (folder / MANIFEST).write_text("{}"),
    "the manifest is a list": lambda folder: (folder / MANIFEST).write_text("[1]"),
    "the manifest names odd files": lambda folder: (folder / MANIFEST).write_text(
        json.dumps({"identity": WHAT, "facts": {}, "files": [1]})
    ),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_a_damaged_folder_is_not_there_is_found_by_verifying_and_gives_way(folder: Path, what: str) -> None:
    DAMAGE[what](folder)
    assert opened(folder, WHAT) is None
    assert damage(folder) != ""
    publish(folder, WHAT, {}, [chunk(5)])
    again = opened(folder, WHAT)
    assert again is not None
    assert len(again.columns["ids"]) == 5
    assert damage(folder) == ""
    assert [path.name for path in folder.parent.iterdir()] == ["one"]


def test_a_changed_byte_is_found_by_verifying(folder: Path) -> None:
    with (folder / "ids.npy").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x7f")
    assert damage(folder) == "ids.npy is not what was written"


def test_the_first_to_publish_stands(folder: Path) -> None:
    before = (folder / "ids.npy").read_bytes()
    publish(folder, WHAT, {}, [chunk(5)])
    assert (folder / "ids.npy").read_bytes() == before
    assert [path.name for path in folder.parent.iterdir()] == ["one"]


def test_nothing_is_left_where_chunks_or_the_disk_give_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Iterator[dict[str, Any]]:
        yield chunk(3)
        raise KeyError("no more")

    with pytest.raises(KeyError):
        publish(tmp_path / "one", WHAT, {}, broken())
    assert list(tmp_path.iterdir()) == []

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(arrays, "sync", full)
    with pytest.raises(OSError, match="full"):
        publish(tmp_path / "one", WHAT, {}, [chunk(3)])
    assert list(tmp_path.iterdir()) == []


def test_chunks_that_do_not_fit_together_are_refused(tmp_path: Path) -> None:
    for wrong in (np.zeros(2, np.int64), np.zeros((2, 2), np.int32)):
        with pytest.raises(ValueError, match="cannot follow"):
            publish(tmp_path / "one", WHAT, {}, [{"ids": np.zeros(2, np.int32)}, {"ids": wrong}])
    assert list(tmp_path.iterdir()) == []
