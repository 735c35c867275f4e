"""Trackers: what each holds is read back with its own library, offline; one contract for all of them."""

from __future__ import annotations

import json
import os
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.kit import Command, Ran, publish_fake, study_words, write_study

from layover import Session, UserError
from layover.errors import MissingExtra
from layover.files import write_jsonl
from layover.step import Train
from layover.trackers import TRACKERS, Run, Tracker
from layover.trackers.sending import cells_of, run_of, send, tracker

CURVE = [
    {"epoch": 0.5, "step": 4, "loss": 0.75, "selection": 50.0},
    {"epoch": 1.0, "step": 8, "loss": 0.5, "selection": 62.5, "tasks": {"mine": {"loss": 0.25}}},
]
SECRET = "hf_abcdefghijklmnopqrstuvwx"


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith(("MLFLOW_", "WANDB_"))]:
        monkeypatch.delenv(name)
    settings = {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "MLFLOW_ALLOW_FILE_STORE": "true",
                "MLFLOW_DISABLE_TELEMETRY": "true", "WANDB_ERROR_REPORTING": "false"}  # fmt: skip
    for name, value in settings.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def words(bert: Path, tmp_path: Path) -> dict[str, Any]:
    return study_words(bert, tmp_path, seeds=[1, 2])


@pytest.fixture
def session(words: dict[str, Any], tmp_path: Path) -> Session:
    """A study of six trainings, of which none is finished."""
    return Session.open(write_study(tmp_path / "study.toml", words), store=tmp_path / "store")


def finish(session: Session, key: str, curve: list[dict[str, Any]] | None = None, **facts: Any) -> None:
    step = session.plan.steps[key]
    assert isinstance(step, Train)
    publish_fake(session.store, step, **facts)
    if curve is not None:
        write_jsonl(session.store.folder(key) / "curve.jsonl", curve)


def opened(kind: str, out: Path) -> Tracker:
    pytest.importorskip(TRACKERS.get(kind).package, reason=f"{kind} is not installed")
    return tracker(kind, "small", out)


# what a run is


def test_a_run_says_what_was_asked_for_and_what_came_out(session: Session) -> None:
    key = session.plan.find("stop → mine · s2")
    before = session.plan.find("stop · s2")
    finish(session, key, CURVE, value=61.25)
    run = run_of(session.plan, session.store, key, cells_of(session.plan)[key])
    assert run is not None
    expected = {
        "key": key, "kind": "train", "task": "mine", "seed": 2, "strategy": "stilts", "source": "stop",
        "role": "target", "target": "mine", "lineage.keys": before, "recipe.learning_rate": 1e-3,
    }  # fmt: skip
    assert {name: run.params[name] for name in expected} == expected
    assert str(run.params["lineage"]).endswith(" → stop → mine")
    assert run.scores == {"validation/accuracy": 61.25, "selection/accuracy": 61.25}
    assert run.curve == [
        (4, {"curve/epoch": 0.5, "curve/loss": 0.75, "curve/selection": 50.0}),
        (8, {"curve/epoch": 1.0, "curve/loss": 0.5, "curve/selection": 62.5, "curve/tasks/mine/loss": 0.25}),
    ]
    assert run.last_step == 8
    assert run.tags["layover.key"] == key
    assert run.tags["layover.study"] == "small"


def test_a_step_that_cells_share_names_them_all(words: dict[str, Any], tmp_path: Path) -> None:
    words["strategies"]["again"] = words["strategies"]["direct"]
    session = Session.open(write_study(tmp_path / "shared.toml", words), store=tmp_path / "store")
    key = next(score.key for score in session.plan.scores if score.strategy == "again")
    finish(session, key)
    run = run_of(session.plan, session.store, key, cells_of(session.plan)[key])
    assert run is not None
    assert run.params["strategy"] == "direct, again"


