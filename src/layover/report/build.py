"""Build: one self-contained HTML page from observations, transfer matrices, contrasts and the runs behind them."""

from __future__ import annotations

import base64
import hashlib
import math
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layover.report import figures, tables, words
from layover.report.facts import ReportInputs, RunFacts
from layover.report.forgetting import forgetting_rows
from layover.stats.table import is_degenerate, is_failed, labelled
from layover.stats.transfer import Matrix, Transfer

if TYPE_CHECKING:
    from pandas import DataFrame


def build(inputs: ReportInputs) -> str:
    """The report as HTML that needs no other file and no network."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    package = files("layover.report")
    script = package.joinpath("page.js").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {
        "points": words.points, "score": words.score, "p": words.p_value, "plain": plain, "seconds": seconds,
        "nats": words.nats, "change": words.change,
    }  # fmt: skip
    environment.globals |= {"interval": words.interval, "arrow": words.arrow, "describe": words.describe}
    template = environment.from_string(package.joinpath("page.html.j2").read_text(encoding="utf-8"))
    return template.render(
        inputs=inputs,
        study=inputs.study,
        answer=words.answer(inputs.transfer[0] if inputs.transfer else None),
        views=[_view(number, one) for number, one in enumerate(inputs.transfer)],
        correction=words.CORRECTIONS,
        scores=score_rows(inputs.observations),
        forgotten=forgetting_rows(inputs.observations),
        contrasts=inputs.contrasts,
        runs={run.key: run for run in inputs.runs},
        curves=_curves(inputs.runs),
        limits=limits(inputs),
        troubles=troubles(inputs),
        recipes=recipes(inputs.runs),
        style=Markup(package.joinpath("page.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def write_tables(inputs: ReportInputs, folder: Path) -> list[Path]:
    """Write the tables of a report as CSV and LaTeX into `folder`."""
    return tables.write_tables(inputs, folder)


def write_figures(inputs: ReportInputs, folder: Path) -> list[Path]:
    """Write the figures of a report as SVG, PNG and PDF into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    charts: dict[str, Any] = {}
    for one in inputs.transfer:
        suffix = "-without-degenerate" if one.without_degenerate else ""
        for name, matrix in tables.named(one.matrices):
            charts[f"heatmap-{name}{suffix}"] = figures.heatmap(matrix)
            charts[f"intervals-{name}{suffix}"] = figures.forest(matrix)
    charts |= {"curves-selection": figures.curves(inputs.runs, "selection")}
    charts |= {"curves-loss": figures.curves(inputs.runs, "loss")}
    return [
        path
        for name, chart in charts.items()
        if chart is not None
        for path in figures.write_chart(chart, folder / name)
    ]


def _view(number: int, one: Transfer) -> dict[str, Any]:
    """One set of matrices with their figures: all runs, or without degenerate ones."""
    matrices = [_matrix(f"v{number}m{place}", matrix) for place, matrix in enumerate(one.matrices)]
    return {"without": one.without_degenerate, "transfer": one, "matrices": matrices}


def _matrix(prefix: str, matrix: Matrix) -> dict[str, Any]:
    from markupsafe import Markup

    plot = figures.forest(matrix)
    # vl-convert escapes text in the SVG that it writes; a test holds it to that.
    return {
        "id": prefix,
        "matrix": matrix,
        "title": words.title(matrix),
        "heatmap": Markup(figures.svg(figures.heatmap(matrix), f"{prefix}h")),
        "forest": Markup(figures.svg(plot, f"{prefix}f")) if plot is not None else "",
    }


def _curves(runs: Sequence[RunFacts]) -> list[tuple[str, Any]]:
    from markupsafe import Markup

    drawn = []
    fields: tuple[tuple[str, figures.Field], ...] = (
        ("Score on the selection set", "selection"),
        ("Training loss", "loss"),
    )
    for heading, name in fields:
        chart = figures.curves(runs, name)
        if chart is not None:
            drawn.append((heading, Markup(figures.svg(chart, name))))
    return drawn


def score_rows(observations: DataFrame) -> list[dict[str, Any]]:
    """Scores by encoder, target, strategy and source: mean, sample SD, and the value of each seed; primary metric."""
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)
    for row in labelled(observations).to_dict("records"):
        if row.get("primary", True) in (True, 1) and row.get("split") in ("validation", "", None):
            names = ("encoder", "target", "role", "metric", "strategy", "source")
            groups[tuple(_text(row.get(name)) for name in names)].append(row)
    return [_score_row(group, rows) for group, rows in sorted(groups.items())]


def _score_row(group: tuple[str, ...], rows: list[dict[str, Any]]) -> dict[str, Any]:
    encoder, target, role, metric, strategy, source = group
    rows = sorted(rows, key=lambda row: (row.get("seed", 0), row.get("size") or 0))
    values = [float(row["value"]) for row in rows if _known(row.get("value"))]
    mean = statistics.fmean(values) if values else None
    spread = statistics.stdev(values) if len(values) > 1 else None
    return {
        "encoder": encoder, "target": target, "role": role, "metric": metric, "strategy": strategy, "source": source,
        "mean": mean, "sd": spread, "n": len(values),
        "seeds": [(row.get("seed"), _number(row.get("value")), _text(row.get("status")) or "ok") for row in rows],
    }  # fmt: skip


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
        way = words.arrow(_text(row.get("source")), _text(row.get("target")))
        what = f"{way} · {_text(row.get('strategy'))} · seed {row.get('seed')}"
        found.setdefault((key or what, "table"), _trouble(what, status, ""))
    return sorted(found.values(), key=lambda one: (one["word"], one["what"]))


def _trouble(what: str, status: str, error: str) -> dict[str, str]:
    word, _, reason = status.partition(":")
    return {"what": what, "word": word, "why": reason.strip() or error or "no reason is recorded"}


def plain(value: Any) -> str:
    """A value of plain data as text for a reader."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    if isinstance(value, Mapping):
        nested = any(isinstance(item, (Mapping, list, tuple)) for item in value.values())
        return ("; " if nested else ", ").join(f"{name} {plain(item)}" for name, item in value.items()) or "–"
    if isinstance(value, (list, tuple)):
        nested = any(isinstance(item, Mapping) for item in value)
        return (" · " if nested else ", ").join(plain(item) for item in value) or "–"
    return str(value)


def seconds(value: Any) -> str:
    """A duration: "48 s", "3 min", "1.5 h"."""
    if not _known(value):
        return "–"
    number = float(value)
    if number < 90:
        return f"{number:.0f} s"
    return f"{number / 60:.0f} min" if number < 5400 else f"{number / 3600:.1f} h"


def _text(value: Any) -> str:
    return "" if value is None or value != value else str(value)


def _known(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _number(value: Any) -> float | None:
    return float(value) if _known(value) else None
