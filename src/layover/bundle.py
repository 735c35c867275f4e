"""Bundles: finished steps and studies of a store in one file, for another machine, a colleague, a paper's archive.

A bundle is a zip file: `layover-bundle.json`, the index, says which files there are, how large and with which digests;
the files follow as `steps/<key>/...`. What comes from elsewhere is believed in nothing: every name, size, digest and
key is checked before a single file is written, and steps are published one by one, like those that ran here.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import stat
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from layover import identity, records
from layover.errors import LayoverError, Problem, StoreError, UserError, raise_all
from layover.files import digest, inside
from layover.integrity import OWN, WEIGHTS
from layover.step import from_json, key_of
from layover.store import Store

FORMAT, INDEX = 1, "layover-bundle.json"
INDEX_BYTES = 1 << 30  # of the index at most: a plan of 100,000 steps takes a quarter
PIECE = 1 << 20
STUDY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")  # what a study may be called
KEY = re.compile(rf"[0-9a-f]{{{identity.KEY_LENGTH}}}")
DIGEST = re.compile(r"[0-9a-f]{64}")
WHEN = (1980, 1, 1, 0, 0, 0)  # of every file: the same steps make the same bundle


@dataclass(frozen=True)
class Index:
    """What a bundle holds: of each step its files with sizes and digests, and records of studies by name."""

    steps: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    studies: dict[str, Any] = field(default_factory=dict)

    def members(self) -> Iterator[tuple[str, str, str]]:
        """The key, the name in the step's folder, and the name in the bundle of every file."""
        for key, files in self.steps.items():
            for name in files:
                yield key, name, f"steps/{key}/{name}"


def pack(store: Store, file: Path, studies: Iterable[str] = (), weights: bool = False) -> Index:
    """Write the finished steps of some studies, or of all that the store has, into a new file, with weights if asked.

    Raises UserError where a study was never run here, or the file exists.
    """
    recorded = {name: record.words() for name, record in store.studies().items()}
    unknown = [name for name in studies if name not in recorded]
    hint = f"studies: {', '.join(recorded) or 'none'}"
    raise_all(UserError, [Problem(name, f"no study of this name has run in {store.place}", hint) for name in unknown])
    if file.exists():
        raise UserError(Problem(str(file), "exists, and nothing is overwritten", "name a new file"))
    chosen = {name: recorded[name] for name in studies} or recorded
    wanted = {key for record in chosen.values() for key in record["steps"]} if studies else None
    keys = [key for key in store.finished_keys() if wanted is None or key in wanted]
    index = Index({key: dict(_described(store, key, weights)) for key in keys}, chosen)
    partial = file.with_name(f".{file.name}.partial")
    try:
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
            content = {"bundle": FORMAT, "scheme": identity.SCHEME, "steps": index.steps, "studies": index.studies}
            archive.writestr(zipfile.ZipInfo(INDEX, WHEN), json.dumps(content, sort_keys=True))
            for key, name, member in index.members():
                with (
                    (store.folder(key) / name).open("rb") as source,
                    archive.open(zipfile.ZipInfo(member, WHEN), "w") as to,
                ):
                    shutil.copyfileobj(source, to, PIECE)
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)
    return index


