"""Limits: what a reader has to know of how scores came about: recipes, data left out, and runs that went wrong."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from layover.report.facts import ReportInputs, RunFacts
from layover.report.words import arrow, plain
from layover.stats.table import is_degenerate, is_failed


def recipes(runs: Sequence[RunFacts]) -> dict[str, Any]:
    """What all runs' recipes share, and for each other setting the tasks that use each value."""
    settings: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for run in runs:
        for name, value in run.recipe.items():
            settings[name][plain(value)].add(run.task)
    shared = {name: next(iter(values)) for name, values in settings.items() if len(values) == 1}
    varied = {
        name: {value: sorted(tasks) for value, tasks in sorted(values.items())}
        for name, values in settings.items()
        if len(values) > 1
    }
    return {"shared": shared, "varied": varied}


def limits(inputs: ReportInputs) -> list[str]:
    """In plain words: which split selected, what was cut short, and where inputs did not fit."""
    said = {
        "holdout": "The best epoch of each run was chosen on a part of the training data that was held out; "
        "scores are on the validation set, which chose nothing.",
        "validation": "The best epoch of each run was chosen on the validation set, on which scores are reported too, "
        "as the papers did; such scores are a little too high, in all arms alike.",
        "none": "No epoch was chosen: every run ended with its last weights, and scores are on the validation set.",
    }
    selected = [run.n_selection > 0 for run in inputs.runs if run.n_selection is not None]
    way = inputs.study.get("selection") if any(selected) or not selected else "none"
    found = [said[way]] if way in said else []
    holds_out = inputs.study.get("selection") != "validation"
    used = {
        "training": [(run, run.n_train, (run.n_selection or 0) * holds_out, "train") for run in inputs.runs],
        "validation": [(run, run.n_validation, 0, "validation") for run in inputs.runs],
    }
    for word, counted in used.items():
        cut = {
            f"{run.task} {n:,} of {run.available[split]:,}"
            for run, n, beside, split in counted
            if n is not None and split in run.available and n + beside < run.available[split]
        }
        found += [f"Only a part of the {word} examples was used: {'; '.join(sorted(cut))}."] if cut else []
    long, lost = (_largest(inputs, shares) for shares in ("truncated", "lost"))
    found += [f"Inputs that did not fit and were cut: {long}."] if long else []
    found += (
        [f"What is asked about text that was cut off is not trained on, and counts as wrong: {lost}."] if lost else []
    )
    if not any(task.n_validation for task in inputs.tasks) and not found:
        return ["Nothing is recorded about limits or about the split that selected."]
    return found


def _largest(inputs: ReportInputs, shares: str) -> str:
    """Of every task the largest share in its runs and splits, in words, where there is one."""
    found: dict[str, float] = defaultdict(float)
    for run in inputs.runs:
        found[run.task] = max(found[run.task], *getattr(run, shares).values(), 0.0)
    return ", ".join(f"{task} {100 * share:.1f}%" for task, share in sorted(found.items()) if share > 0)


def troubles(inputs: ReportInputs) -> list[dict[str, str]]:
    """Runs that failed, are missing, or collapsed: what, and why."""
    found: dict[tuple[str, str], dict[str, str]] = {}
    for run in inputs.runs:
        if is_failed(run.status) or is_degenerate(run.status) or run.status in ("missing", "blocked"):
            found[run.key, ""] = _trouble(run.way, run.status, run.error)
    for row in inputs.observations.to_dict("records"):
        status, key = _text(row.get("status")), _text(row.get("key"))
        if status in ("", "ok") or (key, "") in found:
            continue
        way = arrow(_text(row.get("source")), _text(row.get("target")))
        what = f"{way} · {_text(row.get('strategy'))} · seed {row.get('seed')}"
        found.setdefault((key or what, "table"), _trouble(what, status, ""))
    return sorted(found.values(), key=lambda one: (one["word"], one["what"]))


def _trouble(what: str, status: str, error: str) -> dict[str, str]:
    word, _, reason = status.partition(":")
    return {"what": what, "word": word, "why": reason.strip() or error or "no reason is recorded"}


def _text(value: Any) -> str:
    return "" if value is None or value != value else str(value)
