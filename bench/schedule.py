"""How far the end that `layover plan --workers N` foretells lies from the end of a run of the same plan.

    python bench/schedule.py    the plan of Pruksachatkun et al. 2020: 11 intermediate, 10 target and 25 probing
                                tasks, a sweep of eight recipes for each, three restarts; --workers N ...

Every step takes what its examples take, times a factor of its own (log-normal, a tenth wide), and a task's examples
take what its inputs' length says. The sweep has finished, and the store knows what it took: from that the end is
foretold. Then the plan is walked by the code that walks it in a run, on a clock that jumps from end to end.
"""

from __future__ import annotations

import argparse
import heapq
import random
import tempfile
from collections.abc import Callable, Collection
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from common import show
from scale import task

from layover.cost import estimate
from layover.encoders import Encoder
from layover.execute import execute, needed
from layover.executors import Needs
from layover.files import write_json, write_jsonl
from layover.integrity import seal
from layover.plan import Plan, compile_plan
from layover.run import Outcome
from layover.step import Choose, Train, key_of, to_json
from layover.store import Store
from layover.study import Study

# training examples and tokens of an input, roughly, as the paper's tasks have them
INTERMEDIATE = {
    "commonsenseqa": (9741, 80), "scitail": (23596, 40), "cosmosqa": (25588, 400), "socialiqa": (33410, 110),
    "ccg": (38015, 28), "hellaswag": (39905, 360), "qasrl": (44837, 35), "sst2": (67349, 14), "qamr": (73561, 35),
    "qqp": (363846, 30), "mnli": (392702, 40),
}  # fmt: skip
TARGET = {
    "cb": (250, 90), "copa": (400, 34), "wsc": (554, 30), "rte": (2490, 70), "multirc": (5100, 320), "wic": (5428, 25),
    "boolq": (9427, 130), "commonsenseqa": (9741, 80), "cosmosqa": (25588, 400), "record": (100730, 250),
}  # fmt: skip
PROBING = {
    **{f"edge{i}": (size, 28) for i, size in enumerate((231480, 110513, 81035, 49706, 41777, 12496, 6851, 3843, 2226,
                                                         958))},
    **{f"senteval{i}": (100000, 20) for i in range(10)},
    **{f"judgement{i}": (size, 15) for i, size in enumerate((8551, 432, 404, 382, 332))},
}  # fmt: skip
INTERMEDIATE, TARGET, PROBING = (  # tasks of these names are there, and would have to be read
    {f"as_{name}": about for name, about in group.items()} for group in (INTERMEDIATE, TARGET, PROBING)
)
SIZES = {**PROBING, **TARGET, **INTERMEDIATE}
SPREAD = 0.1
RATE = 1e-5  # seconds for a token


def main() -> None:
    """Foretell and walk, for each number of workers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 8, 32, 128])
    parser.add_argument("--tiny", action="store_true", help="two restarts of a few tasks, to see that it runs")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        plan = planned(Path(folder), asked.tiny)
        times = drawn(plan)
        store = Store.open(Path(folder) / "store")
        swept = {parent for step in plan.steps.values() if isinstance(step, Choose) for parent in step.parents}
        for key in swept:
            finish(store, plan, key, times[key])
        todo = needed(plan, store)
        rows = []
        for workers in asked.workers:
            foretold = estimate(plan, store, todo, workers).makespan
            walked = walk(plan, store, times, workers)
            rows.append([str(workers), f"{foretold:,.0f} s", f"{walked:,.0f} s", f"{foretold / walked - 1:+.1%}"])
        show(
            f"{len(plan.steps)} steps, of which {len(todo)} are left", ["workers", "foretold", "walked", "off by"], rows
        )


def planned(folder: Path, tiny: bool) -> Plan:
    """The paper's plan, with tasks that have its sizes and nothing to read."""
    few = (lambda group: dict(list(group.items())[:3])) if tiny else dict
    roles = {"target": few(TARGET), "probing": few(PROBING)}
    sources = few(INTERMEDIATE)
    names = list(dict.fromkeys([*roles["target"], *roles["probing"], *sources]))
    for index in range(len(names)):
        for split in ("train", "validation"):
            rows = [{"text": f"{index} {i}", "label": ("no", "yes")[i % 2]} for i in range(4)]
            write_jsonl(folder / f"t{index}.{split}.jsonl", rows)
    words: dict[str, Any] = {
        "schema": 1, "name": "paper", "encoders": ["e"], "seeds": [1, 2] if tiny else [1, 2, 3],
        "tasks": {role: list(group) for role, group in roles.items()},
        "task": {name: task(folder, index) for index, name in enumerate(names)},
        "limit": {"task": {name: {"train": SIZES[name][0]} for name in names}},
        "recipe": {"epochs": 10},
        "sweep": {"learning_rate": [2e-5, 1e-5, 5e-6, 3e-6], "dropout": [0.2, 0.1]},
        "strategies": {"direct": {"kind": "direct"}, "stilts": {"kind": "stilts", "sources": list(sources)}},
    }  # fmt: skip
    with patch("layover.encoders.find", lambda name, base=None: Encoder(name, f"sha256:{name}", "/nowhere")):
        return compile_plan(Study(**words))


def drawn(plan: Plan) -> dict[str, float]:
    """What every step takes, in seconds."""
    draw, found = random.Random(1), {}
    for key, step in plan.steps.items():
        found[key] = 0.1
        if isinstance(step, Train):
            examples, tokens = SIZES[step.task.name]
            epochs = step.recipe.n_epochs(examples)
            found[key] = 5 + RATE * examples * tokens * epochs * draw.lognormvariate(0, SPREAD)
    return found


def finish(store: Store, plan: Plan, key: str, seconds: float) -> None:
    """Make a step a finished one that took so long."""
    folder, step = store.folder(key), plan.steps[key]
    folder.mkdir()
    write_json(folder / "step.json", to_json(step), durable=False)
    write_jsonl(folder / "observations.jsonl", [], durable=False)
    size = SIZES[step.task.name][0] if isinstance(step, Train) else 0
    facts = {"seconds": seconds, "examples": {"train": size}, "available": {"train": size}}
    write_json(folder / "provenance.json", facts, durable=False)
    (folder / "weights").mkdir()
    seal(folder)


class Clock:
    """An executor on which time passes only while something is waited for."""

    sharing = 1

    def __init__(self, times: dict[str, float], slots: int) -> None:
        self.times, self.slots, self.now = times, slots, 0.0
        self.ends: list[tuple[float, int, Future[Any], str]] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, needs: Needs | None = None) -> Future[Any]:
        """Begin a step now; it ends when its time is over."""
        ((step, _),) = args[0]
        future: Future[Any] = Future()
        heapq.heappush(self.ends, (self.now + self.times[key_of(step)], len(self.ends), future, key_of(step)))
        return future

    def wait(self, running: Collection[Future[Any]], *_: Any) -> Any:
        """Go on to the next end."""
        self.now, _, future, key = heapq.heappop(self.ends)
        future.set_result([Outcome(key, "finished")])
        return SimpleNamespace(done={future})

    def stop(self) -> None:
        """Nothing runs."""

    def close(self) -> None:
        """Nothing is held."""


def walk(plan: Plan, store: Store, times: dict[str, float], workers: int) -> float:
    """When a run of what is left ends with so many workers, by the code that walks plans."""
    clock = Clock(times, workers)
    with patch("layover.execute.wait", clock.wait), patch("layover.execute.put_aside_after", lambda *_: {}):
        summary = execute(plan, store, clock, lambda *_: None)
    assert summary.complete
    return clock.now


if __name__ == "__main__":
    main()
