"""Disk: room for what a store writes, and what is said where there is none."""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from layover.errors import Problem, StoreError

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
PROBE_BYTES = 1 << 20


@contextmanager
def writing(root: Path) -> Iterator[None]:
    """Turn a full or read-only disk under a store's directory into a StoreError; finished steps are not touched."""
    try:
        yield
    except OSError as error:
        if error.errno not in (*NO_ROOM, errno.EACCES, errno.EPERM):
            raise
        reason = "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "cannot be written"
        raise StoreError(
            Problem(str(root), f"{reason} ({os.strerror(error.errno)})",
                    "free some space or name another store with --store, then run the same command again: "
                    "finished steps are kept")
        ) from error  # fmt: skip


def check_room(root: Path, need: int) -> None:
    """Raise StoreError where a store's disk is read-only or holds fewer than `need` more bytes."""
    with writing(root):
        probe = root / "work" / f"probe.{uuid.uuid4().hex[:8]}"
        probe.parent.mkdir(exist_ok=True)
        try:
            probe.write_bytes(os.urandom(PROBE_BYTES))
        finally:
            probe.unlink(missing_ok=True)
    free = shutil.disk_usage(root).free
    if free < need:
        raise StoreError(
            Problem(str(root), f"has {free / 1e9:.2f} GB free; this study needs about {need / 1e9:.2f} GB",
                    "free some space, name another disk with --store, or run `layover store gc`")
        )  # fmt: skip
