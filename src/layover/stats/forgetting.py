"""Forgetting: what a checkpoint forgot against what it is worth to targets, over source x seed points."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from layover.errors import ObservationsError, Problem, did_you_mean, raise_all
from layover.metrics import Array
from layover.stats.arms import one_of, with_sources
from layover.stats.clustered import Method, arranged, coefficient, held, leave_one_out, permutation_p, t_test
from layover.stats.judge import adjust
from layover.stats.paired import compare, select
from layover.stats.table import check, labelled

if TYPE_CHECKING:
    from pandas import DataFrame

MEASURES = ("mlm_loss_rise", "cka", "l2")


@dataclass(frozen=True)
class Link:
    """How a measure of forgetting goes with transfer, over `n` points, of which `degenerate` have a collapsed run.

    A point is a seed of a source. `target` "" is the mean over all `targets` of a role, in which a point needs every
    one of them. `p` is of t and takes points as independent; `p_clustered` deals sources out with all of their seeds;
    `low` and `high` are the range of r with one source left out. `partial` is the correlation given collapse, None
    where no run collapsed, or all did. `p_adjusted` and `p_clustered_adjusted` are corrected by Holm over the targets
    of one role and all measures, or over the means alone.
    """

    measure: str
    text: str
    role: str
    target: str
    targets: int
    n: int
    degenerate: int
    r: float | None
    p: float | None
    p_adjusted: float | None
    p_clustered: float | None
    p_clustered_adjusted: float | None
    low: float | None
    high: float | None
    partial: float | None
    partial_p: float | None
    partial_p_clustered: float | None


@dataclass(frozen=True)
class ForgettingLinks:
    """Every measure against every target, the mean over a role's targets first."""

    encoder: str
    strategy: str
    against: str
    method: Method
    sources: int
    links: tuple[Link, ...]

    def to_json(self) -> dict[str, Any]:
        """The links as plain data; what is not known is null."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Gains:
    """Transfer to one target, or to the mean of several, and whether a run collapsed, both [sources, seeds].

    Of a mean, `collapsed` is the share of targets with a collapsed run.
    """

    role: str
    target: str
    targets: int
    delta: Array
    collapsed: Array


def forgetting(
    observations: DataFrame | Iterable[Mapping[str, Any]],
    measures: Sequence[str] = (),
    method: Method = "spearman",
    strategy: str | None = None,
    encoder: str | None = None,
    against: str = "direct",
    metric: str | None = None,
) -> ForgettingLinks:
    """The correlation of what intermediate checkpoints forgot with what they add to targets over the baseline.

    Papers explain harm by forgetting, and a checkpoint that forgot is also one from which runs collapse: the partial
    correlation holds collapse (of a target run or its baseline: 0 or 1, for a mean its share). For Spearman it is that
    of ranks; its clustered p-value deals out residuals. Measures are metrics of rows with the role forgetting, by
    default the rise of the masked-LM loss, CKA and the weights' distance; transfer is paired by seed. Raises
    ObservationsError where nothing was measured, or no checkpoint that was has runs.
    """
    checked = one_of(check(observations), "encoder", encoder)
    frame = select(checked, metric)
    rows = one_of(with_sources(frame.loc[frame["strategy"] != against]), "strategy", strategy)
    name = str(rows["strategy"].iloc[0])
    texts = _measured(checked, name, measures)
    gains = _gains(frame, name, against, sorted({source for table in texts.values() for source, _ in table}))
    if not gains:
        told = f"no source of {name!r} has measures of forgetting and transfer against {against!r}"
        raise ObservationsError(Problem("source", told, "rows of one checkpoint need the same source and seed"))
    sources, seeds, found = gains
    links = []
    for (measure, text), values in texts.items():
        table = np.full(found[0].delta.shape, np.nan)
        for row, source in enumerate(sources):
            table[row, : len(seeds[source])] = [values.get((source, seed), np.nan) for seed in seeds[source]]
        links += [_link(measure, text, one, table, method) for one in found]
    return ForgettingLinks(str(checked["encoder"].iloc[0]), name, against, method, len(sources), tuple(_judged(links)))


BySeed = dict[tuple[str, int], float]
"""By source and seed."""


def _measured(frame: DataFrame, strategy: str, asked: Sequence[str]) -> dict[tuple[str, str], BySeed]:
    """What was measured of a strategy's checkpoints, by measure and text."""
    rows = labelled(frame.loc[(frame["role"] == "forgetting") & (frame["strategy"] == strategy)])
    rows = rows.loc[(rows["source"] != "") & rows["value"].notna()]
    if rows.empty:
        hint = "add a table [forgetting] to the study, or rows with role = forgetting to the table"
        raise ObservationsError(Problem("role", f"no checkpoint of {strategy!r} has a measure of forgetting", hint))
    known = set(rows["metric"])
    problems = [
        Problem("measure", f"no row has {name!r}", did_you_mean(name, known)) for name in asked if name not in known
    ]
    raise_all(ObservationsError, problems)
    chosen = list(asked) or [name for name in MEASURES if name in known] or sorted(known)
    found: dict[tuple[str, str], BySeed] = {}
    for measure in chosen:
        for row in rows.loc[rows["metric"] == measure].sort_values("target", kind="stable").to_dict("records"):
            found.setdefault((measure, row["target"]), {})[row["source"], row["seed"]] = row["value"]
    return found


