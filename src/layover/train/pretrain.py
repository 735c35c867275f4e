"""Pretrain: a small RoBERTa-style encoder from nothing, by the loop, masking and head that continue one on a text.

A run is a `Job` on blocks of text whose encoder has random weights. It may be trained in pieces of any length: each
ends with a checkpoint, and on a CPU all of them together end with the weights of one piece, bit for bit.
"""

from __future__ import annotations

import dataclasses
import math
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from layover.errors import Problem, UserError, raise_all
from layover.files import read_json, write_json
from layover.step import Recipe
from layover.train import checkpoint, loop
from layover.train.card import RECORD, card
from layover.train.checkpoint import State
from layover.train.corpus import BYTES, SPECIAL, Corpus, Texts, prepared
from layover.train.decode import Raw
from layover.train.determinism import derive, pick_device, prepare_process
from layover.train.loop import Job
from layover.train.masked import in_model
from layover.train.masking import Masking, hidden_once
from layover.train.memory import micro_tokens, prepare_heap
from layover.train.network import Network
from layover.train.noise import Noise

WORK = "unfinished"  # the folder of what a run needs to go on; it goes when the run ends
CHECKPOINT_SECONDS = 60.0  # that a killed run loses at most
EVALUATIONS = 40  # of a whole run, unless it is said
CAPABLE = 8  # compute capability from which a GPU multiplies in bf16


@dataclass(frozen=True)
class Settings:
    """What decides the encoder beside its text: its shape, and how it is trained.

    `batch_size` counts blocks of `max_length` tokens. The learning rate rises for a share `warmup` of the `steps`, then
    falls to zero. `precision` None is bf16 on a GPU that multiplies in it, else fp32; the first piece settles it.
    """

    layers: int = 4
    width: int = 256
    heads: int = 4
    vocabulary: int = 8192
    max_length: int = 128
    steps: int = 20_000
    batch_size: int = 256
    learning_rate: float = 5e-4
    warmup: float = 0.06
    evaluate_every: int | None = None
    precision: Literal["fp32", "tf32", "bf16"] | None = None
    seed: int = 1

    def check(self) -> None:
        """Raise UserError with every value that cannot be."""
        least = BYTES + len(SPECIAL)
        problems = [
            Problem(f"--{name.replace('_', '-')}", f"is {getattr(self, name):,}", f"give {low:,} or more")
            for name, low in (("layers", 1), ("width", 8), ("heads", 1), ("vocabulary", least), ("max_length", 8),
                              ("steps", 1), ("batch_size", 1))
            if getattr(self, name) < low
        ]  # fmt: skip
        if self.heads > 0 and self.width % self.heads:
            dividing = ", ".join(str(n) for n in range(1, 17) if not self.width % n)
            what = f"{self.heads} heads do not divide a width of {self.width}"
            problems.append(Problem("--heads", what, f"heads that do: {dividing}"))
        if not 0 < self.learning_rate < 1:
            problems.append(
                Problem("--learning-rate", f"is {self.learning_rate:g}", "give more than 0 and less than 1")
            )
        raise_all(UserError, problems)


@dataclass(frozen=True)
class Piece:
    """One call: where it is made, how long it trains (None: to the end), and who is told about the run's progress."""

    seconds: float | None = None
    device: str = "auto"
    threads: int = 0
    tell: Callable[[dict[str, Any]], None] = lambda _: None


