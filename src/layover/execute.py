"""Execute: walks the plan, parents first, until everything that can be finished is."""

from __future__ import annotations

import heapq
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field, replace

from layover.claims import alive, read_claim
from layover.cost import Costs, expected
from layover.errors import StepError
from layover.executors import Executor
from layover.mending import put_aside_after, put_aside_before
from layover.plan import Plan
from layover.pulse import Stopped
from layover.run import Outcome, cohort, lost, run_steps
from layover.schedule import ranked
from layover.step import Step
from layover.stopping import stopping
from layover.store import Store

POLL_SECONDS = 0.5
GRACE_SECONDS = 60.0  # for what runs to write its checkpoint, once it was asked to stop

Event = Callable[[str, str, Outcome | None], None]
"""Told (what, key, outcome) as "start", "finished", "failed", "blocked", "claimed" or "stopped" happens to a step.

"stopping" is told once, without a key, where the run is asked to stop; "damaged" of a finished step that is done again,
with what is wrong with it.
"""


@dataclass
class Summary:
    """How a walk ended: keys reused, finished now, failed (why), blocked (by which parent), and stopped when asked."""

    reused: list[str] = field(default_factory=list)
    finished: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    blocked: dict[str, str] = field(default_factory=dict)
    stopped: list[str] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether every step of the plan is finished."""
        return not self.failed and not self.blocked and not self.stopped

    def followed_by(self, later: Summary) -> Summary:
        """How this walk and one right after it ended: what the first had done, the second has reused."""
        done = [*self.finished, *later.finished]
        reused = [key for key in later.reused if key not in set(self.finished)]
        return replace(later, reused=reused, finished=list(dict.fromkeys(done)))


def needed(plan: Plan, store: Store) -> list[str]:
    """Keys of the steps that must run, in the plan's order.

    Those that are not finished, and those finished whose weights are gone while they are asked for, or a step that must
    run starts from them.
    """
    with_weights = set(plan.wanted)
    finished = set(store.finished_keys())
    found: set[str] = set()
    for key, step in reversed(plan.steps.items()):  # parents come first in a plan, so children come first here
        if key not in finished or (key in with_weights and not store.has_weights(key)):
            found.add(key)
            with_weights.update(step.reads(key in with_weights))
    return [key for key in plan.steps if key in found]


def execute(plan: Plan, store: Store, executor: Executor, on_event: Event) -> Summary:
    """Run every step of the plan that must run. A failed step blocks its descendants; the others go on.

    Ctrl-C (or SIGTERM) once: what runs writes its checkpoint, nothing new begins, and in the end KeyboardInterrupt (or
    SystemExit) is raised. Twice: at once.
    """
    store.refresh()
    todo = needed(plan, store)
    while damaged := put_aside_before(plan, store, todo):
        _tell(damaged, on_event)
        todo = needed(plan, store)
    walk = _Walk(plan, store, executor, on_event, todo)
    with stopping(walk.stop):
        summary = walk.run()
    # looked at last, so that work begins at once in a store of a hundred thousand steps
    if damaged := put_aside_after(store, summary.reused):
        _tell(damaged, on_event)
        return summary.followed_by(execute(plan, store, executor, on_event))
    return summary


def _tell(damaged: Mapping[str, str], on_event: Event) -> None:
    for key, why in damaged.items():
        on_event("damaged", key, Outcome(key, "damaged", error=why))


def _order(plan: Plan, store: Store, todo: list[str], slots: int) -> dict[str, int]:
    """Which of the steps that are ready is begun first: one after the other as planned, else the critical path."""
    if slots == 1:
        return {key: index for index, key in enumerate(todo)}
    return ranked(plan, expected(plan, Costs.learnt(store), todo)[0])


class _Walk:
    """The state of one walk: what is ready, what runs, and what is done."""

    def __init__(self, plan: Plan, store: Store, executor: Executor, on_event: Event, todo: list[str]) -> None:
        self.plan, self.store, self.executor, self.on_event = plan, store, executor, on_event
        self.order = _order(plan, store, todo, executor.slots)
        self.children: dict[str, list[str]] = defaultdict(list)
        self.missing: dict[str, int] = {}
        for key in todo:
            parents = [parent for parent in plan.steps[key].parents if parent in self.order]
            self.missing[key] = len(parents)
            for parent in parents:
                self.children[parent].append(key)
        self.ready = [(index, key) for key, index in self.order.items() if not self.missing[key]]
        self.elsewhere: list[str] = []  # claimed by another worker when last tried
        self.running: dict[Future[list[Outcome]], list[str]] = {}
        self.kept = plan.kept()
        self.shared: dict[str, Step | None] = {}  # what makes a cohort, by the keys of steps that are or were ready
        self.stop_at: float | None = None  # when waiting for what was asked to stop ends
        self.summary = Summary(reused=[key for key in plan.steps if key not in self.order])

    def run(self) -> Summary:
        heapq.heapify(self.ready)
        while self._goes_on():
            if not self.ready and not self.running:
                time.sleep(self.store.shared.wait)  # all that is left is another worker's
                self._retry_elsewhere()
            while self.ready and len(self.running) < self.executor.slots and self.stop_at is None:
                self._start(self._next())
            # a signal is heard while this waits, and then there may be nothing to wait for
            for future in wait(self.running, POLL_SECONDS, FIRST_COMPLETED).done if self.running else ():
                for outcome in self._ended(future):
                    self._settle(outcome.key, outcome)
        self.summary.stopped += [key for keys in self.running.values() for key in keys]
        return self.summary

    def stop(self) -> None:
        """Begin nothing new, and ask what runs to stop."""
        self.stop_at = time.monotonic() + GRACE_SECONDS
        self.on_event("stopping", "", None)
        self.executor.stop()

    def _goes_on(self) -> bool:
        if self.stop_at is not None:
            return bool(self.running) and time.monotonic() < self.stop_at
        return bool(self.ready or self.running or self.elsewhere)

    def _next(self) -> list[str]:
        """The first step that is ready, and as many others as make a cohort with it, if the study asks for cohorts."""
        most, (_, first) = self.plan.study.placement.cohort, heapq.heappop(self.ready)
        if most == 1 or self._shared(first) is None:
            return [first]
        fits = [item for item in sorted(self.ready) if self._shared(item[1]) == self._shared(first)][: most - 1]
        self.ready = sorted(set(self.ready) - set(fits))
        return [first, *(key for _, key in fits)]

    def _shared(self, key: str) -> Step | None:
        if key not in self.shared:
            self.shared[key] = cohort(self.plan.steps[key], self.store)
        return self.shared[key]

    def _start(self, keys: list[str]) -> None:
        for key in keys:
            self.on_event("start", key, None)
        steps = [(self.plan.steps[key], key in self.kept) for key in keys]
        needs = self.plan.study.placement.needs_of(*steps[0], self.plan.labels[keys[0]])
        self.running[self.executor.submit(run_steps, steps, self.store, self.plan.places, needs=needs)] = keys

    def _ended(self, future: Future[list[Outcome]]) -> list[Outcome]:
        """The outcomes of steps that ran. Whatever is no matter of these steps alone is raised."""
        keys = self.running.pop(future)
        try:
            return future.result()
        except Stopped:
            return [Outcome(key, "stopped") for key in keys]
        except StepError as error:
            if len(keys) == 1:
                return [lost(keys[0], self.store, error)]
        for key in keys:  # one of a cohort, or all of them, were too much: each is tried by itself
            self.shared[key] = None
            heapq.heappush(self.ready, (self.order[key], key))
        return []

    def _settle(self, key: str, outcome: Outcome) -> None:
        self.on_event(outcome.status, key, outcome)
        if outcome.status == "claimed":
            self.elsewhere.append(key)
            return
        if outcome.status == "stopped":
            self.summary.stopped.append(key)
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
        """Try those again that nobody is at any more, as far as can be seen from here."""
        claims = {key: read_claim(self.store.claim(key)) for key in self.elsewhere}
        self.elsewhere = [key for key, claim in claims.items() if claim is not None and alive(claim)]
        for key in claims.keys() - set(self.elsewhere):
            heapq.heappush(self.ready, (self.order[key], key))

    def _block(self, failed: str) -> None:
        """Take out whatever stands on a failed step."""
        for child in self.children[failed]:
            if child not in self.summary.blocked:
                self.summary.blocked[child] = failed
                self.on_event("blocked", child, None)
                self._block(child)
