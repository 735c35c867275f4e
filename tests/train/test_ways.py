"""Ways of computing one batch: packed, padded, in parts. All give what the stock model gives, with dropout on too."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.kit import FAMILIES, stretch_tasks, task_of_kind
from torch import nn

from layover.step import Recipe
from layover.train import attention, model, noise, ways
from layover.train.batching import collate, micro_batches
from layover.train.encode import Encoded, encode
from layover.train.layout import Layout
from layover.train.network import Network

CPU = torch.device("cpu")
Encoders = Callable[[str], Path]
KINDS = ("pair", "choice", "value", *stretch_tasks())
CLOSE = 1e-5  # of the largest gradient: the issue of rounding alone, in fp32
PACKS = [family for family in FAMILIES if family != "deberta-v3"]


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return request.param


def loaded(encoder: Path, folder: Path, kind: str, **fields: Any) -> tuple[Network, Encoded, int]:
    """A fresh network, a generated task's training set with inputs of many lengths, and its padding token."""
    task, data = task_of_kind(folder, kind)
    found = model.load(str(encoder), None, task, Recipe(**{"dropout": 0.0, **fields}), 1)
    return found.network, encode(data.train, task, found.tokenizer, found.max_length), found.tokenizer.pad_token_id


def gradient(
    net: Network, data: Encoded, padding: int, most: int = 10**6, examples: Any = None, step: int = 3
) -> dict[str, torch.Tensor]:
    """The loss of some examples and its gradient, by name, taken in micro-batches of at most `most` tokens."""
    net.train().zero_grad(set_to_none=True)
    total = torch.zeros(())
    for part in micro_batches(data, np.arange(len(data)) if examples is None else examples, most, net.packed):
        batch = collate(data, part, padding, CPU, net.packed)
        loss = net.head.loss(net(batch, seed=7, step=step), batch)
        loss.backward()
        total += loss.detach()
    found = {name: p.grad for name, p in net.named_parameters() if p.grad is not None}
    return {"loss": total, **found}


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], close: float = CLOSE) -> None:
    assert found.keys() == expected.keys()
    assert float(found["loss"]) == pytest.approx(float(expected["loss"]), rel=close)
    largest = max(float(value.abs().max()) for name, value in expected.items() if name != "loss")
    assert largest > 1e-3  # else the comparison says nothing
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=close * max(largest, 1.0), msg=name)


@pytest.mark.parametrize("kind", KINDS)
def test_the_fast_way_gives_the_loss_and_gradient_of_the_stock_model(
    encoder: Encoders, family: str, kind: str, tmp_path: Path
) -> None:
    pooling = "mean" if kind == "value" else "first"
    fast, data, padding = loaded(encoder(family), tmp_path, kind, pooling=pooling)
    stock, _, _ = loaded(encoder(family), tmp_path, kind, pooling=pooling)
    assert len(set(data.input_lengths.tolist())) > 3
    expected = gradient(stock, data, padding)
    assert fast.prepare(CPU).way == ("packed" if family in PACKS else "stock")
    assert_same(gradient(fast, data, padding), expected)
    if family in PACKS:
        fast.way = "padded"
        assert_same(gradient(fast, data, padding), expected)


@pytest.mark.parametrize("kind", ["pair", "choice", "edge2", "answers"])
def test_dropout_does_not_depend_on_padding_or_on_how_a_batch_is_split(
    encoder: Encoders, family: str, kind: str, tmp_path: Path
) -> None:
    net, data, padding = loaded(encoder(family), tmp_path, kind, dropout=0.2)
    net.prepare(CPU)
    whole = gradient(net, data, padding)
    assert_same(gradient(net, data, padding, most=60), whole, 3e-5)
    assert_same(gradient(net, data, padding, examples=np.arange(len(data))[::-1].copy()), whole, 3e-5)
    if family in PACKS:
        net.way = "padded"
        assert_same(gradient(net, data, padding), whole, 3e-5)
    other = gradient(net, data, padding, step=4)
    assert abs(float(other["loss"]) - float(whole["loss"])) > 1e-4 * float(whole["loss"])


