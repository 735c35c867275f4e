"""A stack computes for every run what the run's own encoder computes, and leaves each run an ordinary network."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.kit import FAMILIES, POSITIONS, task_of_kind
from torch import nn

from layover.step import Recipe
from layover.tasks import TASKS
from layover.train import model
from layover.train.batching import collate, micro_batches
from layover.train.encode import encode
from layover.train.heads import Head
from layover.train.layers import CannotStack, Dropout, Runs, attend
from layover.train.network import Network
from layover.train.noise import Noise
from layover.train.stacked import stack

Encoders = Callable[[str], Path]
STACKABLE = [family for family in FAMILIES if family != "deberta-v3"]
Lengths = Sequence[Sequence[int]]  # of the inputs of each run
CPU = torch.device("cpu")


def perturbed(encoder: Any, seed: int) -> Any:
    torch.manual_seed(seed)
    for parameter in encoder.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return encoder


def network_of(encoder: Any, dropout: float = 0.0, seed: int = 0) -> Network:
    """A network for two classes around an encoder, computed as on a GPU."""
    noise = Noise()
    return Network(encoder, Head(encoder.config.hidden_size, TASKS.get("rte"), dropout, seed, noise), "first", noise)


def runs_of(encoder: Encoders, family: str, count: int, rates: Sequence[float] = (0.0,)) -> list[Any]:
    """Networks of one structure with weights of their own, in training, with these rates of dropout in turn."""
    from transformers import AutoConfig, AutoModel

    made = []
    for run in range(count):
        config = AutoConfig.from_pretrained(encoder(family))
        for name, value in config.to_dict().items():
            if "dropout" in name and isinstance(value, float | int):
                setattr(config, name, rates[run % len(rates)])
        found = AutoModel.from_config(config).train()
        if getattr(found, "pooler", None) is not None:
            found.pooler = None
        made.append(network_of(perturbed(found, run)))
    return made


def tokens_of(network: Any, lengths: Lengths, seed: int = 0) -> list[dict[str, torch.Tensor]]:
    """A random batch per run; some tokens are the padding's, as in families where another token serves as it."""
    draw = torch.Generator().manual_seed(seed)
    found = []
    for inputs in lengths:
        shape = len(inputs), max(inputs)
        mask = torch.arange(shape[1]) < torch.tensor(inputs).unsqueeze(1)
        ids = torch.randint(network.encoder.config.vocab_size, shape, generator=draw)
        found.append({"input_ids": ids, "attention_mask": mask.long()})
    return found


def losses(hidden: Sequence[torch.Tensor], batches: Sequence[Any]) -> list[torch.Tensor]:
    """A loss per run, to which every token that is no padding contributes in its own way."""
    seen = [part * batch["attention_mask"].unsqueeze(-1) for part, batch in zip(hidden, batches, strict=True)]
    return [(part * torch.arange(part.numel()).cos().view(part.shape)).sum() for part in seen]


def apart(networks: Sequence[Any], batches: Sequence[Any]) -> list[torch.Tensor]:
    return [own.encoder(**batch).last_hidden_state for own, batch in zip(networks, batches, strict=True)]


def close(one: Any, two: torch.Tensor) -> None:
    torch.testing.assert_close(one, two, rtol=2e-4, atol=2e-5 * max(1.0, float(two.detach().abs().max())))


@pytest.mark.parametrize("family", STACKABLE)
@given(
    lengths=st.lists(st.lists(st.integers(1, 20), min_size=1, max_size=4), min_size=1, max_size=4),
    seed=st.integers(0, 99),
)
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_hidden_states_and_gradients_are_those_of_the_runs_apart(
    encoder: Encoders, family: str, lengths: Lengths, seed: int
) -> None:
    networks = runs_of(encoder, family, len(lengths))
    batches = tokens_of(networks[0], lengths, seed)
    alone = copy.deepcopy(networks)
    expected = apart(alone, batches)
    torch.stack(losses(expected, batches)).sum().backward()
    together = stack(networks)
    together.forget()
    found = together.hidden(batches)
    torch.stack(losses(found, batches)).sum().backward()
    for part, other, batch in zip(found, expected, batches, strict=True):
        mask = batch["attention_mask"].unsqueeze(-1)
        close(part * mask, other * mask)
    for run, own in zip(networks, alone, strict=True):
        for (name, parameter), expected in zip(run.encoder.named_parameters(), own.encoder.parameters(), strict=True):
            if expected.grad is None:  # of the types of tokens, where there are none
                assert parameter.grad is not None
                assert not parameter.grad.any(), name
            else:
                close(parameter.grad, expected.grad)


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_types_of_tokens_are_read(encoder: Encoders, family: str) -> None:
    networks = runs_of(encoder, family, 2)
    batches = tokens_of(networks[0], [[3, 5], [7, 2]])
    n_types = networks[0].encoder.config.type_vocab_size
    batches = [{**batch, "token_type_ids": torch.arange(len(batch["input_ids"])).unsqueeze(1).expand_as(
        batch["input_ids"]) % n_types} for batch in batches]  # fmt: skip
    expected = [part.detach() for part in apart(networks, batches)]
    for part, other, batch in zip(stack(networks).hidden(batches), expected, batches, strict=True):
        close(part * batch["attention_mask"].unsqueeze(-1), other * batch["attention_mask"].unsqueeze(-1))


