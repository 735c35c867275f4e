"""Member: one task of a joint training, as a step of its own."""

from __future__ import annotations

import shutil
from pathlib import Path

from layover.errors import StepError
from layover.files import read_json, read_jsonl
from layover.kinds.common import Report, weights_of, write_facts
from layover.places import Places
from layover.step import Joint, Member
from layover.store import Store

FILES = ("observations.jsonl", "predictions.parquet", "curve.jsonl")


def member(step: Member, store: Store, places: Places, attempt: Path, keep: bool, report: Report) -> None:
    """Copy what a joint training found out about a task, and its best weights if they are to be kept."""
    of = store.step(step.of)
    names = [ref.name for ref in of.tasks] if isinstance(of, Joint) else []
    if step.task.name not in names:
        raise StepError(f"step {step.of} did not train on {step.task.name}, but on: {', '.join(names) or 'no tasks'}")
    number = str(names.index(step.task.name))
    folder = store.fetched(step.of) / "tasks" / number
    for name in FILES:
        shutil.copyfile(folder / name, attempt / name)
    if keep:
        weights = weights_of(step.of, store)
        assert weights is not None
        shutil.copytree(weights / number, attempt / "weights")
    facts = {name: value for name, value in read_json(folder / "facts.json").items() if name != "task"}
    write_facts(attempt, {"seconds": 0.0, **facts}, read_jsonl(attempt / "curve.jsonl"))
