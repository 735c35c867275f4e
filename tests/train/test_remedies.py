"""Remedies for forgetting: each against its formula, computed here, and each in whole runs."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests.kit import FAMILIES, Command, job_of, own_table, study_words, task_of_kind, trained, write_study

from layover.errors import StepError
from layover.step import Recipe
from layover.train import loop, remedies
from layover.train.batching import collate
from layover.train.determinism import derive
from layover.train.fisher import Before, fisher
from layover.train.loop import Turn
from layover.train.update import Update
from layover.train.work import write_weights

CPU = torch.device("cpu")
SHORT = Recipe(epochs=2, batch_size=4, max_length=32, learning_rate=1e-3, evaluate_every=2, patience=4, dropout=0.1)
REMEDIES: dict[str, dict[str, Any]] = {
    "l2sp": {"l2sp": 0.1, "l2sp_head": 0.01},
    "layer_decay": {"layer_decay": 0.8},
    "freeze": {"freeze": "embeddings, 0"},
    "recadam": {"optimizer": "recadam", "recadam_pull": 50.0, "recadam_t0": 3, "recadam_k": 0.7},
    "mixout": {"mixout": 0.6},
    "lora": {"lora": 3, "lora_dropout": 0.2},
}


def job(bert: Path, folder: Path, **fields: Any) -> Any:
    """A job ready to take steps, with its anchor."""
    found = job_of(bert, folder, "single", CPU, **{"max_length": 32, "dropout": 0.0, **fields})
    remedies.prepare(found.network, found.recipe, found.seed)
    found.network.prepare(CPU)
    return dataclasses.replace(found, anchor=remedies.anchor(found.network, found.recipe))


def shaken(network: Any) -> None:
    """Move every trained weight a little away from where it is."""
    draw = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for p in network.parameters():
            if p.requires_grad:
                p.add_(0.1 * torch.randn(p.shape, generator=draw))


def gradients(network: Any) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}


def test_l2sp_is_the_gradient_of_its_penalty(bert: Path, tmp_path: Path) -> None:
    held = job(bert, tmp_path, l2sp=0.7, l2sp_head=0.3)
    start = {name: p.detach().clone() for name, p in held.network.named_parameters()}
    update = Update(held.network, held.recipe, CPU, held.anchor)
    shaken(held.network)
    turn = Turn(np.arange(8), 0)
    loop.gradients(held, turn)
    plain = gradients(held.network)
    for pull in update.pulls:
        pull.add()
    found = gradients(held.network)
    inside = [(p, start[n]) for n, p in held.network.named_parameters() if n.startswith("encoder.") and n in plain]
    outside = [p for n, p in held.network.named_parameters() if n.startswith("head.")]
    penalty = 0.7 / 2 * sum(((p - w0) ** 2).sum() for p, w0 in inside) + 0.3 / 2 * sum((p**2).sum() for p in outside)
    held.network.zero_grad(set_to_none=True)
    penalty.backward()  # type: ignore[union-attr]
    expected = gradients(held.network)
    assert expected.keys() == found.keys() == plain.keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, plain[name] + expected[name], rtol=1e-5, atol=1e-7, msg=name)


def test_l2sp_is_clipped_with_the_loss_it_is_part_of(bert: Path, tmp_path: Path) -> None:
    held = job(bert, tmp_path, l2sp=50.0, max_grad_norm=0.5)
    update = Update(held.network, held.recipe, CPU, held.anchor)
    shaken(held.network)
    update.take(loop.gradients(held, Turn(np.arange(8), 0)), 1e-3)
    start = held.anchor.start
    named = [(n, p) for n, p in held.network.named_parameters() if p.grad is not None]
    whole = [p.grad + 50.0 * (p.detach() - start[n]) if n in start else p.grad for n, p in named]
    norm = torch.cat([part.flatten() for part in whole]).double().norm()
    update.apply()
    scale: Any = update.optimizer.grad_scale  # pyright: ignore[reportAttributeAccessIssue]
    assert float(scale) == pytest.approx(float(norm) / 0.5, rel=1e-4)


def test_a_strong_pull_ends_nearer_to_the_start(bert: Path, tmp_path: Path) -> None:
    far = distances(bert, tmp_path, {})
    near = distances(bert, tmp_path, {"l2sp": 100.0})
    assert 0 < near < far / 3


def distances(bert: Path, folder: Path, fields: dict[str, Any]) -> float:
    """How far a short run's encoder ends from its start."""
    _, data = task_of_kind(folder, "single")
    recipe = dataclasses.replace(SHORT, epochs=4, checkpoint="last", weight_decay=0.0, schedule="constant", **fields)
    before = trained(bert, data, folder / f"before{fields}", dataclasses.replace(recipe, learning_rate=1e-12)).network
    after = trained(bert, data, folder / f"after{fields}", recipe).network
    pairs = zip(before.encoder.parameters(), after.encoder.parameters(), strict=True)
    return sum(float((one - two).detach().square().sum()) for one, two in pairs) ** 0.5


