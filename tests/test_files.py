"""Files: what is written is what is read, and a reader never sees a part."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layover import files
from layover.files import digest, digest_once, read_json, read_jsonl, write_json, write_jsonl, write_text

LEAVES = st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.floats(allow_nan=False, allow_infinity=False)


@settings(max_examples=50)
@given(rows=st.lists(st.dictionaries(st.text(), LEAVES | st.text(), max_size=3), max_size=4))
def test_rows_survive_a_file(tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]]) -> None:
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    write_jsonl(path, rows)
    assert read_jsonl(path) == rows


def test_a_line_separator_inside_a_text_ends_no_row(tmp_path: Path) -> None:
    rows = [{"text": "one\u2028two\x85three\x1cfour"}, {"text": ""}]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    assert read_jsonl(tmp_path / "rows.jsonl") == rows


def test_a_failed_write_leaves_the_old_content_and_no_litter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"n": 1})

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError):
        write_json(path, {"n": 2})
    assert read_json(path) == {"n": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_json_lacks_are_refused_before_anything_is_written(tmp_path: Path, value: float) -> None:
    with pytest.raises(ValueError):
        write_json(tmp_path / "a.json", {"n": value})
    with pytest.raises(ValueError):
        write_jsonl(tmp_path / "a.jsonl", [{"n": value}])
    assert list(tmp_path.iterdir()) == []


def test_a_digest_is_of_the_bytes(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "abc")
    assert digest(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_settled_file_is_read_once_and_again_when_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, read, real = tmp_path / "a", [], files.digest
    monkeypatch.setattr(files, "digest", lambda path: read.append(path) or real(path))
    write_text(path, "abc")
    os.utime(path, (1e9, 1e9))
    first = digest_once(path)
    assert (digest_once(path), len(read)) == (first, 1)
    path.write_text("abd")
    os.utime(path, (1e9 + 1, 1e9 + 1))
    assert digest_once(path) == real(path) != first
    assert len(read) == 2


def test_a_file_that_was_just_written_is_read_every_time(tmp_path: Path) -> None:
    path, moment = tmp_path / "a", time.time()
    found = []
    for text in ("abc", "abd"):
        path.write_text(text)
        os.utime(path, (moment, moment))  # as where the clock of the file system is coarse
        found.append(digest_once(path))
        assert found[-1] == digest(path)
    assert found[0] != found[1]


def test_only_what_is_durable_waits_for_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    write_json(tmp_path / "a", 1, durable=False)
    write_jsonl(tmp_path / "b", [], durable=False)
    assert synced == []
    write_json(tmp_path / "a", 2)
    assert len(synced) == 1
    assert read_json(tmp_path / "a") == 2