@cache
def both(path: Path) -> tuple[Any, Any, noise.Noise]:
    """An encoder that packs, with its pass, and the stock one."""
    fast, stock, streams = _encoder(path), _encoder(path), noise.Noise()
    assert ways.prepare(fast, streams).way == "packed"
    return fast, stock, streams


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lengths=st.lists(st.integers(1, 40), min_size=1, max_size=9), seed=st.integers(0, 99))
def test_random_lengths_pack(encoder: Encoders, lengths: list[int], seed: int) -> None:
    for family in ("bert", "roberta", "electra", "modernbert"):
        fast, stock, noises = both(encoder(family))
        fast.zero_grad()
        stock.zero_grad()
        first = ways.first_position(fast)
        draw = np.random.default_rng(seed)
        ids = [draw.integers(5, 30, n) for n in lengths]
        packed = Layout.of(np.array(lengths), np.zeros((len(lengths), 2), np.int64), 0)
        flat = np.concatenate(ids)
        tokens = {"input_ids": _laid(packed, flat), "position_ids": _laid(packed, packed.positions())}
        noises.begin(packed, seed, 1, with_streams=False)
        found = ways.call(fast, tokens, noises, "packed", first)[0][torch.from_numpy(packed.tokens())]
        padded = torch.nn.utils.rnn.pad_sequence([torch.from_numpy(part) for part in ids], batch_first=True)
        mask = torch.nn.utils.rnn.pad_sequence([torch.ones(n) for n in lengths], batch_first=True)
        expected = stock(input_ids=padded, attention_mask=mask).last_hidden_state[mask.bool()]
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
        weight = torch.from_numpy(draw.normal(size=expected.shape)).float()
        (found * weight).sum().backward()
        (expected * weight).sum().backward()
        for (name, ours), theirs in zip(fast.named_parameters(), stock.parameters(), strict=True):
            assert (ours.grad is None) == (theirs.grad is None), name
            if ours.grad is not None and theirs.grad is not None:
                scale = max(1.0, float(theirs.grad.abs().max()))
                torch.testing.assert_close(ours.grad, theirs.grad, rtol=0, atol=1e-5 * scale, msg=name)


def _encoder(path: Path) -> Any:
    from transformers import AutoModel

    return AutoModel.from_pretrained(path).eval()


def _laid(layout: Layout, values: Any) -> torch.Tensor:
    found = np.zeros(layout.rows, np.int64)
    found[layout.tokens()] = values
    return torch.from_numpy(found)[None]


def test_a_window_of_local_attention_holds_when_inputs_are_packed(encoder: Encoders) -> None:
    fast, stock = (_encoder(encoder("modernbert")) for _ in range(2))
    window = stock.config.sliding_window
    assert "sliding_attention" in stock.config.layer_types
    length = min(2 * window + 5, 60)
    assert length > window + 1  # else no token is out of sight
    noises = noise.Noise()
    assert ways.prepare(fast, noises).way == "packed"
    lengths = np.array([3, length])
    layout = Layout.of(lengths, np.zeros((2, 2), np.int64), 0)
    ids = torch.arange(3 + length)[None] % 20 + 5
    noises.begin(layout, 0, 0, with_streams=False)
    positions = _laid(layout, layout.positions())
    found = ways.call(fast, {"input_ids": ids, "position_ids": positions}, noises, "packed", 0)[0, 3:]
    expected = stock(input_ids=ids[:, 3:]).last_hidden_state[0]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_an_encoder_that_does_not_pack_rightly_is_called_in_a_way_that_is_right(encoder: Encoders) -> None:
    class Deaf(nn.Module):
        """An encoder that takes positions and does not use them."""

        def __init__(self, inner: Any) -> None:
            super().__init__()
            self.inner, self.config = inner, inner.config
            self.set_attn_implementation = inner.set_attn_implementation

        def forward(self, position_ids: Any = None, **tokens: Any) -> Any:
            return self.inner(**tokens)

    assert ways.prepare(Deaf(_encoder(encoder("bert"))), noise.Noise()) == ways.Ability("padded")

    class Closed(Deaf):
        def forward(self, input_ids: Any, attention_mask: Any = None) -> Any:  # type: ignore[override]
            return self.inner(input_ids=input_ids, attention_mask=attention_mask)

    inner = _encoder(encoder("bert"))
    before = inner.config._attn_implementation
    assert ways.prepare(Closed(inner), noise.Noise()) == ways.Ability("stock")
    assert inner.config._attn_implementation == before != attention.NAME


