"""What layover itself costs where a study is large: nothing trains, and every step is real to the plan and the store.

    python bench/scale.py compile    a plan of --steps steps: time and largest memory
    python bench/scale.py resume     a store with so many finished steps: until the first of those left is begun
    python bench/scale.py driver     --steps steps that do nothing, one after the other: claimed, published, settled
    python bench/scale.py query      an aggregate over four observations of each of --steps steps

Each is measured in a process of its own, wall and processor time. Where other things run on the machine, processor time
is the one to read.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from layover.catalog import catalog
from layover.encoders import Encoder
from layover.execute import execute, needed
from layover.executors import Needs
from layover.executors.local import InProcess
from layover.files import write_json, write_jsonl, write_table
from layover.integrity import CATALOG, seal
from layover.plan import Plan, compile_plan
from layover.query import ask
from layover.run import WORK
from layover.session import Session
from layover.step import Train, to_json
from layover.store import Store
from layover.study import Study

TARGETS, SEEDS, TINY, SAMPLE = 49, 50, 300, 200
QUERY = "select source, target, avg(value) from observations where metric = 'accuracy' group by all order by 3 desc"
Measured = dict[str, float]


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=sorted(PARTS))
    parser.add_argument("--steps", type=int, default=0, help="about so many; 0 for as many as the figures are of")
    parser.add_argument("--tiny", action="store_true", help="a few, to see that it runs")
    asked = parser.parse_args()
    measure, usual = PARTS[asked.what]
    with tempfile.TemporaryDirectory() as folder:
        steps = TINY if asked.tiny else asked.steps or usual
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as maker:
            maker.submit(prepare, asked.what, Path(folder), steps).result()
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as child:
            found = child.submit(measure, Path(folder), steps).result()
        for name, value in found.items():
            print(f"{name:>40} {value:,.3f}".rstrip("0").rstrip("."))


# what is measured


def compiling(folder: Path, steps: int) -> Measured:
    """The time and memory of compiling a plan."""
    with timed() as found:
        plan = planned(folder, steps)
    return {"steps": len(plan.steps), **found, "GB at most": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6}


def resuming(folder: Path, steps: int) -> Measured:
    """The time from a compiled plan to the first step that is begun: look at the store, record the study, begin."""
    plan, store = planned(folder, steps), Store.open(folder / "store")
    with timed() as looking:
        left = needed(plan, store)
    with timed() as recording:
        store.record_study("scale", **Session(plan, store).record())
    watch = Watch()
    with patch.dict(WORK, {Train: nothing}), timed() as running:
        execute(plan, store, watch, lambda *_: None)
    parts = {"to see what is left": looking, "to record the study": recording, "to begin the first": watch.begun}
    both = {name: sum(part[name] for part in parts.values()) for name in looking}
    return {
        "steps": len(plan.steps),
        "of them left to do": len(left),
        **{f"{name} {what}": value for what, part in parts.items() for name, value in part.items()},
        **{f"{name} in all, to there": value for name, value in both.items()},
        **{f"{name} until all were done": value for name, value in running.items()},
    }


def driving(folder: Path, steps: int) -> Measured:
    """What one step that does nothing takes from being ready to being settled."""
    plan, store = planned(folder, steps), Store.open(folder / "driven")
    with patch.dict(WORK, {Train: nothing}), timed() as found:
        summary = execute(plan, store, InProcess(), lambda *_: None)
    assert summary.complete
    return {
        "steps": len(plan.steps),
        **{f"{name} per thousand steps": 1e3 * v / len(plan.steps) for name, v in found.items()},
    }


def asking(folder: Path, steps: int) -> Measured:
    """What an aggregate over all observations takes, from a store that was asked before."""
    store = Store.open(folder / "store")
    with timed() as first:
        ask(store, QUERY)
    with timed() as found:
        rows = ask(store, QUERY)[1]
    observations = ask(store, "select count(*) from observations")[1][0][0]
    return {"observations": observations, "rows of the answer": len(rows), "first time": first["seconds"], **found}


PARTS: dict[str, tuple[Callable[[Path, int], Measured], int]] = {
    "compile": (compiling, 100_000), "resume": (resuming, 100_000), "driver": (driving, 1_000),
    "query": (asking, 250_000),
}  # fmt: skip


# what it is measured on


def prepare(what: str, folder: Path, steps: int) -> None:
    """Write the tasks' files and, where that is needed, a store in which all steps, or all but three, are finished."""
    for index in range(max(TARGETS, *shape(steps))):
        for split in ("train", "validation"):
            rows = [{"text": f"{index} {i}", "label": ("no", "yes")[i % 2]} for i in range(4)]
            write_jsonl(folder / f"t{index}.{split}.jsonl", rows)
    if what in ("resume", "query"):
        plan, store = planned(folder, steps), Store.open(folder / "store")
        keys = list(plan.steps)[: -3 if what == "resume" else None]
        for key in keys if what == "resume" else keys[:SAMPLE]:
            finish(store, plan, key)
        store.record_study("scale", **Session(plan, store).record())
        if what == "query":
            catalogued(store, keys[SAMPLE:])


