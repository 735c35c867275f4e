"""What layover costs on a Ray cluster: three nodes on this machine, the driver's and two with a worker each.

    python bench/ray_nodes.py    --steps steps that do nothing: throughput, and what each costs;
                                 --slept steps of a second: the share of two workers' time that is work

Steps are real to the plan, the store and Ray; their work is to do nothing, or to sleep.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

from scale import TINY, nothing, planned, prepare, timed

from layover.execute import execute
from layover.executors import Executor, Needs, Site
from layover.executors.ray import Ray
from layover.step import Train
from layover.store import Store

WORKERS = 2
STEPS, SLEPT = 1_000, 40


def main() -> None:
    """Measure on a cluster that ends with the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--slept", type=int, default=SLEPT)
    parser.add_argument("--tiny", action="store_true", help="a few, to see that it runs")
    asked = parser.parse_args()
    os.environ.setdefault("RAY_raylet_start_wait_time_s", "300")  # a busy machine takes its time
    from ray.cluster_utils import Cluster

    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [*sys.path[:1], os.environ.get("PYTHONPATH", "")]))
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        for _ in range(WORKERS):
            cluster.add_node(num_cpus=1, object_store_memory=80 << 20)
        os.environ["RAY_ADDRESS"] = cluster.address
        measure(4 if asked.tiny else asked.steps, 4 if asked.tiny else asked.slept)
    finally:
        cluster.shutdown()


def measure(steps: int, slept: int) -> None:
    """Walk both plans, once the workers are warm."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare("driver", folder, max(steps, TINY))
        site = Site(
            workers=WORKERS, trainings=steps, device="cpu", threads=1, timeout=0.0, devices_per_step=1,
            folder=folder / "jobs", prepare=int,
        )  # fmt: skip
        inner = Ray().make(site)
        try:
            walk(folder, "warm", inner, 2 * WORKERS, 0.0)
            count, found = walk(folder, "nothing", inner, steps, 0.0)
            print(f"steps that do nothing: {count}, {count / found['seconds']:.0f} a second")
            each, driver = (1e3 * found[name] / count for name in ("seconds", "processor seconds"))
            print(f"  each: {each:.1f} ms, of them {driver:.1f} ms of the driver's processor time")
            count, found = walk(folder, "sleep", inner, slept, 1.0)
            print(
                f"steps of a second: {count} by {WORKERS} workers, efficiency {count / WORKERS / found['seconds']:.2f}"
            )
        finally:
            inner.close()


def walk(folder: Path, store: str, inner: Executor, steps: int, seconds: float) -> tuple[int, dict[str, float]]:
    """Walk the first so many steps of a plan; how many there were, and what it took."""
    whole = planned(folder, max(steps, TINY))
    plan = replace(whole, steps=dict(list(whole.steps.items())[:steps]))
    with timed() as found:
        summary = execute(plan, Store.open(folder / store), Instead(inner, seconds), lambda *_: None)
    assert summary.complete, summary.failed
    return len(plan.steps), found


class Instead:
    """An executor whose steps only sleep, wherever they run."""

    def __init__(self, inner: Executor, seconds: float) -> None:
        self.inner, self.seconds, self.sharing = inner, seconds, inner.sharing

    @property
    def slots(self) -> int:
        """As many as there are."""
        return self.inner.slots

    def submit(self, fn: Callable[..., Any], /, *args: Any, needs: Needs | None = None) -> Future[Any]:
        """Have it done there, without its work."""
        return self.inner.submit(idle, fn, self.seconds, *args, needs=needs)

    def stop(self) -> None:
        """Stop it."""
        self.inner.stop()

    def close(self) -> None:
        """Left open, for the next walk."""


def idle(fn: Callable[..., Any], seconds: float, *args: Any) -> Any:
    """What a worker does with steps whose work is to sleep."""
    from layover.run import WORK  # the worker's own: what this file imports travels with the function as a copy

    with patch.dict(WORK, {Train: partial(sleeping, seconds)}):
        return fn(*args)


def sleeping(seconds: float, *args: Any) -> None:
    """The work of a step that sleeps."""
    time.sleep(seconds)
    nothing(*args)


if __name__ == "__main__":
    main()
