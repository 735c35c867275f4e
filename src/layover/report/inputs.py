"""Inputs: what the report is computed from, gathered from a plan and its store."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from layover import observations
from layover.explain import Decision, decide
from layover.plan import Plan
from layover.report.analyses import Analyses, analyses_of
from layover.report.facts import ReportInputs, RunFacts, TaskFacts
from layover.report.flips import flips_of
from layover.report.wording import wording
from layover.stats.contrast import Contrast, contrast
from layover.stats.table import is_degenerate
from layover.stats.transfer import Transfer, transfer
from layover.step import Choose, Joint, Measure, Member, Merge, Probe, Recipe, Train
from layover.store import Store

if TYPE_CHECKING:
    from pandas import DataFrame

    from layover.stats.paired import Lookup

KEPT_PREDICTIONS = 128  # predictions that are texts may take some megabytes each


def inputs_of(plan: Plan, store: Store, examples: int = 0) -> ReportInputs:
    """Everything that the report shows, whatever part of the study is finished.

    Of each cell's examples that flipped, `examples` are shown with their text; it is read from the study's data.
    """
    table = observations.frame(observations.collect(plan, store))
    predictions = lru_cache(KEPT_PREDICTIONS)(store.predictions)  # each direct run is paired with every source
    runs = [_run(plan, store, decision) for decision in decide(plan, store)]
    transfers = _transfers(plan, table, predictions)
    return ReportInputs(
        study=_study(plan),
        observations=table,
        transfer=transfers,
        contrasts=_contrasts(plan, table, predictions),
        runs=runs,
        provenance=_provenance(plan, store),
        tasks=[_task(plan, runs, name) for name in plan.tasks],
        generated=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        flips=flips_of(transfers, predictions, wording(plan, store, with_texts=examples > 0), examples),
        requested=plan.requested,
        analyses=_analyses(plan, table, predictions),
    )


def _transfers(plan: Plan, table: DataFrame, predictions: Lookup) -> list[Transfer]:
    """The transfer matrices with all runs, and, where some are degenerate, without those; none without a baseline."""
    against = plan.baseline()
    if against is None or len(plan.study.strategies) < 2:
        return []
    views = (False, True) if any(map(is_degenerate, table["status"])) else (False,)
    return [transfer(table, predictions, against, without_degenerate=without) for without in views]


def _analyses(plan: Plan, table: DataFrame, predictions: Lookup) -> Analyses:
    """What the papers' analyses find; nothing without a baseline or a finished run."""
    against = plan.baseline()
    if against is None or not bool(table["value"].notna().to_numpy().any()):
        return Analyses()
    kinds = {name: str(words["kind"]) for name, words in plan.study.strategies.items()}
    return analyses_of(table, kinds, against, predictions)


def _contrasts(plan: Plan, table: DataFrame, predictions: Lookup) -> list[Contrast]:
    """The study's declared contrasts, judged."""
    return [contrast(table, one.of, one.against, predictions, one.correct) for one in plan.study.contrast]


def _study(plan: Plan) -> dict[str, Any]:
    study = plan.study
    words = study.words()
    return {
        **words,
        "selection": study.selection,
        "holdout": study.holdout,
        "limit": words.get("limit", {}),
        "recipe": words.get("recipe", {}),
        "contrasts": words.get("contrast", []),
        "baseline": plan.baseline(),
        "defaults": Recipe().__dict__,
    }


