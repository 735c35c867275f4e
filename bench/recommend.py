"""How good advice before any run is: every estimator, what is learnt from other targets, and what costs nothing.

    python bench/recommend.py [STORE --study NAME_OR_FILE --data DIR] [--probing FILE] [--encoder minilm]
                              [--layers last,mean,best] [--rows 300] [--source-rows 500] [--precision fp32]
                              [--needs features,outputs,...] [--keep FILE] [--out FILE]

The truth is a study's transfer matrix in a store; without a store only the published matrix of Pruksachatkun et al.
2020 is judged. Every target is left out in turn: nothing has seen a result of it. Estimators read training rows of the
target and the source trainings of the study's first seed. `--probing`: the probing tasks of this study in the same
store are targets too. `--keep` keeps the ratings, and the seconds that they took, in a file, from which a second call
takes them. Seconds are of the processor, one thread, in one process; what a store holds already (features, maps) costs
nothing, so they are right for the first call on a store alone.

"learnt" is `layover.select.knowledge`: "from others" of the other targets' results in the store, "+ published" of the
published matrix too, "+ NAME" with the places that these estimators give to the sources of every target.
"""

from __future__ import annotations

import os

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import argparse
import contextlib
import itertools
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from common import show

from layover.encoders import find
from layover.metrics import Array
from layover.select.candidate import Candidate
from layover.select.checked import NEEDS, Need, checked
from layover.select.estimator import ESTIMATORS, OfFeatures
from layover.select.evaluate import Evaluation, evaluate, versus
from layover.select.evidence import evidence
from layover.select.formats import catalogue, facts_of
from layover.select.knowledge import Knowledge, knowledge
from layover.select.observed import Observed, of_figure2, of_truth
from layover.select.policies import no_transfer, policies, static
from layover.select.rated import Rated, estimators_named
from layover.select.sources import Source, sources_in
from layover.select.target import Reading, target_of
from layover.select.truth import Forecast, Truth, held_out, published, truth_of
from layover.session import Session
from layover.stats.spread import Spread
from layover.stats.transfer import transfer
from layover.step import Train
from layover.store import Store
from layover.study import Study

STATIC = "same best source"
SETS = {
    "learnt + logme, textemb": ("logme", "textemb"),
    "learnt + esm_logme, textemb": ("esm_logme", "textemb"),
    "learnt + textemb, taskemb": ("textemb", "taskemb"),
    "learnt + logme, esm_logme, knn": ("logme", "esm_logme", "knn"),
}
HEAD = ["forecast", "regret@1", "%", "regret@3", "%", "gain", "NDCG", "rho", "Brier", "in 80 %", "in 95 %",
        "less regret than the same best source", "better, worse"]  # fmt: skip


@dataclass(frozen=True)
class Measured:
    """A study's results: the truth of all seeds, of all but each and of it alone, and its source trainings."""

    truth: Truth
    halves: tuple[tuple[Truth, Truth], ...]
    sources: tuple[Source, ...]
    session: Session

    @classmethod
    def of(cls, session: Session, role: Literal["target", "probing"]) -> Measured:
        """Those of a study for its targets or its probing tasks."""
        study, frame = session.plan.study, session.observations()

        def of(seeds: Sequence[int]) -> Truth:
            some, against = frame[frame["seed"].isin(seeds)], session.plan.baseline() or ""
            lookup = session.store.predictions if seeds == study.seeds else None  # for errors, which take long
            return truth_of(transfer(some, lookup, against).matrices, role)

        halves = [(of([one for one in study.seeds if one != seed]), of([seed])) for seed in study.seeds]
        used = {step.start for step in session.plan.steps.values() if isinstance(step, Train)}
        found = sources_in(session.store, seeds=study.seeds[:1])
        sources = tuple(source for source in found if source.key in used)
        return cls(of(study.seeds), tuple(halves), sources, session)


