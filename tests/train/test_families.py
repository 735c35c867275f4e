"""Every family of encoders trains on every kind of task, and what is promised of a network holds for each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.kit import FAMILIES, POSITIONS, stretch_rows, task_of_kind, trained
from torch import nn

from layover.metrics import get_metric
from layover.step import Recipe
from layover.train import model
from layover.train.batching import collate, micro_batches
from layover.train.encode import encode
from layover.train.work import write_weights

Encoders = Callable[[str], Path]
TWO_STEPS = Recipe(epochs=1, batch_size=9, max_length=POSITIONS, learning_rate=1e-3, checkpoint="last", patience=0)
CPU = torch.device("cpu")

pytestmark = pytest.mark.parametrize("family", FAMILIES)


STRETCHES = ["span", "tagging", "edge1", "edge2", "words", "coreference", "answers", "cloze"]


@pytest.mark.parametrize("kind", ["single", "pair", "value", "pair_value", "choice", "text", *STRETCHES])
def test_it_trains_on_every_kind_of_task(encoder: Encoders, family: str, kind: str, tmp_path: Path) -> None:
    task, data = task_of_kind(tmp_path, kind)
    before = model.load(str(encoder(family)), None, task, TWO_STEPS, 1).network
    result = trained(encoder(family), data, tmp_path, TWO_STEPS)
    assert result.state.step == -(-len(data.train) // 9)
    assert [np.isfinite(point["loss"]) for point in result.state.curve] == [True]
    assert result.state.stopped == ""
    found = result.decoded.predictions
    assert len(found) == len(result.decoded.scores)
    assert all(np.isfinite(scores).all() and len(scores) for scores in result.decoded.scores)
    assert sorted(set(found.rows.tolist())) == sorted({example.row for example in data.validation})
    assert result.lost["validation"] == 0
    check_predictions(task, found)
    after = dict(result.network.named_parameters())
    moved = [name for name, old in before.named_parameters() if not torch.equal(old, after[name])]
    assert {name for name in after if name.startswith("head.")} <= set(moved)
    assert len(moved) > 0.8 * len(after)  # the whole encoder learns, not only the head


def check_predictions(task: Any, found: Any) -> None:
    """Predictions are what the task's metrics take."""
    assert found.kind == task.format.scored
    if found.kind == "value":
        assert found.n_classes == 0
        assert (found.predicted >= 0).all()
        assert (found.predicted <= 5).all()
    elif found.kind == "text":
        rows = stretch_rows(12, 2)  # those that validation was written from
        assert list(found.gold) == [(rows[row]["word"],) for row in found.rows]
        for row, text in zip(found.rows, found.predicted, strict=True):
            assert set(text.split()) <= {*rows[row]["words"], *rows[row]["answers"]}
            assert text or task.output == "extent"  # a candidate is always chosen
    elif found.kind == "tokens":
        assert {*np.unique(found.gold), *np.unique(found.predicted)} <= set(range(found.n_classes))
    else:
        assert found.n_classes == (len(task.labels) or 2)
        assert set(np.unique(found.predicted)) <= set(range(2 if found.kind == "labels" else found.n_classes))
    for name in task.metrics:
        assert 0 <= get_metric(name).score(found) <= 100 or found.kind == "value"


def loaded(encoder: Encoders, family: str, tmp_path: Path, kind: str = "pair", **fields: Any) -> tuple[Any, Any]:
    """A network and the encoded training set of a generated task."""
    task, data = task_of_kind(tmp_path, kind)
    found = model.load(str(encoder(family)), None, task, Recipe(**{"dropout": 0.0, **fields}), 1)
    return found, encode(data.train, task, found.tokenizer, found.max_length)


POOLED = [("pair", "first"), ("choice", "mean"), ("value", "mean"), *((kind, "first") for kind in STRETCHES)]


@pytest.mark.parametrize(("kind", "pooling"), POOLED)
def test_the_gradient_of_a_batch_is_that_of_its_micro_batches(
    encoder: Encoders, family: str, tmp_path: Path, kind: str, pooling: str
) -> None:
    found, encoded = loaded(encoder, family, tmp_path, kind, pooling=pooling)
    network = found.network.prepare(CPU).double().train()

    def gradient(max_tokens: int) -> tuple[dict[str, torch.Tensor], int]:
        network.zero_grad(set_to_none=True)
        parts = micro_batches(encoded, np.arange(len(encoded)), max_tokens, network.packed)
        for part in parts:
            batch = collate(encoded, part, found.tokenizer.pad_token_id, CPU, network.packed)
            (network.head.loss(network(batch), batch) / len(encoded)).backward()
        return {n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None}, len(parts)

    whole, one = gradient(10**6)
    split, several = gradient(64)
    assert one == 1
    assert several >= 3
    assert whole.keys() == split.keys()
    for name, expected in whole.items():  # the scores are rounded to float32, the rest is float64
        torch.testing.assert_close(split[name], expected, rtol=1e-4, atol=1e-7, msg=name)


