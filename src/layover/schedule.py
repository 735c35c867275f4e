"""Schedule: in which order steps are begun, and when the last one would end.

The critical path comes first: of the steps that are ready, the one with the longest way to an end of the plan, itself
included (Graham 1969, "Bounds on multiprocessing timing anomalies": whatever the order, a list schedule takes at most
twice the time of the best one; longest first is seldom far from it).
"""

from __future__ import annotations

import heapq
import random
import statistics
from collections import defaultdict
from collections.abc import Mapping

from layover.plan import Plan

DRAWS, DRAWN = 16, 50_000  # of all times, and of single ones at most: a large plan has no need of many


def levels(plan: Plan, times: Mapping[str, float]) -> dict[str, float]:
    """For each step to do, whose times are given, the longest way to an end of the plan, itself included."""
    found: dict[str, float] = {}
    after: dict[str, float] = defaultdict(float)
    for key in reversed(plan.steps):  # parents come first in a plan, so children come first here
        if key in times:
            found[key] = times[key] + after[key]
            for parent in plan.steps[key].parents:
                after[parent] = max(after[parent], found[key])
    return found


def ranked(plan: Plan, times: Mapping[str, float]) -> dict[str, int]:
    """The place of each step to do in the order in which ready ones are begun: the critical path first."""
    level, order = levels(plan, times), {key: index for index, key in enumerate(plan.steps)}
    first = sorted(times, key=lambda key: (-level[key], order[key]))
    return {key: place for place, key in enumerate(first)}


def makespan(plan: Plan, times: Mapping[str, float], workers: int, spread: float = 0.0) -> float:
    """When the last step is expected to end, in seconds, with so many workers that begin as `ranked` says.

    `spread` is the standard deviation of the logarithm of what alike steps take. Where there are many workers the
    slowest of a few long ways decides, and that comes later than the usual one: the mean over draws of all times.
    """
    rank, draw = ranked(plan, times), random.Random(0)
    if not spread or workers <= 1:  # then the times add up, whatever each is
        return _walked(plan, times, rank, workers)
    draws = max(1, min(DRAWS, DRAWN // max(1, len(times))))
    ends = []
    for _ in range(draws):
        drawn = {key: seconds * draw.lognormvariate(-(spread**2) / 2, spread) for key, seconds in times.items()}
        ends.append(_walked(plan, drawn, rank, workers))
    return statistics.fmean(ends)


def _walked(plan: Plan, times: Mapping[str, float], rank: Mapping[str, int], workers: int) -> float:
    """When the last step ends, if each takes what `times` say."""
    missing = {key: sum(parent in times for parent in plan.steps[key].parents) for key in times}
    children: dict[str, list[str]] = defaultdict(list)
    for key in times:
        for parent in plan.steps[key].parents:
            children[parent].append(key)
    ready = [(rank[key], key) for key, count in missing.items() if not count]
    heapq.heapify(ready)
    running: list[tuple[float, int, str]] = []
    now = 0.0
    while ready or running:
        while ready and len(running) < max(1, workers):
            place, key = heapq.heappop(ready)
            heapq.heappush(running, (now + times[key], place, key))
        now, _, ended = heapq.heappop(running)
        for child in children[ended]:
            missing[child] -= 1
            if not missing[child]:
                heapq.heappush(ready, (rank[child], child))
    return now
