"""Watch: what a study looks like now, read from its store, which stays as it is.

The answer comes in parts, each whole by itself, so that whoever has missed some needs only the newest of each.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from layover import observations
from layover.catalog import rows
from layover.claims import read_claim
from layover.cost import Costs, left
from layover.errors import StoreError
from layover.explain import Decision, decide
from layover.plan import Plan, Score
from layover.serve.public import hider
from layover.store import Store

Part = dict[str, Any]
Row = dict[str, Any]
SHOWN = 50  # failed and blocked steps that are spelt out
RECENT = 12  # finished steps that are


@dataclass
class Watch:
    """Looks at a study again and again, and keeps what cannot change: what finished steps left. For one thread."""

    plan: Plan
    store: Store
    _costs: Costs | None = None
    _learnt: set[str] = field(default_factory=set)
    _rows: dict[Score, Row | None] = field(default_factory=dict)
    _ended: dict[str, float] = field(default_factory=dict)
    _matrix: tuple[Any, Part] = (None, {})

    def __post_init__(self) -> None:
        self._hidden = hider(self.plan, self.store)

    def look(self) -> dict[str, Part]:
        """The parts by name, without paths of this machine or secrets; raises StoreError where nothing can be read."""
        self.store.refresh()
        decisions = decide(self.plan, self.store)
        parts = {
            "study": self._study(),
            "progress": self._progress(decisions),
            "running": {"steps": [self._running(d) for d in decisions if d.action == "running"]},
            "troubles": _troubles(decisions),
            "matrix": self._matrices(decisions),
            "recent": {"steps": list(self._recent(decisions))},
        }
        return self._hidden(parts)

    def _study(self) -> Part:
        study = self.plan.study
        words = {"name": study.name, "encoders": list(study.encoders), "strategies": list(study.strategies)}
        return {**words, "seeds": len(study.seeds), "baseline": self.plan.baseline() or ""}

    def _progress(self, decisions: Sequence[Decision]) -> Part:
        counts = Counter(decision.action for decision in decisions)
        todo = {d.key: 1.0 - _share(d) for d in decisions if d.action in ("run", "running")}
        seconds = None
        if counts["running"]:  # nobody knows when a study goes on that nobody runs
            seconds = left(self.plan, self._known_costs(decisions), todo, counts["running"])
        names = {"finished": "reuse", "running": "running", "waiting": "run", "failed": "failed", "blocked": "blocked"}
        found = {name: counts[action] for name, action in names.items()}
        return {"total": len(decisions), **found, "seconds": None if seconds is None else rounded(seconds)}

    def _known_costs(self, decisions: Sequence[Decision]) -> Costs:
        """What finished steps took: all that are in the store, and later those of this study as they finish."""
        finished = {d.key for d in decisions if d.action == "reuse"}
        if self._costs is None:
            self._costs, self._learnt = Costs.learnt(self.store, keep=False), finished
        for row in rows(self.store, finished - self._learnt, without_damaged=True):
            self._costs.learn(row)
        self._learnt |= finished
        return self._costs

    def _running(self, decision: Decision) -> Part:
        claim, at = read_claim(self.store.claim(decision.key)), dict(decision.progress or {})
        step = self.plan.steps[decision.key]
        tasks = [self.plan.tasks[ref.name] for ref in step.tasks]
        words = {"key": decision.key, "label": decision.label, "kind": decision.kind}
        return {
            **words,
            "host": claim["host"] if claim else "",
            "metric": tasks[0].primary if len(tasks) == 1 else "score",
            **{name: at.get(name) for name in ("step", "steps", "epoch", "epochs", "loss")},
            "curve": at.get("curve", []),
        }

    def _recent(self, decisions: Sequence[Decision]) -> Iterator[Part]:
        """The steps that finished last, the newest first."""
        for decision in decisions:
            if decision.action == "reuse" and decision.key not in self._ended:
                with suppress(OSError):  # it has been put aside just now
                    self._ended[decision.key] = self.store.folder(decision.key).stat().st_mtime
        done = [d for d in decisions if d.action == "reuse" and d.key in self._ended]
        for decision in sorted(done, key=lambda d: -self._ended[d.key])[:RECENT]:
            with suppress(StoreError):
                scores = self.store.read(decision.key, "observations.jsonl")
                score = next((row for row in scores if row.get("primary")), {})
                words = {name: score.get(name) for name in ("metric", "value", "status")}
                yield {"key": decision.key, "label": decision.label, "ended": self._ended[decision.key], **words}

    def _matrices(self, decisions: Sequence[Decision]) -> Part:
        """One matrix per encoder; made again where another step has finished or failed."""
        errors = {d.key: d.reason for d in decisions if d.action == "failed"}
        finished = frozenset(d.key for d in decisions if self.store.finished(d.key))
        if (finished, errors) != self._matrix[0]:
            table = [row for score in self.plan.scores if (row := self._primary(score, finished, errors))]
            self._matrix = (finished, errors), {"encoders": matrices(table, self.plan)}
        return self._matrix[1]

    def _primary(self, score: Score, finished: frozenset[str], errors: dict[str, str]) -> Row | None:
        """The observation of a cell that decides; None where it is no cell of the matrix."""
        if score.role not in ("target", "probing"):
            return None
        if score.key in finished and score not in self._rows:
            with suppress(StoreError):
                found = observations.found(self.plan, self.store, score)
                self._rows[score] = next((row for row in found if row["primary"]), None)
        if score in self._rows:
            return self._rows[score]
        status = f"failed: {errors[score.key]}" if score.key in errors else "missing"
        return next(row for row in observations.missing(self.plan, score, status) if row["primary"])


def _share(decision: Decision) -> float:
    """How much of a step is done, 0 to 1."""
    at = decision.progress or {}
    return min(1.0, at["step"] / at["steps"]) if at.get("steps") else 0.0


def rounded(seconds: float) -> int:
    """A time that is left as it is shown: to 5 s below two minutes, to half a minute below an hour, else to five.

    >>> [rounded(seconds) for seconds in (3, 47, 333, 8000)]
    [5, 50, 330, 8100]
    """
    unit = 5 if seconds < 120 else 30 if seconds < 3600 else 300
    return math.ceil(seconds / unit) * unit


def _troubles(decisions: Sequence[Decision]) -> Part:
    found = {action: [d for d in decisions if d.action == action] for action in ("failed", "blocked")}
    told = {
        action: [{"key": d.key, "label": d.label, "why": d.reason} for d in some[:SHOWN]]
        for action, some in found.items()
    }
    return {**told, "more": {action: max(0, len(some) - SHOWN) for action, some in found.items()}}


def matrices(table: Sequence[Row], plan: Plan) -> list[Part]:
    """For each encoder the matrix as far as it is filled: rows are the ways to a target, columns are targets.

    A cell has the mean over the seeds that have a value, how many these are and how many there will be, and the mean
    difference to the baseline over the seeds that both have. No test is made of half a table.
    """
    from layover.stats.paired import compare, index, select
    from layover.stats.table import check, is_degenerate

    if not table:
        return []
    baseline = plan.baseline()
    frame = select(check(table))
    others = [name for name in plan.study.strategies if name != baseline]
    pairs = {(one.encoder, one.strategy, one.source, one.target): one for one in compare(frame, others, baseline or "")}
    found: dict[str, dict[tuple[str, str], dict[str, Part]]] = defaultdict(lambda: defaultdict(dict))
    roles = dict(zip(frame["target"], frame["role"], strict=True))
    for (encoder, strategy, target, source), seeds in index(frame).items():
        rows = list(seeds.values())
        values = [row["value"] for row in rows if not math.isnan(row["value"])]
        pair = pairs.get((encoder, strategy, source, target))
        found[encoder][strategy, source][target] = {
            "mean": math.fsum(values) / len(values) if values else None,
            "n": len(values),
            "of": len(rows),
            "delta": float(pair.deltas.mean()) if pair and pair.complete else None,
            "failed": sum(str(row["status"]).startswith("failed") for row in rows),
            "degenerate": sum(is_degenerate(str(row["status"])) for row in rows),
        }
    order = list(dict.fromkeys(frame["strategy"]))  # as in the study
    places = {pair: i for i, pair in enumerate(dict.fromkeys(zip(frame["strategy"], frame["source"], strict=True)))}
    targets = list(dict.fromkeys(frame["target"]))
    return [
        {
            "encoder": encoder,
            "targets": [{"name": name, "role": roles[name]} for name in targets],
            "rows": [
                {"strategy": way[0], "source": way[1], "baseline": way[0] == baseline, "cells": ways[way]}
                for way in sorted(ways, key=lambda way: (order.index(way[0]), places[way]))
            ],
        }
        for encoder, ways in found.items()
    ]