@pytest.mark.parametrize("kind", ["choice", "tagging", "edge2", "words"])
def test_predictions_do_not_depend_on_padding(encoder: Encoders, family: str, kind: str, tmp_path: Path) -> None:
    found, encoded = loaded(encoder, family, tmp_path, kind, pooling="mean")
    network, padding = found.network.prepare(CPU).eval(), found.tokenizer.pad_token_id
    assert len(set(encoded.input_lengths.tolist())) > 1
    with torch.inference_mode():
        together = network(collate(encoded, np.arange(len(encoded)), padding, CPU, network.packed))
        alone = [network(collate(encoded, np.array([i]), padding, CPU, network.packed)) for i in range(len(encoded))]
        batch = collate(encoded, np.arange(len(encoded))[::-1].copy(), padding, CPU, network.packed)
        turned = network(batch)[np.argsort(batch.targets)]
    torch.testing.assert_close(torch.cat(alone), together, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(turned, together, rtol=1e-4, atol=1e-5)
    assert float(together.std()) > 1e-4  # else the comparison says nothing


def rates(module: nn.Module) -> list[float]:
    """Every dropout rate that a module and those below it hold, in layers or as plain numbers."""
    found = []
    for part in module.modules():
        if "dropout" in type(part).__name__.lower():
            found.append(float(getattr(part, "p", getattr(part, "drop_prob", -1.0))))
        values = vars(part).items()
        found += [
            float(v) for n, v in values if "dropout" in n and isinstance(v, float | int) and not n.startswith("_")
        ]
    return found


def test_the_dropout_setting_reaches_every_part(encoder: Encoders, family: str, tmp_path: Path) -> None:
    network = loaded(encoder, family, tmp_path, dropout=0.37)[0].network
    assert len(rates(network.encoder)) >= 5
    assert set(rates(network)) - {0.0} == {0.37}
    assert network.head.dropout.p == 0.37
    assert 0.0 not in rates(network.encoder) or family == "modernbert"  # Identity where its own is none


@pytest.mark.parametrize(("dropout", "same"), [(0.0, True), (0.3, False)])
def test_without_dropout_training_is_without_chance(
    encoder: Encoders, family: str, tmp_path: Path, dropout: float, same: bool
) -> None:
    found, encoded = loaded(encoder, family, tmp_path, dropout=dropout)
    batch = collate(encoded, np.arange(6), found.tokenizer.pad_token_id, CPU, packed=False)
    found.network.train()
    hidden = [found.network.encoder(**batch.tokens).last_hidden_state for _ in range(2)]
    assert torch.equal(*hidden) == same


def test_dropout_at_the_output_leaves_the_encoders_own(encoder: Encoders, family: str, tmp_path: Path) -> None:
    own = loaded(encoder, family, tmp_path, dropout=None)[0].network
    network = loaded(encoder, family, tmp_path, dropout=0.37, dropout_at="output")[0].network
    assert rates(network.encoder) == rates(own.encoder)
    assert 0.37 not in rates(network.encoder)
    assert network.head.dropout.p == 0.37
    assert own.head.dropout.p == (0.0 if family == "modernbert" else 0.1)


def test_the_longest_input_is_what_the_encoder_can_read(encoder: Encoders, family: str, tmp_path: Path) -> None:
    found, _ = loaded(encoder, family, tmp_path, max_length=512)
    assert found.max_length == POSITIONS
    tokens = {name: torch.full((1, POSITIONS), 5) for name in ("input_ids",)}
    tokens["attention_mask"] = torch.ones(1, POSITIONS, dtype=torch.long)
    assert found.network.encoder(**tokens).last_hidden_state.shape == (1, POSITIONS, 32)
    assert loaded(encoder, family, tmp_path, max_length=20)[0].max_length == 20
    found.tokenizer.model_max_length = 10**30  # what a tokenizer says that knows of no limit
    assert model._max_length(found.network.encoder, found.tokenizer) == POSITIONS


def test_a_stop_hands_on_exactly_its_encoder_and_nothing_else(encoder: Encoders, family: str, tmp_path: Path) -> None:
    source, source_data = task_of_kind(tmp_path, "pair")
    target, _ = task_of_kind(tmp_path, "single")
    result = trained(encoder(family), source_data, tmp_path, TWO_STEPS)
    write_weights(tmp_path / "weights", source, result)
    plain = model.load(str(encoder(family)), None, target, TWO_STEPS, 1).network
    network = model.load(str(encoder(family)), tmp_path / "weights", target, TWO_STEPS, 1).network
    for name, tensor in result.network.encoder.state_dict().items():
        assert torch.equal(network.encoder.state_dict()[name], tensor), name
    assert not all(
        torch.equal(a, b) for a, b in zip(network.encoder.parameters(), plain.encoder.parameters(), strict=True)
    )
    # the head is new, and that of the direct run with the same seed: restarts are paired
    assert not torch.equal(network.head.linear.weight, result.network.head.linear.weight)
    assert torch.equal(network.head.linear.weight, plain.head.linear.weight)
    other = model.load(str(encoder(family)), tmp_path / "weights", target, TWO_STEPS, 2).network
    assert not torch.equal(network.head.linear.weight, other.head.linear.weight)


def test_precision_is_what_the_recipe_says(encoder: Encoders, family: str, tmp_path: Path) -> None:
    _, data = task_of_kind(tmp_path, "single")
    for precision, expected in (("fp32", {torch.float32}), ("bf16", {torch.bfloat16})):
        seen: set[torch.dtype] = set()
        load = model.load

        def watched(*arguments: Any, seen: set[torch.dtype] = seen, load: Any = load) -> Any:
            found = load(*arguments)
            layers = [m for m in found.network.encoder.modules() if isinstance(m, nn.Linear)]
            layers[-1].register_forward_hook(lambda m, _, output: seen.add(output.dtype) if m.training else None)
            return found

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(model, "load", watched)
            recipe = Recipe(epochs=1, batch_size=9, max_length=32, precision=precision)  # type: ignore[arg-type]
            result = trained(encoder(family), data, tmp_path / precision, recipe)
        assert seen == expected
        assert {p.dtype for p in result.network.parameters()} == {torch.float32}
        assert np.isfinite(result.state.curve[-1]["loss"])
