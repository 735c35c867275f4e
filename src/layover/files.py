"""Files: atomic writes and plain formats (JSON, JSON Lines), and the digest of a file's content."""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
import uuid
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

SETTLED_NS = 2_000_000_000  # the coarsest clock of a file system, FAT's


def write_text(path: Path, text: str, durable: bool = True) -> None:
    """Write a text in UTF-8, as `write_bytes` does."""
    write_bytes(path, text.encode("utf-8"), durable)


def write_bytes(path: Path, data: bytes, durable: bool = True) -> None:
    """Write a file so that a reader sees the old content or the new, never a part of it.

    What is not `durable` may be lost in a power cut: it costs nothing, or whoever publishes it syncs it (see `sync`).
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any, durable: bool = True) -> None:
    """Write `value` as readable JSON, as `write_text` does."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n", durable)


def write_table(path: Path, table: pa.Table) -> None:
    """Write a table as `write_bytes` does, as its name ends: .parquet, small, or .arrow, which is read in no time.

    For what can be made again, and need not be durable.
    """
    import pyarrow as pa
    import pyarrow.feather as feather
    import pyarrow.parquet as pq

    content = pa.BufferOutputStream()
    if path.suffix == ".arrow":
        feather.write_feather(table, content, compression="lz4")
    else:
        pq.write_table(table, content, compression="zstd")
    write_bytes(path, content.getvalue().to_pybytes(), durable=False)


def read_json(path: Path) -> Any:
    """The value of a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]], durable: bool = True) -> None:
    """Write rows as JSON Lines, as `write_text` does."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows), durable)


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSON Lines file."""
    # not splitlines(), which also ends a line at U+2028 and its like inside a string
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def sync(path: Path) -> None:
    """Ask the file system to keep a file's content, or the names in a directory, across a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def digest_once(path: Path) -> str:
    """The digest of a file that this process need not read again while it is the same file, of the same time and size.

    One that was written a moment ago is read each time: it could be written again within the same tick of the clock.
    """
    stat = path.stat()
    if time.time_ns() - stat.st_mtime_ns < SETTLED_NS:
        return digest(path)
    return _digest_of(path, (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns))


@lru_cache(maxsize=1024)
def _digest_of(path: Path, _: tuple[int, ...]) -> str:
    return digest(path)


def digest(path: Path) -> str:
    """The sha256 of a file's bytes, as 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def inside(name: str) -> bool:
    r"""Whether a name from elsewhere leads to a file inside the folder that it is taken from, on any system.

    >>> [inside(name) for name in ("weights/0/head.json", "../other", "/etc/passwd", "C:x", "a//b", "a\\b")]
    [True, False, False, False, False, False]
    """
    parts = name.split("/")
    plain = all(re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,199}", part) and part not in (".", "..") for part in parts)
    return plain and len(name) <= 400 and not PurePosixPath(name).is_absolute() and not PureWindowsPath(name).drive
