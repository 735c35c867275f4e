"""Searches by real runs against the full matrix: successive halving, and few-shot fine-tuning of the target.

    python bench/search.py STORE --study NAME_OR_FILE --data DIR [--targets rte,cb] [--budget 0.25] [--rows 64]

STORE holds the finished study, and gets the searches' own runs: give a copy. What a search costs is counted in training
examples that it asks for, whether the store had them or not. The last table judges few-shot fine-tuning as
`bench/recommend.py` judges estimators. Both searches are scored on the validation rows that the truth is measured on.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

import numpy as np
from common import show
from recommend import Measured, judge, learnt, opened

from layover.select.formats import catalogue
from layover.select.halving import Halved, apart
from layover.select.policies import policies
from layover.select.rated import Rated
from layover.select.search import FewShot, few_shot, search
from layover.select.truth import Forecast, Truth
from layover.session import Session
from layover.stats.interval import Effect, Paired
from layover.stats.paired import compare, select
from layover.stats.table import check

STRATEGY = "stilts"


def pairs_of(session: Session) -> dict[tuple[str, str], Paired]:
    """What each source added to each target, by seed and example."""
    frame = select(check(session.observations()))
    found = compare(frame, [STRATEGY], session.plan.baseline() or "", session.store.predictions)
    return {(one.source, one.target): one.paired for one in found if one.complete}


def lost(pairs: dict[tuple[str, str], Paired], target: str, chosen: str, best: str) -> Effect | None:
    """How much more the best candidate added than the chosen one, "" being direct."""
    one, other = pairs.get((best, target)), pairs.get((chosen, target))
    known = one or other
    if known is None:
        return None
    nothing = Paired(known.seeds, np.zeros(len(known.seeds)), None if known.influences is None
                     else np.zeros_like(known.influences))  # fmt: skip
    return apart(one or nothing, other or nothing)


def best_of(truth: Truth, target: str) -> str:
    """The source that the full matrix would choose, "" where none adds anything."""
    delta = np.nan_to_num(truth.delta[truth.targets.index(target)], nan=-np.inf)
    return truth.candidates[int(delta.argmax())].source if delta.max() > 0 else ""


def row(found: Halved, target: str, truth: Truth, pairs: dict[tuple[str, str], Paired]) -> list[str]:
    """What a search found, what the full matrix would choose, and how far they are apart."""
    best = best_of(truth, target)
    off = lost(pairs, target, found.best, best) if best != found.best else None
    told = "0" if off is None else f"{off.delta:.1f} ({off.low:.1f} to {off.high:.1f})"
    within = "the same" if best == found.best else "yes" if off and off.low is not None and off.low <= 0 else "no"
    rungs = ", ".join(f"{len(rung.sources)} x {rung.seeds} x {rung.share:.0%}" for rung, _ in found.rungs)
    return [target, found.best or "direct", best or "direct", told, within, rungs, f"{found.share:.1%}"]


def few(truth: Truth, found: dict[str, FewShot], encoder: str) -> tuple[Truth, list[Forecast]]:
    """The truth of these targets, and few-shot fine-tuning as an order, as points, and as what is learnt from it."""
    keep = [name in found for name in truth.targets]
    names = tuple(name for name in truth.targets if name in found)
    part = Truth(names, truth.candidates, truth.delta[keep], truth.error[keep], truth.baseline[keep])
    score = np.array([[found[name].scores().get(one.source, np.nan) for one in part.candidates] for name in names])
    seen = [Rated(name, encoder, tuple(found[name].effects), ("few-shot",),
                  np.array([list(found[name].scores().values())])) for name in names]  # fmt: skip
    tasks = catalogue({*truth.targets, *(one.source for one in truth.candidates)})
    return part, [
        *policies(part, tasks),
        Forecast("few-shot, a source always", score),
        Forecast("few-shot, direct where none is above", score, points=True),
        learnt("learnt from others", part, encoder),
        learnt("learnt + few-shot", part, encoder, seeing=seen),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store")
    parser.add_argument("--study", required=True)
    parser.add_argument("--targets", default="")
    parser.add_argument("--data", type=Path, action="append", default=[])
    parser.add_argument("--budget", type=float, default=0.25)
    parser.add_argument("--rows", type=int, default=64)
    asked = parser.parse_args()
    session = opened(asked.store, asked.study, asked.data)
    truth, pairs = Measured.of(session, "target").truth, pairs_of(session)
    study, targets = session.plan.study, asked.targets.split(",") if asked.targets else truth.targets
    open_study = partial(Session.open, store=asked.store, data=asked.data)
    shown, tried = [], dict[str, FewShot]()
    for target in targets:
        found = search(study, target, open_study, STRATEGY, asked.budget)
        shown.append(row(found, target, truth, pairs))
        tried[target] = few_shot(study, target, open_study, STRATEGY, asked.rows)
        print(*shown[-1], f"{tried[target].spent:,.0f} few-shot", sep=" | ", file=sys.stderr, flush=True)
    head = ["target", "found", "full matrix", "lost, points", "within noise", "sources x seeds x rows", "share of cost"]
    show(f"Successive halving with a budget of {asked.budget:.0%}", head, shown)
    costs = [[name, f"{one.spent:,.0f}", f"{one.before:,.0f}"] for name, one in tried.items()]
    show(f"Few-shot, {asked.rows} rows", ["target", "training examples, target", "sources"], costs)
    encoder = next(iter(study.encoders))
    judge("few-shot fine-tuning", *few(truth, tried, encoder))


if __name__ == "__main__":
    main()