def opened(store: str, name: str, data: Sequence[Path]) -> Session:
    """A study that ran in a store, or one in a file, with that store."""
    known = Store.open(store, create=False).study(name)
    return Session.open(Study(**known.study) if known else name, store, data, create=False)


# what estimators say


def names(need: Need, layers: Sequence[str]) -> list[str]:
    """The estimators with a need by name, those of features with each of these layers."""
    found = []
    for one in (one for one in ESTIMATORS if one.needs == need):
        own = layers if isinstance(one, OfFeatures) else ["last"]
        found += [one.name if layer == "last" else f"{one.name}:{layer}" for layer in own]
    return found


def timed(function: Callable[..., Any], *arguments: Any) -> tuple[float, Any]:
    """Processor seconds of a call, and what it gives."""
    begun = time.process_time()
    found = function(*arguments)
    return time.process_time() - begun, found


def add_ratings(kept: dict[str, Any], of: Measured, target: str, encoder: str, reading: Reading, need: Need,
                asked: Sequence[str]) -> None:  # fmt: skip
    """Add what these estimators say of the sources of a target, and the seconds of each and of their evidence."""
    plan = of.session.plan
    about = target_of(
        of.session.store, plan.tasks[target], find(encoder), data=plan.places.data, files=plan.places.files,
        reading=reading, device="cpu", threads=1,
    )  # fmt: skip
    before, found = timed(checked, about, [source for source in of.sources if source.name != target])
    took, read = timed(evidence, found, [need])
    known = kept.setdefault(target, {"sources": [], "scores": {}, "evidence": {}, "seconds": {}})
    known["sources"] = [source.name for source in found.sources]
    known["evidence"].setdefault("plain encoder, leaks", before)
    known["evidence"][need] = took
    for name, one in zip(asked, estimators_named(asked), strict=True):
        known["seconds"][name], scored = timed(one.score, read)
        known["scores"][name] = [None if np.isnan(score) else float(score) for score in scored]
    for label, why in found.excluded.items():
        print(f"{target}: {label} is left out: {why}", file=sys.stderr)


def rated(target: str, encoder: str, found: Mapping[str, Any], asked: Sequence[str]) -> Rated:
    """Kept ratings as `Knowledge` sees them, of these estimators alone."""
    scores = np.array([found["scores"][name] for name in asked], dtype=float)
    return Rated(target, encoder, tuple(found["sources"]), tuple(asked), scores)


# forecasts


def alone(truth: Truth, kept: Mapping[str, Any], name: str) -> Forecast:
    """The order in which an estimator puts the sources."""
    score = np.full(truth.delta.shape, np.nan)
    for row, target in enumerate(truth.targets):
        said = rated(target, "", kept[target], [name])
        score[row] = [said.of(one.source).get(name, np.nan) for one in truth.candidates]
    return Forecast(name, score)


def mean_place(truth: Truth, kept: Mapping[str, Any], asked: Sequence[str]) -> Forecast:
    """The order by the mean place that these estimators give."""
    score = np.full(truth.delta.shape, np.nan)
    for row, target in enumerate(truth.targets):
        places = rated(target, "", kept[target], asked).places()
        score[row] = [_mean(places.get(one.source, np.array([np.nan]))) for one in truth.candidates]
    return Forecast("mean place of all, last layer", score)


def _mean(values: Array) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else np.nan


def learnt(
    name: str, truth: Truth, encoder: str, also: Sequence[Observed] = (), seeing: Sequence[Rated] = (), tasks: Any = ()
) -> Forecast:
    """What is believed of each target from the results of the others."""

    def believe(others: Truth, target: str) -> Any:
        known: Knowledge = knowledge(of_truth(others, encoder, "store"), also).about(*tasks)
        return known.seeing(*seeing).believe(others, target, encoder)

    return held_out(name, truth, believe)


