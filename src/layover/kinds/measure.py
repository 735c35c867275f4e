"""Measure: what a checkpoint forgot of the plain encoder, on a text's validation set."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

from layover.files import write_jsonl
from layover.kinds.common import Report, data_of, location_of, weights_of, write_facts
from layover.places import Places
from layover.step import Measure
from layover.store import Store


def measure(step: Measure, store: Store, places: Places, attempt: Path, keep: bool, report: Report) -> None:
    """Write one row per measure; distances as they are, and not in per cent, are among the facts."""
    from layover.train import forgetting

    started, cpu = time.monotonic(), time.process_time()
    data, location = data_of(step.text, store, places), location_of(step.encoder, places)
    start, head = weights_of(step.start, store), weights_of(step.head, store)
    found = forgetting.measure(data, location, start, head, step.max_length, places)
    rows = [
        {"split": "validation", "metric": name, "value": value, "primary": name == "mlm_loss_rise", "status": "ok"}
        for name, value in found.metrics().items()
    ]
    write_jsonl(attempt / "observations.jsonl", rows, durable=False)
    facts = {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(time.monotonic() - started, 3),
        "cpu_seconds": round(time.process_time() - cpu, 3),
        "examples": {"train": 0, "validation": found.examples},
        "available": {"validation": data.validation.n_total},
        "truncated": {"validation": found.truncated},
        "max_length": found.max_length,
        "hidden": found.hidden,
        "tokens": found.tokens,
        "layers": found.layers,
        "distances": found.moved,
        "norms": found.norms,
        "device": found.device,
    }
    write_facts(attempt, facts)
