"""What gpu.py measures, section by section: `python bench/gpu_runs.py SECTION SIZE`, SIZE a `Size` as JSON.

Each prints what it found as JSON in its last line.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

COHORT = 8


@dataclass(frozen=True)
class Size:
    """What is measured: a model (one of `CONFIGS`, with random weights, or a directory) and the runs that train it.

    At most `runs` runs are timed, and none begins once `seconds` have passed.
    """

    model: str
    device: str = "cuda"
    precision: str = "bf16"
    examples: int = 2490
    validation: int = 277
    tokens: int = 80
    longest: int = 256
    epochs: int = 10
    batch: int = 32
    runs: int = 3
    seconds: float = 30.0
    matrix: int = 8192


def ceiling(size: Size) -> dict[str, Any]:
    """TFLOP/s of a large matrix product."""
    import torch

    one, other = (torch.randn(size.matrix, size.matrix, device=size.device).bfloat16() for _ in range(2))
    times = [timed(size, lambda: one @ other) for _ in range(13)][3:]
    tflops = 2 * size.matrix**3 / statistics.median(times) / 1e12
    work = size.epochs * flops(config_of(size), lengths_of(size, size.examples, 0))
    return {"tflops": tflops, "flops": work, "device": device_name(size)}


def layover(size: Size, graphs: str) -> dict[str, Any]:
    """Runs one after the other, eager or by graphs."""
    from layover.train.loop import fit, predict

    validation = encoded(size, size.validation, 1)

    def run(job: Any) -> None:
        fit(job)
        predict(job, validation)

    return measured(size, lambda **changes: run(job_of(replace(size, **changes), graphs)))


def cohort(size: Size) -> dict[str, Any]:
    """Runs eight at a time, as a cohort; seconds are those of all eight."""
    from layover.train.cohort import fit_together  # pyright: ignore[reportMissingImports]
    from layover.train.loop import predict

    validation = encoded(size, size.validation, 1)

    def run(**changes: Any) -> None:
        for ended in fit_together([job_of(replace(size, **changes), "off", seed) for seed in range(COHORT)]):
            if ended.apart:
                raise RuntimeError(f"the runs were not trained together: {ended.apart}")
            ended.ended()
            predict(ended.job, validation)

    return {**measured(size, run), "at_once": COHORT}


def trainer(size: Size) -> dict[str, Any]:
    """Transformers' `Trainer`, a model and a `Trainer` of its own for each run, with its default padding."""
    import torch
    import transformers as hf

    def collated(rows: list[dict[str, Any]]) -> dict[str, Any]:
        ids = torch.nn.utils.rnn.pad_sequence([row["input_ids"] for row in rows], batch_first=True)
        labels = torch.tensor([row["labels"] for row in rows])
        return {"input_ids": ids, "attention_mask": (ids > 0).long(), "labels": labels}

    def run(**changes: Any) -> None:
        asked = replace(size, **changes)
        kind = hf.AutoModelForSequenceClassification
        with quiet():
            model = kind.from_config(config_of(asked)) if asked.model in CONFIGS else kind.from_pretrained(asked.model)
        arguments = hf.TrainingArguments(
            output_dir="/tmp/layover-bench", per_device_train_batch_size=asked.batch, num_train_epochs=asked.epochs,
            learning_rate=2e-5, warmup_steps=0.1, bf16=asked.precision == "bf16", report_to="none", save_strategy="no",
            logging_strategy="no", disable_tqdm=True, use_cpu=asked.device == "cpu",
        )  # fmt: skip
        rows: Any = rows_of(asked, asked.examples, 0)
        others: Any = rows_of(asked, asked.validation, 1)
        made = hf.Trainer(model=model, args=arguments, train_dataset=rows, data_collator=collated)
        made.train()
        made.predict(others)

    return measured(size, run)


