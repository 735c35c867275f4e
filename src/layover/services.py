"""Services: kinds of buckets, and how each is read and written through fsspec.

A bucket has no renames. It has puts that are whole or not at all, and one kind of put that succeeds only where nothing
is yet. On S3 that is `If-None-Match: *`, on Google Cloud Storage `ifGenerationMatch=0`, among files a link, in memory a
lock. fsspec's own `mode="create"` looks first and writes then in memory and among files, so these two are done here.
"""

from __future__ import annotations

import os
import shutil
import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol


class Way(Protocol):
    """How a kind of bucket is written and read; `files` is fsspec's file system."""

    def read(self, files: Any, path: str) -> bytes:
        """The content of an object; raises FileNotFoundError where there is none."""
        ...

    def find(self, files: Any, root: str, folder: str) -> dict[str, Any]:
        """What there is under a folder, with facts about each."""
        ...

    def create(self, files: Any, path: str, data: bytes) -> None:
        """Put where nothing is; raises FileExistsError where something is."""
        ...

    def put(self, files: Any, path: str, data: bytes) -> None:
        """Put, whatever is there."""
        ...

    def upload(self, files: Any, local: Path, path: str) -> None:
        """Put the content of a file."""
        ...

    def download(self, files: Any, path: str, local: Path) -> None:
        """Write an object to a file."""
        ...


@dataclass(frozen=True)
class Remote:
    """A service whose puts are whole or not at all, and which knows a conditional one.

    `whole` is what it is told so that it reads an object in one request.
    """

    whole: Mapping[str, Any] = field(default_factory=dict)

    def read(self, files: Any, path: str) -> bytes:
        """The content of an object; raises FileNotFoundError where there is none."""
        return files.cat_file(path, **self.whole)

    def find(self, files: Any, root: str, folder: str) -> dict[str, Any]:
        """What there is under a folder, with facts about each; without `prefix`, nothing is asked for three times."""
        return files.find(root, prefix=f"{folder}/" if folder else "", detail=True)

    def create(self, files: Any, path: str, data: bytes) -> None:
        """Put where nothing is; raises FileExistsError where something is."""
        try:
            files.pipe_file(path, data, mode="create")
        except OSError as error:
            if "PreconditionFailed" in f"{error} {error.__cause__}":  # as servers other than Amazon's say it
                raise FileExistsError(path) from error
            raise

    def put(self, files: Any, path: str, data: bytes) -> None:
        """Put, whatever is there."""
        files.pipe_file(path, data)

    def upload(self, files: Any, local: Path, path: str) -> None:
        """Put the content of a file."""
        files.put_file(str(local), path)

    def download(self, files: Any, path: str, local: Path) -> None:
        """Write an object to a file."""
        files.get_file(path, str(local))


class Memory:
    """Memory of this process, for tests: gone when it ends."""

    _lock = threading.Lock()

    def read(self, files: Any, path: str) -> bytes:
        """The content of an object; raises FileNotFoundError where there is none."""
        return files.cat_file(path)

    def find(self, files: Any, root: str, folder: str) -> dict[str, Any]:
        """What there is under a folder, with facts about each."""
        return files.find(f"{root}/{folder}".rstrip("/"), detail=True)

    def create(self, files: Any, path: str, data: bytes) -> None:
        """Put where nothing is; raises FileExistsError where something is."""
        with self._lock:
            if files.isfile(path):
                raise FileExistsError(path)
            files.pipe_file(path, data)

    def put(self, files: Any, path: str, data: bytes) -> None:
        """Put, whatever is there."""
        with self._lock:
            files.pipe_file(path, data)

    def upload(self, files: Any, local: Path, path: str) -> None:
        """Put the content of a file."""
        self.put(files, path, local.read_bytes())

    def download(self, files: Any, path: str, local: Path) -> None:
        """Write an object to a file."""
        local.write_bytes(files.cat_file(path))


class Files:
    """A directory that is used like a bucket, on any file system that has links."""

    def read(self, files: Any, path: str) -> bytes:
        """The content of an object; raises FileNotFoundError where there is none."""
        return Path(path).read_bytes()

    def find(self, files: Any, root: str, folder: str) -> dict[str, Any]:
        """What there is under a folder, with facts about each."""
        return files.find(f"{root}/{folder}".rstrip("/"), detail=True)

    def create(self, files: Any, path: str, data: bytes) -> None:
        """Put where nothing is; raises FileExistsError where something is."""
        self._placed(path, lambda made: made.write_bytes(data), os.link)

    def put(self, files: Any, path: str, data: bytes) -> None:
        """Put, whatever is there."""
        self._placed(path, lambda made: made.write_bytes(data), os.replace)

    def upload(self, files: Any, local: Path, path: str) -> None:
        """Put the content of a file."""
        self._placed(path, lambda made: shutil.copyfile(local, made), os.replace)

    def download(self, files: Any, path: str, local: Path) -> None:
        """Write an object to a file."""
        shutil.copyfile(path, local)

    def _placed(self, path: str, write: Callable[[Path], Any], place: Callable[[Path, str], None]) -> None:
        """Write beside the place and put there whole; a name that begins with a dot is no object."""
        made = Path(path).with_name(f".{uuid.uuid4().hex}")
        made.parent.mkdir(parents=True, exist_ok=True)
        try:
            write(made)
            place(made, path)
        finally:
            made.unlink(missing_ok=True)


@dataclass(frozen=True)
class Service:
    """A kind of bucket: how it is used, the package and the extra that it needs, and where its settings come from."""

    way: Way
    package: str = ""
    extra: str = ""
    settings: str = ""


SERVICES = {
    "s3": Service(
        Remote({"max_concurrency": 1}), "s3fs", "s3", "AWS_PROFILE or AWS_ACCESS_KEY_ID, AWS_REGION, AWS_ENDPOINT_URL"
    ),
    "gs": Service(Remote(), "gcsfs", "gcs", "GOOGLE_APPLICATION_CREDENTIALS, or gcloud auth application-default login"),
    "file": Service(Files()),
    "memory": Service(Memory()),
}
ALIASES = {"s3a": "s3", "gcs": "gs", "local": "file"}