def forecasts(truth: Truth, kept: Mapping[str, Any], encoder: str, tasks: Any) -> Iterator[Forecast]:
    """Everything that is judged but the policies."""
    first, *others = (found["scores"] for found in kept.values())
    every = [name for name in first if all(name in scores for scores in others)]
    last = [name for name in every if ":" not in name]
    sets = {name: some for name, some in SETS.items() if {*some} <= {*last}}
    known = {"tasks": list(tasks.values())}
    yield learnt("learnt from others", truth, encoder, **known)
    yield learnt("learnt + published", truth, encoder, of_figure2(), **known)
    sets = {f"learnt + {name}": (name,) for name in every} | sets | {"learnt + all, last layer": tuple(last)}
    for name, asked in sets.items():
        seen = [rated(target, encoder, kept[target], asked) for target in truth.targets]
        yield learnt(name, truth, encoder, seeing=seen, **known)
    for name in every:
        yield alone(truth, kept, name)
    yield mean_place(truth, kept, last)


# tables


def row(found: Evaluation, against: Evaluation) -> list[str]:
    """A row of the main table."""
    told, apart = found.calibration, versus(found, against)
    inside = (told.covered80, told.covered95) if told else (None, None)
    regrets = [number(found.mean(of, tries), 2) for tries in (1, 3) for of in ("points", "percent")]
    return [
        found.name, *regrets, *(number(found.mean(of), 2) for of in ("gain", "ndcg", "spearman")),
        f"{told.brier:.3f} ({told.reference:.3f})" if told else "",
        *("" if share is None else f"{share:.0%}" for share in inside),
        "" if found.name == against.name else interval(apart.gain), f"{apart.better}, {apart.worse}",
    ]  # fmt: skip


def number(spread: Spread, digits: int) -> str:
    """A mean."""
    return "" if spread.mean is None else f"{spread.mean:.{digits}f}"


def interval(spread: Spread) -> str:
    """A mean with its 95 % interval."""
    if spread.mean is None or spread.low is None or spread.high is None:
        return ""
    return f"{spread.mean:+.2f} ({spread.low:.2f} to {spread.high:.2f})"


def judge(title: str, truth: Truth, found: Sequence[Forecast]) -> None:
    """The main table, policies first, in the order given."""
    judged = [evaluate(truth, one) for one in found]
    against = next(one for one in judged if one.name == STATIC)
    n = np.sum(~np.isnan(truth.delta))
    show(f"{title}: {len(against.targets)} targets, {n} stops", HEAD, [row(one, against) for one in judged])


def noise(truth: Truth, halves: Sequence[tuple[Truth, Truth]]) -> None:
    """How much of the regret is the truth's own noise: the choice of the other seeds, judged on one seed alone."""
    says = {
        "the target's own other seeds": lambda others: Forecast("", others.delta, points=True),
        STATIC: static,
        "no transfer": no_transfer,
    }
    shown = []
    for name, say in says.items():
        found = [evaluate(one, say(others)) for others, one in halves]
        shown.append(
            [name, *(f"{np.mean([one.mean(of).mean or 0.0 for one in found]):.2f}" for of in ("points", "gain"))]
        )
    error = float(np.sqrt(np.nanmean(truth.error**2)))
    title = f"Judged on one seed, mean over {len(halves)} seeds (standard error of a stop with all seeds: {error:.1f})"
    show(title, ["chosen by", "regret@1", "gain"], shown)


def seconds(kept: Mapping[str, Any]) -> None:
    """What evidence and scores take."""
    parts: Sequence[Mapping[str, Any]] = list(kept.values())
    for what, title in (("evidence", "Evidence"), ("seconds", "Scores")):
        every = [name for name in parts[0][what] if all(name in part[what] for part in parts)]
        shown = [[name, *(f"{x:.2f}" for x in _spread([part[what][name] for part in parts]))] for name in every]
        head = ["", "first target", "median of the others", "slowest"]
        show(f"{title}: processor seconds of a target, all sources", head, shown)