def unpack(store: Store, file: Path) -> tuple[list[str], list[str]]:
    """Publish the steps of a bundle in a store; the keys of those that are new here, and of those that it had before.

    A step that was here without weights, and has them in the bundle, counts as new: its scores stay. A study that has
    run here keeps its record. Raises StoreError with everything that is wrong with the bundle; nothing of it is in the
    store then.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            index = _checked(archive, str(file))
            new = [key for key, files in index.steps.items() if not store.holds(key, _has_weights(files))]
            for key in new:
                _publish(store, archive, key, index.steps[key])
    except (OSError, zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        message = f"cannot be read as a bundle: {type(error).__name__}: {error}"
        raise StoreError(Problem(str(file), message, "ask for it once more: `layover store pack` makes one")) from error
    known = store.studies()
    for name, record in index.studies.items():
        if name not in known:
            steps = {key: from_json(step) for key, step in record["steps"].items()}
            store.record_study(name, **{**record, "steps": steps})
    return new, [key for key in index.steps if key not in set(new)]


def _has_weights(files: Mapping[str, Any]) -> bool:
    return any(name.startswith(f"{WEIGHTS}/") for name in files)


def _described(store: Store, key: str, weights: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    folder = store.fetched(key)
    if weights:
        store.weights(key)
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        own = name.name in OWN  # written anew where it is unpacked
        if path.is_file() and not own and (weights or name.parts[0] != WEIGHTS):
            yield name.as_posix(), {"bytes": path.stat().st_size, "sha256": digest(path)}


def _checked(archive: zipfile.ZipFile, place: str) -> Index:
    """The index of a bundle that is what it says, to the last byte; raises StoreError otherwise."""
    index = _index(archive, place)
    there = archive.infolist()
    named = {member: (key, name) for key, name, member in index.members()}
    listed = [info.filename for info in there]
    problems = [
        Problem(f"{place}: {name!r:.120}", "is not in the index") for name in sorted({*listed} - {*named, INDEX})
    ]
    problems += [
        Problem(f"{place}: {name!r:.120}", "is there twice") for name, times in Counter(listed).items() if times > 1
    ]
    infos = {info.filename: info for info in there}
    for member, (key, name) in named.items():
        where, about = f"{place}: {member}", index.steps[key][name]
        if member not in infos:
            problems.append(Problem(where, "is in the index, and not in the bundle"))
        elif stat.S_IFMT(infos[member].external_attr >> 16) not in (0, stat.S_IFREG):
            problems.append(Problem(where, "is no plain file"))
        elif infos[member].file_size != about["bytes"]:
            problems.append(Problem(where, f"has {infos[member].file_size} bytes, the index says {about['bytes']}"))
        elif _digest(archive, infos[member]) != about["sha256"]:
            problems.append(Problem(where, "is not what the index says: its digest is another"))
    if not problems:
        problems += [problem for key in index.steps if (problem := _wrong_step(archive, key, place))]
    raise_all(StoreError, problems)
    return index


def _index(archive: zipfile.ZipFile, place: str) -> Index:
    hint = "`layover store pack` makes a bundle"
    try:
        info = archive.getinfo(INDEX)
        if info.file_size > INDEX_BYTES:
            raise StoreError(Problem(place, f"its index has {info.file_size:,} bytes", hint))
        content = json.loads(archive.read(info))
        written = int(content["bundle"]), int(content["scheme"])
        steps, studies = dict(content["steps"]), dict(content["studies"])
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise StoreError(Problem(place, f"is not a bundle of layover: {type(error).__name__}: {error}", hint)) from None
    if written > (FORMAT, identity.SCHEME):
        raise StoreError(Problem(place, "was written by a newer layover", "pip install --upgrade layover"))
    problems = [
        Problem(f"{place}: {key!r:.120}", "is not the key of a step") for key in steps if not KEY.fullmatch(key)
    ]
    for key, files in steps.items():
        problems += _wrong_files(f"{place}: {key:.40}", files)
    problems += [
        Problem(f"{place}: {name!r:.120}", "is not a study's name and record")
        for name, record in studies.items()
        if not STUDY.fullmatch(name) or not _is_record(record)
    ]
    raise_all(StoreError, problems)
    return Index(steps, studies)


def _wrong_files(place: str, files: Any) -> list[Problem]:
    if not isinstance(files, Mapping) or "step.json" not in files:
        return [Problem(place, "has no step.json")]
    problems = [
        Problem(f"{place}: {name!r:.120}", "would lead out of the step's folder") for name in files if not inside(name)
    ]
    return problems + [
        Problem(f"{place}: {name!r:.120}", "has no size or no digest")
        for name, about in files.items()
        if not isinstance(about, Mapping)
        or type(about.get("bytes")) is not int
        or not DIGEST.fullmatch(str(about.get("sha256")))
    ]


def _is_record(record: Any) -> bool:
    """Whether this is what a store says about a study; what its words mean is checked where they are used."""
    if not isinstance(record, Mapping):
        return False
    kinds = {"study": dict, "data": list, "labels": dict, "steps": dict, "cells": list}
    if not all(isinstance(record.get(name), kind) for name, kind in kinds.items()):
        return False
    keys = record["labels"].keys() == record["steps"].keys() and all(map(KEY.fullmatch, record["steps"]))
    try:
        records.table_of(record["cells"])
        keys = keys and all(isinstance(label, str) for label in record["labels"].values())
        return keys and all(key_of(from_json(step)) == key for key, step in record["steps"].items())
    except (LayoverError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _digest(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> str:
    """The digest of a member, of which no more is read than it says it has."""
    found, left = hashlib.sha256(), info.file_size
    with archive.open(info) as source:
        while left >= 0 and (piece := source.read(PIECE)):
            found.update(piece)
            left -= len(piece)
    return found.hexdigest()


def _wrong_step(archive: zipfile.ZipFile, key: str, place: str) -> Problem | None:
    try:
        own = key_of(from_json(json.loads(archive.read(f"steps/{key}/step.json"))))
    except (LayoverError, ValueError, KeyError, TypeError, AttributeError) as error:
        return Problem(f"{place}: {key}", f"its step cannot be read: {type(error).__name__}: {error}")
    return None if own == key else Problem(f"{place}: {key}", f"holds the step {own}")


def _publish(store: Store, archive: zipfile.ZipFile, key: str, files: Mapping[str, Any]) -> None:
    with store.writing():
        attempt = store.attempt(key)
        for name in files:
            target = attempt / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(f"steps/{key}/{name}") as source, target.open("wb") as to:
                shutil.copyfileobj(source, to, PIECE)
        store.publish(from_json(json.loads((attempt / "step.json").read_text(encoding="utf-8"))), attempt)