def catalogued(store: Store, keys: list[str]) -> None:
    """Have more finished steps in the store's catalog, as those that are there: it alone is asked about them."""
    import numpy as np
    import pyarrow as pa

    found = catalog(store)
    for key in keys:
        store.folder(key).mkdir()
    more = found.take(pa.array(np.arange(len(keys)) % len(found)))
    more = more.set_column(0, "key", pa.array(keys, pa.string()))
    write_table(store.root / CATALOG, pa.concat_tables([found, more]).sort_by("key"))


def shape(steps: int) -> tuple[int, int, int]:
    """How many sources, targets and seeds make about so many steps."""
    targets, seeds = (TARGETS, SEEDS) if steps > 5_000 else (9, 5)
    return max(1, round((steps / seeds - targets) / (targets + 1))), targets, seeds


def planned(folder: Path, steps: int) -> Plan:
    """A plan of about so many steps: direct, and stops at many sources, for many targets and seeds."""
    sources, targets, seeds = shape(steps)
    names = {"source": [f"s{i}" for i in range(sources)], "target": [f"t{i}" for i in range(targets)]}
    own = {name: task(folder, i) for group in names.values() for i, name in enumerate(group)}
    stilts = {"kind": "stilts", "sources": names["source"]}
    words: dict[str, Any] = {
        "schema": 1, "name": "scale", "encoders": ["e"], "seeds": list(range(seeds)), "task": own,
        "tasks": {"target": names["target"]}, "strategies": {"direct": {"kind": "direct"}, "stilts": stilts},
    }  # fmt: skip
    study = Study(**words)
    with patch("layover.encoders.find", lambda name, base=None: Encoder(name, f"sha256:{name}", "/nowhere")):
        return compile_plan(study)


def task(folder: Path, index: int) -> dict[str, Any]:
    """The declaration of a task of a study's own."""
    files = {split: str(folder / f"t{index}.{split}.jsonl") for split in ("train", "validation")}
    return {**files, "format": "single", "text": "text", "labels": ["no", "yes"]}


def scores(key: str) -> list[dict[str, Any]]:
    """Four made-up observations of a step."""
    value = int(key[:4], 16) / 0xFFFF
    rows = [("validation", "accuracy"), ("validation", "f1"), ("selection", "accuracy"), ("selection", "f1")]
    return [{"task": "t", "split": s, "metric": m, "value": value, "status": "ok"} for s, m in rows]


def finish(store: Store, plan: Plan, key: str) -> None:
    """Make a step a finished one, without what makes that safe."""
    folder = store.folder(key)
    folder.mkdir()
    write_json(folder / "step.json", to_json(plan.steps[key]), durable=False)
    leave(folder, key)
    seal(folder)


def leave(folder: Path, key: str) -> None:
    """The results of a step that did nothing."""
    write_jsonl(folder / "observations.jsonl", scores(key), durable=False)
    write_json(folder / "provenance.json", {"seconds": 1.0, "examples": {"train": 4}}, durable=False)


def nothing(step: Any, store: Store, places: Any, attempt: Path, keep: bool, progress: Any) -> None:
    """The work of a step that does nothing."""
    leave(attempt, "0" * 16)
    if keep:
        (attempt / "weights").mkdir()
        (attempt / "weights" / "head.json").write_text("{}")


class Watch(InProcess):
    """An executor that notes what had passed when the first step was begun."""

    def __init__(self) -> None:
        self.begun: Measured = {}
        self.clocks = time.perf_counter(), time.process_time()

    def submit(self, fn: Callable[..., Any], /, *args: Any, needs: Needs | None = None) -> Future[Any]:
        """Note the time, and run."""
        if not self.begun:
            wall, cpu = self.clocks
            self.begun = {"seconds": time.perf_counter() - wall, "processor seconds": time.process_time() - cpu}
        return super().submit(fn, *args, needs=needs)


@contextmanager
def timed() -> Iterator[Measured]:
    """Wall and processor seconds of what is done within."""
    found: Measured = {}
    wall, cpu = time.perf_counter(), time.process_time()
    yield found
    found |= {"seconds": time.perf_counter() - wall, "processor seconds": time.process_time() - cpu}


if __name__ == "__main__":
    main()
