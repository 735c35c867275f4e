"""A training spread over two processes (gloo) ends with the numbers of one, up to rounding, or says why not."""

from __future__ import annotations

import dataclasses
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from tests.kit import FAST, HERE, Command, own_table, study_words, task_of_kind, write_study
from tests.train.test_loop import Killed

from layover.errors import StepError
from layover.executors.workers import Workers
from layover.session import Session
from layover.step import Mixture, Places, Recipe
from layover.train import joint, loop, team, work

# of a gradient that is nothing but rounding, as that of a bias which all scores share, Adam would make a step
RECIPE = Recipe(
    epochs=2, batch_size=5, max_length=32, learning_rate=1e-3, dropout=0.1, patience=0, checkpoint="last",
    adam_epsilon=1e-4,
)  # fmt: skip
CLOSE: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-5}


def fitted(encoder: Path, data: Any, folder: Path, recipe: Recipe, size: int, **words: Any) -> Any:
    """A training by itself, or in a team of two."""
    own = {name: words.pop(name) for name in ("checkpoint_seconds", "micro_tokens") if name in words}
    places = Places(device="cpu", threads=1, devices_per_step=size, **own)
    named = {"start": None, "report": lambda _: None, **words}
    return work.train(data, recipe, 1, str(encoder), places=places, resume=folder / "resume", **named)


def weights(result: Any) -> dict[str, torch.Tensor]:
    return dict(result.network.named_parameters())


def equal_up_to_rounding(one: Any, two: Any) -> None:
    torch.testing.assert_close(weights(two), weights(one), **CLOSE)
    assert [point["loss"] for point in two.state.curve] == pytest.approx(
        [point["loss"] for point in one.state.curve], rel=1e-4
    )
    assert two.state.step == one.state.step


@pytest.mark.parametrize("kind", ["single", "span"])
def test_two_processes_train_what_one_trains_with_dropout_on(bert: Path, tmp_path: Path, kind: str) -> None:
    """Batches of five: shares differ in size, and the last batch of an epoch is smaller."""
    data = task_of_kind(tmp_path / kind, kind, 17)[1]
    alone = fitted(bert, data, tmp_path, RECIPE, 1)
    before = {name: tensor.clone() for name, tensor in weights(alone).items()}
    shared = fitted(bert, data, tmp_path, RECIPE, 2)
    torch.testing.assert_close(before, weights(alone), rtol=0, atol=0)
    equal_up_to_rounding(alone, shared)
    assert not torch.distributed.is_initialized()


@pytest.mark.parametrize(
    "words",
    [{"batch_size": 1, "epochs": 1}, {"mixout": 0.5}, {"freeze": "0", "l2sp": 0.1},
     {"evaluate_every": 2, "patience": 2, "checkpoint": "best"}],
    ids=lambda words: "-".join(words),
)  # fmt: skip
def test_recipes_that_a_team_follows(bert: Path, tmp_path: Path, words: dict[str, Any]) -> None:
    """A share of nothing; weights mixed with those of the start; some that are not trained; evaluation in between."""
    data, recipe = task_of_kind(tmp_path / "t", "single", 11)[1], dataclasses.replace(RECIPE, **words)
    equal_up_to_rounding(fitted(bert, data, tmp_path, recipe, 1), fitted(bert, data, tmp_path, recipe, 2))


def test_several_tasks_are_spread_too(bert: Path, tmp_path: Path) -> None:
    data = [task_of_kind(tmp_path / kind, kind, 11)[1] for kind in ("single", "choice")]

    def fitted_jointly(size: int) -> Any:
        places = Places(device="cpu", threads=1, devices_per_step=size)
        return joint.train(
            data,
            Mixture(conflict="pcgrad"),
            (),
            RECIPE,
            1,
            str(bert),
            None,
            places,
            tmp_path / "resume",
            lambda _: None,
        )

    (one, (_, alone)), (two, (_, shared)) = fitted_jointly(1), fitted_jointly(2)
    torch.testing.assert_close(weights(shared), weights(alone), **CLOSE)
    assert two.curve[-1]["loss"] == pytest.approx(one.curve[-1]["loss"], rel=1e-4)