def large(size: Size) -> dict[str, Any]:
    """RoBERTa-large with random weights on inputs of full length: TFLOP/s of whole steps, micro-batches as probed."""
    from layover.train.loop import fit
    from layover.train.memory import micro_tokens

    steps = 24 if size.device == "cuda" else 2
    whole = replace(size, examples=size.batch * steps, epochs=1, tokens=size.longest)
    stamps: list[float] = []
    job = job_of(whole, "off", evaluate_every=steps // 2, report=lambda _: stamps.append(now(size)))
    job.network.prepare(job.device)
    most = micro_tokens(job.network, job.recipe.precision, size.longest)
    fit(replace(job, micro_tokens=most))
    lengths = job.train.input_lengths[: len(job.train) // 2]
    seconds = stamps[1] - stamps[0]  # the second half: the first is the warm-up
    return {"seconds": [seconds], "tflops": flops(config_of(size), lengths) / seconds / 1e12, "micro_tokens": most}


def ready(size: Size) -> dict[str, Any]:
    """One of several processes: says when it has done its first run, waits for a line, and does the others."""
    from layover.train.loop import fit

    fit(job_of(replace(size, epochs=1), "on"))
    print("ready", flush=True)
    sys.stdin.readline()
    for _ in range(size.runs):
        fit(job_of(size, "on"))
    wait(size)
    return {"done": size.runs}


SECTIONS: dict[str, Callable[[Size], dict[str, Any]]] = {
    "ceiling": ceiling,
    "eager": lambda size: layover(size, "off"),
    "graphs": lambda size: layover(size, "on"),
    "compiled graphs": lambda size: layover(size, "compiled"),
    "cohort of 8, eager": cohort,
    "in-process Trainer": trainer,
    "Trainer, one process per run": lambda size: trainer(replace(size, runs=0)),
    "RoBERTa-large": large,
    "ready": ready,
}


def measured(size: Size, run: Callable[..., None]) -> dict[str, Any]:
    """Seconds of the first run and of the others, and the share of a profiled epoch in which the GPU was idle."""
    first = timed(size, run)
    seconds: list[float] = [first] if size.runs == 0 else []
    began = time.perf_counter()
    while len(seconds) < size.runs and (not seconds or time.perf_counter() - began < size.seconds):
        seconds.append(timed(size, run))
    idle = idle_share(lambda: run(epochs=2)) if size.device == "cuda" and size.runs else None
    return {"first": first, "seconds": seconds, "idle": idle}


def idle_share(work: Callable[[], None]) -> float:
    """The share of the time in which no kernel ran, in the later half of them: graphs are captured before."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        work()
        torch.cuda.synchronize()
    spans = sorted((event.time_range.start, event.time_range.end) for event in seen.events() or []
                   if str(event.device_type).endswith("CUDA") and not event.is_user_annotation)  # fmt: skip
    return idle_among(spans[len(spans) // 2 :])


def idle_among(spans: Sequence[tuple[float, float]]) -> float:
    """The share of the time from the first span's start to the last end that no span covers; they are sorted."""
    began, covered = spans[0][0], 0.0
    reached = began
    for start, end in spans:
        covered += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return 1 - covered / (reached - began)


# runs


CONFIGS: dict[str, dict[str, int]] = {
    "tiny": {"num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64},
    "minilm": {"num_hidden_layers": 6, "hidden_size": 384, "num_attention_heads": 12, "intermediate_size": 1536},
    "large": {"num_hidden_layers": 24, "hidden_size": 1024, "num_attention_heads": 16, "intermediate_size": 4096,
              "vocab_size": 50_265, "max_position_embeddings": 514},
}  # fmt: skip


def config_of(size: Size) -> Any:
    from transformers import AutoConfig, BertConfig, RobertaConfig

    if size.model not in CONFIGS:
        return AutoConfig.from_pretrained(size.model)
    return (RobertaConfig if size.model == "large" else BertConfig)(**CONFIGS[size.model])  # type: ignore[arg-type]


def job_of(size: Size, graphs: str, seed: int = 1, evaluate_every: int | None = None, report: Any = None) -> Any:
    """A run, with the model loaded."""
    import torch
    from transformers import AutoModel

    from layover.step import Recipe
    from layover.tasks.formats import Single
    from layover.tasks.task import Task
    from layover.train.determinism import prepare_process
    from layover.train.heads import Head
    from layover.train.loop import Job
    from layover.train.network import Network
    from layover.train.noise import Noise

    device = torch.device(size.device)
    prepare_process(1, device)
    config, noise = config_of(size), Noise()
    with quiet():
        encoder = AutoModel.from_config(config) if size.model in CONFIGS else AutoModel.from_pretrained(size.model)
    encoder.pooler = None
    head = Head(config.hidden_size, Task("bench", 1, Single("text"), ("accuracy",), ("no", "yes")), 0.1, seed, noise)
    recipe = Recipe(epochs=size.epochs, batch_size=size.batch, precision=size.precision, checkpoint="last",  # type: ignore[arg-type]
                    patience=0, evaluate_every=evaluate_every)  # fmt: skip
    return Job(
        network=Network(encoder, head, "first", noise), padding=0, train=encoded(size, size.examples, 0), recipe=recipe,
        selection=None, seed=seed, score=lambda _: 0.0, micro_tokens=65_536, checkpoint_seconds=1e9, device=device,
        resume=Path("none"), report=report or (lambda _: None), graphs=graphs,  # type: ignore[arg-type]
    )  # fmt: skip


def lengths_of(size: Size, count: int, seed: int) -> Any:
    """Lengths spread about their mean like those of RTE; all the same where the mean is the longest."""
    if size.tokens == size.longest:
        return np.full(count, size.longest)
    drawn = np.random.default_rng(seed).gamma(3.0, size.tokens / 3, count)
    return np.clip(drawn.round().astype(np.int64), min(16, size.tokens // 2), size.longest)


def encoded(size: Size, count: int, seed: int) -> Any:
    """Examples of two classes with random tokens."""
    from layover.train.encode import Encoded

    lengths = lengths_of(size, count, seed)
    draw, ends = np.random.default_rng(seed), np.cumsum(lengths)
    return Encoded(
        ids=draw.integers(1000, 30_000, int(ends[-1])).astype(np.int32), types=None, labels=draw.integers(0, 2, count),
        offsets=np.stack([ends - lengths, ends], axis=1), groups=np.arange(count + 1), bounds=np.arange(count + 1),
        spans=np.zeros((count, 0, 2), np.int32), lost=np.zeros(count, np.bool_), rows=np.arange(count),
        parts=np.zeros(count, np.int64), truncated=np.zeros(count, np.bool_),
    )  # fmt: skip


def rows_of(size: Size, count: int, seed: int) -> list[dict[str, Any]]:
    """The same examples as a Trainer takes them."""
    import torch

    data = encoded(size, count, seed)
    ids = [torch.from_numpy(data.ids[begin:end].astype(np.int64)) for begin, end in data.offsets]
    return [{"input_ids": part, "labels": int(label)} for part, label in zip(ids, data.labels, strict=True)]


def flops(config: Any, lengths: Any) -> float:
    """Operations of training on inputs of these lengths: matrices and attention, three times a forward pass."""
    width, layers, inner = config.hidden_size, config.num_hidden_layers, config.intermediate_size
    dense = 2 * layers * (4 * width**2 + 2 * width * inner) * float(lengths.sum())
    return 3 * (dense + 4 * layers * width * float((lengths.astype(float) ** 2).sum()))


def timed(size: Size, work: Callable[[], Any]) -> float:
    """Seconds that work takes, on the GPU too."""
    began = now(size)
    work()
    return now(size) - began


def now(size: Size) -> float:
    wait(size)
    return time.perf_counter()


def wait(size: Size) -> None:
    if size.device == "cuda":
        import torch

        torch.cuda.synchronize()


def device_name(size: Size) -> str:
    import torch

    return torch.cuda.get_device_name() if size.device == "cuda" else "cpu"


@contextmanager
def quiet() -> Iterator[None]:
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    yield


@contextmanager
def as_on_a_gpu(size: Size) -> Iterator[None]:
    """On a CPU: the stock encoder, padded, and steps that are called again where a GPU would replay them."""
    if size.device == "cuda":
        yield
        return
    from layover.train import graphs, network, ways

    with (
        mock.patch.object(ways, "prepare", return_value=ways.Ability("stock")),
        mock.patch.object(network, "install"),
        mock.patch.object(graphs, "OnGpu", return_value=lambda work: work),
        mock.patch.object(network, "compiled", return_value=ways.call),
    ):
        yield


if __name__ == "__main__":
    asked = Size(**json.loads(sys.argv[2]))
    with as_on_a_gpu(asked):
        print(json.dumps(SECTIONS[sys.argv[1]](asked)), flush=True)
