"""The command as a user sees it: what it prints, where it writes, and how it exits."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from tests.kit import FAST, Command, own_table, pair_rows, study_words, write_study, write_task

import layover
from layover.listing import list_strategies
from layover.study import presets
from layover.tasks import TASKS


@pytest.fixture
def study(bert: Path, tmp_path: Path) -> Path:
    (tmp_path / "bert").symlink_to(bert)
    words = study_words(bert, tmp_path, encoders=["bert"], contrast=[{"of": ["stilts"], "against": "direct"}])
    return write_study(tmp_path / "study.toml", words)


LABELS = ["bert · mine · s1", "bert · stop · s1", "bert · stop → mine · s1"]


def test_a_study_from_plan_to_query(study: Path, command: Command, tmp_path: Path) -> None:
    planned = command("plan", study, "--json").json
    assert sorted(step["label"] for step in planned["steps"]) == LABELS
    assert {step["action"] for step in planned["steps"]} == {"run"}
    assert planned["estimate"] == {"seconds": 0.0, "similar": 0, "unknown": 3, "workers": 1, "makespan": 0.0}
    spoken = command("plan", study)
    assert "3 steps, 3 of them trainings" in spoken.out
    assert "no estimate of the time yet" in spoken.out
    fresh = command("status", study)
    assert "3 to run" in fresh.out
    assert "no finished step of its kind" in command("explain", study, "→").out

    ran = command("run", study)
    assert ran.code == 0, ran.err
    assert "3 steps run, 0 reused, 0 failed, 0 blocked; store: layover-store" in ran.out
    assert f"next: layover report {study}" in ran.out
    for position, label in enumerate(LABELS, 1):
        assert f"/3] {label}  accuracy " in ran.out, position
    assert Path("layover-store/layover.json").is_file()

    again = command("run", study)
    assert (again.code, "0 steps run, 3 reused" in again.out) == (0, True)
    status = command("status", study, "--json").json
    assert {step["action"] for step in status} == {"reuse"}
    assert "nothing to run: every step is finished" in command("plan", study).out
    more = command("plan", study, "--seeds", 3, "--workers", 2).out
    assert re.search(r"about \S.* one after the other, \S.* with 2 workers \(from 3 finished steps\)", more), more
    explained = command("explain", study, "→").out
    assert "reuse: finished" in explained
    assert "since it ran, nothing has changed" in explained

    command("observations", study, "--out", "o.csv")
    command("observations", study, "--out", "o.parquet")
    printed = command("observations", study).out
    assert printed == Path("o.csv").read_text()
    table, other = pd.read_csv("o.csv"), pd.read_parquet("o.parquet")
    assert list(table.columns) == list(other.columns)
    assert len(table) == len(other) == 6  # three cells, a score on validation and one on the selection set each
    primary = table[table["primary"]]
    assert sorted(primary["strategy"]) == ["direct", "stilts", "stilts"]
    assert set(primary["split"]) == {"validation"}
    assert set(primary["size"]) == {22}  # 24 rows less a tenth
    assert primary.set_index(["strategy", "target"])["source_size"].loc[("stilts", "mine")] == 22
    assert table["value"].between(0, 100).all()

    asked = command("query", "select kind, task from steps order by task", "--json").json
    assert [row["task"] for row in asked] == ["mine", "mine", "stop"]
    assert "mine" in command("query", "select task from steps").out

    listed = command("store", "ls", "--json").json
    assert sorted(row["label"] for row in listed if row["kind"] == "train") == LABELS
    kept = [row["label"] for row in listed if row["kind"] == "encoded"]
    assert sorted(kept) == [f"{task} · {split} · 32" for task in ("mine", "stop") for split in ("train", "validation")]
    assert "3 finished steps, 0 problems" in command("store", "verify").out
    would = command("store", "gc", "--dry-run").out
    assert "would drop" in would
    dropped = command("store", "gc").out
    assert dropped == would.replace("would drop", "dropped")
    assert "0.0 MB in 0 folders" in command("store", "gc").out
    assert command("run", study).out.startswith("0 steps run, 3 reused")


def test_explain_names_what_differs_from_the_nearest_step(
    study: Path, command: Command, bert: Path, tmp_path: Path
) -> None:
    command("run", study)
    words = study_words(bert, tmp_path, encoders=["bert"], recipe={**FAST, "batch_size": 4})
    other = write_study(tmp_path / "other.toml", words)
    said = command("explain", other, "bert · mine · s1").out
    assert "run: first time" in said
    assert "nearest finished step: bert · mine · s1" not in said.splitlines()[0]
    assert [line.split() for line in said.splitlines() if "batch_size" in line] == [
        ["recipe.batch_size", "8", "→", "4"]
    ]


def test_a_damaged_store_is_found_by_verify(study: Path, command: Command) -> None:
    command("run", study)
    path = next(Path("layover-store/steps").glob("*/predictions.parquet"))
    path.write_bytes(path.read_bytes()[:-9])
    ran = command("store", "verify")
    assert ran.code == 1
    assert f"{path}: has {path.stat().st_size} bytes, and had {path.stat().st_size + 9}" in ran.out
    assert "3 finished steps, 1 problems" in ran.out


# options


def test_smoke_runs_everything_once_and_tiny(bert: Path, tmp_path: Path, command: Command) -> None:
    (tmp_path / "bert").symlink_to(bert)
    tables = {"mine": own_table(tmp_path, "single", 60, 50), "stop": own_table(tmp_path, "pair", 60, 50)}
    recipe = {**FAST, "epochs": 3, "role": {"source": {"epochs": 5}}}
    words = study_words(bert, tmp_path, encoders=["bert"], seeds=[7, 8, 9], task=tables, recipe=recipe)
    study = write_study(tmp_path / "study.toml", words)
    ran = command("run", study, "--smoke", "--store", "s")
    assert ran.code == 0, ran.err
    assert "3 steps run" in ran.out
    assert ran.out.rstrip().endswith(f"next: layover report {study} --store s --smoke")
    facts = [json.loads(path.read_text()) for path in Path("s/steps").glob("*/provenance.json")]
    assert {fact["recipe"]["epochs"] for fact in facts} == {1}
    assert {sum(fact["examples"][split] for split in ("train", "selection")) for fact in facts} == {32}
    assert {fact["examples"]["validation"] for fact in facts} == {32}
    rows = pd.read_csv(_saved(command("observations", study, "--smoke", "--store", "s").out, tmp_path))
    assert set(rows["status"]) - {"missing"} == set(rows["status"])
    assert set(rows["seed"]) == {7}
    # the study itself has not been run by this
    assert "12 to run" not in command("status", study, "--store", "s").out
    assert "0 finished" in command("status", study, "--store", "s").out


def _saved(text: str, folder: Path) -> Path:
    (folder / "saved.csv").write_text(text)
    return folder / "saved.csv"


def keys(ran: Any) -> dict[str, str]:
    return {step["label"]: step["key"] for step in ran.json["steps"]}


def test_limits_only_ever_lower(bert: Path, tmp_path: Path, command: Command) -> None:
    (tmp_path / "bert").symlink_to(bert)
    limit = {"train": 16, "task": {"stop": {"train": 8, "validation": 6}}}

    def plan(limit: Any, *options: object) -> dict[str, str]:
        words = study_words(bert, tmp_path, encoders=["bert"], **({"limit": limit} if limit else {}))
        return keys(command("plan", write_study(tmp_path / "study.toml", words), "--json", *options))

    lowered = plan(limit, "--limit-train", 12, "--limit-validation", 4)
    assert lowered == plan({"train": 12, "validation": 4, "task": {"stop": {"train": 8, "validation": 4}}})
    assert plan(limit, "--limit-train", 20) == plan(limit)
    assert plan(None, "--limit-train", 20) == plan({"train": 20})


@pytest.mark.parametrize(("option", "seeds"), [(1, [4]), (2, [4, 9]), (3, [1, 2, 3])])
def test_seeds_are_the_first_of_the_studys_or_1_to_n(
    bert: Path, tmp_path: Path, command: Command, option: int, seeds: list[int]
) -> None:
    study = write_study(tmp_path / "study.toml", study_words(bert, tmp_path, seeds=[4, 9]))
    labels = keys(command("plan", study, "--json", "--seeds", option))
    assert sorted({int(label.rpartition("s")[2]) for label in labels}) == seeds


def test_another_encoder_can_be_named(study: Path, command: Command, encoder: Callable[[str], Path]) -> None:
    labels = keys(command("plan", study, "--json", "--encoder", encoder("electra"), "--encoder", encoder("roberta")))
    assert len(labels) == 6
    assert {label.split(" · ")[0] for label in labels} == {str(encoder("electra")), str(encoder("roberta"))}


def test_data_and_store_come_from_options_the_environment_or_the_last_run(
    bert: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_task(tmp_path / "data", "rte", pair_rows)
    words = study_words(bert, tmp_path, tasks={"target": ["rte"]}, strategies={"direct": {"kind": "direct"}}, task={})
    study = write_study(tmp_path / "study.toml", words)
    named = keys(command("plan", study, "--json", "--data", data, "--store", "a"))
    monkeypatch.setenv("LAYOVER_DATA", f"{tmp_path}{os.pathsep}{data}")
    monkeypatch.setenv("LAYOVER_STORE", str(tmp_path / "b"))
    assert keys(command("plan", study, "--json")) == named
    assert (tmp_path / "b" / "layover.json").is_file()
    assert command("run", study).code == 0
    monkeypatch.delenv("LAYOVER_DATA")
    assert "1 finished" in command("status", study).out  # the store remembers where the data was


# listings


def test_every_task_is_listed_and_described(command: Command, tmp_path: Path) -> None:
    assert [row["name"] for row in command("tasks", "--json").json] == TASKS.names()
    assert "rte" in command("tasks").out
    data = write_task(tmp_path / "data", "rte", pair_rows)
    facts = command("tasks", "rte", "--data", data, "--json").json
    assert (facts["train"], facts["validation"]) == (24, 12)
    assert facts["labels"] == "entailment, not_entailment"
    assert "Does the first text entail the second?" in command("tasks", "rte").out


def test_studies_and_strategies_are_listed(command: Command) -> None:
    assert sorted(command("studies", "--json").json) == presets()
    assert command("studies").code == 0
    kinds = [row["kind"] for row in command("strategies", "--json").json]
    assert kinds == [row["kind"] for row in list_strategies()]
    assert {"direct", "stilts"} <= set(kinds)
    assert "sources" in command("strategies").out


def test_doctor_looks_at_the_machine(command: Command, tmp_path: Path) -> None:
    ran = command("doctor", "--json", "--store", tmp_path / "not" / "yet")
    topics = {finding["topic"]: finding for finding in ran.json}
    assert topics["torch"]["state"] == "ok"
    assert topics["disk"]["text"].endswith(f"GB free at {tmp_path}")
    assert topics["Hub"] == {
        "topic": "Hub", "state": "note", "text": "switched off by HF_HUB_OFFLINE",
        "advice": "tasks come from --data; unset it to use the Hub",
    }  # fmt: skip
    assert not (tmp_path / "not").exists()
    states = {finding["state"] for finding in ran.json}
    assert command("doctor").code == ("missing" in states)


def test_doctor_says_what_is_missing_and_exits_with_1(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    from layover import doctor

    monkeypatch.setattr(doctor, "REQUIRED", ("torch", "no-such-package"))
    ran = command("doctor")
    assert ran.code == 1
    assert "no-such-package" in ran.out
    assert "pip install layover" in ran.out


def test_doctor_tries_the_hub_and_the_disk(command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from layover import doctor

    monkeypatch.delenv("HF_HUB_OFFLINE")
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        assert [found.text for found in doctor._hub(tmp_path)] == ["reachable"]
    assert [(found.state, found.text) for found in doctor._hub(tmp_path)] == [("note", "not reachable")]
    for free, state in ((2e9, "note"), (9e9, "ok")):
        monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _, free=free: SimpleNamespace(free=free))
        found = next(doctor._disk(tmp_path))
        assert (found.state, bool(found.advice)) == (state, state == "note")
        assert found.text.startswith(f"{free / 1e9:.1f} GB free")


def test_tasks_says_where_the_data_is(command: Command, tmp_path: Path) -> None:
    write_task(tmp_path / "data", "rte", pair_rows)
    places = {row["name"]: row["data"] for row in command("tasks", "--json", "--data", tmp_path / "data").json}
    assert places["rte"] == str(tmp_path / "data" / "rte")
    assert places["sst2"].startswith("hub:")
    assert places["aj_wh"] == "not found"
    assert places["micro_target"] == "generated"


# wrong input


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "nothing.toml"], "no such study file, and no preset of this name"),
        (["run", "STUDY", "--data", "no-data"], "there is no such data directory"),
        (["run", "STUDY", "--encoder", "minlm"], "did you mean 'minilm'"),
        (["run", "STUDY", "--encoder", "./nowhere"], "there is no such directory"),
        (["run", "STUDY", "--executor", "loacl"], "did you mean 'local'"),
        (["run", "STUDY", "--executor", "cloud"], "there is no executor called 'cloud'"),
        (["run", "STUDY", "--seeds", "0"], "--seeds"),
        (["run", "STUDY", "--limit-train", "3"], "--limit-train"),
        (["run", "STUDY", "--limit-train", "many"], "--limit-train"),
        (["run", "STUDY", "--stroe", "x"], "No such option"),
        (["run"], "Missing argument"),
        (["rnu", "STUDY"], "No such command"),
        (["plan", "STUDY", "--store", "STUDY"], "exists and is not a layover store"),
        (["explain", "STUDY", "copa"], "no step matches"),
        (["status", "STUDY", "--store", "ELSEWHERE"], "exists and is not a layover store"),
        (["observations", "STUDY", "--out", "no/such/folder/o.csv"], "cannot be written"),
        (["query", "select 1"], "is not a layover store"),
        (["store", "ls"], "is not a layover store"),
        (["store", "verify"], "is not a layover store"),
        (["store", "gc"], "is not a layover store"),
        (["tasks", "rtee"], "did you mean 'rte'"),
        (["tasks", "--data", "no-data"], "there is no such data directory"),
    ],
)
def test_wrong_input_ends_with_2_and_says_what_to_mend(
    study: Path, command: Command, tmp_path: Path, words: list[str], said: str
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "thesis.tex").write_text("x")
    places = {"STUDY": study, "ELSEWHERE": tmp_path / "elsewhere"}
    ran = command(*(places.get(word, word) for word in words))
    assert ran.code == 2, ran
    assert said in " ".join(ran.err.replace("│", " ").split())
    assert not list(Path().glob("layover-store/steps/*"))


def test_every_row_is_checked_before_anything_runs(study: Path, command: Command, tmp_path: Path) -> None:
    for name, line in (("single.validation.jsonl", '{"text": 5'), ("pair.validation.jsonl", '{"premise": "x"}')):
        with (tmp_path / name).open("a") as file:
            file.write(line + "\n")
    ran = command("run", study)
    assert ran.code == 2
    assert "single.validation.jsonl" in ran.err
    assert "pair.validation.jsonl" in ran.err
    assert not list(Path("layover-store/steps").iterdir())


def test_all_problems_of_a_study_are_shown_at_once(command: Command, tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text('name = "x"\nencoders = []\nseeds = [1, 1]\ntasks = { target = ["rtee"] }\n')
    ran = command("run", tmp_path / "study.toml")
    assert ran.code == 2
    assert ran.err.count("error") == 4
    for place in ("encoders", "seeds", "strategies", "tasks.target[0]"):
        assert f"study.toml: {place}: " in ran.err


# as a process of its own


def process(*words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    paths = {"PYTHONPATH": str(Path(layover.__file__).parents[1]), "HF_HUB_OFFLINE": "1"}
    arguments = [sys.executable, "-m", "layover.cli", *map(str, words)]
    environment = {**os.environ, **paths, **environment}
    return subprocess.run(arguments, capture_output=True, text=True, env=environment, check=False, timeout=120)


def test_exit_codes_reach_the_shell(study: Path, tmp_path: Path) -> None:
    assert process("tasks", "rte").returncode == 0
    assert process("run", "nothing.toml").returncode == 2
    assert process("run").returncode == 2
    store = tmp_path / "store"
    command = ["-c", "import sys; from layover.run import WORK; from layover.step import Train\n"
               "def bad(*_): raise RuntimeError('no')\nWORK[Train] = bad\n"
               f"sys.argv = ['layover', 'run', {str(study)!r}, '--store', {str(store)!r}]\n"
               "from layover.cli import main; main()"]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(Path(layover.__file__).parents[1])}
    ran = subprocess.run([sys.executable, *command], capture_output=True, text=True, env=environment, check=False)
    assert ran.returncode == 1
    assert "2 failed, 1 blocked" in ran.stdout
    assert "Traceback" not in ran.stderr


def test_help_is_printed_for_every_command() -> None:
    from layover.cli import app, store_app

    assert app.registered_commands
    for words in ([], ["store"], ["analyze"]):
        ran = process(*words, "--help")
        assert ran.returncode == 0
        assert "Usage" in ran.stdout
    for name in (command.name for command in store_app.registered_commands):
        assert name
        assert name in process("store", "--help").stdout
