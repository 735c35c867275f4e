"""Execute: walks the plan, parents first, until everything that can be finished is."""

from __future__ import annotations

import heapq
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field

from layover.errors import StepError
from layover.executors import Executor
from layover.plan import Plan
from layover.run import Outcome, lost, run_step
from layover.step import Train
from layover.store import Store

POLL_SECONDS = 0.5

Event = Callable[[str, str, Outcome | None], None]
"""Told (what, key, outcome) as "start", "finished", "failed", "blocked" or "claimed" happens to a step."""


@dataclass
class Summary:
    """How a walk ended: keys reused, finished now, failed (with the error), blocked (with the failed parent)."""

    reused: list[str] = field(default_factory=list)
    finished: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    blocked: dict[str, str] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether every step of the plan is finished."""
        return not self.failed and not self.blocked


def needed(plan: Plan, store: Store) -> list[str]:
    """Keys of the steps that must run, in the plan's order.

    Those that are not finished, and those finished whose weights are gone while they are asked for, or a step that must
    run starts from them.
    """
    with_weights = set(plan.wanted)
    found: set[str] = set()
    for key, step in reversed(plan.steps.items()):  # parents come first in a plan, so children come first here
        if not store.holds(key, with_weights=key in with_weights):
            found.add(key)
            if isinstance(step, Train) and step.start:
                with_weights.add(step.start)
    return [key for key in plan.steps if key in found]


def execute(plan: Plan, store: Store, executor: Executor, on_event: Event) -> Summary:
    """Run every step of the plan that must run. A failed step blocks its descendants; the others go on."""
    todo = needed(plan, store)
    return _Walk(plan, store, executor, on_event, todo).run()


class _Walk:
    """The state of one walk: what is ready, what runs, and what is done."""

    def __init__(self, plan: Plan, store: Store, executor: Executor, on_event: Event, todo: list[str]) -> None:
        self.plan, self.store, self.executor, self.on_event = plan, store, executor, on_event
        self.order = {key: index for index, key in enumerate(todo)}
        self.children: dict[str, list[str]] = defaultdict(list)
        self.missing: dict[str, int] = {}
        for key in todo:
            parents = [parent for parent in plan.steps[key].parents if parent in self.order]
            self.missing[key] = len(parents)
            for parent in parents:
                self.children[parent].append(key)
        self.ready = [(index, key) for key, index in self.order.items() if not self.missing[key]]
        self.elsewhere: list[str] = []  # claimed by another worker when last tried
        self.running: dict[Future[Outcome], str] = {}
        self.kept = plan.kept()
        self.summary = Summary(reused=[key for key in plan.steps if key not in self.order])

    def run(self) -> Summary:
        heapq.heapify(self.ready)
        while self.ready or self.running or self.elsewhere:
            if not self.ready and not self.running:
                time.sleep(POLL_SECONDS)  # all that is left is another worker's
                self._retry_elsewhere()
            while self.ready and len(self.running) < self.executor.slots:
                self._start(heapq.heappop(self.ready)[1])
            for future in wait(self.running, return_when=FIRST_COMPLETED).done if self.running else ():
                self._settle(*self._ended(future))
        return self.summary

    def _start(self, key: str) -> None:
        self.on_event("start", key, None)
        arguments = (self.plan.steps[key], self.store, self.plan.places, key in self.kept)
        self.running[self.executor.submit(run_step, *arguments)] = key

    def _ended(self, future: Future[Outcome]) -> tuple[str, Outcome]:
        """A step that ran, and its outcome. Whatever is no matter of one step alone is raised."""
        key = self.running.pop(future)
        try:
            return key, future.result()
        except StepError as error:
            return key, lost(key, self.store, error)

    def _settle(self, key: str, outcome: Outcome) -> None:
        self.on_event(outcome.status, key, outcome)
        if outcome.status == "claimed":
            self.elsewhere.append(key)
            return
        if outcome.status == "failed":
            self.summary.failed[key] = outcome.error
            self._block(key)
            return
        self.summary.finished.append(key)
        for child in self.children[key]:
            self.missing[child] -= 1
            if not self.missing[child] and child not in self.summary.blocked:
                heapq.heappush(self.ready, (self.order[child], child))
        self._retry_elsewhere()

    def _retry_elsewhere(self) -> None:
        for key in self.elsewhere:
            heapq.heappush(self.ready, (self.order[key], key))
        self.elsewhere = []

    def _block(self, failed: str) -> None:
        """Take out whatever stands on a failed step."""
        for child in self.children[failed]:
            if child not in self.summary.blocked:
                self.summary.blocked[child] = failed
                self.on_event("blocked", child, None)
                self._block(child)
