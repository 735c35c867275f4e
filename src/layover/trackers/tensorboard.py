"""TensorBoard: a folder per run with one file of events, which `tensorboard --logdir` shows."""

from __future__ import annotations

import re
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from layover.files import read_json, write_json
from layover.trackers.tracker import Run

NOTE = "layover.json"  # in a run's folder: what it is


@dataclass(frozen=True)
class TensorBoard:
    """The folder OUT/STUDY, and in it one of each run, which is there whole or not at all."""

    folder: Path
    kind: ClassVar[str] = "tensorboard"
    package: ClassVar[str] = "tensorboard"

    @classmethod
    def at(cls, study: str, out: Path) -> TensorBoard:
        """The folder of a study's runs."""
        return cls(out / study)

    @property
    def place(self) -> str:
        """Where it is."""
        return str(self.folder)

    def sent(self) -> set[str]:
        """The keys of the runs that have a folder."""
        return {read_json(note)["key"] for note in self.folder.glob(f"[!.]*/{NOTE}")}

    def send(self, run: Run) -> None:
        """Write a run's folder beside its place and give it its name."""
        name = re.sub(r"[^\w.=+-]+", "_", run.label).strip("_")[:80]
        made, folder = self.folder / f".{uuid.uuid4().hex[:8]}", self.folder / f"{name}.{run.key[:12]}"
        made.mkdir(parents=True)
        try:
            _write(made, run)
            write_json(made / NOTE, {"key": run.key, "label": run.label, "params": run.params, "tags": run.tags})
            shutil.rmtree(folder, ignore_errors=True)
            made.rename(folder)
        finally:
            shutil.rmtree(made, ignore_errors=True)


def _write(folder: Path, run: Run) -> None:
    from tensorboard.compat.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]
    from tensorboard.compat.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]
    from tensorboard.plugins.hparams.summary_v2 import hparams_pb
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    writer = EventFileWriter(str(folder))

    def add(summary: Any, step: int = 0) -> None:
        writer.add_event(Event(wall_time=run.ended, step=step, summary=summary))

    def numbers(found: dict[str, float]) -> Any:
        return Summary(value=[Summary.Value(tag=name, simple_value=value) for name, value in found.items()])

    add(hparams_pb({**run.params, **run.tags}, trial_id=run.key, start_time_secs=run.ended))
    for step, point in run.curve:
        add(numbers(dict(point)), step)
    add(numbers(dict(run.scores)), run.last_step)
    writer.close()