def test_a_plain_recipe_is_held_to_nothing(bert: Path, tmp_path: Path) -> None:
    held = job(bert, tmp_path)
    assert held.anchor is None
    assert Update(held.network, held.recipe, CPU).pulls == []


# RecAdam


def test_recadam_is_the_papers_formula(bert: Path, tmp_path: Path) -> None:
    """Three steps against Adam with bias correction, the annealed share and the pull, computed here in float64."""
    settings = {"optimizer": "recadam", "recadam_k": 0.9, "recadam_t0": 2, "recadam_pull": 30.0, "weight_decay": 0.2}
    held = job(bert, tmp_path, **settings, adam_epsilon=1e-4, layer_decay=0.5, max_grad_norm=1e9)
    update = Update(held.network, held.recipe, CPU, held.anchor)
    names = {"encoder.encoder.layer.1.output.dense.weight": 0.5, "encoder.encoder.layer.0.output.dense.bias": 0.25,
             "head.linear.weight": 1.0}  # fmt: skip
    parameters = dict(held.network.named_parameters())
    expected = {name: parameters[name].detach().double().numpy().copy() for name in names}
    start = {name: value.copy() for name, value in expected.items()}
    first, second = (dict.fromkeys(names, 0.0) for _ in range(2))
    draw = np.random.default_rng(5)
    for t, rate in ((1, 0.01), (2, 0.02), (3, 0.015)):
        for p in parameters.values():
            p.grad = torch.from_numpy(draw.normal(size=tuple(p.shape))).float()
        learnt = 1 / (1 + np.exp(-0.9 * (t - 2)))
        for name, share in names.items():
            g = parameters[name].grad.double().numpy()  # type: ignore[union-attr]
            first[name] = 0.9 * first[name] + 0.1 * g
            second[name] = 0.999 * second[name] + 0.001 * g**2
            adam = first[name] / (1 - 0.9**t) / (np.sqrt(second[name] / (1 - 0.999**t)) + 1e-4)
            w, decay = expected[name], 0.2 if g.ndim > 1 else 0.0
            recalled = learnt * adam + (1 - learnt) * 30.0 * (w - start[name])
            away = recalled if name.startswith("encoder.") else adam  # of a head nothing is to be remembered
            expected[name] = w - rate * share * (away + decay * w)
        update.take(torch.zeros(()), rate, t - 1)
        update.apply()
        for name in names:
            np.testing.assert_allclose(parameters[name].detach().numpy(), expected[name], rtol=1e-4, atol=1e-6)


def test_recadam_moves_nothing_once_a_gradient_is_not_finite(bert: Path, tmp_path: Path) -> None:
    held = job(bert, tmp_path, optimizer="recadam", recadam_pull=30.0)
    update = Update(held.network, held.recipe, CPU, held.anchor)
    shaken(held.network)
    before = {name: p.detach().clone() for name, p in held.network.named_parameters()}
    for p in held.network.parameters():
        p.grad = torch.full_like(p, float("nan"))
    update.take(torch.zeros(()), 0.01, 0)
    update.apply()
    assert all(torch.equal(p, before[name]) for name, p in held.network.named_parameters())


@pytest.mark.parametrize(("step", "expected"), [(0, 0.0), (249, 0.5), (10**6, 1.0)])
def test_recadam_goes_from_staying_to_learning(step: int, expected: float) -> None:
    recipe = Recipe(recadam_k=50.0, recadam_t0=250)
    assert remedies.learning(recipe, step) == pytest.approx(expected, abs=1e-9)


# mixout

MATRICES = re.compile(r"encoder\.encoder\.layer\.\d+\..*(query|key|value|dense)\.weight")