def _spread(values: Sequence[float]) -> tuple[float, float, float]:
    return values[0], float(np.median(values[1:] or values)), max(values)


def joined(one: Truth, other: Truth) -> Truth:
    """Two truths of different targets as one."""
    candidates = tuple(sorted({*one.candidates, *other.candidates}))

    def wide(values: Array, own: Sequence[Candidate]) -> Array:
        found = np.full((len(values), len(candidates)), np.nan)
        found[:, [candidates.index(candidate) for candidate in own]] = values
        return found

    delta, error = (np.vstack([wide(getattr(part, what), part.candidates) for part in (one, other)])
                    for what in ("delta", "error"))  # fmt: skip
    return Truth((*one.targets, *other.targets), candidates, delta, error, np.append(one.baseline, other.baseline))


def of_store(asked: argparse.Namespace) -> None:
    """All tables of a store's study."""
    parts = [Measured.of(opened(asked.store, asked.study, asked.data), "target")]
    if asked.probing:
        parts.append(Measured.of(opened(asked.store, asked.probing, asked.data), "probing"))
    kept: dict[str, Any] = json.loads(asked.keep.read_text("utf-8")) if asked.keep and asked.keep.exists() else {}
    reading = Reading(rows=asked.rows, source_rows=asked.source_rows, precision=asked.precision)
    pairs = [(part, target) for part in parts for target in part.truth.targets]
    for need, (of, target) in itertools.product(asked.needs.split(","), pairs):
        missing = set(by := names(need, asked.layers.split(","))) - kept.get(target, {}).get("scores", {}).keys()
        if missing:
            print(need, target, file=sys.stderr, flush=True)
            add_ratings(kept, of, target, asked.encoder, reading, need, by)
            if asked.keep:
                asked.keep.write_text(json.dumps(kept), encoding="utf-8")
    tasks = {name: facts_of(task, part.session.plan.sources.get(name))
             for part in parts for name, task in part.session.plan.tasks.items()}  # fmt: skip
    known = {**tasks, **catalogue(tasks)}
    judged = [("targets", parts[0].truth)]
    if asked.probing:
        judged += [("probing tasks", parts[1].truth), ("both", joined(parts[0].truth, parts[1].truth))]
    for title, truth in judged:
        of_these = {target: kept[target] for target in truth.targets}
        judge(title, truth, [*policies(truth, known), *forecasts(truth, of_these, asked.encoder, known)])
    for title, part in zip(("targets", "probing tasks"), parts, strict=False):
        print(f"\n{title}:")
        noise(part.truth, part.halves)
    seconds(kept)


def of_published() -> None:
    """The published matrix."""
    truth = published()
    tasks = catalogue({*truth.targets, *(one.source for one in truth.candidates)})

    def believe(_: Truth, target: str) -> Any:
        return knowledge(of_figure2()).believe(truth, target, "roberta-large")

    judge("published matrix", truth, [*policies(truth, tasks), held_out("learnt from others", truth, believe)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", nargs="?")
    for name, default in (("study", ""), ("probing", ""), ("encoder", "minilm"), ("layers", "last,mean,best"),
                          ("needs", ",".join(NEEDS))):  # fmt: skip
        parser.add_argument(f"--{name}", default=default)
    parser.add_argument("--data", type=Path, action="append", default=[])
    parser.add_argument("--rows", type=int, default=300)
    parser.add_argument("--source-rows", type=int, default=500)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    for name in ("keep", "out"):
        parser.add_argument(f"--{name}", type=Path)
    asked = parser.parse_args()
    with contextlib.ExitStack() as stack:
        if asked.out:
            stack.enter_context(contextlib.redirect_stdout(stack.enter_context(asked.out.open("w", encoding="utf-8"))))
        of_published()
        if asked.store:
            of_store(asked)


if __name__ == "__main__":
    main()
