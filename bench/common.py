"""What the benchmarks against transformers' `Trainer` share: runs, the rows that they read, encoders, and tables.

A run is described once and done by either engine in a process of its own (engines.py), with one thread, so that nothing
of one run is left for the next. The process that starts them never imports torch: a process's largest memory is at
least that of the one which started it.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import statistics
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from layover.tasks import TASKS
from layover.tasks.example import Example, Target
from layover.tasks.load import TaskData

FOUR = ("rte", "mnli", "sst2", "copa")
SIZES: dict[str, dict[str, Any]] = {"base": {}, "tiny": {"num_hidden_layers": 2, "hidden_size": 32,
                                                        "num_attention_heads": 2, "intermediate_size": 64}}  # fmt: skip


@dataclass(frozen=True)
class Run:
    """One training run; `rows` is a file of `write_rows`.

    `ordered`: the batches of the first epoch are the rows as they lie in the file, for either engine, instead of
    random ones. `start` and `save`: where a Trainer's model is read from and written to, for a run that continues
    another.
    """

    engine: Literal["trainer", "layover"]
    encoder: str
    rows: str
    precision: str = "fp32"
    batch_size: int = 32
    epochs: int = 1
    learning_rate: float = 1e-4
    max_length: int = 256
    seed: int = 1
    padding: Literal["longest", "max_length"] = "longest"
    ordered: bool = False
    start: str = ""
    save: str = ""


def alone(run: Run) -> dict[str, Any]:
    """Do a run in a process of its own; what engines.py prints about it."""
    command = [sys.executable, str(Path(__file__).with_name("engines.py")), json.dumps(asdict(run))]
    done = subprocess.run(command, env=one_thread(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{run}\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def one_thread() -> dict[str, str]:
    """The environment of a process that trains: one thread, no network."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}


def in_child(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function returns in a process of its own, where it may import torch."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as child:
        return child.submit(function, *arguments).result()


# rows


def write_rows(path: Path, task: str, train: Iterable[Example], validation: Iterable[Example]) -> str:
    """Write the examples of a run, with labels as indices; the file's name."""
    parts = {"train": train, "validation": validation}
    rows = {name: [[example.inputs, int(example.label)] for example in part] for name, part in parts.items()}
    path.write_text(json.dumps({"task": task, "n_labels": len(TASKS.get(task).labels), **rows}), encoding="utf-8")
    return str(path)


def read_rows(path: str) -> dict[str, Any]:
    """A file of `write_rows`; an input is a pair of segments, a segment a list of pieces or None."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def as_data(rows: dict[str, Any], order: Sequence[int]) -> TaskData:
    """The rows as layover's examples, those of train in another order."""
    train, validation = (
        tuple(Example(i, _inputs(inputs), (Target((float(label),)),)) for i, (inputs, label) in enumerate(part))
        for part in ([rows["train"][i] for i in order], rows["validation"])
    )
    return TaskData(TASKS.get(rows["task"]), train, (), validation, len(train), len(validation))


def _inputs(inputs: Any) -> Any:
    return tuple((tuple(first), None if second is None else tuple(second)) for first, second in inputs)


# encoders


def write_encoder(folder: Path, size: str) -> str:
    """Write a random RoBERTa of a size ("base": 12 layers of 768) that reads minilm's tokens; its folder."""
    import torch
    from transformers import AutoTokenizer, RobertaConfig, RobertaModel

    from layover.encoders import find

    tokenizer = AutoTokenizer.from_pretrained(find("minilm").location)
    torch.manual_seed(0)
    config = RobertaConfig(vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, type_vocab_size=2,
                           max_position_embeddings=514, **SIZES[size])  # fmt: skip
    RobertaModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


# results


class Ledger:
    """Results by name, in a file of JSON lines where one is given: what is there is not measured again.

    A name says the sizes, not the version of the code.
    """

    def __init__(self, path: Path | None) -> None:
        lines = path.read_text(encoding="utf-8").splitlines() if path is not None and path.exists() else []
        self.path, self.found = path, dict(map(json.loads, lines))
        self._lock = threading.Lock()

    def measure(self, runs: dict[str, Run], jobs: int) -> dict[str, Any]:
        """Do the runs that are missing, `jobs` at a time, in order; the results of all of them."""
        missing = [name for name in runs if name not in self.found]
        with ThreadPoolExecutor(jobs) as pool:
            for number, name in enumerate(pool.map(lambda name: self._add(name, alone(runs[name])), missing), 1):
                print(f"{number}/{len(missing)} {name}", file=sys.stderr, flush=True)
        return {name: self.found[name] for name in runs}

    def _add(self, name: str, result: dict[str, Any]) -> str:
        with self._lock:
            self.found[name] = result
            if self.path is not None:
                with self.path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps([name, result]) + "\n")
        return name


def accuracy(run: Run, result: dict[str, Any]) -> float:
    """The share of validation, in points, that was predicted right: the primary metric of all four tasks."""
    gold = [label for _, label in read_rows(run.rows)["validation"]]
    return 100 * statistics.mean(float(one == other) for one, other in zip(result["predicted"], gold, strict=True))


def geometric(values: Iterable[float]) -> float:
    """The geometric mean."""
    logs = [math.log(value) for value in values]
    return math.exp(sum(logs) / len(logs))


def show(title: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table in Markdown."""
    print(f"\n{title}\n")
    for cells in (head, ["---"] * len(head), *rows):
        print(f"| {' | '.join(cells)} |")
