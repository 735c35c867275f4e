"""What the tests share: tiny encoders of six families, generated data, study files, and the command in-process."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from layover.step import Places, Recipe, TaskRef, Train
from layover.store import Store

FAMILIES = ("bert", "roberta", "distilroberta", "electra", "deberta-v3", "modernbert")
POSITIONS = 64  # tokens that a tiny encoder reads at most

GOOD = ("good", "fine", "great", "lovely", "bright", "warm")
BAD = ("bad", "poor", "awful", "dull", "cold", "broken")
FILLER = (
    "the",
    "film",
    "was",
    "and",
    "a",
    "story",
    "about",
    "trains",
    "that",
    "stop",
    "on",
    "their",
    "way",
    "to",
    "you",
)
WORDS = (*GOOD, *BAD, *FILLER)


def sentence(draw: random.Random, label: int | None = None, length: int = 8) -> str:
    """About `length` filler words, with two that give the label away where there is one."""
    words = [draw.choice(FILLER) for _ in range(draw.randint(length - 3, length + 3))]
    if label is not None:
        words += draw.choices(GOOD if label else BAD, k=2)
    draw.shuffle(words)
    return " ".join(words)


def single_rows(n: int, seed: int = 0, labels: Sequence[str] = ("no", "yes")) -> list[dict[str, Any]]:
    draw = random.Random(seed)
    return [{"text": sentence(draw, i % 2), "label": labels[i % 2]} for i in range(n)]


def pair_rows(n: int, seed: int = 0) -> list[dict[str, Any]]:
    draw = random.Random(seed)
    names = ("entailment", "not_entailment")
    return [{"premise": sentence(draw, i % 2), "hypothesis": sentence(draw), "label": names[i % 2]} for i in range(n)]


def value_rows(n: int, seed: int = 0) -> list[dict[str, Any]]:
    draw = random.Random(seed)
    return [{"text": sentence(draw, i % 2), "other": sentence(draw), "score": i % 6} for i in range(n)]


def choice_rows(n: int, seed: int = 0, n_choices: int = 2) -> list[dict[str, Any]]:
    draw = random.Random(seed)
    rows = []
    for i in range(n):
        right = i % n_choices
        choices = [sentence(draw, int(c == right), 4) for c in range(n_choices)]
        rows.append({"context": sentence(draw), "question": "what was good", "choices": choices, "label": right})
    return rows


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_task(data: Path, task: str, rows: Any, n_train: int = 24, n_validation: int = 12) -> Path:
    """A task's folder in a data directory, from one of the functions above."""
    write_rows(data / task / "train.jsonl", rows(n_train, 1))
    write_rows(data / task / "validation.jsonl", rows(n_validation, 2))
    return data


def own_table(folder: Path, kind: str = "single", n_train: int = 24, n_validation: int = 12) -> dict[str, Any]:
    """The `[task.*]` table of a generated own task: single, pair, value, pair_value or choice."""
    rows: Any = {"single": single_rows, "pair": pair_rows, "choice": choice_rows}.get(kind, value_rows)
    files = {
        "train": str(write_rows(folder / f"{kind}.train.jsonl", rows(n_train, 1))),
        "validation": str(write_rows(folder / f"{kind}.validation.jsonl", rows(n_validation, 2))),
    }
    fields: dict[str, dict[str, Any]] = {
        "single": {"format": "single", "text": "text", "labels": ["no", "yes"]},
        "pair": {"format": "pair", "first": "premise", "second": "hypothesis"},
        "value": {"format": "single", "text": "text", "label": "score", "range": [0, 5]},
        "pair_value": {"format": "pair", "first": "text", "second": "other", "label": "score", "range": [0, 5]},
        "choice": {"format": "choice", "context": "context", "question": "question", "choices": "choices"},
    }
    return {**files, **fields[kind]}


def toml(words: Mapping[str, Any]) -> str:
    """A study's words as TOML, every table inline."""
    return "".join(f"{json.dumps(name)} = {_toml(value)}\n" for name, value in words.items())


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{json.dumps(name)} = {_toml(item)}" for name, item in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value)


FAST = {"epochs": 1, "batch_size": 8, "max_length": 32, "learning_rate": 1e-3}
HERE = {"device": "cpu", "threads": 1}


