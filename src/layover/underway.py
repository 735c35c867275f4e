"""Underway: the claim on a step and its last checkpoint, where several machines share a bucket.

Both are advisory. A claim that is lost costs double work; a checkpoint that is lost costs the work behind it.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from layover.claims import parsed, read_claim
from layover.errors import StoreError
from layover.files import inside, write_json, write_text
from layover.objects import Objects

UPLOAD_SECONDS = 60.0  # between two looks at whether there is a later checkpoint to upload
SEEN = ".shared"  # beside a checkpoint: what the bucket's was known by when it was last the same


@dataclass
class ClaimObject:
    """A claim in a bucket, with a copy in this machine's mirror for whoever watches from here."""

    objects: Objects
    copy: Path
    _none: bool = field(default=False, init=False)

    @property
    def name(self) -> str:
        """The object's name."""
        return f"claims/{self.copy.name}"

    def read(self) -> dict[str, Any] | None:
        """The claim that stands, if there is any."""
        data = self.objects.read(self.name)
        self._none = data is None
        return parsed(data or b"")

    def write(self, claim: dict[str, Any]) -> None:
        """Write the claim; where there was none when it was last read, only if there is none still."""
        data = json.dumps(claim).encode("utf-8")
        if not (self._none and not self.objects.put_once(self.name, data)):
            if not self._none:
                self.objects.put(self.name, data)
            write_json(self.copy, claim, durable=False)

    def remove(self) -> None:
        """Give the claim back."""
        self.objects.remove([self.name])
        self.copy.unlink(missing_ok=True)


def copy_claims(objects: Objects, folder: Path) -> None:
    """Have copies of all claims in a folder; of those that are gone, what this machine wrote is left to run out."""
    names = [name for name in objects.listed("claims") if name.count("/") == 1 and inside(name)]
    for name, data in zip(names, objects.each(objects.read, names), strict=True):
        if (claim := parsed(data or b"")) is not None:
            write_json(folder / name.rpartition("/")[2], claim, durable=False)
    for path in folder.glob("*.json"):
        claim = read_claim(path) if f"claims/{path.name}" not in names else None
        if claim is not None and claim["host"] != socket.gethostname():
            path.unlink(missing_ok=True)


class Keeper:
    """Keeps a step's checkpoint in the bucket while the step is worked on. Use as a context manager.

    On entering, the bucket's checkpoint is fetched if another machine wrote it last. From then on a later one is
    uploaded about once a minute, and once more at the end, if the step has not been finished.
    """

    def __init__(self, objects: Objects, key: str, folder: Path) -> None:
        self._objects, self._prefix, self._folder = objects, f"resume/{key}", folder
        self._stop = threading.Event()
        self._uploaded: dict[str, tuple[int, int]] = {}
        self._there = False  # whether the bucket has a checkpoint of the step
        self._thread = threading.Thread(target=self._keep, daemon=True)

    def __enter__(self) -> Keeper:
        with suppress(StoreError):
            self._bring()
        self._uploaded = self._files()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        with suppress(StoreError, OSError):
            self._send()
            if self._there and not self._folder.is_dir():  # the step is finished
                self._objects.remove(self._objects.listed(self._prefix))

    def _keep(self) -> None:
        while not self._stop.wait(UPLOAD_SECONDS):
            with suppress(StoreError, OSError):
                self._send()

    def _bring(self) -> None:
        """Fetch what another machine wrote since this one last had the same."""
        listed = self._objects.listed(self._prefix)
        self._there = bool(listed)
        token = "".join(sorted(entry.token for entry in listed.values()))
        seen = self._folder / SEEN
        if not listed or (seen.is_file() and seen.read_text(encoding="utf-8") == token):
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        for name in listed:
            path, incoming = self._folder / name.rpartition("/")[2], self._folder / f".{uuid.uuid4().hex}"
            if self._objects.download(name, incoming):
                incoming.replace(path)
        write_text(seen, token, durable=False)

    def _send(self) -> None:
        """Upload the files of the checkpoint that are others than those uploaded last."""
        now = self._files()
        changed = [name for name, stat in now.items() if self._uploaded.get(name) != stat]
        for name in changed:
            still = self._folder / f".{uuid.uuid4().hex}"  # the run may replace the file meanwhile
            self._there = True
            try:
                os.link(self._folder / name, still)
                self._objects.upload(f"{self._prefix}/{name}", still)
            finally:
                still.unlink(missing_ok=True)
        if changed:
            token = "".join(sorted(entry.token for entry in self._objects.listed(self._prefix).values()))
            write_text(self._folder / SEEN, token, durable=False)
        self._uploaded = now

    def _files(self) -> dict[str, tuple[int, int]]:
        """The files of the checkpoint, with what tells them from later ones."""
        paths = [path for path in self._folder.glob("*") if not path.name.startswith(".")]
        return {path.name: (stat.st_ino, stat.st_mtime_ns) for path in paths if (stat := path.stat())}
