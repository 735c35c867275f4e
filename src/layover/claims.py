"""Claims: advisory leases on steps, so that two workers seldom do the same work.

Losing a claim costs double work, never a wrong result: publishing is what decides. A claim is taken over when its
lease has run out, or at once when its process is dead on this machine. There is nothing to unlock.

A lease has run out where the claim says so, or where nobody has renewed it while whoever looks at it has waited for so
long. Machines need not agree on the time for that, and a clock that is set back delays nobody for longer than a lease.
"""

from __future__ import annotations

import json
import math
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from layover.errors import StoreError
from layover.files import write_json

LEASE_SECONDS = 60.0
BEAT_SECONDS = 5.0
POINTS = 100  # of a running step's curve that its claim has at most: a few kilobytes in every heartbeat
SHOWN = ("step", "loss", "selection")  # of a point
FIELDS = {"id": str, "host": str, "pid": int, "expires": float, "progress": dict}


class Slot(Protocol):
    """Where a claim is written, and where everybody looks who may want the step."""

    def read(self) -> dict[str, Any] | None:
        """The claim that stands; None where there is none, or it is unreadable."""
        ...

    def write(self, claim: dict[str, Any]) -> None:
        """Have this claim stand."""
        ...

    def remove(self) -> None:
        """Have none stand."""
        ...


@dataclass(frozen=True)
class File:
    """A claim in a file."""

    path: Path

    def read(self) -> dict[str, Any] | None:
        """The claim that stands; None where there is none, or it is unreadable."""
        return read_claim(self.path)

    def write(self, claim: dict[str, Any]) -> None:
        """Have this claim stand."""
        write_json(self.path, claim, durable=False)

    def remove(self) -> None:
        """Have none stand."""
        self.path.unlink(missing_ok=True)


class Claim:
    """A lease on one step, renewed by a heartbeat until it is released. Use as a context manager."""

    def __init__(self, slot: Path | Slot, progress: Callable[[], dict[str, Any]], beat: float = BEAT_SECONDS) -> None:
        self._slot, self._progress, self._beat = File(slot) if isinstance(slot, Path) else slot, progress, beat
        self._owner = {
            "id": uuid.uuid4().hex,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "born": _born(os.getpid()),
        }
        self._beats = 0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def take(self) -> bool:
        """Try to take the claim; False where somebody alive holds it."""
        holder = self._slot.read()
        if holder is not None and alive(holder):
            return False
        self._write()
        # two takers may both have seen a dead claim: the last write stands, and the other one yields
        holder = self._slot.read()
        return holder is not None and holder["id"] == self._owner["id"]

    def __enter__(self) -> Claim:
        self._thread = threading.Thread(target=self._keep, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread:
            self._thread.join()
        with suppress(StoreError):  # a bucket that cannot be reached: the lease runs out by itself
            holder = self._slot.read()
            if holder is not None and holder["id"] == self._owner["id"]:
                self._slot.remove()

    def _keep(self) -> None:
        while not self._stop.wait(self._beat):
            try:
                holder = self._slot.read()
                if holder is not None and holder["id"] != self._owner["id"]:
                    return  # this process slept through its lease, and somebody else took over
                self._write()
            except (OSError, StoreError):
                continue  # a full disk stops the step itself; a missed beat only risks double work

    def _write(self) -> None:
        self._beats += 1
        lease = {"beats": self._beats, "expires": time.time() + LEASE_SECONDS}
        claim = {**self._owner, **lease, "progress": self._progress()}
        self._slot.write(claim)


def told(progress: Mapping[str, Any]) -> dict[str, Any]:
    """What a claim says of a run: where it stands, with its curve as far as it has come, thinned to `POINTS` points.

    A number that is not finite is null: a claim is JSON for whoever reads it.

    >>> told({"step": 2, "loss": float("nan"), "curve": [{"step": 1, "loss": 0.5, "epoch": 1.0}]})
    {'step': 2, 'loss': None, 'curve': [{'step': 1, 'loss': 0.5}]}
    """
    if "curve" not in progress:
        return dict(progress)
    curve = list(progress["curve"])  # it grows in another thread
    every = math.ceil(len(curve) / POINTS) or 1
    kept = curve[::-every][::-1]  # with the last point
    points = [{name: _finite(point[name]) for name in SHOWN if name in point} for point in kept]
    return {name: _finite(value) for name, value in progress.items() if name != "curve"} | {"curve": points}


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_claim(path: Path) -> dict[str, Any] | None:
    """A claim's content; None where there is none or it is unreadable."""
    try:
        return parsed(path.read_bytes())
    except OSError:
        return None


def parsed(content: bytes) -> dict[str, Any] | None:
    """The claim that these bytes are; None where they are none."""
    try:
        claim = json.loads(content)
        return claim if {name: type(claim[name]) for name in FIELDS} == FIELDS else None
    except (ValueError, KeyError, TypeError, IndexError):
        return None


def alive(claim: dict[str, Any]) -> bool:
    """Whether a claim's holder may still be at work: its lease runs, and its process lives if it is on this machine."""
    if claim["expires"] < time.time() or _unrenewed(claim) > LEASE_SECONDS:
        return False
    return claim["host"] != socket.gethostname() or _born(claim["pid"]) == claim["born"]


_seen: dict[str, tuple[Any, float]] = {}  # of each claim looked at: how often it was renewed, and since when


def _unrenewed(claim: dict[str, Any]) -> float:
    """For how many seconds, by a clock that nobody sets, this process has seen a claim that was not renewed."""
    beats, now = claim.get("beats"), time.monotonic()
    if claim["id"] not in _seen or _seen[claim["id"]][0] != beats:
        _seen[claim["id"]] = beats, now
    return now - _seen[claim["id"]][1]


def _born(pid: int) -> str | None:
    """When a process started, in the kernel's ticks, so that a reused process id is not taken for its predecessor."""
    try:
        # bytes: a process that is called after a step has a name that was cut, within a character too
        state, *fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return None if state == b"Z" else fields[18].decode()  # a zombie was killed and does nothing more
    except OSError:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return None
        except OSError:
            return "unknown"
        return "unknown"