def _run(plan: Plan, store: Store, decision: Decision) -> RunFacts:
    """One step as the report shows it."""
    key, step = decision.key, plan.steps[decision.key]
    planned: dict[str, Any] = {"key": key, "label": decision.label, "kind": decision.kind}
    planned |= {"lineage": _lineage(plan, key), "parents": step.parents}
    if isinstance(step, Train | Probe | Member):
        planned |= {"task": step.task.name, "seed": step.seed, "start": getattr(step, "start", None) or ""}
    if isinstance(step, Measure) and step.start:
        planned |= {"seed": getattr(plan.steps[step.start], "seed", None), "start": step.start}
    if not store.finished(key):
        error = decision.reason if decision.action in ("failed", "blocked") else ""
        return RunFacts(**planned, status="missing" if decision.action == "run" else decision.action, error=error)
    facts = store.read(key, "provenance.json")
    if isinstance(step, Choose):
        chosen = store.read(key, "choice.json")["chosen"]
        return RunFacts(**planned, status="ok", chosen=chosen, seconds=facts["seconds"])
    if not isinstance(step, Train | Probe | Member):
        return RunFacts(**planned, status="ok", seconds=facts["seconds"])
    rows = store.read(key, "observations.jsonl")
    used = facts.get("questions", facts["examples"])  # older stores hold tasks whose questions are one example each
    return RunFacts(
        **planned,
        status=rows[0]["status"] if rows else "ok",
        recipe=facts["recipe"],
        seconds=facts["seconds"],
        n_train=used["train"],
        n_selection=used["selection"],
        n_validation=used["validation"],
        available=facts["available"],
        truncated=facts["truncated"],
        lost=facts.get("lost", {}),
        majority=facts["majority"],
        best_step=facts["best_step"] if facts["recipe"]["checkpoint"] == "best" else None,
        curve=store.read(key, "curve.jsonl"),
    )


def _lineage(plan: Plan, key: str) -> list[str]:
    """From the plain encoder to this step: its name, then each task trained on."""
    step = plan.steps[key]
    if isinstance(step, Choose):
        return [plan.labels[key]]
    if isinstance(step, Merge):
        ways = [_lineage(plan, parent) for parent in step.of]
        return [ways[0][0], " + ".join(" → ".join(way[1:]) for way in ways)]
    own = {"joint": " + ".join(task.name for task in step.tasks), "measure": "forgetting"}
    name = _reached(plan.labels[key], step.task.name) if isinstance(step, Train | Probe | Member) else own[step.kind]
    before = [k for k in step.parents if not isinstance(plan.steps[k], Choose)]
    if isinstance(step, Joint | Measure):
        before = [step.start] if step.start else []
    if before:
        return [*_lineage(plan, before[0]), name]
    return [next(name for name, encoder in plan.encoders.items() if encoder.identity == step.encoder), name]


def _reached(label: str, task: str) -> str:
    """A task with what a step's label says of it beside its name: "cola keep 2 500 rows"."""
    found = re.search(rf"(?:^|[·→] ){re.escape(task)}((?: [^·→]+)?) · s\d+( \(\d+\))?$", label)
    return task + found[1] if found else task


def _task(plan: Plan, runs: list[RunFacts], name: str) -> TaskFacts:
    """A task's facts; counts come from its runs, so they are what was really used."""
    task = plan.tasks[name]
    facts = TaskFacts(name, task.about, task.source, task.primary)
    seen = next((run for run in runs if run.task == name and run.n_train is not None), None)
    if seen is None:
        return facts
    majority = None if seen.majority is None else 100 * seen.majority
    return replace(facts, n_train=seen.n_train, n_validation=seen.n_validation, majority=majority)


def _provenance(plan: Plan, store: Store) -> dict[str, Any]:
    """What the runs were made with; more than one value of a fact is listed with how often it occurs."""
    found: dict[str, Counter[str]] = {}
    for key in plan.steps:
        if not store.finished(key):
            continue
        facts = store.read(key, "provenance.json")
        named = {**facts["versions"], "machine": facts["machine"], "source of train/": facts["source"]}
        named |= {name: facts[name] for name in ("device", "threads", "micro_tokens") if name in facts}
        for name, value in named.items():
            found.setdefault(name, Counter())[str(value)] += 1
    facts = {name: _counted(values) for name, values in found.items()}
    facts |= {f"encoder {name}": encoder.identity for name, encoder in plan.encoders.items()}
    return facts | {f"data of {name}": source.digest for name, source in plan.sources.items()}


def _counted(values: Counter[str]) -> str:
    if len(values) == 1:
        return next(iter(values))
    return "; ".join(f"{value} ({count} runs)" for value, count in values.most_common())