def optimizer_of(network: Any, rate: float) -> torch.optim.Optimizer:
    # an epsilon that shows the scale of gradients, and hides those that are nothing but rounding (a key's bias)
    return torch.optim.AdamW(network.encoder.parameters(), lr=rate, eps=1e-2, fused=True)


@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_runs_with_optimizers_of_their_own_learn_the_same_apart_and_stacked(encoder: Encoders, family: str) -> None:
    """Rates, clipping, and a run that leaves after five steps; its weights stay, those of the others go on."""
    rates, clips, steps = [1e-2, 1e-3, 3e-3], [1.0, 0.1, 1e9], [8, 5, 8]
    networks = runs_of(encoder, family, 3)
    alone, started, moved = copy.deepcopy(networks), copy.deepcopy(networks), dict[str, float]()
    batches = [tokens_of(networks[0], [[4, 6], [5], [3, 3, 8]], seed) for seed in range(8)]
    for run, own in enumerate(alone):
        optimizer = optimizer_of(own, rates[run])
        for step in range(steps[run]):
            optimizer.zero_grad()
            losses(apart([own], [batches[step][run]]), [batches[step][run]])[0].backward()
            nn.utils.clip_grad_norm_(own.encoder.parameters(), clips[run])
            optimizer.step()

    optimizers = [optimizer_of(part, rate) for part, rate in zip(networks, rates, strict=True)]
    running, together = [0, 1, 2], stack(networks)
    for step in range(8):
        if step == 5:
            together.release()
            running, together = [0, 2], stack([networks[0], networks[2]])
        together.forget()
        parts = [batches[step][run] for run in running]
        torch.stack(losses(together.hidden(parts), parts)).sum().backward()
        for run in running:
            nn.utils.clip_grad_norm_(networks[run].encoder.parameters(), clips[run])
            optimizers[run].step()
    together.release()
    for part, own, start in zip(networks, alone, started, strict=True):
        for name, found in part.encoder.state_dict().items():
            assert float((found - own.encoder.state_dict()[name]).abs().max()) < 1e-4, name
            moved[name] = max(moved.get(name, 0.0), float((found - start.encoder.state_dict()[name]).abs().max()))
    assert float(np.median(list(moved.values()))) > 1e-2


def test_weights_are_shared_while_a_stack_stands_and_own_afterwards(encoder: Encoders) -> None:
    networks = runs_of(encoder, "bert", 2)
    before = copy.deepcopy([part.encoder.state_dict() for part in networks])
    together = stack(networks)
    stacked = list(together.encoder.parameters())
    assert {p.shape[0] for p in stacked} == {2}
    assert sum(p.numel() for p in stacked) == sum(p.numel() for part in networks for p in part.encoder.parameters())
    saved = copy.deepcopy(networks[1].encoder.state_dict())
    with torch.no_grad():
        for parameter in stacked:
            parameter[1] += 1
    for name, tensor in networks[1].encoder.state_dict().items():
        assert torch.equal(tensor, saved[name] + 1), name
    networks[1].encoder.load_state_dict(saved)  # into the stack: what a run restores, the stack computes with
    assert all(
        torch.equal(one, two)
        for one, two in zip(networks[1].encoder.state_dict().values(), saved.values(), strict=True)
    )
    together.release()
    with torch.no_grad():
        for parameter in stacked:
            parameter.zero_()
    for part, expected in zip(networks, before, strict=True):
        assert all(torch.equal(tensor, expected[name]) for name, tensor in part.encoder.state_dict().items())
        assert all(p.grad is None for p in part.encoder.parameters())


def test_frozen_weights_stay_frozen(encoder: Encoders) -> None:
    networks = runs_of(encoder, "bert", 2)
    for part in networks:
        part.encoder.embeddings.requires_grad_(False)
    batches = tokens_of(networks[0], [[4], [6]])
    together = stack(networks)
    torch.stack(losses(together.hidden(batches), batches)).sum().backward()
    assert all(p.grad is None for p in networks[0].encoder.embeddings.parameters())
    assert all(p.grad is not None for p in networks[1].encoder.encoder.parameters())


