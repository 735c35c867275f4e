"""Arrays: a folder of named columns that is complete or not there: appended to, published by one rename, memory-mapped.

    <folder>/<name>.npy        numbers, as NumPy's own format
    <folder>/<name>.arrow      texts or lists of them, as an Arrow IPC file with one column
    <folder>/manifest.json     what the folder is (its identity), facts, and each file's size and sha256; written last

Columns arrive chunk by chunk, so that memory stays flat. Whoever reads gives the identity that is expected: a folder
that says another one, lacks a file or holds one of another size is not there.
"""

from __future__ import annotations

import errno
import shutil
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layover.files import digest, read_json, sync, write_json

MANIFEST = "manifest.json"
Columns = Mapping[str, Any]
"""Arrays by name: numbers of NumPy, texts of Arrow; all chunks have the same names, types and inner shapes."""


@dataclass(frozen=True)
class Arrays:
    """The columns of a folder, memory-mapped, and the facts that were written with them."""

    columns: Columns
    facts: Mapping[str, Any]


def opened(folder: Path, identity: Mapping[str, Any], private: bool = False) -> Arrays | None:
    """What a folder holds; None where it is not there, is damaged, or is not what `identity` says.

    Numbers are read-only; `private`, they can be written to, which changes this process's memory and never the file.
    """
    try:
        manifest = read_json(folder / MANIFEST)
        if manifest["identity"] != identity or _wrong_size(folder, manifest):
            return None
        return Arrays(
            {Path(name).stem: _mapped(folder / name, private) for name in manifest["files"]}, manifest["facts"]
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # any of which a damaged file can cause
        return None


def damage(folder: Path) -> str:
    """What is wrong with a folder, every byte of it read; "" where nothing is."""
    try:
        manifest = read_json(folder / MANIFEST)
        wrong = _wrong_size(folder, manifest)
        changed = [name for name, file in manifest["files"].items() if digest(folder / name) != file["sha256"]]
        return wrong or (f"{changed[0]} is not what was written" if changed else "")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"cannot be read: {type(error).__name__}: {error}"


def publish(folder: Path, identity: Mapping[str, Any], facts: Mapping[str, Any], chunks: Iterable[Columns]) -> None:
    """Write `chunks` one after the other and make them `folder` by one rename.

    Many processes may publish the same folder at once: the first one stands, the others drop theirs. One that is
    damaged gives way. Raises OSError where the disk does not take it; then nothing is left behind.
    """
    own = folder.parent / f".{folder.name}.{uuid.uuid4().hex[:8]}"
    try:
        own.mkdir(parents=True)
        _write(own, identity, facts, chunks)
        if folder.is_dir() and opened(folder, identity) is None:
            damaged = own.with_suffix(f"{own.suffix}-damaged")
            folder.rename(damaged)
            shutil.rmtree(damaged, ignore_errors=True)
        own.rename(folder)
        sync(folder.parent)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
    finally:
        shutil.rmtree(own, ignore_errors=True)


def _write(folder: Path, identity: Mapping[str, Any], facts: Mapping[str, Any], chunks: Iterable[Columns]) -> None:
    files: dict[str, _Numbers | _Texts] = {}
    try:
        for chunk in chunks:
            for name, part in chunk.items():
                if name not in files:
                    files[name] = (_Numbers if isinstance(part, np.ndarray) else _Texts)(folder / name, part)
                files[name].append(part)
    finally:
        for file in files.values():
            file.close()
    paths = sorted(folder.iterdir())
    sizes = {path.name: {"bytes": path.stat().st_size, "sha256": digest(path)} for path in paths}
    for path in paths:
        sync(path)
    write_json(folder / MANIFEST, {"identity": identity, "facts": facts, "files": sizes})
    sync(folder)


class _Numbers:
    """An .npy file that grows: its header is written again at the end, in the room that NumPy leaves for that."""

    def __init__(self, path: Path, like: NDArray[Any]) -> None:
        self._dtype, self._inner, self._n = like.dtype, like.shape[1:], 0
        self._file = path.with_suffix(".npy").open("wb")
        self._write_header()

    def _write_header(self) -> None:
        head = {"descr": self._dtype.str, "fortran_order": False, "shape": (self._n, *self._inner)}
        np.lib.format.write_array_header_1_0(self._file, head)

    def append(self, part: NDArray[Any]) -> None:
        if part.dtype != self._dtype or part.shape[1:] != self._inner:
            expected = f"{self._dtype} {self._inner}"
            raise ValueError(f"{self._file.name}: {part.dtype} {part.shape[1:]} cannot follow {expected}")
        self._file.write(part.tobytes())
        self._n += len(part)

    def close(self) -> None:
        self._file.seek(0)
        self._write_header()
        self._file.close()


class _Texts:
    """An Arrow file that grows by one batch per chunk."""

    def __init__(self, path: Path, like: Any) -> None:
        import pyarrow as pa

        self._schema = pa.schema([(path.name, like.type)])
        self._writer = pa.ipc.new_file(str(path.with_suffix(".arrow")), self._schema)

    def append(self, part: Any) -> None:
        import pyarrow as pa

        self._writer.write_batch(pa.record_batch([part], schema=self._schema))

    def close(self) -> None:
        self._writer.close()


def _mapped(path: Path, private: bool) -> Any:
    if path.suffix == ".npy":
        found = np.load(path, mmap_mode="c" if private else "r", allow_pickle=False)
        return np.asarray(found)  # the plain class indexes faster
    import pyarrow as pa

    return pa.ipc.open_file(pa.memory_map(str(path))).read_all().column(0)


def _wrong_size(folder: Path, manifest: Mapping[str, Any]) -> str:
    for name, file in manifest["files"].items():
        if (size := (folder / name).stat().st_size) != file["bytes"]:
            return f"{name} has {size:,} bytes instead of {file['bytes']:,}"
    return ""