def test_mixout_mixes_the_matrices_with_their_start(bert: Path, tmp_path: Path) -> None:
    held = job(bert, tmp_path, mixout=0.7)
    shaken(held.network)
    parameters = dict(held.network.named_parameters())
    mixed = mixture(held)
    assert mixed.weights.keys() == {name for name in parameters if MATRICES.fullmatch(name)}
    values, starts = [], []
    for name, found in mixed.weights.items():
        w, w0 = parameters[name].detach(), held.anchor.start[name]
        swapped = (w - 0.7 * w0) / 0.3
        is_start = torch.isclose(found, w0, rtol=0, atol=1e-6)
        torch.testing.assert_close(found[~is_start], swapped[~is_start], rtol=1e-3, atol=1e-4, msg=name)
        starts.append(is_start.float().mean())
        values.append(found)
    assert float(torch.stack(starts).mean()) == pytest.approx(0.7, abs=0.02)


def mixture(held: Any, seed: int = 1, step: int = 0) -> Any:
    return remedies.mixture(held.network, held.recipe, held.anchor, seed, step)


def test_what_is_mixed_depends_on_seed_step_and_matrix_alone(bert: Path, tmp_path: Path) -> None:
    held = job(bert, tmp_path, mixout=0.5)
    names = list(mixture(held).factors)

    def masks(seed: int, step: int) -> torch.Tensor:
        factors = mixture(held, seed, step).factors
        return torch.stack([factors[name] for name in names if factors[name].shape == (32, 32)]).flatten(1)

    once = masks(1, 0)
    torch.rand(5)  # what else was drawn does not matter
    assert torch.equal(once, masks(1, 0))
    for other in (masks(1, 1), masks(2, 0)):
        assert float((once == other).float().mean()) == pytest.approx(0.5, abs=0.05)
    assert float((once[0] == once[1]).float().mean()) == pytest.approx(0.5, abs=0.1)


def test_the_expected_mixture_is_the_weight(bert: Path, tmp_path: Path) -> None:
    held = job(bert, tmp_path, mixout=0.6)
    shaken(held.network)
    name = "encoder.encoder.layer.0.intermediate.dense.weight"
    mean = torch.stack([mixture(held, step=step).weights[name] for step in range(400)]).mean(0)
    w = dict(held.network.named_parameters())[name].detach()
    torch.testing.assert_close(mean, w, rtol=0, atol=0.1)  # sd 0.1 * sqrt(1.5 / 400) = 0.006 each
    assert float((mean - w).mean()) == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("micro_tokens", [10**6, 24])
def test_gradients_flow_through_the_mixture_to_the_weights(bert: Path, tmp_path: Path, micro_tokens: int) -> None:
    held = dataclasses.replace(job(bert, tmp_path, mixout=0.7), micro_tokens=micro_tokens)
    shaken(held.network)
    turn = Turn(np.arange(8), 4)
    loss = loop.gradients(held, turn)
    found = gradients(held.network)
    kept = {name: factor == 0 for name, factor in mixture(held, step=4).factors.items()}
    leaves = {name: p.detach().clone().requires_grad_() for name, p in held.network.named_parameters()}
    whole = {
        name: (mask * held.anchor.start[name] + ~mask * leaves[name] - 0.7 * held.anchor.start[name]) / 0.3
        for name, mask in kept.items()
    }
    batch = collate(held.train, turn.examples, held.padding, CPU, held.network.packed)
    scores = torch.func.functional_call(held.network, {**leaves, **whole}, (batch, held.seed, turn.step))
    expected = held.network.head.loss(scores, batch)
    (expected / 8).backward()
    assert float(loss) == pytest.approx(float(expected.detach()), rel=1e-3)
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, leaves[name].grad, rtol=1e-2, atol=1e-4, msg=name)


def test_mixout_is_off_where_nothing_is_trained(bert: Path, tmp_path: Path) -> None:
    held = job(bert, tmp_path, mixout=0.7)
    shaken(held.network)
    without = dataclasses.replace(held, recipe=dataclasses.replace(held.recipe, mixout=0.0), anchor=None)
    assert np.array_equal(loop.predict(held, held.train).scores, loop.predict(without, held.train).scores)


def test_mixout_computes_in_bf16_too(bert: Path, tmp_path: Path) -> None:
    exact, rough = (job(bert, tmp_path, mixout=0.7, precision=precision) for precision in ("fp32", "bf16"))
    for held in (exact, rough):
        shaken(held.network)
        loop.gradients(held, Turn(np.arange(8), 0))
    one, two = (torch.cat([g.flatten() for g in gradients(held.network).values()]) for held in (exact, rough))
    assert float(torch.cosine_similarity(one, two, 0)) > 0.99


