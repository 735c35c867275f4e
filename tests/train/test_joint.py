"""Joint training on tiny encoders: one task is a training by itself, many tasks share an encoder, and runs resume."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.kit import FAMILIES, task_of_kind, trained
from tests.train.test_loop import Killed, same, scores

from layover.step import Mixture, Places, Recipe
from layover.train import joint, together
from layover.train.batching import collate
from layover.train.checkpoint import State
from layover.train.cohort import fit_together
from layover.train.loop import Turn, predict, started
from layover.train.noise import Noise

RECIPE = Recipe(epochs=2, batch_size=4, max_length=32, learning_rate=1e-3, patience=4, dropout=0.1)

Run = Callable[..., Any]


def data_of(folder: Path, kinds: Sequence[str], n_train: int = 16) -> list[Any]:
    return [task_of_kind(folder / kind, kind, n_train)[1] for kind in kinds]


def trained_jointly(encoder: Path, data: Sequence[Any], folder: Path, recipe: Recipe, **words: Any) -> Any:
    """State and results of one joint training on this process's CPU; `words` are the mixture's, or the run's."""
    own = ("seed", "start", "alone", "report", "resume", "micro_tokens", "checkpoint_seconds")
    given = {name: words.pop(name) for name in own if name in words}
    places = Places(device="cpu", threads=1, **{n: given.pop(n) for n in own[-2:] if n in given})
    run = {"seed": 1, "start": None, "alone": (), "resume": folder / "resume", "report": lambda _: None, **given}
    return joint.train(data, Mixture(**words), recipe=recipe, location=str(encoder), places=places, **run)


@pytest.mark.parametrize("kind", ["single", "choice", "span"])
@pytest.mark.parametrize("checkpoint", ["best", "last"])
def test_one_task_trained_jointly_is_trained_by_itself_bit_for_bit(
    bert: Path, tmp_path: Path, kind: str, checkpoint: Any
) -> None:
    data, recipe = data_of(tmp_path, [kind]), dataclasses.replace(RECIPE, checkpoint=checkpoint)
    alone = trained(bert, data[0], tmp_path, recipe)
    state, (only,) = trained_jointly(bert, data, tmp_path, recipe, conflict="log")
    own = dataclasses.replace(alone.state, best={})
    same(
        dataclasses.replace(only, state=dataclasses.replace(only.state, epoch=0)), dataclasses.replace(alone, state=own)
    )
    assert state.curve[-1]["probabilities"] == {kind: 1.0}


KINDS = ("single", "choice", "span")


def test_tasks_of_three_formats_share_one_encoder_and_each_is_scored(bert: Path, tmp_path: Path) -> None:
    state, results = trained_jointly(bert, data_of(tmp_path, KINDS), tmp_path, RECIPE)
    assert [len(result.decoded.predictions) for result in results] == [12, 12, 12]
    assert len({id(result.network.encoder) for result in results}) == 1
    assert len({id(result.network.head) for result in results}) == 3
    for point in state.curve:
        assert set(point["tasks"]) == set(KINDS)
        assert point["selection"] == pytest.approx(sum(t["selection"] for t in point["tasks"].values()) / 3)
        assert sum(point["probabilities"].values()) == pytest.approx(1)
    for kind, result in zip(KINDS, results, strict=True):
        found = [point["tasks"][kind]["selection"] for point in state.curve]
        assert result.state.best_score == max(found) == state.best[kind][0]
        assert [point["selection"] for point in result.state.curve] == found


def test_each_task_ends_with_the_weights_of_its_own_best_step(bert: Path, tmp_path: Path) -> None:
    """Scored again with the weights at hand, the selection score is the task's best."""
    data, recipe = data_of(tmp_path, KINDS), dataclasses.replace(RECIPE, epochs=6, patience=0)
    # tokenizers are trained anew in every process, and come out a little different: which seed will do differs too
    found = (best_steps(bert, data, recipe, seed, tmp_path / str(seed)) for seed in range(20))
    assert any(len(steps) > 1 for steps in found), "with no seed are tasks best at different steps"


def best_steps(encoder: Path, data: Any, recipe: Recipe, seed: int, folder: Path) -> set[int]:
    """The best steps of a joint training's tasks, each of which has to have the weights of its own."""
    places = Places(device="cpu", threads=1)
    run = joint.training(data, Mixture(), (), recipe, seed, str(encoder), None, places, folder, lambda _: None)
    job = next(run)
    (ended,) = fit_together([job])
    with pytest.raises(StopIteration) as stopped:
        run.send(ended)
    _, results = stopped.value.value
    steps = set()
    for part, result in zip(job.parts(), results, strict=True):
        assert part.score(together_predict(job, part)) == result.state.best_score
        steps.add(result.state.best_step)
    return steps