@pytest.mark.parametrize("sizes", [(1, 2), (2, 1)])
def test_a_run_goes_on_with_another_number_of_processes(bert: Path, tmp_path: Path, sizes: tuple[int, int]) -> None:
    data = task_of_kind(tmp_path / "t", "single", 17)[1]
    calm = fitted(bert, data, tmp_path / "calm", RECIPE, 1)

    def die(where: dict[str, Any]) -> None:
        if where["epoch"] == 2:
            raise Killed

    with pytest.raises(Killed):
        fitted(bert, data, tmp_path, RECIPE, sizes[0], checkpoint_seconds=0.0, report=die)
    assert (tmp_path / "resume" / "checkpoint.safetensors").exists()
    assert not torch.distributed.is_initialized()
    again = fitted(bert, data, tmp_path, RECIPE, sizes[1])
    torch.testing.assert_close(weights(again), weights(calm), **CLOSE)


def test_memory_that_runs_out_in_either_process_halves_its_passes(
    bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = task_of_kind(tmp_path / "t", "single", 17)[1]
    alone = fitted(bert, data, tmp_path, RECIPE, 1)
    real = loop.passes

    def small(job: Any, *rest: Any, **named: Any) -> Any:
        found = real(job, *rest, **named)
        if job.room.tokens > 64:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")
        return found

    monkeypatch.setattr(loop, "passes", small)
    equal_up_to_rounding(alone, fitted(bert, data, tmp_path, RECIPE, 2))


def killing(when: int) -> Callable[..., Any]:
    """`Team._told`, after whose call number `when` the first of the others is killed."""
    real, calls = team.Team._told, []

    def told(self: Any, *rest: Any) -> Any:
        calls.append(rest)
        if len(calls) == when:
            (process,) = Started.all[-1]._all
            os.kill(process._process.pid, signal.SIGKILL)
            process._process.wait()
        return real(self, *rest)

    return told


class Started(Workers):
    """Workers that can be found."""

    all: ClassVar[list[Workers]] = []

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.all.append(self)


@pytest.mark.parametrize("when", [3])
def test_a_process_that_is_lost_fails_the_step_and_nothing_waits_for_it(
    bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: int
) -> None:
    monkeypatch.setattr(team, "Workers", Started)
    monkeypatch.setattr(team.Team, "_told", killing(when))
    before = threading.active_count()
    with pytest.raises(StepError, match="one of the 2 processes that share this training"):
        fitted(bert, task_of_kind(tmp_path / "t", "single", 17)[1], tmp_path, RECIPE, 2)
    assert not torch.distributed.is_initialized()
    assert threading.active_count() <= before + 1


def test_what_one_of_the_others_raises_is_told(bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its data is gone by the time that it reads it."""
    data = task_of_kind(tmp_path / "t", "single", 17)[1]
    real = team.gathered

    def elsewhere(size: int, again: Any, *rest: Any) -> Any:
        return real(size, again if size == 1 else breaks, *rest)

    monkeypatch.setattr(team, "gathered", elsewhere)
    with pytest.raises(StepError, match=r"one of the 2 processes that share this training failed: .*no such data"):
        fitted(bert, data, tmp_path, RECIPE, 2)


def breaks() -> Any:
    raise FileNotFoundError("no such data")


def test_too_few_gpus_are_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("layover.executors.devices.visible", lambda: ["3"])
    with (
        pytest.raises(StepError, match="is 2, and 1 GPUs are visible"),
        team.gathered(2, breaks, torch.device("cuda"), 1),
    ):
        pass


def test_a_study_asks_for_it(bert: Path, tmp_path: Path, command: Command) -> None:
    words = study_words(bert, tmp_path, recipe={**FAST, "dropout": 0.1}, task={
        "mine": own_table(tmp_path, "single", 12), "stop": own_table(tmp_path, "choice", 12)
    })  # fmt: skip
    alone = write_study(tmp_path / "alone.toml", words)
    two = write_study(tmp_path / "two.toml", {**words, "placement": {**HERE, "devices_per_step": 2}})
    for study, store in ((alone, "a"), (two, "b")):
        ran = command("run", study, "--store", tmp_path / store)
        assert ran.code == 0, ran.err
    first, second = (Session.open(alone, tmp_path / store) for store in "ab")
    assert list(first.plan.steps) == list(second.plan.steps)
    found = [session.observations().sort_values("key")["value"].tolist() for session in (first, second)]
    assert found[0] == pytest.approx(found[1], abs=10)
    facts = [second.store.read(key, "provenance.json") for key in second.store.finished_keys()]
    assert {one["processes"] for one in facts} == {2}


def test_a_cohort_is_not_spread(bert: Path, tmp_path: Path, command: Command) -> None:
    study = write_study(
        tmp_path / "study.toml", study_words(bert, tmp_path, placement={"devices_per_step": 2, "cohort": 4})
    )
    ran = command("plan", study)
    assert ran.code == 2
    assert "devices_per_step" in ran.err
    assert "cohort" in ran.err
