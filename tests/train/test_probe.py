"""Probes: a head on frozen features is the head on a frozen encoder, of every layer, and costs one pass for all."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.kit import FAMILIES, FAST, HERE, own_table, places_for, stretch_rows, stretch_tasks, study_words, write_task
from torch import nn
from torch.nn import functional

from layover.errors import StepError
from layover.files import digest
from layover.session import Session
from layover.step import Probe, Recipe, key_of
from layover.store import Store
from layover.study import Study
from layover.tasks.load import locate
from layover.tasks.own import own_files, own_task
from layover.train import cache, loop, model, probe, ways, work
from layover.train.batching import epoch_order
from layover.train.cohort import by_itself
from layover.train.determinism import CPU
from layover.train.frozen import Frozen
from layover.train.heads import Head
from layover.train.noise import Noise

Encoders = Callable[[str], Path]
SILENT = Recipe(
    epochs=2, batch_size=8, max_length=24, learning_rate=1e-2, dropout=0.0, weight_decay=0.0, checkpoint="last",
    patience=0, warmup=0.0, schedule="constant", max_grad_norm=1e9, adam_epsilon=1e-4,
)  # fmt: skip


def data_of(store: Store, folder: Path, kind: str) -> cache.Located:
    """The generated data of an own task, or of one about stretches of text."""
    how: dict[str, Any] = {"limit_train": None, "limit_validation": None, "selection": "holdout", "holdout": 0.25}
    if kind in (made := stretch_tasks()):
        return cache.located(store, made[kind], locate(made[kind], [write_task(folder, kind, stretch_rows)]), **how)
    table = own_table(folder, kind)
    task = own_task(kind, table)
    return cache.located(store, task, locate(task, [], own_files(table)), **how)


def probed(data: cache.Located, path: Path, layer: Any, recipe: Recipe = SILENT, head: str = "linear") -> probe.Probed:
    """What a probe ends with."""
    frozen, places = Frozen(f"sha256:{path.name}", str(path)), places_for(path, "")
    resume = data.store.root / "resume"
    return by_itself(probe.training(data, frozen, layer, head, recipe, 1, places, resume, lambda _: None))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store")


# the same numbers


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("pooling", ["first", "mean"])
def test_a_probe_is_a_linear_layer_trained_on_what_the_stock_encoder_gives(
    encoder: Encoders, family: str, pooling: Any, store: Store, tmp_path: Path
) -> None:
    from transformers import AutoModel, AutoTokenizer

    path, data = encoder(family), data_of(store, tmp_path, "single")
    recipe = replace(SILENT, pooling=pooling)
    stock, tokenizer = AutoModel.from_pretrained(path).eval(), AutoTokenizer.from_pretrained(path)
    splits = cache.splits(data, tokenizer, 24)

    def vectors(encoded: Any) -> torch.Tensor:
        found = []
        for begin, end in encoded.offsets:
            with torch.inference_mode():
                ids = torch.from_numpy(encoded.ids[begin:end].astype(np.int64))[None]
                states = stock(input_ids=ids, output_hidden_states=True).hidden_states[1][0]
            found.append(states[0] if pooling == "first" else states.mean(0))
        return torch.stack(found).bfloat16().float().clone()

    linear = nn.Linear(32, 2)
    first = Head(32, data.task, 0.0, 1, Noise()).linear
    linear.load_state_dict(first.state_dict())
    optimizer = torch.optim.AdamW(linear.parameters(), lr=1e-2, weight_decay=0.0, eps=1e-4)
    x, y = vectors(splits.train), torch.from_numpy(splits.train.labels).long()
    for epoch in range(2):
        for examples in epoch_order(len(x), 8, 1, epoch):
            optimizer.zero_grad()
            functional.cross_entropy(linear(x[examples]), y[examples]).backward()
            optimizer.step()
    expected = linear(vectors(splits.validation)).detach().numpy()
    found = probed(data, path, 1, recipe).result
    np.testing.assert_allclose(np.stack(found.decoded.scores), expected, atol=5e-3)
    assert np.abs(expected - first(vectors(splits.validation)).detach().numpy()).max() > 0.02  # it learned


KINDS = ("single", "pair", "value", "choice", *stretch_tasks())


@pytest.mark.parametrize("kind", KINDS)
def test_of_the_last_layer_it_is_the_head_of_a_network_whose_encoder_does_not_learn(
    bert: Path, store: Store, tmp_path: Path, kind: str
) -> None:
    data = data_of(store, tmp_path, kind)
    reads = data.task.format.reads
    found = probed(data, bert, 2, head="mlp" if reads.hidden else "linear").result
    loaded = model.load(str(bert), None, data.task, SILENT, 1)
    loaded.network.encoder.requires_grad_(False)
    splits = cache.splits(data, loaded.tokenizer, 24)
    job = loop.Job(
        network=loaded.network, padding=0, train=splits.train, selection=None, recipe=SILENT, seed=1,
        score=lambda _: 0.0, micro_tokens=10**6, checkpoint_seconds=1e9, device=CPU, resume=tmp_path / "none",
        report=lambda _: None,
    )  # fmt: skip
    state = loop.fit(job)
    assert [point["loss"] for point in found.state.curve] == pytest.approx(
        [point["loss"] for point in state.curve], rel=2e-2
    )
    raw = loop.predict(job, splits.validation)
    n_classes = work.n_classes_of(data.task, splits.train, splits.validation)
    expected = work.decode(data.task, splits.validation, raw, n_classes)
    assert found.decoded.predictions.rows.tolist() == expected.predictions.rows.tolist()
    assert len(found.decoded.scores) == len(expected.scores)
    for ours, theirs in zip(found.decoded.scores, expected.scores, strict=True):
        if kind == "choice":  # which say the same whatever is added to all choices of an example
            ours, theirs = ours - ours.mean(), theirs - theirs.mean()
        np.testing.assert_allclose(ours, theirs, atol=0.05)


@pytest.mark.parametrize("kind", ["single", "choice", "span", "edge2"])
def test_an_mlp_has_a_hidden_layer_and_a_linear_probe_none(bert: Path, store: Store, tmp_path: Path, kind: str) -> None:
    data = data_of(store, tmp_path, kind)
    linear, mlp = (probed(data, bert, 1, head=head).result.network.head for head in ("linear", "mlp"))
    assert linear.hidden is None
    assert mlp.hidden is not None
    assert mlp.linear.in_features == (data.task.format.reads.hidden or probe.MLP)


@pytest.mark.parametrize("kind", ["single", "span", "edge2", "choice"])
@pytest.mark.parametrize("pooling", ["first", "mean"])
def test_the_mean_and_the_mix_are_of_all_layers(
    bert: Path, store: Store, tmp_path: Path, kind: str, pooling: Any
) -> None:
    data = data_of(store, tmp_path, kind)
    recipe = replace(SILENT, pooling=pooling, epochs=1, learning_rate=1e-6)
    mean, mix = (probed(data, bert, layer, recipe) for layer in ("mean", "mix"))
    for ours, theirs in zip(mean.result.decoded.scores, mix.result.decoded.scores, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)  # at first a mix is the mean
    assert mean.mix == {}
    assert mix.mix["mix"]["weights"] == pytest.approx([1 / 3] * 3, abs=1e-4)


def test_a_mix_is_gamma_times_the_mean_weighted_by_a_softmax() -> None:
    mix, draw = probe.Mix(3), np.random.default_rng(0)
    scores, layers = draw.normal(size=3), draw.normal(size=(3, 4, 5))
    with torch.no_grad():
        mix.scores.copy_(torch.from_numpy(scores))
        mix.gamma.fill_(1.7)
    weights = np.exp(scores) / np.exp(scores).sum()
    expected = 1.7 * (weights[:, None, None] * layers).sum(0)
    np.testing.assert_allclose(mix(torch.from_numpy(layers).float()).detach().numpy(), expected, rtol=1e-5)


def test_a_mix_learns_which_layer_tells(bert: Path, store: Store, tmp_path: Path) -> None:
    data = data_of(store, tmp_path, "single")
    recipe = replace(SILENT, pooling="mean", epochs=20, learning_rate=0.05)
    found = probed(data, bert, "mix", recipe)
    learned = found.mix["mix"]
    assert sum(learned["weights"]) == pytest.approx(1, abs=1e-5)
    assert max(learned["weights"]) - min(learned["weights"]) > 0.05
    assert learned["gamma"] != 1
    assert found.result.state.curve[-1]["loss"] < found.result.state.curve[0]["loss"]


@pytest.mark.parametrize("kind", ["single", "choice", "edge2", "span"])
def test_small_passes_give_the_same_and_dropout_does_not_depend_on_them(
    bert: Path, store: Store, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = data_of(store, tmp_path, kind)
    recipe = replace(SILENT, dropout=0.3)
    large = probed(data, bert, "mix", recipe, "mlp").result
    monkeypatch.setattr(probe, "ROWS", 9)
    small = probed(data, bert, "mix", recipe, "mlp").result
    for one, other in zip(large.decoded.scores, small.decoded.scores, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_the_best_checkpoint_is_kept_by_its_selection_score(bert: Path, store: Store, tmp_path: Path) -> None:
    data = data_of(store, tmp_path, "single")
    recipe = replace(SILENT, checkpoint="best", patience=2, epochs=8)
    found = probed(data, bert, 2, recipe).result
    scores = [point["selection"] for point in found.state.curve]
    assert found.state.best_score == max(scores)
    assert found.examples["selection"] == 6
    assert found.max_length == 24


@pytest.mark.parametrize("layer", [-1, 3])
def test_a_layer_that_is_not_there_is_an_error(bert: Path, store: Store, tmp_path: Path, layer: int) -> None:
    with pytest.raises(StepError, match=rf"there is no layer {layer}\s+choices: 0 \(the embeddings\) to 2, mean, mix"):
        probed(data_of(store, tmp_path, "single"), bert, layer)


# a study


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry per forward pass of an encoder that gives all its layers: its tokens."""
    seen: list[int] = []
    real = ways._output

    def output(encoder: Any, tokens: Any, *others: Any, **options: Any) -> Any:
        if "output_hidden_states" in options:
            seen.append(int(tokens["input_ids"].numel()))
        return real(encoder, tokens, *others, **options)

    monkeypatch.setattr(ways, "_output", output)
    return seen


