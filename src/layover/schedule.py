"""Schedule: in which order steps are begun, and when the last one would end.

The critical path comes first: of the steps that are ready, the one with the longest way to an end of the plan, itself
included (Graham 1969, "Bounds on multiprocessing timing anomalies": whatever the order, a list schedule takes at most
twice the time of the best one; longest first is seldom far from it).
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Mapping

from layover.plan import Plan


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


def makespan(plan: Plan, times: Mapping[str, float], workers: int) -> float:
    """When the last step would end, in seconds, with so many workers that begin as `ranked` says."""
    rank = ranked(plan, times)
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