# whole networks: heads, and the ways in which a CPU computes


def loaded(encoder: Path, folder: Path, kind: str, way: Any, rates: Sequence[float]) -> tuple[list[Network], Any, int]:
    """Networks with heads for a generated task, to be computed in one way; its training set, and its padding token."""
    task, data = task_of_kind(folder, kind)
    found = [model.load(str(encoder), None, task, Recipe(dropout=rate), seed) for seed, rate in enumerate(rates)]
    networks = [own.network for own in found]
    for seed, network in enumerate(networks):
        perturbed(network.encoder, seed)
        if way != "stock":
            network.prepare(CPU).way = way
        network.train()
    first = found[0]
    return networks, encode(data.train, task, first.tokenizer, first.max_length), first.tokenizer.pad_token_id


@pytest.mark.parametrize("family", STACKABLE)
@pytest.mark.parametrize(
    ("kind", "way", "rates"),
    [("pair", "packed", (0.0, 0.4, 0.1)), ("choice", "packed", (0.2, 0.2)), ("span", "packed", (0.1, 0.0)),
     ("edge2", "padded", (0.3, 0.1)), ("tagging", "padded", (0.0, 0.0)), ("value", "stock", (0.0, 0.0, 0.0))],
)  # fmt: skip
def test_scores_and_gradients_are_those_of_the_networks_apart_with_dropout_too(
    encoder: Encoders, family: str, kind: str, way: str, rates: tuple[float, ...], tmp_path: Path
) -> None:
    """Every input's dropout is its own, from the run's seed, the step and the example."""
    networks, data, padding = loaded(encoder(family), tmp_path, kind, way, rates)
    alone, _, _ = loaded(encoder(family), tmp_path, kind, way, rates)
    draw, seeds, steps = np.random.default_rng(0), range(10, 10 + len(rates)), range(len(rates))
    chosen = [draw.permutation(len(data))[: 3 + run] for run in range(len(rates))]
    batches: list[Any] = [collate(data, each, padding, CPU, way == "packed") for each in chosen]
    expected = [own(*given) for own, *given in zip(alone, batches, seeds, steps, strict=True)]
    together = stack(networks)
    found: Any = together(batches, seeds, steps)
    for scores, own in ((expected, alone), (found, networks)):
        parts = zip(own, scores, batches, strict=True)
        torch.stack([network.head.loss(part, batch) for network, part, batch in parts]).sum().backward()
    for part, other in zip(found, expected, strict=True):
        close(part.nan_to_num(neginf=0.0), other.nan_to_num(neginf=0.0))
    for run, own in zip(networks, alone, strict=True):
        for (name, parameter), other in zip(run.named_parameters(), own.parameters(), strict=True):
            assert other.grad is None or close(parameter.grad, other.grad) is None, name


def test_a_run_may_have_nothing_in_a_pass(encoder: Encoders, tmp_path: Path) -> None:
    for way in ("packed", "padded", "stock"):
        networks, data, padding = loaded(encoder("bert"), tmp_path / way, "pair", way, (0.0, 0.0, 0.0))
        batch = collate(
            data, micro_batches(data, np.arange(5), 10**6, way == "packed")[0], padding, CPU, way == "packed"
        )
        expected = networks[1](batch).detach()
        together = stack(networks)
        found = together([None, batch, None], [1, 2, 3], [0, 0, 0])
        assert found[0] is found[2] is None
        assert found[1] is not None
        close(found[1], expected)
        found[1].sum().backward()
        moved = [any(bool(p.grad.any()) for p in own.encoder.parameters() if p.grad is not None) for own in networks]
        assert moved == [False, True, False]


# dropout


@pytest.mark.parametrize("rates", [(0.0, 0.25, 0.5), (0.3, 0.3, 0.3)])
def test_each_run_drops_at_its_own_rate_and_keeps_the_mean(rates: tuple[float, ...]) -> None:
    torch.manual_seed(0)
    layer = Dropout([nn.Dropout(rate) if rate else nn.Identity() for rate in rates], Runs(3, CPU, []))
    found = layer(torch.ones(3 * 50, 20, 40)).view(3, -1)
    for part, rate in zip(found, rates, strict=True):
        assert float((part == 0).float().mean()) == pytest.approx(rate, abs=0.01)
        assert part[part > 0].numpy() == pytest.approx(1 / (1 - rate))
    assert torch.equal(layer.eval()(torch.ones(3, 4)), torch.ones(3, 4))


