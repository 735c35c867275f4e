"""Devices: the GPUs of this machine, found without torch, whose import takes seconds and holds on to them."""

from __future__ import annotations

import os
import shutil
import subprocess

SECONDS = 20.0


def visible() -> list[str]:
    """The GPUs that a process started here may use, as CUDA_VISIBLE_DEVICES names them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [part.strip() for part in named.split(",") if part.strip() not in ("", "-1", "NoDevFiles")]
    command = shutil.which("nvidia-smi")
    if command is None:
        return []
    try:
        told = subprocess.run(
            [command, "--query-gpu=index", "--format=csv,noheader"],
            capture_output=True, text=True, timeout=SECONDS, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in told.stdout.splitlines() if line.strip().isdigit()]


def shares(slots: int, gpus: list[str], each: int = 1) -> list[str]:
    """What CUDA_VISIBLE_DEVICES is in each of so many processes, of `each` GPUs, dealt out in turn.

    >>> shares(3, ["0", "1"])
    ['0', '1', '0']
    >>> shares(2, ["0", "1", "2", "3"], 2)
    ['0,1', '2,3']
    """
    groups = [",".join(gpus[i : i + each]) for i in range(0, len(gpus) - each + 1, each)]
    return [groups[i % len(groups)] for i in range(slots)] if groups else [""] * slots