def session(encoder: Path, folder: Path, **table: Any) -> Session:
    strategies = {"probe": {"kind": "probe", **table}}
    tasks = {"mine": own_table(folder, "single")}
    if "sources" in table:
        tasks["stop"] = own_table(folder, "pair")
    words = study_words(encoder, folder, strategies=strategies, task=tasks, seeds=[1, 2, 3, 4, 5], placement=HERE)
    return Session.open(Study(**words), folder / "store")


def test_twenty_five_probes_of_an_encoder_cost_one_pass_per_part_of_the_data(
    bert: Path, tmp_path: Path, passes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path.name: digest(path) for path in bert.iterdir() if path.is_file()}
    some = session(bert, tmp_path, layers=["all", "mean", "mix"])
    assert len(some.plan.steps) == 25
    assert some.run().complete
    read = sum(passes)
    store = some.store
    kinds = [json.loads((store.encoded(k) / "manifest.json").read_text()) for k in store.encoded_keys()]
    assert sum(made["identity"]["kind"] == "features" for made in kinds) == 2  # train and validation
    from transformers import AutoTokenizer

    data = data_of(Store.open(tmp_path / "other"), tmp_path, "single")
    splits = cache.splits(data, AutoTokenizer.from_pretrained(bert), FAST["max_length"])
    parts = [part for part in (splits.train, splits.selection, splits.validation) if part is not None]
    assert read == sum(int(part.input_lengths.sum()) for part in parts)
    monkeypatch.setattr(model, "load", None)  # no encoder is in memory,
    assert session(bert, tmp_path, layers=["mean"], head="mlp").run().complete
    assert sum(passes) == read  # and none is called
    assert {path.name: digest(path) for path in bert.iterdir() if path.is_file()} == before