# EWC


def test_the_fisher_information_is_the_mean_squared_gradient_of_single_examples(bert: Path, tmp_path: Path) -> None:
    held = job(bert, tmp_path)
    found = fisher(held.network, held.train, held.padding, 5, 3, CPU)
    names = [name for name, _ in held.network.named_parameters() if name.startswith("encoder.")]
    assert list(found) == names
    single = []
    for number in range(len(held.train)):
        batch = collate(held.train, np.array([number]), held.padding, CPU, held.network.packed)
        held.network.zero_grad()
        chosen = torch.log_softmax(held.network(batch), -1)[0, int(batch.labels[0])]
        chosen.backward()
        single.append({name: p.grad.clone() for name, p in held.network.named_parameters() if p.grad is not None})
    drawn = [i for i in range(len(held.train))
             if i in np.random.default_rng(derive(3, "fisher")).permutation(len(held.train))[:5]]  # fmt: skip
    for name in names:
        expected = torch.zeros_like(found[name])
        if name in single[0]:
            expected = torch.stack([single[i][name] ** 2 for i in drawn]).mean(0)
        torch.testing.assert_close(found[name], expected, rtol=1e-3, atol=1e-10, msg=name)
    assert max(float(tensor.max()) for tensor in found.values()) > 0


@pytest.mark.parametrize("kind", ["choice", "value", "tagging", "edge2", "span", "answers"])
def test_every_kind_of_task_has_fisher_information(bert: Path, tmp_path: Path, kind: str) -> None:
    held = job_of(bert, tmp_path, kind, CPU, max_length=64)
    held.network.prepare(CPU)
    found = fisher(held.network, held.train, held.padding, 4, 1, CPU)
    assert all(bool(tensor.isfinite().all() and (tensor >= 0).all()) for tensor in found.values())
    assert sum(float(tensor.sum()) for tensor in found.values()) > 0


def test_ewc_is_the_gradient_of_its_penalty(bert: Path, tmp_path: Path) -> None:
    held = job(bert, tmp_path)
    matters = fisher(held.network, held.train, held.padding, 5, 3, CPU)
    recipe = dataclasses.replace(held.recipe, ewc=200.0)
    held = dataclasses.replace(held, recipe=recipe, anchor=remedies.anchor(held.network, recipe, matters))
    update = Update(held.network, recipe, CPU, held.anchor)
    shaken(held.network)
    loop.gradients(held, Turn(np.arange(8), 0))
    plain = gradients(held.network)
    for pull in update.pulls:
        pull.add()
    for name, p in held.network.named_parameters():
        if p.grad is not None:
            away = p.detach() - held.anchor.start[name] if name in matters else 0.0
            expected = plain[name] + (200.0 * matters[name] * away if name in matters else 0.0)
            torch.testing.assert_close(p.grad, expected, rtol=1e-4, atol=1e-7, msg=name)


def test_ewc_without_a_start_is_refused(bert: Path, tmp_path: Path) -> None:
    _, data = task_of_kind(tmp_path, "single")
    with pytest.raises(StepError, match="starts from no task"):
        trained(bert, data, tmp_path, dataclasses.replace(SHORT, ewc=1.0))


# whole runs


class Killed(Exception):
    pass


def after_a_stop(bert: Path, folder: Path) -> dict[str, Any]:
    """What a run is told that starts from another one, which was trained on pairs."""
    task, data = task_of_kind(folder, "pair", 16)
    write_weights(folder / "weights", task, trained(bert, data, folder / "stop", SHORT))
    return {"start": folder / "weights", "before": Before(data, SHORT)}


@pytest.mark.parametrize("name", [*REMEDIES, "ewc"])
def test_a_run_resumed_from_a_checkpoint_is_the_same_bit_for_bit(bert: Path, tmp_path: Path, name: str) -> None:
    recipe = dataclasses.replace(SHORT, **REMEDIES.get(name, {"ewc": 1e4, "ewc_examples": 6}))
    _, data = task_of_kind(tmp_path, "single", 16)
    options = after_a_stop(bert, tmp_path) if name == "ewc" else {}
    whole = trained(bert, data, tmp_path / "whole", recipe, **options)
    for at in (3, 6):
        resume = tmp_path / f"resume{at}"

        def die(progress: dict[str, Any], at: int = at) -> None:
            if progress["step"] == at:
                raise Killed

        with pytest.raises(Killed):
            trained(bert, data, tmp_path, recipe, checkpoint_seconds=0.0, resume=resume, report=die, **options)
        steps: list[int] = []
        again = trained(
            bert, data, tmp_path, recipe, resume=resume, report=lambda p, s=steps: s.append(p["step"]), **options
        )
        assert steps[0] == at
        assert again.state.curve == whole.state.curve
        weights, others = whole.network.state_dict(), again.network.state_dict()
        assert weights.keys() == others.keys()
        assert all(torch.equal(tensor, others[n]) for n, tensor in weights.items())
    plain = trained(bert, data, tmp_path / "plain", SHORT, **options).network.encoder.state_dict()
    own = whole.network.encoder.state_dict()
    assert not all(torch.equal(own[n], plain[n]) for n in plain)