NARROW = [("pair", "first", True), ("choice", "first", True), ("pair", "mean", False), ("tagging", "first", False)]


@pytest.mark.parametrize(("kind", "pooling", "few"), NARROW)
def test_the_last_layer_is_computed_for_the_tokens_that_are_read(
    encoder: Encoders, family: str, tmp_path: Path, kind: str, pooling: str, few: bool
) -> None:
    net, data, padding = loaded(encoder(family), tmp_path, kind, pooling=pooling)
    assert net.prepare(CPU).narrow == (family not in ("modernbert", "deberta-v3"))
    layers = max((m for m in net.encoder.modules() if isinstance(m, nn.ModuleList)), key=len)
    seen: list[int] = []
    inner = [module for module in layers[-1].modules() if isinstance(module, nn.Linear)][-1]
    inner.register_forward_hook(lambda _, __, output: seen.append(output.numel() // output.shape[-1]))
    batch = collate(data, np.arange(len(data)), padding, CPU, net.packed)
    net(batch)
    assert seen == [len(batch.inputs) if few and net.narrow else batch.layout.rows]


@pytest.mark.parametrize("kind", ["pair", "edge2", "span"])
def test_a_pass_on_another_device_takes_nothing_from_the_host(
    encoder: Encoders, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the meta device, which holds no numbers but refuses what lies elsewhere, as a GPU does."""
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda _: False)  # which that device does not know
    net, data, padding = loaded(encoder("bert"), tmp_path, kind, dropout=0.1)
    meta = torch.device("meta")
    net.prepare(meta).train()
    batch = collate(data, np.arange(4), padding, meta, net.packed)
    batch.tokens["attention_mask"] = batch.tokens["attention_mask"][
        :, None, None
    ].bool()  # one is made by looking at it
    net.head.loss(net(batch, seed=1, step=1), batch).backward()
    assert all(p.grad is not None and p.grad.device == meta for p in net.head.parameters())


def test_dropout_keeps_the_share_it_should_and_scales_it() -> None:
    streams = noise.Noise()
    lengths = np.array([300, 200])
    for rate in (0.1, 0.5, 0.013):
        streams.begin(Layout.of(lengths, np.array([[0, 0], [1, 0]]), 0), 1, 2)
        found = noise.Dropout(rate, streams).train()(torch.ones(1, 500, 400))
        kept = found != 0
        assert float(kept.float().mean()) == pytest.approx(1 - rate, abs=4 * (rate / 200_000) ** 0.5 + 1e-5)
        assert float(found[kept].mean()) == pytest.approx(1 / (1 - rate), rel=1e-4)
        rows = kept[0].float()
        assert len(torch.unique(rows, dim=0)) > 400  # tokens have masks of their own
    streams.begin(Layout.of(lengths, np.array([[0, 0], [1, 0]]), 0), 1, 2)
    dropout = noise.Dropout(0.3, streams)
    assert torch.equal(dropout.eval()(torch.ones(1, 500, 4)), torch.ones(1, 500, 4))


def test_masks_differ_between_steps_seeds_layers_and_examples() -> None:
    streams, found = noise.Noise(), set()
    for seed, step, example in ((1, 1, 1), (2, 1, 1), (1, 2, 1), (1, 1, 2)):
        streams.begin(Layout.of(np.array([64]), np.array([[example, 0]]), 0), seed, step)
        found |= {streams.kept(0, 64, 0.5).tobytes() for _ in range(3)}
    assert len(found) == 12
