"""Merge: one encoder made of several trained ones, for a later step to start from."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

from layover.files import write_jsonl
from layover.kinds.common import Report, location_of, weights_of, write_facts
from layover.places import Places
from layover.step import Merge
from layover.store import Store


def merge(step: Merge, store: Store, places: Places, attempt: Path, keep: bool, report: Report) -> None:
    """Merge the encoders of the steps that it is made of; there is no head, and nothing is scored."""
    from layover.train import merging

    started = time.monotonic()
    folders = [path for key in step.of if (path := weights_of(key, store))]
    location, folder = location_of(step.encoder, places), attempt / "weights" if keep else None
    found = merging.write_merged(location, folders, step.method, step.scale, step.density, folder)
    write_jsonl(attempt / "observations.jsonl", [], durable=False)
    trained_on = [store.read(key, "provenance.json").get("examples", {}).get("train") for key in step.of]
    facts = {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(time.monotonic() - started, 3),
        "examples": {"train": sum(n for n in trained_on if n)},
        **found,
    }
    write_facts(attempt, facts)
