"""Store: a directory in which a step's folder exists if and only if the step is finished.

It is what all machines see, or this machine's mirror of what they see in a bucket (see `layover.bucket`).

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
    catalog.arrow                     a copy of what is asked of finished steps (see `layover.catalog`)
    encoded/<key>/                    a data set as it was read, encoded for a tokenizer (see `layover.train.cache`), or
                                      as an encoder's features (see `layover.train.features`)

Anything here can be looked at with ls and cat, and repaired with rm: a lost claim, checkpoint or encoded data set costs
work, never a wrong result. JSON, JSON Lines, Parquet, safetensors, and for data sets NumPy's and Arrow's own files; no
pickle is read or written.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import uuid
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from layover import disk, identity, records
from layover.bucket import Bucket
from layover.claims import Slot
from layover.errors import Problem, StoreError
from layover.files import read_json, read_jsonl, sync, write_json, write_text
from layover.integrity import CATALOG, NOTE, WEIGHTS, seal
from layover.mirror import Mirror, mirror_of
from layover.objects import ADDRESS, Objects
from layover.predictions import Predictions
from layover.predictions import read as read_predictions
from layover.records import Record
from layover.shared import Here, Shared
from layover.step import Step, from_json, key_of, to_json

ENCODED = "encoded"  # the kind that keys of data sets are made with
FOLDERS = ("steps", "work", "claims", "studies", "quarantine", ENCODED)


@dataclass(frozen=True)
class Store:
    """A store's directory, and how it is shared. Opening checks the scheme and creates what is missing."""

    root: Path
    shared: Shared = field(default_factory=Here)

    @classmethod
    def open(cls, root: Path | str, create: bool = True) -> Store:
        """The store in the directory `root`, or in the bucket of an address such as s3://bucket/prefix.

        Raises StoreError where it is newer than this layover, or cannot be reached or written.
        """
        if isinstance(root, Path) and (found := re.match(r"([a-z0-9]{2,}):/[^/]", str(root))):
            hint = f"give the address as text, with {found[1]}://"
            raise StoreError(Problem(str(root), "is an address that has become a path", hint))
        if ADDRESS.fullmatch(str(root)):
            store = mirrored(str(root))
            assert isinstance(store.shared, Bucket)
            with store.writing():
                store.shared.arrive(create)
        else:
            store = cls(Path(root))
            store._arrive(create)
        try:
            scheme = int(read_json(store._marker)["scheme"])
        except (ValueError, KeyError, TypeError, OSError) as error:
            place = store.address(store._marker)
            raise StoreError(Problem(place, f"cannot be read: {error}", "restore it from another store")) from None
        if scheme > identity.SCHEME:
            message = f"was written by a newer layover (scheme {scheme}; this one reads up to {identity.SCHEME})"
            hint = "upgrade with pip install --upgrade layover, or name another store with --store"
            raise StoreError(Problem(store.place, message, hint))
        with store.writing():
            store._make_folders()  # one that was removed by hand costs what was in it, nothing else
            store.refresh()
        return store

    def _arrive(self, create: bool) -> None:
        """Make the directory a store where it is none and that is asked for."""
        root = self.root
        if self._marker.exists():
            return
        if not create:
            hint = "name one with --store, or run a study first"
            raise StoreError(Problem(str(root), "is not a layover store", hint))
        if root.exists() and (not root.is_dir() or self._holds_other_files()):
            hint = "name an empty or new directory with --store"
            raise StoreError(Problem(str(root), "exists and is not a layover store", hint))
        with self.writing():
            self._make_folders()
            write_json(self._marker, {"scheme": identity.SCHEME})

    def __reduce__(self) -> tuple[Any, ...]:  # each machine has a mirror of its own
        if isinstance(self.shared, Bucket):
            return mirrored, (self.place,)
        return Store, (self.root,)

    @property
    def place(self) -> str:
        """What people call the store: its directory, or its address."""
        return self.address(self.root)

    def address(self, path: Path) -> str:
        """What people call a place in the store: its path, or the address that a bucket has for it."""
        return self.shared.address(path)

    def refresh(self, keys: Iterable[str] | None = None) -> None:
        """Look again at which of these steps are finished, or of all; in a directory that is always seen."""
        self.shared.refresh(keys)

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
        """Raise StoreError, before any work, where nothing can be written, or fewer than `need` more bytes."""
        self.shared.check()
        disk.check_room(self.root, need)

    def writing(self) -> AbstractContextManager[None]:
        """Turn a full or read-only disk into a StoreError; finished steps are not touched by it."""
        return disk.writing(self.root)

    # finished steps

    def folder(self, key: str) -> Path:
        """Where a finished step is; it exists if and only if the step is finished."""
        return self.root / "steps" / key

    def finished(self, key: str) -> bool:
        """Whether a step is finished."""
        return self.folder(key).is_dir()

    def holds(self, key: str, with_weights: bool) -> bool:
        """Whether a step is finished, and has its weights where they are asked for."""
        return self.finished(key) and not (with_weights and not self.has_weights(key))

    def finished_keys(self) -> list[str]:
        """The keys of all finished steps, in one look: asking for each of a hundred thousand would take seconds."""
        return sorted(name for name in os.listdir(self.root / "steps") if "." not in name)  # as hidden files have

    def has_weights(self, key: str) -> bool:
        """Whether the weights of a finished step are in the store; not, where they were dropped or never kept."""
        return (self.folder(key) / WEIGHTS).is_dir()

    def weights(self, key: str) -> Path | None:
        """The weights folder of a finished step, out of a bucket if need be; None where there are none."""
        self.shared.fetch_weights(self.folder(key))
        return self.folder(key) / WEIGHTS if self.has_weights(key) else None

    def fetched(self, key: str, *names: str) -> Path:
        """The folder of a finished step with these files in it, without names all but weights.

        Raises StoreError where one of them has to come out of a bucket and is not what was written.
        """
        with self.writing():
            self.shared.fetch(self.folder(key), names)
        return self.folder(key)

    def size(self, part: Path) -> int:
        """The bytes of a finished step's folder, or of its weights'."""
        known = self.shared.size(part)
        return known if known is not None else sum(f.stat().st_size for f in part.rglob("*") if f.is_file())

    def step(self, key: str) -> Step:
        """The step in a finished folder."""
        return from_json(self.read(key, "step.json"))

    def read(self, key: str, name: str) -> Any:
        """One JSON or JSON Lines file of a finished step; raises StoreError where it is damaged."""
        path = self.fetched(key, name) / name
        try:
            return read_jsonl(path) if name.endswith(".jsonl") else read_json(path)
        except (OSError, ValueError) as error:
            hint = f"check the store with `layover store verify --store {self.place}`"
            raise StoreError(Problem(self.address(path), f"cannot be read: {error}", hint)) from None

    def predictions(self, key: str) -> Predictions | None:
        """The validation predictions of a finished step; None where it has none."""
        path = self.fetched(key, "predictions.parquet") / "predictions.parquet"
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
        """The file in which whoever works on a step says so: see `layover.claims`. Of a bucket's claim a copy."""
        return self.root / "claims" / f"{key}.json"

    def slot(self, key: str) -> Path | Slot:
        """Where to claim a step so that every machine sees it."""
        return self.shared.slot(self.claim(key))

    def keeping(self, key: str) -> AbstractContextManager[object]:
        """While a step is worked on: its last checkpoint is in `resume_folder`, and later ones are kept."""
        return self.shared.keeping(key, self.resume_folder(key))

    def publish(self, step: Step, attempt: Path) -> bool:
        """Make an attempt the finished step, by one rename or one conditional put; False where not the first.

        That one stands. Files and names are on disk before the rename. An attempt that redid a finished step for its
        weights hands over the weights alone, since the first published numbers are the result.
        """
        key = key_of(step)
        write_json(attempt / "step.json", to_json(step), durable=False)
        seal(attempt)
        with ThreadPoolExecutor() as at_once:  # disks take several for little more than one
            list(at_once.map(sync, attempt.rglob("*")))
        sync(attempt)
        decided = self.shared.publish(key, attempt)  # by a bucket
        first = decided is not False and self._rename(attempt, self.folder(key))
        if not first and (attempt / WEIGHTS).is_dir() and self.finished(key):
            self._rename(attempt / WEIGHTS, self.folder(key) / WEIGHTS)
        sync(self.root / "steps")
        self.discard(key)
        return first if decided is None else decided

    def quarantine(self, key: str, part: Path, why: str) -> None:
        """Put a damaged step's folder aside, or a part of it such as its weights, and say why in it."""
        aside = self.root / "quarantine" / f"{key}.{uuid.uuid4().hex[:8]}"
        with self.writing():
            self.shared.withdraw(key, part, why)
            (self.root / CATALOG).unlink(missing_ok=True)  # it may have what is damaged
            part.rename(aside)
            write_text(aside / "why.txt", f"{part.name}: {why}\n")
            (self.folder(key) / NOTE).unlink(missing_ok=True)

    def note(self, key: str, note: Mapping[str, str] | None) -> None:
        """Note for the next run what is damaged in a finished step, by names of files; None where nothing is."""
        path = self.folder(key) / NOTE
        with suppress(OSError, StoreError):  # what cannot be written can be read all the same
            self.shared.note(key, note)
            path.unlink(missing_ok=True) if note is None else write_json(path, note, durable=False)

    def drop_weights(self, key: str) -> None:
        """Remove the weights of a finished step; its scores stay."""
        self.shared.drop_weights(self.folder(key))
        shutil.rmtree(self.folder(key) / WEIGHTS, ignore_errors=True)

    def discard(self, key: str) -> None:
        """Remove what attempts at a finished step left behind."""
        self.shared.discard(key)
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

    def failed(self, key: str, attempt: Path, text: str) -> None:
        """Keep the error that an attempt ended with."""
        write_text(attempt / "error.txt", text)
        self.shared.failed(key, text)

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
            self.shared.record_study(name)

    def study(self, name: str) -> Record | None:
        """What is remembered of a study; None where it has not run in this store."""
        path = self._study(name)
        return records.read(path) if path.exists() else None

    def studies(self) -> dict[str, Record]:
        """The studies run in this store, by name."""
        return {path.stem: records.read(path) for path in sorted(self._study("*").parent.glob("*.json"))}

    def _study(self, name: str) -> Path:
        return self.root / "studies" / f"{name}.json"


def directory_of(place: Path | str) -> Path:
    """The directory of a store, of an address that of its mirror here; raises StoreError where it is no place."""
    return mirror_of(Objects.at(str(place)).url) if ADDRESS.fullmatch(str(place)) else Path(place)


def mirrored(url: str) -> Store:
    """The store in a bucket with this machine's mirror of it, which need not have been looked at yet."""
    objects = Objects.at(url)
    mirror = Mirror(objects, mirror_of(objects.url))
    store = Store(mirror.root, Bucket(mirror))
    with store.writing():
        store._make_folders()
        mirror.make_folders()
    return store
