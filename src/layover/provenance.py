"""Provenance: with what an attempt at a step was made. Recorded, and part of no key."""

from __future__ import annotations

import platform
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from layover import identity
from layover.files import digest


def provenance_now() -> dict[str, Any]:
    """Library versions, the code that trains, and the kind of machine: recorded with every attempt."""
    packages = ("layover", "torch", "transformers", "tokenizers", "numpy")
    return {
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in packages}},
        "source": source_fingerprint(),
        "machine": f"{platform.system()} {platform.machine()}",
    }


@lru_cache
def _version(package: str) -> str:
    try:
        return version(package)
    except ModuleNotFoundError:  # PackageNotFoundError: run from a source tree
        return "source"


@lru_cache
def source_fingerprint() -> str:
    """A digest of the code that trains: recorded, so that drift can be shown; nothing re-runs because of it."""
    files = sorted((Path(__file__).parent / "train").glob("*.py"))
    return identity.key("source", {file.name: digest(file) for file in files})
