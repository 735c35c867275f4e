"""Store: a directory in which a step's folder exists if and only if the step is finished.

    layover.json                      the scheme of the store
    steps/<key>/                      a finished step, published by one rename
        step.json observations.jsonl predictions.parquet curve.jsonl provenance.json log.txt weights/
        manifest.json                 the sizes and digests of its files; one more in weights/ (`layover.integrity`)
    work/<key>.<attempt>/             one attempt; it stays, with log.txt and error.txt, where it failed
    work/<key>.resume/                the last checkpoint of a step that is not finished
    work/<key>.hung/                  where a step hung that gave no sign of life: tracebacks of its threads
    quarantine/<key>.<when>/          a step that was finished and is damaged (see `layover.mending`); it is done again
    claims/<key>.json                 who works on a step, with a lease; advisory, nothing to unlock
    studies/                          the studies run here: which step answers which question (see `layover.records`)
    catalog.parquet                   a copy of what is asked of finished steps (see `layover.catalog`)
    encoded/<key>/                    a data set as it was read, encoded for a tokenizer (see `layover.train.cache`), or
                                      as an encoder's features (see `layover.train.features`)

Anything here can be looked at with ls and cat, and repaired with rm: a lost claim, checkpoint or encoded data set costs
work, never a wrong result. JSON, JSON Lines, Parquet, safetensors, and for data sets NumPy's and Arrow's own files; no
pickle is read or written.
"""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from layover import identity, records
from layover.errors import Problem, StoreError
from layover.files import read_json, read_jsonl, sync, write_json, write_text
from layover.integrity import NOTE, seal
from layover.predictions import Predictions
from layover.predictions import read as read_predictions
from layover.records import Record
from layover.step import Step, from_json, key_of, to_json

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
PROBE_BYTES = 1 << 20
CATALOG = "catalog.parquet"
ENCODED = "encoded"  # the kind that keys of data sets are made with
FOLDERS = ("steps", "work", "claims", "studies", "quarantine", ENCODED)


