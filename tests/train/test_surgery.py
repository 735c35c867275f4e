"""Surgery: what it changes in an encoder of any family, and what it leaves exactly as it was."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from safetensors.torch import load_file
from tests.kit import FAMILIES, job_of, task_of_kind, trained
from torch import nn

from layover.errors import EncoderError
from layover.step import Recipe, Surgery
from layover.train import model, surgery, warm, work
from layover.train.determinism import CPU, derive
from layover.train.update import Update

Encoders = Callable[[str], Path]
QUICK = Recipe(epochs=1, batch_size=8, max_length=32, learning_rate=1e-3)


def loaded(path: Path) -> Any:
    return warm.encoder(str(path), None)


def values(encoder: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in encoder.state_dict().items()}


def changed(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    assert set(before) == set(after)
    return {name for name in before if not torch.equal(before[name], after[name])}


def deeper(tmp_path: Path, family: str, depth: int) -> Path:
    """A tiny encoder of a family with so many layers, whose biases and norms are not what they begin with."""
    import tests.kit as kit
    from transformers import AutoModel

    folder = kit.make_encoder(tmp_path / f"{family}-{depth}", family)
    config = AutoModel.from_pretrained(folder).config
    config.num_hidden_layers = depth
    if getattr(config, "layer_types", None):
        config.layer_types = [("full_attention", "sliding_attention")[n % 2] for n in range(depth)]
    torch.manual_seed(1)
    encoder = AutoModel.from_config(config)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    encoder.save_pretrained(folder)
    return folder


# what is drawn anew


@pytest.mark.parametrize("family", FAMILIES)
def test_the_weights_of_linear_maps_in_reset_layers_change_and_nothing_else(tmp_path: Path, family: str) -> None:
    path = deeper(tmp_path, family, 3)
    encoder = loaded(path)
    before, prefix = values(encoder), next(n for n, m in encoder.named_modules() if isinstance(m, nn.ModuleList))
    inside = {n for n in before if n.startswith(f"{prefix}.1.")}
    norms = {n for n in inside if re.search(r"norm\.(weight|bias)$", n, re.I)}
    biases = {n for n in inside - norms if n.endswith(".bias")}
    assert inside
    assert norms
    assert (family == "modernbert") == (not biases)
    cases: tuple[tuple[dict[str, Any], set[str]], ...] = (
        ({}, inside - biases),
        ({"layer_norm": "kept"}, inside - biases - norms),
        ({"biases": "reset"}, inside),
        ({"biases": "reset", "layer_norm": "kept"}, inside - norms),
    )
    for fields, expected in cases:
        encoder = loaded(path)
        surgery.apply(encoder, Surgery(reset=(1,), **fields), seed=1)
        after = values(encoder)
        assert changed(before, after) == expected, fields
        for name in norms & expected:
            assert (after[name] == float(name.endswith("weight"))).all()
        for name in biases & expected:
            assert not after[name].any()


@pytest.mark.parametrize(
    ("init", "limit", "sd"),
    [("intended", 0.04, 0.0175923), ("released", 0.0008, 0.00046180)],
    ids=["intended", "released"],
)
def test_weights_are_drawn_as_intended_or_as_the_papers_code_drew_them(init: Any, limit: float, sd: float) -> None:
    found = surgery.drawn((200, 500), init, torch.Generator().manual_seed(3)).numpy().ravel()
    assert found.dtype == np.float32
    assert np.abs(found).max() <= limit
    assert np.abs(found).max() > 0.99 * limit
    assert found.std() == pytest.approx(sd, rel=0.01)
    cut = limit / 0.02  # what scipy's truncnorm takes its limits to be: standard deviations
    expected = scipy.stats.truncnorm(-cut, cut, scale=0.02)
    assert expected.std() == pytest.approx(sd, rel=1e-3)
    assert scipy.stats.kstest(found, expected.cdf).pvalue > 1e-3


def test_the_papers_code_is_scipys_truncnorm_with_limits_as_values() -> None:
    theirs = scipy.stats.truncnorm(-2 * 0.02, 2 * 0.02, scale=0.02).rvs(20_000, random_state=0)
    ours = surgery.drawn((20_000,), "released", torch.Generator().manual_seed(0)).numpy()
    compared: Any = scipy.stats.ks_2samp(theirs, ours)
    assert compared.pvalue > 1e-3


def test_every_layer_has_a_stream_of_its_own_from_the_runs_seed(tmp_path: Path) -> None:
    path = deeper(tmp_path, "bert", 3)

    def weights(reset: tuple[int, ...], seed: int) -> list[torch.Tensor]:
        encoder = loaded(path)
        surgery.apply(encoder, Surgery(reset=reset), seed)
        layers: Any = surgery.layers_of(encoder)
        return [layer.attention.self.query.weight.clone() for layer in layers]

    both, first, second = weights((0, 2), 1), weights((0,), 1), weights((2,), 1)
    assert torch.equal(both[0], first[0])
    assert torch.equal(both[2], second[2])
    assert not torch.equal(both[0], both[2])
    assert not torch.equal(weights((0,), 2)[0], first[0])
    expected = surgery.drawn((32, 32), "intended", torch.Generator().manual_seed(derive(1, "reset", 0)))
    assert torch.equal(first[0], expected)


def test_no_stream_of_the_process_is_touched(bert: Path) -> None:
    encoder, before = loaded(bert), torch.get_rng_state()
    surgery.apply(encoder, Surgery(reset=(0, 1), biases="reset"), 1)
    assert torch.equal(torch.get_rng_state(), before)


# order and depth


@pytest.mark.parametrize("family", FAMILIES)
def test_layers_move_as_a_whole_and_are_cut_off_above(tmp_path: Path, family: str) -> None:
    path = deeper(tmp_path, family, 3)
    plain = list(surgery.layers_of(loaded(path)))
    encoder = loaded(path)
    outside = {n: t for n, t in values(encoder).items() if not re.search(r"layers?\.\d", n)}
    surgery.apply(encoder, Surgery(order=(2, 0, 1), depth=2), 1)
    layers = surgery.layers_of(encoder)
    assert len(layers) == 2 == encoder.config.num_hidden_layers
    for layer, number in zip(layers, (2, 0), strict=True):
        assert changed(values(plain[number]), values(layer)) == set()
        assert getattr(layer, "attention_type", "") == getattr(plain[number], "attention_type", "")
    assert changed(outside, {n: t for n, t in values(encoder).items() if n in outside}) == set()


@pytest.mark.parametrize("family", FAMILIES)
def test_an_encoder_cut_to_its_lowest_layers_gives_what_they_gave(tmp_path: Path, family: str) -> None:
    path = deeper(tmp_path, family, 3)
    ids = torch.arange(5, 25).reshape(2, 10)
    with torch.inference_mode():
        whole = loaded(path).eval()(input_ids=ids, output_hidden_states=True).hidden_states
        encoder = loaded(path).eval()
        surgery.apply(encoder, Surgery(depth=2), 1)
        cut = encoder(input_ids=ids, output_hidden_states=True)
    last = whole[2] if family != "modernbert" else encoder.final_norm(whole[2])
    torch.testing.assert_close(cut.last_hidden_state, last)
    assert len(cut.hidden_states) == 3


@pytest.mark.parametrize("family", FAMILIES)
def test_every_operation_trains_and_its_weights_are_a_start_again(tmp_path: Path, family: str) -> None:
    path = deeper(tmp_path, family, 3)
    task, data = task_of_kind(tmp_path, "single", 16, 8)
    done = Surgery(reset=(1,), order=(2, 1, 0), depth=2)
    result = trained(path, data, tmp_path, QUICK, surgery=done)
    folder = tmp_path / "weights"
    work.write_weights(folder, task, result)
    again = model.load(str(path), folder, task, QUICK, 1)
    assert changed(values(result.network.encoder), values(again.network.encoder)) == set()
    assert surgery.arranged(again.network.encoder.config) == [2, 1]
    kinds = [getattr(layer, "attention_type", "") for layer in surgery.layers_of(result.network.encoder)]
    assert kinds == [getattr(layer, "attention_type", "") for layer in surgery.layers_of(again.network.encoder)]
    further = trained(path, data, tmp_path / "two", QUICK, start=folder, surgery=Surgery(order=(1, 0)))
    assert surgery.arranged(further.network.encoder.config) == [1, 2]
    assert further.collapsed != "loss became NaN"


@pytest.mark.parametrize("family", FAMILIES)
def test_an_encoder_that_was_cut_loads_in_transformers(tmp_path: Path, family: str) -> None:
    from transformers import AutoConfig, AutoModel

    path = deeper(tmp_path, family, 3)
    for depth in (1, 2):
        encoder = loaded(path).eval()
        surgery.apply(encoder, Surgery(depth=depth), 1)
        folder = tmp_path / f"cut-{depth}"
        encoder.config.save_pretrained(folder)
        own = AutoModel.from_config(AutoConfig.from_pretrained(folder)).eval()
        own.load_state_dict(encoder.state_dict(), strict=False)
        assert set(encoder.state_dict()) <= set(own.state_dict())
        ids = torch.arange(5, 25).reshape(2, 10)
        with torch.inference_mode():
            torch.testing.assert_close(own(ids).last_hidden_state, encoder(ids).last_hidden_state)


def test_a_run_leaves_the_encoder_that_the_process_keeps(bert: Path) -> None:
    before = values(loaded(bert))
    encoder = loaded(bert)
    surgery.apply(encoder, Surgery(reset=(0,), order=(1, 0), depth=1), 1)
    plain = loaded(bert)
    assert changed(before, values(plain)) == set()
    assert plain.config.num_hidden_layers == 2
    assert surgery.arranged(plain.config) is None


# a run


@pytest.mark.parametrize("kind", ["single", "pair", "choice", "value", "span", "tagging", "edge2"])
def test_a_reset_of_nothing_is_direct_bit_for_bit_and_one_of_a_layer_is_not(
    bert: Path, tmp_path: Path, kind: str
) -> None:
    _, data = task_of_kind(tmp_path, kind, 16, 8)
    recipe = dataclasses.replace(QUICK, dropout=0.2)
    direct = trained(bert, data, tmp_path / "a", recipe)
    nothing = trained(bert, data, tmp_path / "b", recipe, surgery=Surgery())
    assert changed(values(direct.network), values(nothing.network)) == set()
    assert direct.state.curve == nothing.state.curve
    whole = trained(bert, data, tmp_path / "c", recipe, surgery=Surgery(order=(0, 1), depth=2))
    assert changed(values(direct.network), values(whole.network)) == set()
    reset = trained(bert, data, tmp_path / "d", recipe, surgery=Surgery(reset=(1,)))
    assert changed(values(direct.network), values(reset.network))
    assert reset.state.curve != direct.state.curve


def test_surgery_is_done_to_the_weights_of_the_start(bert: Path, tmp_path: Path) -> None:
    task, data = task_of_kind(tmp_path, "single", 16, 8)
    folder = tmp_path / "weights"
    work.write_weights(folder, task, trained(bert, data, tmp_path / "a", QUICK))
    found = model.load(str(bert), folder, task, QUICK, 1, operation=Surgery(reset=(1,), layer_norm="kept"))
    before, after = load_file(folder / "encoder.safetensors"), values(found.network.encoder)
    moved = changed(before, after)
    assert moved
    assert all(name.startswith("encoder.layer.1.") for name in moved)
    assert torch.equal(
        before["encoder.layer.1.attention.self.query.bias"], after["encoder.layer.1.attention.self.query.bias"]
    )


def test_layers_that_were_reset_learn_faster_and_every_parameter_is_in_one_group(bert: Path, tmp_path: Path) -> None:
    job = job_of(bert, tmp_path, "single", CPU, reset_rate=5.0)
    network = job.network
    network.reset = (1,)
    update = Update(network, job.recipe, CPU)
    update.take(torch.zeros(()), 1e-3)
    groups = update.optimizer.param_groups
    rates: dict[int, list[float]] = {}
    for group in groups:
        for parameter in group["params"]:
            rates.setdefault(id(parameter), []).append(group["lr"])
    names = {id(p): name for name, p in network.named_parameters()}
    assert set(rates) == set(names)
    for number, name in names.items():
        assert rates[number] == [pytest.approx(5e-3 if ".layer.1." in name else 1e-3)], name
    plain = {id(p) for p in network.parameters() if p.ndim <= 1}
    assert {id(p) for group in groups if not group["weight_decay"] for p in group["params"]} == plain


def test_without_a_rate_of_their_own_all_learn_alike(bert: Path, tmp_path: Path) -> None:
    job = job_of(bert, tmp_path, "single", CPU)
    job.network.reset = (1,)
    assert [group["share"] for group in Update(job.network, job.recipe, CPU).optimizer.param_groups] == [1.0, 1.0]


# refused


def test_what_an_encoder_does_not_have_is_refused(bert: Path) -> None:
    for wrong, told in (
        (Surgery(reset=(2,)), r"layers \[2\] are not among the 2"),
        (Surgery(depth=3), "3 layers cannot be kept of 2"),
        (Surgery(depth=0), "0 layers cannot be kept of 2"),
        (Surgery(order=(0, 0)), r"order \[0, 0\] does not name each of 2 layers once"),
        (Surgery(depth=1, reset=(1,)), r"layers \[1\] are not among the 1"),
    ):
        with pytest.raises(EncoderError, match=told):
            surgery.apply(loaded(bert), wrong, 1)


def test_layers_that_share_weights_are_refused() -> None:
    from transformers import AlbertConfig, AlbertModel

    size: dict[str, Any] = {"vocab_size": 30, "hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 8}
    encoder = AlbertModel(AlbertConfig(**size, embedding_size=8, num_hidden_layers=3))
    with pytest.raises(EncoderError, match="albert: its layers cannot be told apart: no lists of 3 layers"):
        surgery.apply(encoder, Surgery(reset=(0,)), 1)


def test_other_weights_in_a_layer_are_refused(bert: Path) -> None:
    encoder = loaded(bert)
    surgery.layers_of(encoder)[0].register_parameter("scale", nn.Parameter(torch.ones(1)))
    with pytest.raises(EncoderError, match="weights of a kind that cannot be reset: scale of BertLayer"):
        surgery.apply(encoder, Surgery(reset=(0,)), 1)


def test_layers_are_found_in_other_families_too() -> None:
    from transformers import DistilBertConfig, DistilBertModel, MPNetConfig, MPNetModel

    for made in (
        DistilBertModel(DistilBertConfig(vocab_size=30, dim=8, n_heads=2, n_layers=3, hidden_dim=8)),
        MPNetModel(
            MPNetConfig(vocab_size=30, hidden_size=8, num_attention_heads=2, num_hidden_layers=3, intermediate_size=8)
        ),
    ):
        surgery.apply(made, Surgery(order=(2, 0, 1), depth=2, reset=(0,)), 1)
        assert len(surgery.layers_of(made)) == 2
        with torch.inference_mode():
            assert made(torch.ones(1, 4, dtype=torch.long)).last_hidden_state.shape == (1, 4, 8)