def pretrain(settings: Settings, texts: Texts, folder: Path, piece: Piece, facts: dict[str, Any]) -> dict[str, Any]:
    """Train an encoder from nothing, or go on with it, and write it to `folder`; returns its record.

    The folder is a standard directory, with the tokenizer, after every piece. `facts` are added to the record. Raises
    UserError where settings or texts cannot be, or the folder holds something else. Of a run whose loss became NaN
    (`stopped`) nothing is written.
    """
    settings.check()
    texts.check()
    device = pick_device(piece.device)
    settings = _begun(settings, texts, folder, device)
    if (record := _finished(folder)) is not None:
        return record
    prepare_process(piece.threads, device)
    prepare_heap()
    work = folder / WORK
    piece.tell({"preparing": True})
    corpus = prepared(work / "corpus", texts, settings.vocabulary, settings.max_length)
    model = new_model(settings, corpus.tokenizer)
    job = _job(settings, corpus, model, piece, device, work)
    started, before = time.monotonic(), checkpoint.state_in(work)
    state, ended = _train(job, piece.seconds)
    seconds = round(time.monotonic() - started, 3)
    pieces = [*(read_json(path) if (path := work / "pieces.json").is_file() else []),
              {"from": before.step if before else 0, "to": state.step, "seconds": seconds, "device": _name(device),
               "threads": torch.get_num_threads()}]  # fmt: skip
    record = {**_record(settings, corpus, model, state, pieces, ended), **facts}
    if state.stopped:  # weights that are no numbers serve nobody
        return record
    if ended:
        record["held_out"] = _held_out(job)
    _write(folder, settings, corpus, model, record)
    if ended:
        shutil.rmtree(work)
    else:
        write_json(work / "pieces.json", pieces)
    return record


def new_model(settings: Settings, tokenizer: Any) -> Any:
    """A RoBERTa with its masked-LM head and random weights, without dropout under way."""
    from transformers import RobertaConfig, RobertaForMaskedLM

    config = RobertaConfig(
        vocab_size=len(tokenizer),
        hidden_size=settings.width,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        intermediate_size=4 * settings.width,
        max_position_embeddings=settings.max_length + tokenizer.pad_token_id + 1,
        type_vocab_size=1,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive(settings.seed, "initial"))
        return RobertaForMaskedLM(config).eval()


def _begun(settings: Settings, texts: Texts, folder: Path, device: torch.device) -> Settings:
    """The settings of the run in a folder, with its precision; a new run's are written there."""
    path, finished = folder / WORK / "settings.json", folder / RECORD
    known = path.is_file() or finished.is_file()
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir()) and not known):
        hint = "name a new or an empty folder with --out, or one in which a run was begun"
        raise UserError(Problem(str(folder), "exists and holds no such run, and nothing is overwritten", hint))
    asked = {**dataclasses.asdict(settings), "texts": texts.digest()}
    if not known:
        precision = settings.precision or ("bf16" if _multiplies_in_bf16(device) else "fp32")
        settings = replace(settings, precision=precision)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {**asked, "precision": precision})
        return settings
    there = read_json(path) if path.is_file() else read_json(finished)["settings"]
    differing = [name for name, value in asked.items() if value != there[name] and (name, value) != ("precision", None)]
    hint = "give the same settings to go on with it, or name another folder with --out"
    raise_all(UserError, [
        Problem(str(folder), f"the run there was begun with {name} {there[name]}, not {asked[name]}", hint)
        for name in differing
    ])  # fmt: skip
    return replace(settings, precision=there["precision"])


def _finished(folder: Path) -> dict[str, Any] | None:
    """The record of a run that has ended."""
    path = folder / RECORD
    record = read_json(path) if path.is_file() else None
    return record if record and record["finished"] and not (folder / WORK).is_dir() else None