def test_a_probe_of_a_source_reads_that_steps_encoder(bert: Path, tmp_path: Path) -> None:
    plain, after = session(bert, tmp_path, layers=[0, 2]), session(bert, tmp_path, layers=[0, 2], sources=["stop"])
    assert plain.run().complete
    assert after.run().complete
    probes = {key: step for key, step in after.plan.steps.items() if isinstance(step, Probe)}
    assert len(probes) == 10
    assert len({step.start for step in probes.values()}) == 5
    for key, step in probes.items():
        assert step.start
        assert after.store.weights(step.start)
        twin = key_of(replace(step, start=None))
        assert twin in plain.plan.steps
        scores = [(after.store.folder(one) / "predictions.parquet").read_bytes() for one in (key, twin)]
        assert scores[0] != scores[1]


def test_a_probe_leaves_the_files_of_a_training_without_weights_and_what_its_mix_learned(
    bert: Path, tmp_path: Path
) -> None:
    from layover.upkeep import verify

    some = session(bert, tmp_path, layers=["mix", 1])
    assert some.run().complete
    assert verify(some.store) == []
    for key, step in some.plan.steps.items():
        assert isinstance(step, Probe)
        facts = some.store.read(key, "provenance.json")
        assert facts["layer"] == step.layer
        assert ("mix" in facts) == (step.layer == "mix")
        assert {"seconds", "examples", "truncated", "lost", "majority", "recipe", "max_length"} <= set(facts)
        assert some.store.weights(key) is None
    table = some.observations()
    assert sorted(set(table["condition"])) == ["layer 1", "mix"]
    assert set(table["status"]) <= {
        "ok",
        "degenerate: constant prediction",
        "degenerate: loss never left the label prior",
    }
    assert some.report(tmp_path / "report.html").is_file()
