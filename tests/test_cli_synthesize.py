"""The commands that make a task out of plain text, as a user sees them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
from tests.kit import FAST, HERE, Command, own_table, write_study, write_text


@pytest.fixture
def text(tmp_path: Path) -> Path:
    return write_text(tmp_path / "text.txt", 60)


SMALL = ("--sentences", 24, "--validation", 8)


@pytest.mark.parametrize("form", ["choice", "single"])
def test_a_study_trains_on_the_table_that_is_printed(
    text: Path, generator: Path, bert: Path, command: Command, form: str, tmp_path: Path
) -> None:
    ran = command("synthesize", text, "--out", "data/real_or_not", "--generator", generator, "--as", form, *SMALL)
    assert ran.code == 0, ran.err
    assert "real_or_not: 24 questions to train on, 8 to validate with" in ran.out
    assert "32 of 32 sentences" in ran.err
    tables = tomllib.loads(ran.out[ran.out.index("\n[task.") :])
    words = {
        "schema": 1, "name": "small", "encoders": [str(bert)], "seeds": [1], "recipe": {**FAST, "max_length": 64},
        "placement": HERE, "tasks": {"target": ["mine"]},
        "strategies": {"stilts": {"kind": "stilts", "sources": ["real_or_not"]}},
        "task": {"mine": own_table(tmp_path, "single"), **tables["task"]},
    }  # fmt: skip
    trained = command("run", write_study(tmp_path / "study.toml", words))
    assert trained.code == 0, trained.err
    assert "2 steps run" in trained.out


def test_the_same_command_again_makes_nothing_anew(text: Path, command: Command) -> None:
    first = command("synthesize", text, "--out", "mine", "--corrupt", "swap", *SMALL)
    again = command("synthesize", text, "--out", "mine", "--corrupt", "swap", *SMALL)
    assert (first.code, again.code) == (0, 0)
    assert again.out == first.out
    assert "sentences" not in again.err
    other = command("synthesize", text, "--out", "mine", "--corrupt", "swap", *SMALL, "--seed", 1)
    assert other.code == 2
    assert "was made with other settings: seed was 42, now 1" in other.err


def test_fewer_sentences_than_asked_for_are_said(text: Path, command: Command) -> None:
    ran = command("synthesize", text, "--out", "mine", "--corrupt", "shuffle")
    assert "text.txt has no more: 30,000 and 1,000 were asked for" in ran.out


def test_bad_input_is_said_with_place_and_choices(text: Path, bert: Path, command: Command, tmp_path: Path) -> None:
    (tmp_path / "short.txt").write_text("Too short. For any use.\n", encoding="utf-8")
    cases = {
        ("--corrupt", "shuffle", "--generator", "gpt2"): "give one of the two, not both",
        (): "say where fakes come from",
        ("--corrupt", "reverse"): "choices: shuffle, ngram, swap",
        ("--generator", str(bert)): "is no causal language model",
        ("--generator", "minilm"): "is no causal language model",
        ("--generator", "./nowhere"): "choices: gpt2",
        ("--corrupt", "swap", "--name", "My Task"): "'My Task' is not a name for a task",
        ("--corrupt", "swap", "--name", "rte"): "there is a task called 'rte' already",
        ("--corrupt", "swap", "--max-words", "10"): "are 20 and 10",
    }
    for options, said in cases.items():
        ran = command("synthesize", text, "--out", "mine", *options)
        assert (ran.code, said in ran.err) == (2, True), (options, ran.err)
        assert not Path("mine").exists()
    unusable = command("synthesize", tmp_path / "short.txt", "--out", "mine", "--corrupt", "swap")
    assert unusable.code == 2
    assert "no usable sentence: 2 are there, the longest has 3 words, 20 are needed" in unusable.err
    absent = command("synthesize", "absent.txt", "--out", "mine", "--corrupt", "swap")
    assert (absent.code, "absent.txt: there is no such file" in absent.err) == (2, True)


TINY = ("--layers", 1, "--width", 32, "--vocabulary", 300, "--length", 80, "--steps", 60, "--batch-size", 2,
        "--learning-rate", 0.01)  # fmt: skip


def test_a_generator_is_trained_and_generates(text: Path, command: Command) -> None:
    ran = command("generator", text, "--out", "lm", *TINY)
    assert ran.code == 0, ran.err
    assert "60 of 60 steps" in ran.err
    assert "perplexity per word" in ran.out
    assert "next: layover synthesize" in ran.out
    assert {path.name for path in Path("lm").iterdir()} >= {"model.safetensors", "tokenizer.json", "generator.json"}
    record = json.loads(Path("lm/generator.json").read_text(encoding="utf-8"))
    assert record["settings"]["steps"] == 60
    made = command("synthesize", text, "--out", "mine", "--generator", "lm", *SMALL)
    assert made.code == 0, made.err

    again = command("generator", text, "--out", "lm", *TINY)
    assert (again.code, again.out, "steps" in again.err) == (0, ran.out, False)
    other = command("generator", text, "--out", "lm", *TINY, "--seed", 2)
    assert (other.code, "seed was 1, now 2" in other.err) == (2, True)
    absent = command("generator", "absent.txt", "--out", "other")
    assert (absent.code, "there is no such file" in absent.err) == (2, True)
    Path("line.txt").write_text("one paragraph\n", encoding="utf-8")
    short = command("generator", "line.txt", "--out", "other")
    assert (short.code, "holds no two paragraphs" in short.err) == (2, True)
    small = command("generator", text, "--out", "other", *TINY[:-4], "--batch-size", 1_000)
    assert (small.code, "a batch has 1000" in small.err) == (2, True)
    assert not Path("other").exists()


@pytest.mark.slow
def test_a_killed_command_goes_on(text: Path, generator: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_text(text, 250)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def start(out: Path, batch_size: int) -> subprocess.Popen[bytes]:
        words = ["synthesize", text, "--out", out, "--generator", generator, "--sentences", 300, "--validation", 20]
        line = [sys.executable, "-m", "layover.cli", *map(str, [*words, "--batch-size", batch_size])]
        return subprocess.Popen(line, cwd=tmp_path, env=os.environ, stdout=subprocess.DEVNULL)

    assert start(tmp_path / "whole", 96).wait() == 0
    process = start(tmp_path / "killed", 8)
    while not (pieces := list((tmp_path / "killed" / ".partial").glob("train-*"))):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert pieces
    assert not (tmp_path / "killed" / "train.jsonl").exists()
    assert start(tmp_path / "killed", 32).wait() == 0
    for path in (tmp_path / "whole").iterdir():
        assert (tmp_path / "killed" / path.name).read_bytes() == path.read_bytes()