def test_attention_drops_at_the_rate_of_each_run() -> None:
    """Equal keys give equal weights; the values are the unit vectors, so that the outcome shows the weights."""
    torch.manual_seed(0)
    query, key = torch.zeros(3 * 20, 4, 16, 16), torch.zeros(3 * 20, 4, 16, 16)
    value = torch.eye(16).expand(3 * 20, 4, 16, 16)
    module = nn.Identity()
    module.is_causal = False  # type: ignore[assignment]
    rates = (0.0, 0.5, 0.25)
    found, _ = attend(module, query, key, value, None, dropout=rates)
    for part, rate in zip(found.view(3, -1), rates, strict=True):
        assert float((part == 0).float().mean()) == pytest.approx(rate, abs=0.02)
        assert part[part > 0].numpy() == pytest.approx(1 / 16 / (1 - rate))


@pytest.mark.parametrize("family", STACKABLE)
def test_runs_without_dropout_are_untouched_by_that_of_others(encoder: Encoders, family: str) -> None:
    networks = runs_of(encoder, family, 3, [0.0, 0.4, 0.0])
    batches = tokens_of(networks[0], [[5, 9], [9, 5], [9]])
    torch.manual_seed(0)
    expected = [part.detach() for part in apart(networks, batches)]
    found = stack(networks).hidden(batches)
    same = [bool(torch.isclose(f, e, atol=1e-4)[b["attention_mask"] == 1].all())
            for f, e, b in zip(found, expected, batches, strict=True)]  # fmt: skip
    assert same == [True, False, True]


# what is refused


def test_an_encoder_that_uses_its_weights_otherwise_is_refused_and_left_alone(encoder: Encoders) -> None:
    networks = runs_of(encoder, "deberta-v3", 2)
    before = copy.deepcopy(networks[0].encoder.state_dict())
    for _ in range(2):
        with pytest.raises(CannotStack, match="DebertaV2Model cannot be stacked: it reads a layer's weights itself"):
            stack(networks)
    assert all(torch.equal(tensor, before[name]) for name, tensor in networks[0].encoder.state_dict().items())
    assert all(p.grad is None and p.is_leaf for p in networks[0].encoder.parameters())


def test_encoders_that_compute_layers_again_are_refused(encoder: Encoders) -> None:
    networks = runs_of(encoder, "bert", 2)
    for network in networks:
        network.recompute()
    with pytest.raises(CannotStack, match="computed again"):
        stack(networks)


class Toy(nn.Module):
    """An encoder of one layer, which does `odd` with what it reads."""

    def __init__(self, odd: Callable[[Any, torch.Tensor], torch.Tensor], name: str) -> None:
        super().__init__()
        self.config = SimpleNamespace(
            vocab_size=20, hidden_size=8, pad_token_id=0, _attn_implementation="eager", name=name
        )
        self.words, self.dense, self.conv = nn.Embedding(20, 8), nn.Linear(8, 8), None
        if name == "convolution":
            self.conv = nn.Conv1d(8, 8, 1)
        self.odd = odd

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(last_hidden_state=self.odd(self, self.dense(self.words(input_ids))))


ODD = {
    "plain": (lambda toy, x: x, ""),
    "over rows": (lambda toy, x: x - x.mean(0), "it would compute something else"),
    "convolution": (lambda toy, x: toy.conv(x.transpose(1, 2)).transpose(1, 2), "Conv1d has weights"),
    "transposed": (lambda toy, x: toy.dense(x.transpose(0, 1)).transpose(0, 1), "it would compute something else"),
    "one word": (lambda toy, x: x + toy.words(torch.tensor([1, 2]))[0], "an embedding is not read row by row"),
    "weight": (lambda toy, x: x @ toy.dense.weight, "it reads a layer's weights itself"),
}


@pytest.mark.parametrize("name", ODD)
def test_what_would_be_computed_wrongly_is_found(name: str) -> None:
    odd, why = ODD[name]
    networks = [network_of(Toy(odd, name)) for _ in range(2)]
    if not why:
        assert stack(networks).hidden(tokens_of(networks[0], [[1], [2]]))[1].shape == (1, 2, 8)
        return
    with pytest.raises(CannotStack, match=why):
        stack(networks)


def test_encoders_of_other_structures_are_refused(encoder: Encoders) -> None:
    from transformers import AutoConfig, AutoModel

    (bert,) = runs_of(encoder, "bert", 1)
    for change in ({"num_hidden_layers": 1}, {"intermediate_size": 40}, {"layer_norm_eps": 1e-3}):
        config = AutoConfig.from_pretrained(encoder("bert"), **change)
        other = network_of(AutoModel.from_config(config, add_pooling_layer=False))
        with pytest.raises(CannotStack, match="not of one structure"):
            stack([bert, other])
    assert POSITIONS >= 20  # what the tests above read at most
