"""Build: one self-contained HTML page from observations, transfer matrices, contrasts and the runs behind them."""

from __future__ import annotations

import base64
import hashlib
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layover.report import figures, tables, words
from layover.stats.contrast import Contrast
from layover.stats.table import is_degenerate, is_failed
from layover.stats.transfer import Matrix, Transfer

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True)
class ReportInputs:
    """Everything that a report shows, as plain data; whatever is missing is shown as missing.

    `transfer` holds the matrices with all runs first and, where there are any degenerate ones, without these second.
    `runs` holds one mapping for each step: key, label, kind, task, seed, start, lineage, recipe, status, seconds,
    n_train, n_selection, n_validation, truncated, curve (epoch, step, loss, selection), chosen, error.
    `tasks`: name, about, source, primary, metrics, n_train, n_validation, chance, majority.
    """

    study: dict[str, Any]
    observations: DataFrame
    transfer: Sequence[Transfer] = ()
    contrasts: Sequence[Contrast] = ()
    runs: Sequence[dict[str, Any]] = ()
    provenance: dict[str, Any] = field(default_factory=dict)
    tasks: Sequence[dict[str, Any]] = ()
    generated: str = ""


def build(inputs: ReportInputs) -> str:
    """The report as HTML that needs no other file and no network."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    package = files("layover.report")
    script = package.joinpath("page.js").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {
        "points": words.points, "score": words.score, "p": words.p_value, "plain": plain, "seconds": seconds,
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
        contrasts=inputs.contrasts,
        runs=[_run(run) for run in inputs.runs],
        known={run.get("key") for run in inputs.runs},
        lineages={run.get("key"): lineage(run) for run in inputs.runs},
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


def _curves(runs: Sequence[dict[str, Any]]) -> list[tuple[str, Any]]:
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
    for row in observations.to_dict("records"):
        if row.get("primary", True) in (True, 1) and row.get("split") in ("validation", "", None):
            names = ("encoder", "target", "role", "metric", "strategy", "source")
            groups[tuple(_text(row.get(name)) for name in names)].append(row)
    return [_score_row(group, rows) for group, rows in sorted(groups.items())]


def _score_row(group: tuple[str, ...], rows: list[dict[str, Any]]) -> dict[str, Any]:
    encoder, target, role, metric, strategy, source = group
    rows = sorted(rows, key=lambda row: (row.get("seed", 0), row.get("size") or 0))
    values = [float(row["value"]) for row in rows if _known(row.get("value"))]
    mean = math.fsum(values) / len(values) if values else None
    spread = math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1)) if mean and len(values) > 1 else None
    return {
        "encoder": encoder, "target": target, "role": role, "metric": metric, "strategy": strategy, "source": source,
        "mean": mean, "sd": spread, "n": len(values),
        "seeds": [(row.get("seed"), _number(row.get("value")), _text(row.get("status")) or "ok") for row in rows],
    }  # fmt: skip


def _run(run: Mapping[str, Any]) -> dict[str, Any]:
    names = (
        "key", "label", "kind", "task", "seed", "start", "status", "seconds", "n_train", "n_selection", "n_validation",
        "truncated", "chosen", "error",
    )  # fmt: skip
    return {name: run.get(name) for name in names} | {"lineage": lineage(run)}


def lineage(run: Mapping[str, Any]) -> str:
    """How a run came about: "minilm → mnli → rte · seed 1"."""
    way = " → ".join(str(name) for name in run.get("lineage") or [run.get("label") or run.get("task") or "?"])
    return way if run.get("seed") is None else f"{way} · seed {run['seed']}"


def recipes(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What all runs' recipes share, and for each other setting the tasks that use each value."""
    settings: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    with_recipe = [run for run in runs if run.get("recipe")]
    for run in with_recipe:
        for name, value in run["recipe"].items():
            settings[name][plain(value)].add(str(run.get("task") or run.get("label") or "?"))
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
    }
    found = [said[inputs.study["selection"]]] if inputs.study.get("selection") in said else []
    whole = {task.get("name"): task for task in inputs.tasks}
    for name, word in (("n_train", "training"), ("n_validation", "validation")):
        cut = {_shortened(run, whole, name) for run in inputs.runs} - {""}
        found += [f"Only a part of the {word} examples was used: {'; '.join(sorted(cut))}."] if cut else []
    shares: dict[str, float] = defaultdict(float)
    for run in inputs.runs:
        if _known(run.get("truncated")):
            shares[str(run.get("task"))] = max(shares[str(run.get("task"))], float(run["truncated"]))
    long = [f"{task} {100 * share:.1f}%" for task, share in sorted(shares.items()) if share > 0]
    found += [f"Inputs that did not fit and were cut: {', '.join(long)}."] if long else []
    if not any(task.get("n_validation") for task in inputs.tasks) and not found:
        return ["Nothing is recorded about limits or about the split that selected."]
    return found


def _shortened(run: Mapping[str, Any], whole: Mapping[Any, Mapping[str, Any]], name: str) -> str:
    used, of = run.get(name), whole.get(run.get("task"), {}).get(name)
    held_out = (run.get("n_selection") or 0) if name == "n_train" else 0
    if not _known(used) or not _known(of) or used is None or of is None or used + held_out >= of:
        return ""
    return f"{run.get('task')} {used:,} of {of:,}"


def troubles(inputs: ReportInputs) -> list[dict[str, str]]:
    """Runs that failed, are missing, or collapsed: what, and why."""
    found: dict[tuple[str, str], dict[str, str]] = {}
    for run in inputs.runs:
        status = _text(run.get("status"))
        if is_failed(status) or is_degenerate(status) or status in ("missing", "blocked"):
            what = lineage(run)
            found[_text(run.get("key")) or what, ""] = _trouble(what, status, _text(run.get("error")))
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