@pytest.mark.parametrize("name", ["mixout", "lora", "freeze"])
def test_layers_that_are_computed_again_are_the_same(bert: Path, tmp_path: Path, name: str) -> None:
    recipe = dataclasses.replace(SHORT, **REMEDIES[name], checkpoint="last", patience=0)
    _, data = task_of_kind(tmp_path, "single", 16)
    kept = trained(bert, data, tmp_path / "kept", recipe).network.state_dict()
    again = trained(bert, data, tmp_path / "again", recipe, gradient_checkpointing=True).network.state_dict()
    for key, tensor in kept.items():
        torch.testing.assert_close(again[key], tensor, rtol=1e-4, atol=1e-5, msg=key)


def test_a_pass_that_fails_leaves_the_weights_as_they_were(bert: Path, tmp_path: Path) -> None:
    held = job(bert, tmp_path, mixout=0.7)
    shaken(held.network)
    before = {name: p.detach().clone() for name, p in held.network.named_parameters()}

    def fail() -> None:
        with remedies.mixing(held.network, held.recipe, held.anchor, 1, 0):
            now = dict(held.network.named_parameters())
            assert not all(torch.equal(now[name], p) for name, p in before.items())
            raise Killed

    with pytest.raises(Killed):
        fail()
    assert all(torch.equal(p, before[name]) for name, p in held.network.named_parameters())


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", REMEDIES)
def test_every_remedy_trains_every_family(
    encoder: Callable[[str], Path], tmp_path: Path, family: str, name: str
) -> None:
    recipe = Recipe(
        epochs=1, batch_size=9, max_length=64, learning_rate=1e-3, checkpoint="last", patience=0, **REMEDIES[name]
    )
    _, data = task_of_kind(tmp_path, "choice")
    result = trained(encoder(family), data, tmp_path, recipe)
    assert (result.state.stopped, result.state.step) == ("", 2)
    assert np.isfinite(result.state.curve[-1]["loss"])


EWC = {"role": {"target": {"ewc": 10.0, "ewc_examples": 5}}}


@pytest.mark.slow
def test_a_study_compares_them_all(command: Command, bert: Path, tmp_path: Path) -> None:
    """Every remedy is a strategy's own recipe; what a stage leaves has the names of the plain encoder."""
    own = {**REMEDIES, "ewc": EWC}
    strategies = {name: {"kind": "stilts", "sources": ["stop"], "recipe": recipe} for name, recipe in own.items()}
    words = study_words(bert, tmp_path, strategies={"direct": {"kind": "direct"}, **strategies})
    store = tmp_path / "store"
    ran = command("run", write_study(tmp_path / "study.toml", words), "--store", store)
    assert ran.code == 0, ran.out + ran.err
    plain = set(load_file(bert / "model.safetensors"))
    left = [set(load_file(path)) for path in store.glob("steps/*/weights/encoder.safetensors")]
    assert len(left) == len(own)  # the sources; that of ewc is plain
    assert all(names == {name for name in plain if "pooler" not in name} for names in left)


def test_a_strength_can_be_swept(command: Command, bert: Path, tmp_path: Path) -> None:
    own = {"task": {"mine": own_table(tmp_path)}, "strategies": {"direct": {"kind": "direct"}}}
    words = study_words(bert, tmp_path, **own, sweep={"l2sp": [0.01, 0.1]})
    ran = command("run", write_study(tmp_path / "study.toml", words), "--store", tmp_path / "store")
    assert ran.code == 0, ran.out + ran.err
    (chosen,) = (json.loads(p.read_text("utf-8")) for p in (tmp_path / "store").glob("steps/*/choice.json"))
    assert [cell["recipe"] for cell in chosen["tried"]] == [{"l2sp": 0.01}, {"l2sp": 0.1}]
