"""W&B: a project per study, as WANDB_PROJECT, WANDB_ENTITY, WANDB_MODE and wandb's other variables say."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from layover.files import read_jsonl
from layover.trackers.tracker import Run, TrackerError

NOTE = "layover-sent.jsonl"  # in OUT: which runs went where, since a run that is offline is nowhere to be asked for


@dataclass(frozen=True)
class WandB:
    """A project; wandb's own files are in the folder `out`."""

    project: str
    out: Path
    kind: ClassVar[str] = "wandb"
    package: ClassVar[str] = "wandb"

    @classmethod
    def at(cls, study: str, out: Path) -> WandB:
        """The project called like the study, where WANDB_PROJECT says nothing else."""
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # nothing about a study goes anywhere else
        out.mkdir(parents=True, exist_ok=True)
        return cls(os.environ.get("WANDB_PROJECT") or study, out)

    @property
    def place(self) -> str:
        """Server or "offline", entity and project."""
        offline = os.environ.get("WANDB_MODE") == "offline"
        server = "offline" if offline else os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")
        return "/".join(filter(None, (server, os.environ.get("WANDB_ENTITY"), self.project)))

    def sent(self) -> set[str]:
        """The keys of the runs that went there from this folder."""
        note = self.out / NOTE
        return {row["key"] for row in (read_jsonl(note) if note.is_file() else []) if row["to"] == self.place}

    def send(self, run: Run) -> None:
        """Send a run under its key as id: a run that was sent elsewhere already is gone on with, not doubled."""
        import wandb
        from wandb.errors import Error

        quiet = wandb.Settings(
            silent=True, console="off", disable_git=True, disable_code=True, x_disable_stats=True, x_disable_meta=True,
            x_disable_machine_info=True,
        )  # fmt: skip
        try:
            made = wandb.init(
                project=self.project, id=run.key, name=run.label[:128], dir=str(self.out), resume="allow",
                config={**run.params, **run.tags}, settings=quiet,
            )  # fmt: skip
            for step, point in run.curve:
                made.log(dict(point), step=step)
            made.summary.update(dict(run.scores))
            made.finish()
        except Error as error:
            hint = "log in with `wandb login`, or set WANDB_MODE=offline and send later with `wandb sync`"
            raise TrackerError(f"W&B: {error} ({hint})") from error
        with (self.out / NOTE).open("a", encoding="utf-8") as note:
            note.write(json.dumps({"key": run.key, "to": self.place}) + "\n")
