"""Choose: the best cell of a sweep."""

from __future__ import annotations

from pathlib import Path

from layover.errors import StepError
from layover.files import write_json, write_jsonl
from layover.kinds.common import Report
from layover.places import Places
from layover.provenance import provenance_now
from layover.step import Choose
from layover.store import Store


def choose(step: Choose, store: Store, places: Places, attempt: Path, keep: bool, report: Report) -> None:
    """Write the swept fields of the best cell: highest selection score among the runs that did not collapse."""
    tried = []
    for key in step.of:
        recipe = store.read(key, "step.json")["step"]["recipe"]
        scores = [row for row in store.read(key, "observations.jsonl") if row["split"] == "selection"]
        if not scores:
            raise StepError(f"step {key} has no selection score: a sweep needs checkpoint = 'best' or a patience")
        fields = {name: recipe[name] for name in step.fields}
        tried.append({"key": key, "recipe": fields, "score": scores[0]["value"], "status": scores[0]["status"]})
    best = max(tried, key=lambda cell: (cell["status"] == "ok", cell["score"]))  # max keeps the first of equals
    write_json(attempt / "choice.json", {"chosen": best["recipe"], "key": best["key"], "tried": tried}, durable=False)
    write_jsonl(attempt / "observations.jsonl", [], durable=False)
    write_json(attempt / "provenance.json", {**provenance_now(), "seconds": 0.0}, durable=False)
