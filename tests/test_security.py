"""Security: what strangers write (studies, encoders, stores) is read as data, and nothing in it is ever run."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.kit import Command, Ran, numbers, study_words, write_study

import layover
from layover.errors import StudyError, UserError
from layover.plan import compile_plan
from layover.session import Session
from layover.session import run as run_study
from layover.study import Study, load_study


class Payload:
    """Leaves a file where it is unpickled."""

    def __init__(self, traces: Path) -> None:
        self.traces = traces

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.traces,))


@pytest.fixture
def traces(tmp_path: Path) -> Path:
    """The file that is there once planted code has been run."""
    return tmp_path / "it-was-run"


def plant(path: Path, traces: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(Payload(traces)))


# pickles


def test_a_planted_pickle_would_be_run_by_whoever_reads_it(traces: Path, tmp_path: Path) -> None:
    plant(tmp_path / "x.pkl", traces)
    pickle.loads((tmp_path / "x.pkl").read_bytes())
    assert traces.exists()


def test_no_pickle_in_an_encoder_is_read(bert: Path, tmp_path: Path, command: Command, traces: Path) -> None:
    names = ("pytorch_model.bin", "tokenizer.pkl", "training_args.bin", "optimizer.pt", "flax_model.msgpack")
    shutil.copytree(bert, tmp_path / "planted")
    for name in names:
        plant(tmp_path / "planted" / name, traces)
    study = write_study(tmp_path / "study.toml", study_words(tmp_path / "planted", tmp_path))
    assert command("run", study, "--store", tmp_path / "s").code == 0
    (tmp_path / "planted" / "model.safetensors").unlink()
    refused = command("run", study, "--store", tmp_path / "s2")
    assert refused.code == 2
    assert "has pickled weights (*.bin) only, which layover does not read" in refused.err
    assert not traces.exists()


def test_no_pickle_in_a_store_is_read(bert: Path, tmp_path: Path, command: Command, traces: Path) -> None:
    study, store = write_study(tmp_path / "study.toml", study_words(bert, tmp_path)), tmp_path / "s"
    session = run_study(study, store=store)
    source, child = session.plan.find("stop · s1"), session.plan.find("→")
    shutil.rmtree(session.store.folder(child))
    for folder in (store, *store.iterdir(), session.store.folder(source), session.store.folder(source) / "weights"):
        if folder.is_dir():
            for name in ("data.pkl", "encoder.pkl", "pytorch_model.bin", "observations.pickle", "head.pt"):
                plant(folder / name, traces)
    plant(session.store.resume_folder(child) / "checkpoint.safetensors", traces)
    for words in (
        ["run", study], ["plan", study], ["status", study], ["report", study, "--out", tmp_path / "r.html"],
        ["observations", study], ["store", "ls"], ["store", "verify"], ["query", "select * from steps"],
        ["store", "gc"],
    ):  # fmt: skip
        command(*words, "--store", store)
    assert session.store.finished(child)
    assert not traces.exists()


# code that comes with an encoder


@pytest.fixture
def with_code(bert: Path, tmp_path: Path, traces: Path) -> Path:
    """An encoder of a family that transformers does not know, and the code for it, which leaves a file when run."""
    folder = tmp_path / "with_code"
    shutil.copytree(bert, folder)
    code = "from transformers import BertConfig, BertModel\nfrom pathlib import Path\n"
    code += f"Path({str(traces)!r}).touch()\n"
    code += "class OddConfig(BertConfig):\n    model_type = 'odd'\n"
    code += "class OddModel(BertModel):\n    config_class = OddConfig\n"
    (folder / "odd.py").write_text(code)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "odd", "auto_map": {"AutoConfig": "odd.OddConfig", "AutoModel": "odd.OddModel"}}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def in_a_process(tmp_path: Path, *words: object) -> Ran:
    """The command in a process of its own, whose imports and caches are its own too."""
    environment = {**os.environ, "HF_HOME": str(tmp_path / "hf"), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1",
                   "PYTHONPATH": str(Path(layover.__file__).parents[1])}  # fmt: skip
    line = [sys.executable, "-m", "layover.cli", *map(str, words)]
    done = subprocess.run(line, capture_output=True, text=True, check=False, env=environment, cwd=tmp_path, timeout=300)
    return Ran(done.returncode, done.stdout, done.stderr)


def test_code_that_comes_with_an_encoder_is_run_only_where_the_command_says_so(
    with_code: Path, tmp_path: Path, traces: Path
) -> None:
    words = study_words(with_code, tmp_path, strategies={"direct": {"kind": "direct"}})
    words["task"].pop("stop")
    study = write_study(tmp_path / "study.toml", words)
    refused = in_a_process(tmp_path, "run", study, "--store", "s")
    assert refused.code == 1
    assert "comes with code of its own, which is not run unless you say so" in refused.err
    assert not traces.exists()
    plain = Session.open(study, tmp_path / "s").plan
    trusted = Session.open(study, tmp_path / "s", trust_remote_code=True).plan
    assert not traces.exists()  # planning runs nothing, whoever is trusted
    assert set(plain.steps).isdisjoint(trusted.steps)  # what the code does is a part of what a number is
    (with_code / "odd.py").write_text((with_code / "odd.py").read_text() + "# another\n")
    assert set(Session.open(study, tmp_path / "s", trust_remote_code=True).plan.steps).isdisjoint(trusted.steps)
    assert list(Session.open(study, tmp_path / "s").plan.steps) == list(plain.steps)
    ran = in_a_process(tmp_path, "run", study, "--store", "s", "--trust-remote-code")
    assert ran.code == 0, ran.err
    assert "--trust-remote-code" in ran.out  # the next command means the same study
    assert traces.exists()


@pytest.mark.parametrize("table", ["placement", "recipe", "tasks", ""])
@pytest.mark.parametrize("word", ["trust_remote_code", "trust-remote-code"])
def test_no_study_can_ask_for_it(bert: Path, tmp_path: Path, table: str, word: str) -> None:
    words = study_words(bert, tmp_path)
    words = {**words, table: {**words.get(table, {}), word: True}} if table else {**words, word: True}
    with pytest.raises(StudyError, match=r"is not a key of a study"):
        Study(**words)


def test_a_study_names_executors_and_never_code(bert: Path, tmp_path: Path) -> None:
    for name in ("os.system", "layover.executors.local:Local", "../local", "local\0"):
        with pytest.raises(StudyError, match="there is no executor called"):
            Study(**study_words(bert, tmp_path, placement={"executor": name}))
    with pytest.raises(StudyError, match=r"placement\.options\.command"):
        Study(**study_words(bert, tmp_path, placement={"options": {"command": "rm -r /"}}))
    for options in ({"runtime_env": {"py_executable": "rm -r /"}}, {"address": "ray://elsewhere:10001"}):
        with pytest.raises(StudyError, match=rf"placement\.options\.{next(iter(options))}"):
            Study(**study_words(bert, tmp_path, placement={"executor": "ray", "options": options}))


# names that would be paths


ODD = [
    "../../outside", "/etc/passwd", "a/b", "a\\b", "nul\0byte", "x" * 300, "", ".", "..", ".hidden", "con", "NUL.txt",
    "com1", "aux", "ends.", "new\nline", "a:b", "~root", "$HOME", "ünï", "-rf",
]  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_a_study_cannot_be_called_after_a_path(bert: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(StudyError, match="name"):
        Study(**study_words(bert, tmp_path, name=name))


@pytest.mark.parametrize("name", ["con-1", "console", "a.b", "nulls", "x" * 80, "A-1_b.c"])
def test_names_that_only_look_odd_are_names(bert: Path, tmp_path: Path, name: str) -> None:
    assert Study(**study_words(bert, tmp_path, name=name)).name == name


@pytest.mark.parametrize("name", [name for name in ODD if name not in ("con", "com1", "aux")])
@pytest.mark.parametrize("place", ["own", "target", "source", "probing"])
def test_no_name_of_a_task_becomes_a_path(bert: Path, tmp_path: Path, name: str, place: str) -> None:
    (tmp_path / "data").mkdir()
    words = study_words(bert, tmp_path)
    if place == "own":
        words["task"] = {**words["task"], name: words["task"]["mine"]}
        words["tasks"] = {"target": ["mine", name]}
    elif place == "source":
        words["strategies"]["stilts"]["sources"] = ["stop", name]
    else:
        words["tasks"] = {"target": ["mine"], place: ["mine", name] if place == "target" else [name]}
    with pytest.raises(UserError):
        compile_plan(Study(**words), tmp_path, [tmp_path / "data"])


@pytest.mark.parametrize("name", [name for name in ODD if name])
def test_strategies_may_be_called_anything_and_name_no_file(
    bert: Path, tmp_path: Path, name: str, command: Command
) -> None:
    """They stand in tables and on pages; files are called after what is left of them."""
    before = set(tmp_path.parent.iterdir())
    words = study_words(
        bert, tmp_path, strategies={"direct": {"kind": "direct"}, name: {"kind": "stilts", "sources": ["stop"]}}
    )
    try:
        session = Session.open(Study(**words), tmp_path / "s")
    except UserError:
        return  # refused is as good
    out = tmp_path / "out"
    session.report(out / "r.html", out / "tables", None)
    assert {path.suffix for path in out.rglob("*") if path.is_file()} <= {".html", ".csv", ".tex", ".md"}
    assert set(tmp_path.parent.iterdir()) == before


def test_a_study_of_a_stranger_is_planned_without_running_anything(
    with_code: Path, tmp_path: Path, command: Command, traces: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a process, nor the network, nor a line of code that a file names."""
    import socket

    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("something was started")

    plant(with_code / "pytorch_model.bin", traces)
    study = write_study(tmp_path / "study.toml", study_words(with_code, tmp_path))
    monkeypatch.setattr(subprocess, "Popen", never)
    monkeypatch.setattr(os, "system", never)
    monkeypatch.setattr(socket.socket, "connect", never)
    assert command("plan", study, "--store", tmp_path / "s").code == 0
    assert load_study(study)[0].name == "small"
    assert not traces.exists()


# what a store of a stranger says


@pytest.mark.parametrize("key", ["../../outside", "/etc", "..", "a/../../b"])
def test_keys_in_a_strangers_store_lead_nowhere(bert: Path, tmp_path: Path, command: Command, key: str) -> None:
    """A record of a study that names steps outside the store: nothing there is read, moved or removed."""
    outside = tmp_path / "outside"
    (outside / "weights").mkdir(parents=True)
    (outside / "weights" / "precious.txt").write_text("mine")
    study, store = write_study(tmp_path / "study.toml", study_words(bert, tmp_path)), tmp_path / "a" / "s"
    session = run_study(study, store=store)
    before = numbers(store)
    path = store / "studies" / "small.json"
    record = session.store.studies()["small"].words()  # as the first layovers wrote it
    step = next(iter(record["steps"].values()))
    record["steps"][key] = step
    record["labels"][key] = "a trap"
    path.write_text(json.dumps(record))
    for words in (["store", "gc"], ["store", "ls"], ["store", "verify"], ["store", "export", "a trap", tmp_path / "x"]):
        command(*words, "--store", store)
    assert (outside / "weights" / "precious.txt").read_text() == "mine"
    assert numbers(store) == before
    assert session.store.finished_keys()