def test_no_secret_is_sent(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", "correct-horse-battery")
    key = session.plan.find("bert · mine · s1")
    finish(session, key)
    label = f"mine {SECRET} correct-horse-battery"
    plan = replace(session.plan, labels={**session.plan.labels, key: label})
    run = run_of(plan, session.store, key, ())
    assert run is not None
    shown = json.dumps([run.label, dict(run.params), dict(run.tags)])
    assert run.label == "mine *** ***"
    assert SECRET not in shown
    assert "correct-horse" not in shown


# the contract


@pytest.mark.parametrize("kind", TRACKERS.names())
def test_every_run_is_sent_once(kind: str, session: Session, tmp_path: Path) -> None:
    keys = list(session.plan.steps)
    to, told = opened(kind, tmp_path / "out"), []
    assert to.sent() == set()
    assert send(session.plan, session.store, to, to.sent(), told.append) == set()
    for key in keys[:2]:
        finish(session, key)
    assert send(session.plan, session.store, to, to.sent(), told.append) == set(keys[:2])
    assert told == [session.plan.labels[key] for key in keys[:2]]
    again = opened(kind, tmp_path / "out")  # another process
    assert again.sent() == set(keys[:2])
    finish(session, keys[2])
    told.clear()
    assert send(session.plan, session.store, again, again.sent(), told.append) == set(keys[:3])
    assert told == [session.plan.labels[keys[2]]]


@pytest.mark.parametrize("kind", ["tensorboard", "mlflow"])
def test_a_run_that_was_sent_before_is_replaced(kind: str, tmp_path: Path) -> None:
    to = opened(kind, tmp_path)
    for score in (50.0, 60.0):
        run = Run("k" * 64, "label", {}, [(1, {"curve/loss": 0.5})], {"validation/accuracy": score}, {}, 1e9)
        to.send(replace(run, tags={"layover.key": run.key}))
    assert to.sent() == {"k" * 64}
    if kind == "tensorboard":
        (events,) = (tmp_path / "small").glob("*/events.*")
        assert events_in(events.parent).Scalars("validation/accuracy")[0].value == 60.0
    else:
        (found,) = mlflow_runs(tmp_path)
        assert found.data.metrics["validation/accuracy"] == 60.0


def test_an_unknown_tracker_and_one_that_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="did you mean 'tensorboard'"):
        tracker("tensorbord", "small", tmp_path)
    monkeypatch.setattr("layover.trackers.sending.find_spec", lambda _: None)
    with pytest.raises(MissingExtra, match="layover\\[mlflow\\]"):
        tracker("mlflow", "small", tmp_path)


# what each library reads


def events_in(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(folder)).Reload()


def mlflow_runs(out: Path) -> list[Any]:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=out.resolve().as_uri())
    experiment = client.get_experiment_by_name("small")
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id]))


@pytest.fixture
def sent(session: Session, tmp_path: Path) -> Callable[[str], Run]:
    """`sent(kind)` sends one finished run with a curve, and returns it."""

    def go(kind: str) -> Run:
        key = session.plan.find("stop → mine · s1")
        finish(session, key, CURVE, value=61.25)
        to = opened(kind, tmp_path / "out")
        send(session.plan, session.store, to, to.sent(), lambda _: None)
        run = run_of(session.plan, session.store, key, cells_of(session.plan)[key])
        assert run is not None
        return run

    return go


def test_tensorboard_reads_the_events(sent: Callable[[str], Run], tmp_path: Path) -> None:
    run = sent("tensorboard")
    (folder,) = (tmp_path / "out" / "small").iterdir()
    assert run.key[:12] in folder.name
    events = events_in(folder)
    scalars = {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    assert scalars["curve/loss"] == [(4, 0.75), (8, 0.5)]
    assert scalars["curve/selection"] == [(4, 50.0), (8, 62.5)]
    assert scalars["validation/accuracy"] == [(8, 61.25)]
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData  # pyright: ignore[reportAttributeAccessIssue]

    start = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    hparams = HParamsPluginData.FromString(start).session_start_info.hparams
    assert hparams["recipe.learning_rate"].number_value == 1e-3
    assert hparams["source"].string_value == "stop"
    assert hparams["layover.key"].string_value == run.key


def test_mlflow_reads_the_run(sent: Callable[[str], Run], tmp_path: Path) -> None:
    run = sent("mlflow")
    (found,) = mlflow_runs(tmp_path / "out")
    assert found.info.status == "FINISHED"
    assert found.info.run_name == run.label
    assert found.data.params == {name: str(value) for name, value in run.params.items()}
    assert {name: found.data.tags[name] for name in run.tags} == run.tags
    assert found.data.metrics["validation/accuracy"] == 61.25
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=(tmp_path / "out").resolve().as_uri())
    history = client.get_metric_history(found.info.run_id, "curve/loss")
    assert sorted((point.step, point.value) for point in history) == [(4, 0.75), (8, 0.5)]


