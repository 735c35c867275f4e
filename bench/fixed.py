"""What a run costs beside its work, in a warm worker: minilm on a few short rows of RTE, with one optimizer step.

    python bench/fixed.py run --data DIR     DIR holds rte; --rounds N
    python bench/fixed.py idle --data DIR    the command on a finished study, each time in a process of its own

Each part is timed without the parts inside it. Runs of two steps say what a further step and its evaluation take: that
is work, and so is predicting the validation set; the rest is fixed. Prints medians over rounds, wall and processor
time; where other things run on the machine, processor time is the one to read.
"""

from __future__ import annotations

import argparse
import os
import pkgutil
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial, wraps
from pathlib import Path
from typing import Any
from unittest.mock import patch

ROWS, TOKENS = 8, 8
PARTS = {
    "claim": ("layover.run.Claim.take", "layover.run.Claim.__enter__", "layover.run.Claim.__exit__"),
    "data": ("layover.kinds.train.data_of", "layover.train.work.splits"),
    "encoder and tokenizer": ("layover.train.warm.encoder", "layover.train.warm.tokenizer"),
    "head": ("layover.train.model.load",),
    "optimizer": ("torch.optim.AdamW.__init__",),
    "training": ("layover.train.loop.fit",),
    "evaluation": ("layover.train.loop.predict",),
    "predictions": ("layover.train.work.write_predictions",),
    "publish": ("layover.store.Store.publish",),
}
OTHER = "everything else"
Pair = tuple[float, float]
Spent = dict[str, Pair]


class Clock:
    """Wall and processor seconds of each part, without those of the parts inside it."""

    def __init__(self) -> None:
        self.spent: Spent = defaultdict(lambda: (0.0, 0.0))
        self._inside = [(0.0, 0.0)]

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, whose time counts for a part."""

        @wraps(function)
        def run(*arguments: Any, **named: Any) -> Any:
            wall, cpu = time.perf_counter(), time.process_time()
            self._inside.append((0.0, 0.0))
            try:
                return function(*arguments, **named)
            finally:
                whole = time.perf_counter() - wall, time.process_time() - cpu
                self.spent[part] = _sum(self.spent[part], whole, self._inside.pop())
                self._inside[-1] = _sum(self._inside[-1], whole)

        return run


def _sum(one: Pair, two: Pair, less: Pair = (0.0, 0.0)) -> Pair:
    """One and two, less a third."""
    return one[0] + two[0] - less[0], one[1] + two[1] - less[1]


def timed_step(step: Any, store: Any, places: Any) -> tuple[Spent, float]:
    """What each part of one step takes, in the process that calls this, and the process's largest memory in MB."""
    import layover.train.work  # noqa: F401  patches need it
    from layover.run import run_step

    clock = Clock()
    with ExitStack() as patches:
        for part, names in PARTS.items():
            for name in names:
                patches.enter_context(patch(name, clock.timed(part, pkgutil.resolve_name(name))))
        outcome = clock.timed(OTHER, run_step)(step, store, places)
    assert outcome.status == "finished", outcome
    return dict(clock.spent), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def session_of(folder: Path, data: list[Path], seeds: int, epochs: int) -> Any:
    """A study of one target with so many seeds."""
    from layover.session import Session
    from layover.study import Study

    study = Study(
        name=f"fixed-{epochs}", encoders=["minilm"], seeds=list(range(seeds)), tasks={"target": ["rte"]},
        strategies={"direct": {"kind": "direct"}}, limit={"train": ROWS, "validation": ROWS},
        recipe={"epochs": epochs, "batch_size": ROWS, "max_length": TOKENS}, placement={"device": "cpu", "threads": 1},
    )  # fmt: skip
    return Session.open(study, folder / "store", data)


def run(data: list[Path], rounds: int) -> None:
    """The parts of a run, in a worker that is warm."""
    from fixed import timed_step as timed  # under a name that the worker knows, too

    from layover.executors.workers import Workers
    from layover.run import prepare

    with tempfile.TemporaryDirectory() as folder:
        sessions = [session_of(Path(folder), data, rounds + 2, epochs) for epochs in (1, 2)]
        places = sessions[0].plan.places
        worker = Workers(1, 1, partial(prepare, places))
        found: list[list[Spent]] = [[], []]
        memory = 0.0
        for steps in zip(*(session.plan.steps.values() for session in sessions), strict=True):
            for spent, step, session in zip(found, steps, sessions, strict=True):
                one, memory = worker.submit(timed, step, session.store, places).result()
                spent.append(one)
        worker.close()
    once, twice = ({part: _middle(spent[2:], part) for part in (*PARTS, OTHER)} for spent in found)
    first, second = (_sum(spent["training"], spent["evaluation"]) for spent in (once, twice))
    work = _sum(second, (0, 0), first)
    # half of what is evaluated is the selection set, which is a part of training
    validation = once["evaluation"][0] / 2, once["evaluation"][1] / 2
    total = sum(times[0] for times in once.values()), sum(times[1] for times in once.values())
    _print("", "wall ms", "processor ms")
    for part, times in once.items():
        _print(part, *times)
    _print("in all", *total)
    _print("  of it a step with its evaluation", *work)
    _print("  of it predicting validation", *validation)
    _print("fixed", *_sum(total, (0, 0), _sum(work, validation)))
    print(f"largest memory of the worker: {memory:.0f} MB")


def _middle(spent: list[Spent], part: str) -> Pair:
    each = [one.get(part, (0.0, 0.0)) for one in spent]
    return statistics.median(wall for wall, _ in each), statistics.median(cpu for _, cpu in each)


def _print(name: str, *values: Any) -> None:
    print(f"{name:36}" + "".join(f"{v if isinstance(v, str) else f'{1000 * v:.1f}':>14}" for v in values))


def idle(data: list[Path], rounds: int) -> None:
    """`layover run` and `layover status` where everything is finished, and Python with nothing at all."""
    study = 'name = "idle"\nencoders = ["minilm"]\nseeds = [1]\ntasks = { target = ["rte"] }\n' \
            'strategies = { direct = { kind = "direct" } }\nlimit = { train = 8, validation = 8 }\n' \
            'recipe = { epochs = 1, max_length = 8 }\n'  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "idle.toml").write_text(study, encoding="utf-8")
        words = ["idle.toml", *(word for directory in data for word in ("--data", str(directory.resolve())))]
        commands = {
            "python": ["-c", ""],
            "layover run": ["-m", "layover.cli", "run", *words],
            "layover status": ["-m", "layover.cli", "status", *words],
        }
        subprocess.run([sys.executable, *commands["layover run"]], cwd=folder, check=True, capture_output=True)
        found: dict[str, list[Pair]] = {command: [] for command in commands}
        for _ in range(rounds):
            for command, arguments in commands.items():
                wall, before = time.perf_counter(), os.times()
                subprocess.run([sys.executable, *arguments], cwd=folder, check=True, capture_output=True)
                after = os.times()
                cpu = sum(after[2:4]) - sum(before[2:4])
                found[command].append((time.perf_counter() - wall, cpu))
    _print("", "wall ms", "processor ms")
    for command, times in found.items():
        _print(command, *(statistics.median(one[i] for one in times) for i in (0, 1)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["run", "idle"])
    parser.add_argument("--data", type=Path, action="append", default=[])
    parser.add_argument("--rounds", type=int, default=9)
    asked = parser.parse_args()
    (run if asked.what == "run" else idle)(asked.data, asked.rounds)