@dataclass(frozen=True)
class Store:
    """A store's directory. Opening checks the scheme and creates what is missing."""

    root: Path

    @classmethod
    def open(cls, root: Path | str, create: bool = True) -> Store:
        """The store at `root`; raises StoreError where it is newer than this layover or cannot be written."""
        store = cls(Path(root))
        if not store._marker.exists():
            if not create:
                raise StoreError(
                    Problem(str(root), "is not a layover store", "name one with --store, or run a study first")
                )
            if store.root.exists() and (not store.root.is_dir() or store._holds_other_files()):
                raise StoreError(
                    Problem(
                        str(root), "exists and is not a layover store", "name an empty or new directory with --store"
                    )
                )
            with store.writing():
                store._make_folders()
                write_json(store._marker, {"scheme": identity.SCHEME})
        try:
            scheme = int(read_json(store._marker)["scheme"])
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise StoreError(
                Problem(str(store._marker), f"cannot be read: {error}", "restore it from another store")
            ) from None
        if scheme > identity.SCHEME:
            message = f"was written by a newer layover (scheme {scheme}; this one reads up to {identity.SCHEME})"
            hint = "upgrade with pip install --upgrade layover, or name another store with --store"
            raise StoreError(Problem(str(root), message, hint))
        with store.writing():
            store._make_folders()  # one that was removed by hand costs what was in it, nothing else
        return store

    def _make_folders(self) -> None:
        for folder in FOLDERS:
            (self.root / folder).mkdir(parents=True, exist_ok=True)

    def _holds_other_files(self) -> bool:
        """Whether there is anything that making a store does not leave, here or while another process is at it."""
        return any(p.name not in FOLDERS and not p.name.startswith(".layover.json.") for p in self.root.iterdir())

    @property
    def _marker(self) -> Path:
        return self.root / "layover.json"

    def check_writable(self, need: int = 0) -> None:
        """Raise StoreError, before any work, where the disk is read-only or holds fewer than `need` more bytes."""
        with self.writing():
            probe = self.root / "work" / f"probe.{uuid.uuid4().hex[:8]}"
            probe.parent.mkdir(exist_ok=True)
            try:
                probe.write_bytes(os.urandom(PROBE_BYTES))
            finally:
                probe.unlink(missing_ok=True)
        free = shutil.disk_usage(self.root).free
        if free < need:
            raise StoreError(
                Problem(str(self.root), f"has {free / 1e9:.2f} GB free; this study needs about {need / 1e9:.2f} GB",
                        "free some space, name another disk with --store, or run `layover store gc`")
            )  # fmt: skip

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Turn a full or read-only disk into a StoreError; finished steps are not touched by it."""
        try:
            yield
        except OSError as error:
            if error.errno not in (*NO_ROOM, errno.EACCES, errno.EPERM):
                raise
            reason = "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "cannot be written"
            raise StoreError(
                Problem(str(self.root), f"{reason} ({os.strerror(error.errno)})",
                        "free some space or name another store with --store, then run the same command again: "
                        "finished steps are kept")
            ) from error  # fmt: skip

    # finished steps

    def folder(self, key: str) -> Path:
        """Where a finished step is; it exists if and only if the step is finished."""
        return self.root / "steps" / key

    def finished(self, key: str) -> bool:
        """Whether a step is finished."""
        return self.folder(key).is_dir()

    def holds(self, key: str, with_weights: bool) -> bool:
        """Whether a step is finished, and has its weights where they are asked for."""
        return self.finished(key) and not (with_weights and self.weights(key) is None)

    def finished_keys(self) -> list[str]:
        """The keys of all finished steps."""
        return sorted(entry.name for entry in os.scandir(self.root / "steps") if entry.is_dir())

    def weights(self, key: str) -> Path | None:
        """The weights folder of a finished step; None where they were dropped or never kept."""
        path = self.folder(key) / "weights"
        return path if path.is_dir() else None

    def step(self, key: str) -> Step:
        """The step in a finished folder."""
        return from_json(self.read(key, "step.json"))

    def read(self, key: str, name: str) -> Any:
        """One JSON or JSON Lines file of a finished step; raises StoreError where it is damaged."""
        path = self.folder(key) / name
        try:
            return read_jsonl(path) if name.endswith(".jsonl") else read_json(path)
        except (OSError, ValueError) as error:
            hint = f"check the store with `layover store verify --store {self.root}`"
            raise StoreError(Problem(str(path), f"cannot be read: {error}", hint)) from None

    def predictions(self, key: str) -> Predictions | None:
        """The validation predictions of a finished step; None where it has none."""
        path = self.folder(key) / "predictions.parquet"
        if not path.is_file():
            return None
        return read_predictions(path)

    # attempts

    def attempt(self, key: str) -> Path:
        """A new directory of this attempt's own."""
        path = self.root / "work" / f"{key}.{uuid.uuid4().hex[:8]}"
        path.mkdir(parents=True)
        return path

    def resume_folder(self, key: str) -> Path:
        """Where the checkpoint of an unfinished step is kept."""
        return self.root / "work" / f"{key}.resume"

    def hung(self, key: str) -> Path:
        """The file with the tracebacks of a step whose process was ended because it gave no sign of life."""
        return self.root / "work" / f"{key}.hung" / "traceback.txt"

    def claim(self, key: str) -> Path:
        """The file in which whoever works on a step says so: see `layover.claims`."""
        return self.root / "claims" / f"{key}.json"

    def publish(self, step: Step, attempt: Path) -> bool:
        """Make an attempt the finished step by one rename. False where another attempt was first: that one stands.

        Files and names are on disk before the rename. An attempt that redid a finished step for its weights hands
        over the weights alone, since the first published numbers are the result.
        """
        key = key_of(step)
        write_json(attempt / "step.json", to_json(step), durable=False)
        seal(attempt)
        with ThreadPoolExecutor() as at_once:  # disks take several for little more than one
            list(at_once.map(sync, attempt.rglob("*")))
        sync(attempt)
        first = self._rename(attempt, self.folder(key))
        if not first and (attempt / "weights").is_dir():
            self._rename(attempt / "weights", self.folder(key) / "weights")
        sync(self.root / "steps")
        self.discard(key)
        return first

    def quarantine(self, key: str, part: Path, why: str) -> None:
        """Put a damaged step's folder aside, or a part of it such as its weights, and say why in it."""
        aside = self.root / "quarantine" / f"{key}.{uuid.uuid4().hex[:8]}"
        with self.writing():
            (self.root / CATALOG).unlink(missing_ok=True)  # it may have what is damaged
            part.rename(aside)
            write_text(aside / "why.txt", f"{part.name}: {why}\n")
            (self.folder(key) / NOTE).unlink(missing_ok=True)

    def discard(self, key: str) -> None:
        """Remove what attempts at a finished step left behind."""
        for path in (self.root / "work").glob(f"{key}.*"):
            shutil.rmtree(path, ignore_errors=True)

    @staticmethod
    def _rename(source: Path, target: Path) -> bool:
        try:
            source.rename(target)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                return False
            raise
        return True

    def failure(self, key: str) -> str:
        """The last line of the error that the newest failed attempt ended with; empty where none failed."""
        errors = sorted((self.root / "work").glob(f"{key}.*/error.txt"), key=lambda path: path.stat().st_mtime)
        lines = errors[-1].read_text(encoding="utf-8").strip().splitlines() if errors else []
        return lines[-1] if lines else ""

    # data sets

    def encoded(self, key: str) -> Path:
        """Where a data set is kept as it was read, encoded, or as features; it can be made again."""
        return self.root / ENCODED / key

    def encoded_keys(self) -> list[str]:
        """The keys of all data sets that are kept."""
        return sorted(entry.name for entry in os.scandir(self.root / ENCODED) if not entry.name.startswith("."))

    # studies

    def record_study(self, name: str, **content: Any) -> None:
        """Remember a study, for queries and for what may be collected: see `layover.records.write`."""
        with self.writing():
            records.write(self._study(name), **content)

    def study(self, name: str) -> Record | None:
        """What is remembered of a study; None where it has not run in this store."""
        path = self._study(name)
        return records.read(path) if path.exists() else None

    def studies(self) -> dict[str, Record]:
        """The studies run in this store, by name."""
        return {path.stem: records.read(path) for path in sorted(self._study("*").parent.glob("*.json"))}

    def _study(self, name: str) -> Path:
        return self.root / "studies" / f"{name}.json"
