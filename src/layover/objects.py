"""Objects: named contents in a bucket (S3, Google Cloud Storage, memory, or files used like one), through fsspec.

Credentials come from the service's own settings or from fsspec's, never from an address: it is written down and shown.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from layover.disk import NO_ROOM
from layover.errors import LayoverError, MissingExtra, Problem, StoreError
from layover.secrets import redacted
from layover.services import ALIASES, SERVICES, Service

AT_ONCE = 16  # requests at a time
TRIES = 5  # S3 answers 409 where two conditional puts come at the same moment, and asks to try again
BUGS = (TypeError, AttributeError, NameError, AssertionError, MemoryError, LayoverError)
ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.:-]*)://(.*)", re.DOTALL)


@dataclass(frozen=True)
class Entry:
    """An object as a listing has it: bytes, a token that is another one for other content, and when it was written."""

    size: int
    token: str
    modified: float


@dataclass(frozen=True)
class Objects:
    """The objects under an address such as s3://bucket/prefix. Cheap to make, and crosses process borders."""

    url: str

    @classmethod
    def at(cls, url: str) -> Objects:
        """The objects under an address; raises StoreError where it is none that a store can be kept at."""
        found = ADDRESS.fullmatch(url)
        name, rest = (found[1].lower(), found[2]) if found else ("", "")
        kind, place = ALIASES.get(name, name), redacted(url)
        if kind not in SERVICES:
            message = "is no place for a store: no way is known there to put an object only where none is, in one step"
            choices = ", ".join(f"{service}://" for service in SERVICES)
            raise StoreError(Problem(place, message, f"name a directory, or one of: {choices}"))
        if "@" in rest.partition("/")[0]:
            shown, hint = f"{kind}://***@{rest.rpartition('@')[2]}", f"leave them out; set {SERVICES[kind].settings}"
            raise StoreError(Problem(shown, "has credentials in it, and an address is written down and shown", hint))
        if any(mark in rest for mark in "?#*[") or "::" in rest:
            raise StoreError(
                Problem(place.partition("?")[0], "has ?, #, *, [ or :: in it", "name a bucket and a prefix")
            )
        path = str(Path(rest).absolute()) if kind == "file" else re.sub("/+", "/", rest).strip("/")
        if not path:
            raise StoreError(Problem(place, "names no bucket", f"say {kind}://BUCKET/PREFIX"))
        return cls(f"{kind}://{path}")

    @property
    def service(self) -> Service:
        """The kind of bucket."""
        return SERVICES[self.url.partition(":")[0]]

    def put(self, name: str, data: bytes) -> None:
        """Put an object, whatever is there."""
        with self._asking() as files:
            self.service.way.put(files, self._path(name), data)

    def put_once(self, name: str, data: bytes) -> bool:
        """Put an object where there is none, in one step; False where another one was first, which stands."""
        with self._asking() as files:
            for _ in range(TRIES):
                try:
                    self.service.way.create(files, self._path(name), data)
                    return True
                except FileExistsError:
                    break
                except OSError as error:
                    if "ConditionalRequestConflict" not in f"{error} {error.__cause__}":
                        raise
        # a put whose answer was lost is tried again below us, and then finds itself
        return self.read(name) == data

    def upload(self, name: str, local: Path) -> None:
        """Put the content of a file."""
        with self._asking() as files:
            self.service.way.upload(files, local, self._path(name))

    def read(self, name: str) -> bytes | None:
        """The content of an object; None where there is none."""
        with self._asking() as files, suppress(FileNotFoundError):
            return self.service.way.read(files, self._path(name))
        return None

    def download(self, name: str, local: Path) -> bool:
        """Write an object to a file; False where there is none."""
        with self._asking() as files, suppress(FileNotFoundError):
            self.service.way.download(files, self._path(name), local)
            return True
        return False

    def listed(self, folder: str = "") -> dict[str, Entry]:
        """All objects under a folder by their names, as they are now."""
        found: dict[str, Any] = {}
        with self._asking() as files, suppress(FileNotFoundError):
            files.invalidate_cache()
            found = self.service.way.find(files, self._path("").rstrip("/"), folder)
        root = len(self._path("").lstrip("/"))
        names = {path.lstrip("/")[root:]: facts for path, facts in found.items()}
        return {name: _entry(facts) for name, facts in names.items() if not name.rpartition("/")[2].startswith(".")}

    def top(self) -> list[str]:
        """The first part of every name that there is."""
        found: list[str] = []
        with self._asking() as files, suppress(FileNotFoundError):
            files.invalidate_cache()
            found = files.ls(self._path("").rstrip("/"), detail=False)
        own = self._path("").strip("/")  # a service's console may put an empty object of that name
        names = {path.strip("/").rpartition("/")[2] for path in found if path.strip("/") != own}
        return sorted(name for name in names if not name.startswith("."))

    def remove(self, names: Iterable[str]) -> None:
        """Remove objects; one that is not there is no error."""
        with self._asking() as files:

            def remove(name: str) -> None:
                with suppress(FileNotFoundError):
                    files.rm_file(self._path(name))

            self.each(remove, names)

    def each(self, do: Callable[[Any], Any], names: Iterable[Any]) -> list[Any]:
        """What a function returns for each name; requests wait for the network, so many are under way at once."""
        names = list(names)
        if len(names) < 2:
            return [do(name) for name in names]
        with ThreadPoolExecutor(AT_ONCE) as at_once:
            return list(at_once.map(do, names))

    def check(self) -> None:
        """Raise StoreError, before any work, where nothing can be written or a conditional put is none."""
        name = f"probe/{uuid.uuid4().hex}"
        try:
            one_each = [self.put_once(name, content) for content in (b"first", b"second")]
        finally:
            with suppress(StoreError):
                self.remove([name])
        if one_each != [True, False]:
            message = "puts an object where there is one already, though it was asked not to (If-None-Match)"
            raise StoreError(Problem(self.url, message, "use a newer version of its server, or another store"))

    def _path(self, name: str) -> str:
        kind, _, path = self.url.partition("://")
        return f"{'/' if kind == 'memory' else ''}{path}/{name}"

    @contextmanager
    def _asking(self) -> Iterator[Any]:
        """Fsspec's file system; what goes wrong with it is a StoreError, but for what says that something is not there.

        Asked for anew each time: after a fork it is another one.
        """
        try:
            yield self._files()
        except BUGS:
            raise
        except FileNotFoundError:
            hint = f"make it first, or check the name; {self._hint()}"
            raise StoreError(Problem(self.url, "there is no such bucket", hint)) from None
        except Exception as error:
            if isinstance(error, OSError) and error.errno in NO_ROOM:
                raise  # of this machine's disk: no matter of the bucket
            told = redacted(f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}")
            denied = isinstance(error, PermissionError)
            message = f"access is denied ({told})" if denied else f"cannot be reached ({told})"
            raise StoreError(Problem(self.url, message, self._hint())) from error

    def _files(self) -> Any:
        kind, service = self.url.partition(":")[0], self.service
        try:
            import fsspec

            return fsspec.filesystem(kind, use_listings_cache=False)
        except ImportError as error:
            raise MissingExtra(service.package or "fsspec", service.extra or "s3", f"a store at {kind}://") from error

    def _hint(self) -> str:
        settings = f" ({self.service.settings})" if self.service.settings else ""
        again = "then run the same command again: finished steps are kept"
        return f"check the network and the settings{settings} with `layover doctor --store {self.url}`, {again}"


def _entry(facts: dict[str, Any]) -> Entry:
    """What a listing says of an object, whichever service it is of."""
    when = next((facts[word] for word in ("LastModified", "updated", "mtime", "created") if facts.get(word)), 0.0)
    if isinstance(when, str):
        when = datetime.fromisoformat(when)
    if isinstance(when, datetime):
        when = when.timestamp()
    size = int(facts.get("size") or 0)
    mark = facts.get("ETag") or facts.get("etag") or facts.get("generation") or (size, when, facts.get("ino"))
    return Entry(size, sha256(repr(mark).encode("utf-8")).hexdigest()[:16], float(when))