def together_predict(job: Any, part: Any) -> Any:
    return predict(job, part.selection, part.network)


@pytest.mark.parametrize("family", FAMILIES)
def test_two_tasks_train_in_every_family(encoder: Callable[[str], Path], tmp_path: Path, family: str) -> None:
    data = data_of(tmp_path, ("single", "choice"), 8)
    state, results = trained_jointly(encoder(family), data, tmp_path, dataclasses.replace(RECIPE, epochs=1))
    assert state.step == 3  # 6 and 6 examples in batches of 4
    assert len(results) == 2
    assert not state.stopped


MIXTURES: dict[str, dict[str, Any]] = {
    "plain": {},
    "dynamic": {"sampler": "dynamic", "alone": (0.9, 0.2)},
    "shortest": {"sampler": "uniform", "epoch": "shortest"},
    "homogeneous": {"batches": "homogeneous", "weights": "uncertainty"},
    "gradnorm": {"weights": "gradnorm", "conflict": "pcgrad"},
}


@pytest.mark.parametrize("name", MIXTURES)
def test_a_joint_run_resumed_from_any_checkpoint_is_the_same_bit_for_bit(bert: Path, tmp_path: Path, name: str) -> None:
    data = data_of(tmp_path, ("single", "value"))
    recipe = dataclasses.replace(RECIPE, epochs=3, evaluate_every=None if name == "dynamic" else 2)
    whole, ends = trained_jointly(bert, data, tmp_path / "whole", recipe, **MIXTURES[name])

    def killed(at: int) -> Callable[[dict[str, Any]], None]:
        def report(progress: dict[str, Any]) -> None:
            if progress["step"] >= at:
                raise Killed

        return report

    for at in sorted({3, whole.step // 2, whole.step - 1}):
        words: dict[str, Any] = {**MIXTURES[name], "checkpoint_seconds": 0.0, "resume": tmp_path / f"at{at}"}
        with pytest.raises(Killed):
            trained_jointly(bert, data, tmp_path, recipe, report=killed(at), **words)
        again, results = trained_jointly(bert, data, tmp_path, recipe, **words)
        assert dataclasses.asdict(again) == dataclasses.asdict(whole)
        for one, two in zip(ends, results, strict=True):
            assert scores(one).tobytes() == scores(two).tobytes()
            assert torch.equal(one.network.head.linear.weight, two.network.head.linear.weight)


def test_what_a_dynamic_sampler_draws_follows_the_scores(bert: Path, tmp_path: Path) -> None:
    data = data_of(tmp_path, ("single", "choice"))
    state, _ = trained_jointly(
        bert, data, tmp_path, dataclasses.replace(RECIPE, epochs=3), sampler="dynamic", alone=(1.0, 0.0)
    )
    assert state.curve[0]["probabilities"] == {"single": 0.5, "choice": 0.5}  # by size
    for before, point in zip(state.curve, state.curve[1:], strict=False):
        now = [before["tasks"][name]["selection"] / 100 for name in ("single", "choice")]
        first, second = (torch.tensor([1.0, 0.0], dtype=torch.float64) - torch.tensor(now, dtype=torch.float64)).exp()
        assert point["probabilities"]["single"] == pytest.approx(float(first / (first + second)))


def test_heads_are_shared_by_tasks_with_the_same_labels_only(bert: Path, tmp_path: Path) -> None:
    data = data_of(tmp_path, ("single", "pair", "value"))
    other = dataclasses.replace(data[0], task=dataclasses.replace(data[0].task, name="other"))
    turned = dataclasses.replace(data[0].task, name="turned", labels=tuple(reversed(data[0].task.labels)))
    given = [*data, other, dataclasses.replace(data[0], task=turned)]
    run = joint.training(
        given, Mixture(heads="labels"), (), RECIPE, 1, str(bert), None, Places(device="cpu", threads=1),
        tmp_path / "r", lambda _: None,
    )  # fmt: skip
    heads = {part.name: part.network.head for part in next(run).parts()}
    assert heads["other"] is heads["single"]
    assert len(set(map(id, heads.values()))) == 4


def test_no_two_tasks_share_a_stream_of_dropout(bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int, int]] = []
    begin = Noise.begin

    def noted(self: Noise, layout: Any, seed: int, step: int, *rest: Any) -> None:
        if rest and rest[0]:
            seen.extend((step, int(example), int(part)) for example, part in layout.names)
        begin(self, layout, seed, step, *rest)

    monkeypatch.setattr(Noise, "begin", noted)
    trained_jointly(bert, data_of(tmp_path, ("single", "pair")), tmp_path, dataclasses.replace(RECIPE, epochs=1))
    assert len(seen) == 24
    assert len(set(seen)) == 24
    assert {name[1] for name in seen} == set(range(24))


# the gradients of a batch


class Taken:
    """A joint training's job, and the gradients of one batch of it under a mixture."""

    def __init__(self, encoder: Path, folder: Path, **words: Any) -> None:
        data = data_of(folder, ("single", "value"))
        run = joint.training(
            data, Mixture(**words), (), dataclasses.replace(RECIPE, dropout=0.0), 1, str(encoder), None,
            Places(device="cpu", threads=1), folder / "r", lambda _: None,
        )  # fmt: skip
        self.job = next(run)
        together = self.job.together
        assert together is not None
        self.together = together
        self.state = State()
        self.together.begin(self.state)
        self.together.order(self.job.recipe, 1, self.state)
        _, take = started(self.job)
        self.examples = np.array([0, 1, 2, 12, 13, 14, 15])
        self.loss = take(Turn(self.examples, 0))
        self.gradients = {
            name: p.grad.clone() for name, p in self.together.whole.named_parameters() if p.grad is not None
        }


def by_hand(taken: Taken, weights: Sequence[float]) -> dict[str, torch.Tensor]:
    """The gradient of the weighted sum over tasks of the mean loss of each task's examples."""
    job, whole = taken.job, taken.together.whole
    whole.zero_grad(set_to_none=True)
    total: Any = 0.0
    for (part, examples), weight in zip(taken.together.divided(taken.examples), weights, strict=True):
        batch = collate(part.train, examples, job.padding, job.device, part.network.packed)
        total = total + weight * part.network.head.loss(part.network(batch), batch) / len(examples)
    total.backward()
    return {name: p.grad.clone() for name, p in whole.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("words", [{}, {"fixed": (0.25, 3.0)}, {"conflict": "log"}, {"weights": "gradnorm"}])
def test_the_loss_is_the_weighted_sum_over_tasks_of_the_mean_loss_of_each(
    bert: Path, tmp_path: Path, words: dict[str, Any]
) -> None:
    taken = Taken(bert, tmp_path, **words)
    expected = by_hand(taken, words.get("fixed", (1.0, 1.0)))
    assert taken.gradients.keys() == expected.keys()
    for name, gradient in expected.items():
        assert torch.allclose(taken.gradients[name], gradient, rtol=1e-4, atol=1e-6), name


def test_cosines_and_projections_are_those_of_the_tasks_own_gradients(bert: Path, tmp_path: Path) -> None:
    taken = Taken(bert, tmp_path, conflict="pcgrad")
    one, other = by_hand(taken, (1.0, 0.0)), by_hand(taken, (0.0, 1.0))
    shared = [name for name in one if name.startswith("encoder.")]
    a, b = (torch.cat([each[name].flatten() for name in shared]).double() for each in (one, other))
    assert taken.together.point()["cosines"] == {
        "single · value": pytest.approx(float(a @ b / a.norm() / b.norm()), abs=1e-4)
    }
    dot = min(0.0, float(a @ b))
    expected = a - dot / float(b @ b) * b + b - dot / float(a @ a) * a
    found = torch.cat([taken.gradients[name].flatten() for name in shared]).double()
    assert torch.allclose(found, expected, rtol=1e-3, atol=1e-6)


def test_gradnorm_measures_the_last_layer(bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []
    monkeypatch.setattr(together.Weighing, "learn", lambda self, standing, losses, norms: given.append((losses, norms)))
    taken = Taken(bert, tmp_path, weights="gradnorm")
    ((losses, norms),) = given
    for number, weights in enumerate(((1.0, 0.0), (0.0, 1.0))):
        found = by_hand(taken, weights)
        last = [gradient for name, gradient in found.items() if name.startswith("encoder.encoder.layer.1.")]
        assert norms[number] == pytest.approx(float(torch.cat([g.flatten() for g in last]).norm()), rel=1e-3)
    assert set(losses) == {0, 1}


def test_patience_runs_out_when_no_task_gets_better(bert: Path, tmp_path: Path) -> None:
    recipe = dataclasses.replace(RECIPE, epochs=12, patience=2, learning_rate=1e-9)
    state, _ = trained_jointly(bert, data_of(tmp_path, ("single", "choice")), tmp_path, recipe)
    assert state.stopped == "patience"
    assert len(state.curve) == 3