def _job(settings: Settings, corpus: Corpus, model: Any, piece: Piece, device: torch.device, work: Path) -> Job:
    head = in_model(model)
    assert head is not None
    network = Network(model.base_model, head, "first", Noise()).prepare(device)
    masking = Masking.of(corpus.tokenizer, len(corpus.tokenizer), settings.seed)
    precision = settings.precision or "fp32"
    recipe = Recipe(
        learning_rate=settings.learning_rate,
        batch_size=settings.batch_size,
        max_length=settings.max_length,
        warmup=settings.warmup,
        evaluate_every=settings.evaluate_every or max(1, settings.steps // EVALUATIONS),
        patience=0,
        checkpoint="last",
        precision=precision,
    )
    limit = CHECKPOINT_SECONDS
    parts = 1 if piece.seconds is None else max(1, math.ceil(piece.seconds / limit))
    return Job(
        network=network,
        padding=corpus.tokenizer.pad_token_id,
        train=replace(corpus.train, masking=masking),
        selection=hidden_once(corpus.held, masking),
        recipe=recipe,
        seed=settings.seed,
        score=_score,
        micro_tokens=micro_tokens(network, precision, settings.max_length),
        checkpoint_seconds=limit if piece.seconds is None else piece.seconds / parts,
        device=device,
        resume=work,
        report=piece.tell,
        steps=settings.steps,
    )


def _score(raw: Raw) -> float:
    """What the curve shows: the mean log-probability of tokens hidden in the held-out text."""
    return float(raw.scores[:, 0].mean())


def _train(job: Job, seconds: float | None) -> tuple[State, bool]:
    """Train for so long, and on to the checkpoint that is due then; returns where the run stands, and if it ended."""
    run, take = loop.started(job)
    began, saved = time.monotonic(), _stamp(job)
    try:
        turn = next(run)
        while True:
            turn = run.send(take(turn))
            if _stamp(job) != saved:
                saved = _stamp(job)
                if seconds is not None and time.monotonic() - began >= seconds:
                    run.close()
                    state = checkpoint.state_in(job.resume)
                    assert state is not None
                    return state, False
    except StopIteration as ended:
        return ended.value, True


def _stamp(job: Job) -> tuple[int, int] | None:
    path = job.resume / checkpoint.FILE
    if not path.is_file():
        return None
    found = path.stat()
    return found.st_ino, found.st_mtime_ns


def _held_out(job: Job) -> dict[str, float]:
    """Loss in nats and accuracy in points on the held-out blocks, by the last weights."""
    assert job.selection is not None
    raw = loop.predict(job, job.selection)
    loss = -_score(raw)
    accuracy = 100 * float(np.mean(raw.predicted == job.selection.labels))
    return {"loss": loss, "perplexity": math.exp(min(loss, 700.0)), "accuracy": accuracy, "hidden": len(raw.predicted)}


def _record(
    settings: Settings, corpus: Corpus, model: Any, state: State, pieces: list[dict[str, Any]], ended: bool
) -> dict[str, Any]:
    curve = [{"step": p["step"], "loss": p["loss"], "held_out_loss": -p["selection"]} for p in state.curve]
    return {
        "finished": ended,
        "stopped": state.stopped,
        "settings": {**dataclasses.asdict(settings), "texts": corpus.facts["digest"]},
        "data": dict(corpus.facts),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "steps": state.step,
        "tokens": state.tokens,
        "epochs": round(state.tokens / max(1, len(corpus.train.ids)), 3),
        "seconds": round(sum(piece["seconds"] for piece in pieces), 3),
        "pieces": pieces,
        "curve": curve,
        "held_out": {"loss": curve[-1]["held_out_loss"]} if curve else {},
    }


def _write(folder: Path, settings: Settings, corpus: Corpus, model: Any, record: dict[str, Any]) -> None:
    """Write the model, its tokenizer and the record; each file is the old one or the new one."""
    plain = new_model(settings, corpus.tokenizer)  # the trained one's modules were made ready for training
    plain.load_state_dict({name: tensor.cpu() for name, tensor in model.state_dict().items()})
    made = folder / WORK / "model"
    shutil.rmtree(made, ignore_errors=True)
    plain.save_pretrained(made)
    corpus.tokenizer.save_pretrained(made)
    write_json(made / RECORD, record)
    (made / "README.md").write_text(card(record), encoding="utf-8")
    for path in sorted(made.iterdir(), key=lambda path: path.name == RECORD):
        path.replace(folder / path.name)


def _multiplies_in_bf16(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.get_device_capability(device)[0] >= CAPABLE


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
