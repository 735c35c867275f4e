"""Integrity: a manifest of the files of a folder, with their sizes and digests, and what has become of them since.

A step's folder has one of its results, and one of its weights inside their own folder, which come and go apart.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from layover.files import digest, read_json, write_json

MANIFEST = "manifest.json"
CATALOG = "catalog.arrow"  # of a store: what is asked of its finished steps (see `layover.catalog`)
WEIGHTS = "weights"
NOTE = "damaged.json"  # where `layover store verify` notes what it found, for the next run to mend
OWN = (MANIFEST, NOTE)


def seal(folder: Path) -> None:
    """Write the manifest of a folder that is complete, and that of the weights in it."""
    for part in (folder, folder / WEIGHTS):
        if part.is_dir():
            files = {name: {"bytes": path.stat().st_size, "sha256": digest(path)} for name, path in _files(part)}
            write_json(part / MANIFEST, {"files": files}, durable=False)


def damage(part: Path) -> list[tuple[Path, str]]:
    """What is wrong with the files of a part, a step's folder or its weights: every byte is read.

    Nothing where it has no manifest: an older layover wrote none.
    """
    unread, listed = _listed(part)
    return unread + [(part / name, what) for name, about in listed.items() if (what := wrong(part / name, about))]


def changed(part: Path, name: str) -> str:
    """What is wrong with one file of a part, "" where nothing is, or where no manifest lists it."""
    _, listed = _listed(part)
    return wrong(part / name, listed[name]) if name in listed else ""


def suspect(folder: Path) -> bool:
    """Whether files of a step's folder may have changed since they were published, by their sizes and times alone.

    A disk that lost a bit without being told is not found out this way.
    """
    manifest = folder / MANIFEST
    try:
        if (folder / NOTE).exists():
            return True
        published = manifest.stat().st_mtime_ns
        listed: dict[str, Any] = read_json(manifest)["files"]
        stats = ((about["bytes"], os.stat(folder / name)) for name, about in listed.items())
        return any(stat.st_size != size or stat.st_mtime_ns > published for size, stat in stats)
    except FileNotFoundError:
        return manifest.exists()  # it lists a file that is missing; without one, an older layover wrote this
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return True


def wrong(path: Path, about: Mapping[str, Any]) -> str:
    """What is wrong with a file of which a manifest says this; "" where nothing is."""
    if not path.is_file():
        return "is missing"
    if path.stat().st_size != about.get("bytes"):
        return f"has {path.stat().st_size} bytes, and had {about.get('bytes')}"
    return "" if digest(path) == about.get("sha256") else "has changed since it was written"


def _listed(part: Path) -> tuple[list[tuple[Path, str]], dict[str, Any]]:
    path = part / MANIFEST
    if not path.exists():
        return [], {}
    try:
        files = read_json(path)["files"]
        return [], {name: dict(about) for name, about in files.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return [(path, f"cannot be read: {type(error).__name__}: {error}")], {}


def _files(part: Path) -> Iterator[tuple[str, Path]]:
    """The files of a part by their names in it; weights inside a step's folder are a part of their own."""
    for path in sorted(part.rglob("*")):
        name = path.relative_to(part)
        if path.is_file() and name.parts[0] != WEIGHTS and name.as_posix() not in OWN:
            yield name.as_posix(), path