def study_words(encoder: Path | str, folder: Path, **words: Any) -> dict[str, Any]:
    """A small study of two own tasks (`single` as target, `pair` as source) with direct and stilts; `words` replace."""
    return {
        "schema": 1,
        "name": "small",
        "encoders": [str(encoder)],
        "seeds": [1],
        "tasks": {"target": ["mine"]},
        "strategies": {"direct": {"kind": "direct"}, "stilts": {"kind": "stilts", "sources": ["stop"]}},
        "recipe": FAST,
        "task": words.get("task") or {"mine": own_table(folder, "single"), "stop": own_table(folder, "pair")},
        "placement": HERE,
        **words,
    }


def write_study(path: Path, words: Mapping[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(toml(words), encoding="utf-8")
    return path


def a_train(**fields: Any) -> Train:
    """A step that is complete, and of which nothing has to exist."""
    task = TaskRef("rte", 1, "sha256:" + "0" * 64, "accuracy")
    return Train(**{"encoder": "sha256:abc", "task": task, "recipe": Recipe(), "seed": 1, **fields})


def places_for(encoder: Path, identity: str, **fields: Any) -> Places:
    return Places(encoders={identity: str(encoder)}, device="cpu", threads=1, **fields)


NUMBERS = ("observations.jsonl", "predictions.parquet", "curve.jsonl")


def numbers(store: Path) -> dict[str, bytes]:
    """The bytes of every file of numbers in a store, by key and name: equal where two stores hold equal results."""
    found = {f"{p.parent.name}/{p.name}": p.read_bytes() for name in NUMBERS for p in store.glob(f"steps/*/{name}")}
    assert found
    return found


def fake_work(store: Store, attempt: Path, keep: bool, value: float = 50.0, gold: Sequence[float] = (0, 1)) -> None:
    """The files of a finished training, without training."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    from layover.files import write_json, write_jsonl, write_text

    score = {"split": "validation", "metric": "accuracy", "value": value, "primary": True, "status": "ok"}
    selection = {"split": "selection", "metric": "accuracy", "value": value, "primary": False, "status": "ok"}
    write_jsonl(attempt / "observations.jsonl", [score, selection])
    write_jsonl(attempt / "curve.jsonl", [{"epoch": 1.0, "step": 1, "loss": 0.5}])
    table = pa.table({"row": np.arange(len(gold)), "gold": np.array(gold, float), "predicted": np.array(gold, float)})
    pq.write_table(table.replace_schema_metadata({"n_classes": "2"}), attempt / "predictions.parquet")
    facts = {"seconds": 0.5, "examples": {"train": 8, "selection": 2, "validation": 2}, "versions": {}, "source": ""}
    write_json(attempt / "provenance.json", facts)
    write_text(attempt / "log.txt", "fake\n")
    if keep:
        (attempt / "weights").mkdir()
        (attempt / "weights" / "encoder.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")


def publish_fake(store: Store, step: Train, keep: bool = False, **facts: Any) -> str:
    from layover.step import key_of

    attempt = store.attempt(key_of(step))
    fake_work(store, attempt, keep, **facts)
    assert store.publish(step, attempt)
    return key_of(step)


def site(**words: Any) -> Any:
    """The `Site` of a run of one training, in this folder; `words` replace."""
    from layover.executors import Site

    usual = {"workers": 0, "trainings": 1, "device": "auto", "threads": 1, "timeout": 0.0, "prepare": int}
    return Site(**{**usual, "devices_per_step": 1, "folder": Path("jobs"), **words})


@dataclass
class Faking:
    """An executor whose trainings are fakes, in whatever process they run; that of the step `bad` breaks."""

    inner: Any
    folder: Path
    bad: str = ""

    def __post_init__(self) -> None:
        self.slots: int = self.inner.slots
        self.sharing: int = self.inner.sharing
        self.folder.mkdir()

    def submit(self, fn: Any, /, *args: Any, needs: Any = None) -> Any:
        return self.inner.submit(with_fakes, self.folder, self.bad, fn, *args, needs=needs)

    def stop(self) -> None:
        self.inner.stop()

    def close(self) -> None:
        self.inner.close()

    def runs(self) -> list[str]:
        """The key of every training that was begun."""
        return [path.name.partition(".")[0] for path in self.folder.iterdir()]


def with_fakes(folder: Path, bad: str, fn: Any, *args: Any) -> Any:
    """Run `fn(*args)` where a training is a fake that leaves a file in `folder`."""
    from layover.run import WORK

    WORK[Train] = partial(_recorded, folder, bad)  # a process of tests puts it back after each: conftest.py
    return fn(*args)


def _recorded(folder: Path, bad: str, step: Any, store: Store, places: Any, attempt: Path, keep: bool, _: Any) -> None:
    from layover.step import key_of

    assert all(store.finished(parent) for parent in step.parents)
    assert store.weights(step.start) if step.start else True
    (folder / f"{key_of(step)}.{uuid.uuid4().hex}").touch()
    if key_of(step) == bad:
        raise RuntimeError("it broke")
    fake_work(store, attempt, keep)


def ends_badly() -> None:
    """Raise what cannot be pickled."""
    error = ValueError("odd")
    error.lock = threading.Lock()  # type: ignore[attr-defined]
    raise error


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Command:
    """The layover command in this process: `command("plan", study, "--json")`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def __call__(self, *words: object) -> Ran:
        from layover.cli import main

        self._monkeypatch.setattr(sys, "argv", ["layover", *map(str, words)])
        self._capsys.readouterr()
        try:
            main()
            code = 0
        except SystemExit as done:
            code = done.code if isinstance(done.code, int) else 0
        out, err = self._capsys.readouterr()
        assert "Traceback" not in out + err, out + err
        return Ran(code, out, err)


TERMINAL_SECONDS = 300  # imports, and a cluster that starts, on a busy machine


class Terminal:
    """The layover command on a terminal of 120 columns, and what it has shown so far."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        pty = pytest.importorskip("pty", reason="this system has no pseudo-terminals")
        self.master, slave = pty.openpty()
        environment = {**os.environ, "COLUMNS": "120", "TERM": "xterm-256color", "OMP_NUM_THREADS": "1"}
        line = [sys.executable, "-m", "layover.cli", *arguments]
        self.process = subprocess.Popen(
            line, cwd=folder, env=environment, stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
            preexec_fn=_controlled_by_its_terminal,
        )  # fmt: skip
        os.close(slave)
        self.shown = ""

    def read(self, until: str | None = None) -> str:
        """Everything shown up to `until`, or to the end."""
        deadline = time.monotonic() + TERMINAL_SECONDS
        while until is None or until not in self.shown:
            assert time.monotonic() < deadline, self.shown
            try:
                self.shown += re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", os.read(self.master, 4096).decode(errors="replace"))
            except OSError:  # how Linux says that the other side has gone
                assert until is None, self.shown
                break
        return self.shown

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        os.write(self.master, b"\x03")

    def end(self) -> int:
        self.read()
        os.close(self.master)
        return self.process.wait(TERMINAL_SECONDS)


def _controlled_by_its_terminal() -> None:
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # so that Ctrl-C reaches the command as the signal that it is


def make_encoder(folder: Path, family: str) -> Path:
    """Write a random two-layer encoder of a family and a tokenizer of its kind, as save_pretrained does."""
    import torch
    from transformers import AutoModel, PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(**_tokenizer(family), model_max_length=POSITIONS)
    torch.manual_seed(0)
    AutoModel.from_config(_config(family, len(tokenizer), tokenizer.pad_token_id)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_maskless(encoder: Path, folder: Path) -> Path:
    """An encoder with a tokenizer that has no mask token."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import AutoModel, PreTrainedTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    AutoModel.from_pretrained(encoder).save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    return folder


def _config(family: str, vocabulary: int, padding: Any) -> Any:
    import transformers

    size: dict[str, Any] = {
        "vocab_size": vocabulary, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
        "intermediate_size": 48, "max_position_embeddings": POSITIONS, "pad_token_id": padding,
    }  # fmt: skip
    if family == "bert":
        return transformers.BertConfig(**size)
    if family in ("roberta", "distilroberta"):
        return transformers.RobertaConfig(**{**size, "max_position_embeddings": POSITIONS + 2, "type_vocab_size": 1})
    if family == "electra":
        return transformers.ElectraConfig(**size, embedding_size=16)
    if family == "deberta-v3":
        relative = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 16}
        v3 = {"norm_rel_ebd": "layer_norm", "share_att_key": True, "position_biased_input": False, "type_vocab_size": 0}
        return transformers.DebertaV2Config(**size, **relative, **v3)
    attention = {"global_attn_every_n_layers": 2, "local_attention": 16}
    tokens = dict.fromkeys(("bos_token_id", "cls_token_id", "eos_token_id", "sep_token_id"), 0)
    return transformers.ModernBertConfig(**size, **attention, **tokens)


def _tokenizer(family: str) -> dict[str, Any]:
    """A tokenizer of the family's own kind, trained on the words of the generated data."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    draw = random.Random(0)
    corpus = [sentence(draw, i % 2) for i in range(200)] + [" ".join(WORDS)] * 20
    if family in ("roberta", "distilroberta"):
        special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
        names = dict(zip(("bos_token", "pad_token", "eos_token", "unk_token", "mask_token"), special, strict=True))
        names |= {"cls_token": "<s>", "sep_token": "</s>"}
    else:
        special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), special, strict=True))
    trainer: Any
    if family in ("bert", "electra"):
        tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))  # type: ignore[call-arg]
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer = trainers.WordPieceTrainer(vocab_size=200, special_tokens=special, show_progress=False)
    elif family == "deberta-v3":
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.UnigramTrainer(
            vocab_size=150, special_tokens=special, unk_token="[UNK]", show_progress=False
        )
    else:
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=400,
            special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
    tokenizer.train_from_iterator(corpus, trainer)
    ends = {token: tokenizer.token_to_id(token) or 0 for token in special}
    if family in ("roberta", "distilroberta"):
        tokenizer.post_processor = processors.RobertaProcessing(
            ("</s>", ends["</s>"]), ("<s>", ends["<s>"]), add_prefix_space=False
        )
    else:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]",
            pair="[CLS] $A [SEP] $B:1 [SEP]:1",
            special_tokens=[("[CLS]", ends["[CLS]"]), ("[SEP]", ends["[SEP]"])],
        )
    inputs: dict[str, Any] = {"model_input_names": ["input_ids", "token_type_ids", "attention_mask"]}
    inputs = inputs if family in ("bert", "electra") else {}
    found: dict[str, Any] = {"tokenizer_object": tokenizer}
    return found | names | inputs


def text_table(folder: Path, n: int = 60, **words: Any) -> dict[str, Any]:
    """The `[task.*]` table of generated plain text: a paragraph a line, blank lines between them."""
    draw, path = random.Random(5), folder / "text.txt"
    path.write_text("\n\n".join(sentence(draw, i % 2, 14) for i in range(n)), encoding="utf-8")
    return {"format": "text", "train": str(path), **words}


def task_of_kind(folder: Path, kind: str, n_train: int = 24, n_validation: int = 12, **options: Any) -> tuple[Any, Any]:
    """A generated task and its examples: an own task (see `own_table`), plain text, or one of `stretch_tasks`."""
    from layover.tasks.load import load, locate
    from layover.tasks.own import own_files, own_task

    if kind in (made := stretch_tasks()):
        data = task_data(made[kind], folder, n_train=n_train, n_validation=n_validation)
        return data.task, data
    table = text_table(folder) if kind == "text" else own_table(folder, kind, n_train, n_validation)
    task = own_task(kind, table)
    split = {"selection": "holdout", "holdout": 0.25, **options}
    return task, load(task, locate(task, [], own_files(table)), **split)


def stretch_rows(n: int, seed: int = 0) -> list[dict[str, Any]]:
    """Texts in which one word is good or bad, with everything that formats about stretches of text ask for."""
    draw = random.Random(seed)
    rows = []
    for i in range(n):
        words = [draw.choice(FILLER) for _ in range(draw.randint(3, 7))]
        place = draw.randrange(len(words))
        words[place] = draw.choice(GOOD if i % 2 else BAD)
        text = " ".join(words)
        begin = len(" ".join(words[:place])) + (place > 0)
        tags = ["good" if w in GOOD else "bad" if w in BAD else "none" for w in words]
        targets = [
            {"span1": [j, j + 1], "span2": [place, place + 1], "label": [tag, "word"] if tag != "none" else tag}
            for j, tag in enumerate(tags)
        ]
        candidates = [words[place], *draw.sample([w for w in FILLER if w not in words], 2)]
        draw.shuffle(candidates)
        rows.append({
            "text": text, "words": words, "tags": tags, "targets": targets, "begin": begin, "word": words[place],
            "end": begin + len(words[place]), "label": i % 2, "question": "what word was it", "place": place,
            "answers": candidates, "right": [int(c == words[place]) for c in candidates],
            "query": "the film was @placeholder", "filler": 0, "first": words[0],
        })  # fmt: skip
    return rows


def stretch_tasks() -> dict[str, Any]:
    """A task of each format about stretches of text or groups of answers, for the rows of `stretch_rows`."""
    from layover.tasks.formats import Cloze, PassageAnswers
    from layover.tasks.spans import Coreference, EdgeProbing, Span, Tagging, WordInContext
    from layover.tasks.task import Task

    answers = {"labels": ("no", "yes"), "label": "right"}
    places = ("begin", "end", "begin", "end")
    tasks = [
        Task("span", 1, Span("text", "question", "word", "begin"), ("token_f1_em", "exact_match")),
        Task("tagging", 1, Tagging("words"), ("accuracy",), ("none", "good", "bad"), label="tags"),
        Task("edge1", 1, EdgeProbing(1), ("micro_f1", "exact_labels"), ("none", "good", "bad", "word")),
        Task("edge2", 1, EdgeProbing(2), ("micro_f1", "exact_labels"), labels_in_data=True),
        Task("words", 1, WordInContext("text", "text", places), ("accuracy",), ("no", "yes")),
        Task("coreference", 1, Coreference("text", ("word", "first"), ("place", "filler")), ("accuracy",), ("n", "y")),
        Task("answers", 1, PassageAnswers("text", "question", "answers"), ("f1a_em", "group_em"), **answers),
        Task("cloze", 1, Cloze("text", "query", "answers", "golds"), ("token_f1_em",), ("no", "yes"), prepare=_golds),
    ]
    return {task.name: task for task in tasks}


def _golds(row: Mapping[str, Any]) -> dict[str, Any]:
    return {**row, "golds": [row["word"]]}


def task_data(task: Any, folder: Path, rows: Any = stretch_rows, n_train: int = 24, n_validation: int = 12) -> Any:
    """The examples of a task from generated rows, a quarter of train held out."""
    from layover.tasks.load import load, locate

    write_task(folder, task.name, rows, n_train, n_validation)
    return load(task, locate(task, [folder]), selection="holdout", holdout=0.25)


def trained(encoder: Path, data: Any, folder: Path, recipe: Recipe, **options: Any) -> Any:
    """The result of one training run on this process's CPU."""
    from layover.train.work import train

    names = ("micro_tokens", "checkpoint_seconds", "gradient_checkpointing")
    places = Places(device="cpu", threads=1, **{name: options.pop(name) for name in names if name in options})
    arguments = {"seed": 1, "start": None, "resume": folder / "resume", "report": lambda _: None, **options}
    return train(data, recipe, location=str(encoder), places=places, **arguments)


def job_of(encoder: Path, folder: Path, kind: str, device: Any, n_train: int = 24, **fields: Any) -> Any:
    """A `loop.Job` that trains on a generated task's training set, with inputs of many lengths, and looks at no other.

    `fields` are the recipe's; batches have 8 examples where they do not say.
    """
    from layover.train import model
    from layover.train.encode import encode
    from layover.train.loop import Job

    task, data = task_of_kind(folder, kind, n_train)
    recipe = Recipe(**{"batch_size": 8, "checkpoint": "last", "patience": 0, **fields})
    found = model.load(str(encoder), None, task, recipe, 1)
    encoded = encode(data.train, task, found.tokenizer, found.max_length)
    return Job(
        network=found.network, padding=found.tokenizer.pad_token_id, train=encoded, selection=None, recipe=recipe,
        seed=1, score=lambda _: 0.0, micro_tokens=10**6, checkpoint_seconds=1e9, device=device, resume=folder / "none",
        report=lambda _: None,
    )  # fmt: skip


def write_text(path: Path, paragraphs: int, seed: int = 0) -> Path:
    """A text of generated paragraphs, each of one to three sentences that a real-vs-fake task can be made of."""
    draw = random.Random(seed)
    lines = [". ".join(sentence(draw, None, 26) for _ in range(draw.randint(1, 3))) + "." for _ in range(paragraphs)]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def make_generator(folder: Path, positions: int = POSITIONS) -> Path:
    """Write a random two-layer GPT-2 and a tokenizer of the generated data's words, as save_pretrained does."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    made = Tokenizer(models.WordLevel({w: i for i, w in enumerate(["<end>", "<unk>", *WORDS])}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    ends = dict.fromkeys(("bos_token", "eos_token", "pad_token"), "<end>")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>", **ends)
    size: dict[str, Any] = {
        "n_embd": 32,
        "n_layer": 2,
        "n_head": 2,
        "n_positions": positions,
        "vocab_size": len(tokenizer),
    }
    torch.manual_seed(0)
    # wide weights: what follows depends on what came before, as in a trained model
    GPT2LMHeadModel(GPT2Config(**size, initializer_range=0.3, bos_token_id=0, eos_token_id=0)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