def test_mlflow_does_again_what_was_not_ended(session: Session, tmp_path: Path) -> None:
    key = session.plan.find("bert · mine · s1")
    finish(session, key)
    to = opened("mlflow", tmp_path / "out")
    client: Any = to.client  # type: ignore[attr-defined]
    client.create_run(to.experiment, tags={"layover.key": key})  # type: ignore[attr-defined]  # of a process killed
    assert to.sent() == set()
    send(session.plan, session.store, to, to.sent(), lambda _: None)
    (found,) = mlflow_runs(tmp_path / "out")
    assert found.info.status == "FINISHED"


def test_wandb_writes_the_run(sent: Callable[[str], Run], tmp_path: Path) -> None:
    run = sent("wandb")
    (folder,) = (tmp_path / "out" / "wandb").glob("offline-run-*")
    assert folder.name.endswith(run.key)
    history, summary, config = wandb_records(folder / f"run-{run.key}.wandb")
    assert [(row["_step"], row["curve/loss"]) for row in history] == [(4, 0.75), (8, 0.5)]
    assert summary["validation/accuracy"] == 61.25
    assert config["recipe.learning_rate"] == 1e-3
    assert config["layover.key"] == run.key


BLOCK, HEAD, WHOLE = 32768, 7, (1, 4)  # of the log format of LevelDB, which wandb writes after seven bytes of its own


def wandb_records(path: Path) -> tuple[list[dict[str, Any]], dict[str, Any], dict[str, Any]]:
    """History, summary and configuration in a file that wandb wrote offline."""
    from wandb.proto.wandb_internal_pb2 import Record  # pyright: ignore[reportAttributeAccessIssue]

    history: list[dict[str, Any]] = []
    summary: dict[str, Any] = {}
    config: dict[str, Any] = {}
    data, at, record = path.read_bytes(), HEAD, b""
    while at + HEAD <= len(data):
        if BLOCK - at % BLOCK < HEAD:
            at += BLOCK - at % BLOCK
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        record, at = record + data[at + HEAD : at + HEAD + length], at + HEAD + length
        if kind not in WHOLE:
            continue
        found, record = Record.FromString(record), b""
        history += [plain(found.history.item)] if found.HasField("history") else []
        summary |= plain(found.summary.update)
        config |= plain(found.run.config.update)
    return history, summary, config


def plain(items: Any) -> dict[str, Any]:
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}


# the command


def test_a_study_that_runs_is_followed_to_its_end(
    words: dict[str, Any], tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    monkeypatch.setattr("layover.cli_watch.POLL_SECONDS", 0.05)
    study = write_study(tmp_path / "study.toml", words)
    refused = command("track", study, "--to", "tensorboard")
    assert refused.code == 2  # it makes no store
    assert "is not a layover store" in refused.err
    session = Session.open(study, store="layover-store")
    trained = threading.Thread(target=session.run)
    trained.start()
    done: Ran = command("track", study, "--to", "tensorboard", "--out", "runs", "--follow")
    trained.join()
    assert done.code == 0
    assert f"{len(session.plan.steps)} runs sent to {Path('runs', 'small')}" in done.out
    assert all(f"sent: {label}" in done.out for label in session.plan.labels.values())
    assert len(list(Path("runs/small").iterdir())) == len(session.plan.steps)
    assert "0 runs sent" in command("track", study, "--to", "tensorboard", "--out", "runs").out


def test_what_a_tracker_says_is_wrong_is_no_traceback(
    words: dict[str, Any], tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow", reason="mlflow is not installed")
    study = write_study(tmp_path / "study.toml", words)
    Session.open(study, store="layover-store")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nothing://of-the-kind")
    failed = command("track", study, "--to", "mlflow")
    assert failed.code == 2
    assert "MLflow: " in failed.err
    assert "run the same command again" in failed.err


@pytest.fixture(autouse=True)
def _ended() -> Iterator[None]:
    """No service of a tracker outlives its test."""
    yield
    if "wandb" in sys.modules:
        sys.modules["wandb"].teardown()