def _gains(
    frame: DataFrame, strategy: str, against: str, measured: list[str]
) -> tuple[list[str], dict[str, list[int]], list[Gains]] | None:
    """Sources that were measured and have transfer, the seeds of each, and the gains of means and targets."""
    found = [one for one in compare(frame, [strategy], against) if one.source in measured and one.complete]
    sources = sorted({one.source for one in found})
    if not sources:
        return None
    seeds = {s: sorted({pair.seed for one in found if one.source == s for pair in one.complete}) for s in sources}
    shape = len(sources), max(map(len, seeds.values()))
    by_target: dict[tuple[str, str], Gains] = {}
    for one in found:
        empty = Gains(one.role, one.target, 1, np.full(shape, np.nan), np.full(shape, np.nan))
        gains = by_target.setdefault((one.role, one.target), empty)
        for pair in one.complete:
            place = sources.index(one.source), seeds[one.source].index(pair.seed)
            gains.delta[place], gains.collapsed[place] = pair.delta, float(pair.degenerate)
    every = []
    for role in sorted({role for role, _ in by_target}, reverse=True):
        targets = [by_target[key] for key in sorted(by_target) if key[0] == role]
        tables = [(one.delta, one.collapsed) for one in targets]
        # sorted before they are added, so that the names of tasks move no rounding
        delta, collapsed = (np.sort(np.stack(side), axis=0).mean(0) for side in zip(*tables, strict=True))
        every += [Gains(role, "", len(targets), delta, collapsed)] if len(targets) > 1 else []
        every += targets
    return sources, seeds, every


def _link(measure: str, text: str, gains: Gains, table: Array, method: Method) -> Link:
    """One link, before any correction."""
    y, x, z = arranged(gains.delta, table, gains.collapsed)
    known = ~(np.isnan(y) | np.isnan(x))
    r, n = coefficient(y, x, method)
    low, high = leave_one_out(y, x, method)
    partial = partial_p = partial_clustered = None
    if known.any() and np.ptp(z[known]) > 0:
        left, right = held(y, x, z, method)
        partial, points = coefficient(left, right, "pearson")
        partial_p = t_test(partial, points, given=1)
        partial_clustered = permutation_p(left, right, "pearson") if partial is not None else None
    return Link(
        measure, text, gains.role, gains.target, gains.targets, n, int((z[known] > 0).sum()), r, t_test(r, n), None,
        permutation_p(y, x, method), None, low, high, partial, partial_p, partial_clustered,
    )  # fmt: skip


def _judged(links: list[Link]) -> list[Link]:
    """The links with p-values corrected over their family."""
    families: dict[tuple[str, bool], list[int]] = defaultdict(list)
    for i, link in enumerate(links):
        families[link.role, bool(link.target)].append(i)
    judged = list(links)
    for places in families.values():
        plain, clustered = (
            adjust([getattr(links[i], field) for i in places], "holm") for field in ("p", "p_clustered")
        )
        for i, p, p_clustered in zip(places, plain, clustered, strict=True):
            judged[i] = replace(links[i], p_adjusted=p, p_clustered_adjusted=p_clustered)
    return judged
