"""Frozen features: what the stock encoder gives for each input alone, computed once, and never taken for others."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from tests.kit import FAMILIES, own_table, pair_rows, places_for, stretch_rows, stretch_tasks, write_rows, write_task

from layover import arrays
from layover.claims import Claim
from layover.errors import EncoderError, StoreError
from layover.step import Recipe
from layover.store import Store
from layover.tasks.formats import Pair
from layover.tasks.load import load, locate
from layover.tasks.own import own_files, own_task
from layover.tasks.task import Task
from layover.train import cache, features, frozen, model, network, precision, ways
from layover.train.batching import Batch, collate
from layover.train.encode import Encoded
from layover.train.features import Features, Frozen
from layover.train.heads import mean_of
from layover.upkeep import collect_garbage, listing, verify

CPU = torch.device("cpu")
PAIRS = Task("rte", 1, Pair("premise", "hypothesis"), ("accuracy",), ("entailment", "not_entailment"))
DIVIDED: dict[str, Any] = {"limit_train": None, "limit_validation": None, "selection": "holdout", "holdout": 0.25}
HALF_ULP = 2**-8  # bf16 has 8 bits of mantissa, the hidden one counted
Encoders = Callable[[str], Path]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store")


@pytest.fixture
def data(store: Store, tmp_path: Path) -> cache.Located:
    return found(store, write_task(tmp_path / "data", "rte", pair_rows))


def found(store: Store, folder: Path, task: Task = PAIRS, **how: Any) -> cache.Located:
    return cache.located(store, task, locate(task, [folder]), **{**DIVIDED, **how})


def of_kind(store: Store, folder: Path, kind: str) -> cache.Located:
    """The data of an own task, or of one about stretches of text."""
    if kind in (made := stretch_tasks()):
        return found(store, write_task(folder, kind, stretch_rows), made[kind])
    table = own_table(folder, kind)
    task = own_task(kind, table)
    return cache.located(store, task, locate(task, [], own_files(table)), **DIVIDED)


def plain(encoder: Path) -> Frozen:
    return Frozen(f"sha256:{encoder.name}", str(encoder))


def read(data: Any, encoder: Path | Frozen, part: Any = "train", **options: Any) -> Features:
    which = encoder if isinstance(encoder, Frozen) else plain(encoder)
    places = places_for(Path(which.location), which.identity)
    return features.features(data, part, which, **{"max_length": 16, "places": places, **options})


def tokens_of(data: cache.Located, encoder: Path, max_length: int = 16) -> cache.Splits:
    from transformers import AutoTokenizer

    return cache.splits(data, AutoTokenizer.from_pretrained(encoder), max_length)


def alone(encoder: Path, encoded: Encoded, weights: Path | None = None) -> Iterator[torch.Tensor]:
    """The hidden states [layers, tokens, width] that the stock encoder gives for each input by itself."""
    from safetensors.torch import load_file
    from transformers import AutoModel

    stock = AutoModel.from_pretrained(encoder).eval()
    if weights:
        stock.load_state_dict(load_file(weights / "encoder.safetensors"), strict=False)
    for begin, end in encoded.offsets:
        inputs = {"input_ids": encoded.ids[begin:end], "token_type_ids": encoded.types}
        inputs["token_type_ids"] = None if encoded.types is None else encoded.types[begin:end]
        tensors = {k: torch.from_numpy(v.astype(np.int64))[None] for k, v in inputs.items() if v is not None}
        with torch.inference_mode():
            output = stock(**tensors, output_hidden_states=True)
        assert torch.equal(output.hidden_states[-1], output.last_hidden_state)
        yield torch.stack(output.hidden_states)[:, 0].clone()


def assert_close(ours: torch.Tensor, expected: torch.Tensor, close: float = HALF_ULP) -> None:
    torch.testing.assert_close(ours.float(), expected, rtol=close, atol=1e-5)


# the same numbers


@pytest.mark.parametrize("family", FAMILIES)
def test_every_layer_is_what_the_stock_encoder_gives_for_each_input_alone(
    encoder: Encoders, family: str, data: cache.Located
) -> None:
    longest = 50 if family == "deberta-v3" else 24  # whose tokenizer knows few whole words
    splits = tokens_of(data, encoder(family), longest)
    assert splits.train.truncated.any()
    assert len(set(splits.train.input_lengths.tolist())) > 2
    for part in ("train", "selection", "validation"):
        ours, encoded = read(data, encoder(family), part, max_length=longest), getattr(splits, part)
        assert (len(ours), ours.n_layers, ours.width) == (len(encoded), 3, 32)
        assert ours.encoded.labels.tolist() == encoded.labels.tolist()
        assert ours.encoded.rows.tolist() == encoded.rows.tolist()
        expected = list(alone(encoder(family), encoded))
        for layer in range(3):
            assert ours.layer(layer).dtype == torch.bfloat16
            assert_close(ours.layer(layer), torch.stack([one[layer, 0] for one in expected]))
            assert_close(ours.layer(layer, "mean"), torch.stack([one[layer].mean(0) for one in expected]))


@pytest.mark.parametrize("kind", ["choice", *stretch_tasks()])
def test_groups_of_inputs_and_stretches_of_tokens_are_found(
    encoder: Encoders, store: Store, tmp_path: Path, kind: str
) -> None:
    data = of_kind(store, tmp_path, kind)
    encoded = tokens_of(data, encoder("electra")).train
    ours = read(data, encoder("electra"))
    expected = list(alone(encoder("electra"), encoded))
    assert len(ours.layer(1)) == len(expected) == len(encoded.offsets)
    order = np.random.default_rng(1).permutation(len(ours))[:9]
    vectors = ours.vectors(order)
    inputs = np.concatenate([np.arange(*encoded.groups[[e, e + 1]]) for e in order])
    for pooled, number in zip(vectors.pooled.swapaxes(0, 1), inputs, strict=True):
        assert_close(pooled, expected[number][:, 0])
    targets = encoded.known(order)
    assert vectors.batch.targets.tolist() == targets.tolist()
    assert vectors.batch.labels.tolist() == encoded.labels[targets].tolist()
    owner = encoded.groups[encoded.example_of_target()]
    for mark, spans in enumerate(vectors.batch.spans):
        for place, target in enumerate(targets):
            begin, end = encoded.spans[target, mark]
            rows = vectors.hidden[:, spans.rows[spans.owner == place]]
            assert_close(rows, expected[owner[target]][:, begin:end])
    assert len(vectors.batch.spans) == encoded.spans.shape[1]


def test_of_tokens_only_those_that_a_head_reads_are_kept(bert: Path, store: Store, tmp_path: Path) -> None:
    sizes = {}
    for kind in ("single", "words", "tagging", "span"):
        data = of_kind(store, tmp_path / kind, kind)
        encoded = tokens_of(data, bert).train
        sizes[kind] = len(read(data, bert).tokens[0]) / 24  # the selection set is among them
        if kind == "span":
            assert read(data, bert).encoded.input_lengths.tolist() == encoded.input_lengths.tolist()
    assert sizes["single"] == 1
    assert 1 < sizes["words"] < 5
    assert 4 < sizes["tagging"] < sizes["span"]


@pytest.mark.parametrize("pooling", ["first", "mean"])
@pytest.mark.parametrize("kind", ["single", "pair_value", "choice", *stretch_tasks()])
def test_a_head_on_features_scores_and_learns_as_in_the_network(
    encoder: Encoders, store: Store, tmp_path: Path, kind: str, pooling: Any
) -> None:
    data = of_kind(store, tmp_path, kind)
    path = encoder("modernbert" if kind == "choice" else "bert")
    loaded = model.load(str(path), None, data.task, Recipe(max_length=16, pooling=pooling, dropout=0.0), 1)
    encoded = cache.splits(data, loaded.tokenizer, 16).train
    examples = np.random.default_rng(2).permutation(len(encoded))[:11]
    whole, head = loaded.network.eval(), loaded.network.head
    batch = collate(encoded, examples, loaded.tokenizer.pad_token_id, CPU, packed=False)
    states = ways.states(whole.encoder, batch.tokens, whole.noise, "stock", whole.first_position)
    assert states is not None
    hidden = states[-1].detach().flatten(0, 1)
    pooled = hidden[batch.inputs.begins] if pooling == "first" else mean_of(hidden, batch.inputs)

    def learnt(hidden: torch.Tensor, pooled: torch.Tensor, batch: Batch) -> list[torch.Tensor]:
        """The head's scores, and the gradients of its parameters."""
        head.zero_grad()
        scores = head(hidden, pooled, batch)
        head.loss(scores, batch).backward()
        return [scores.detach(), *(p.grad for p in head.parameters() if p.grad is not None)]

    expected = learnt(hidden.bfloat16().float(), pooled.bfloat16().float(), batch)
    vectors = read(data, path).vectors(examples, [-1], pooling)
    ours = learnt(vectors.hidden[0], vectors.pooled[0], vectors.batch)
    for one, other in zip(ours, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4 * float(other[other.isfinite()].abs().max()))
    scores = ours[0]
    torch.testing.assert_close(whole(batch), scores, rtol=4 * HALF_ULP, atol=4 * HALF_ULP)  # the full network's
    assert torch.equal(head.predict(scores, vectors.batch), head.predict(expected[0], batch))
    wrong = read(data, path).vectors(examples, [-2], pooling)
    other = learnt(wrong.hidden[0], wrong.pooled[0], wrong.batch)[0]
    assert float((other - scores).nan_to_num().abs().max()) > 1e-3 * float(scores[scores.isfinite()].abs().max())


def test_a_scalar_mix_of_layers_is_a_sum_over_the_first_dimension(bert: Path, data: cache.Located) -> None:
    vectors = read(data, bert).vectors(np.arange(5), pooling="mean")
    encoded = tokens_of(data, bert).train
    weights = torch.tensor([0.2, 0.5, 0.3])
    expected = [
        torch.einsum("l,ltw->w", weights, one) / one.shape[1] for one in alone(bert, encoded.take(np.arange(5)))
    ]
    mixed = torch.einsum("l,liw->iw", weights, vectors.pooled)
    torch.testing.assert_close(mixed, torch.stack(expected), rtol=0, atol=HALF_ULP * 4)


def test_in_bf16_a_pass_is_near_what_it_is_in_fp32(bert: Path, data: cache.Located) -> None:
    exact, rough = read(data, bert), read(data, bert, precision="bf16")
    for layer in range(3):
        difference = (exact.layer(layer).float() - rough.layer(layer).float()).abs().max()
        assert float(difference) < 0.05 * float(exact.layer(layer).float().abs().max())
    assert not torch.equal(exact.layer(2), rough.layer(2))


def test_examples_at_hand_have_the_features_that_a_store_keeps(bert: Path, store: Store, tmp_path: Path) -> None:
    folder = write_task(tmp_path / "d", "span", stretch_rows)
    task = stretch_tasks()["span"]
    at_hand = load(task, locate(task, [folder]), selection="holdout", holdout=0.25)
    for part in ("train", "selection", "validation"):
        ours, kept = read(at_hand, bert, part), read(found(store, folder, task), bert, part)
        assert ours.encoded.texts.to_pylist() == kept.encoded.texts.to_pylist()
        assert ours.encoded.golds.to_pylist() == kept.encoded.golds.to_pylist()
        rows = np.arange(len(ours))
        torch.testing.assert_close(ours.vectors(rows).hidden, kept.vectors(rows).hidden, rtol=HALF_ULP, atol=1e-5)


# windows


@given(st.lists(st.integers(1, 30), min_size=1, max_size=40), st.integers(1, 60))
def test_windows_are_all_examples_in_order_and_none_too_large(sizes: list[int], most: int) -> None:
    windows = list(frozen._windows(np.array(sizes), most))
    assert np.concatenate(windows).tolist() == list(range(len(sizes)))
    totals = [sum(sizes[i] for i in window) for window in windows]
    assert all(total <= most or len(window) == 1 for total, window in zip(totals, windows, strict=True))
    assert all(total + sizes[window[-1] + 1] > most for total, window in zip(totals[:-1], windows, strict=False))


@pytest.mark.parametrize("kind", ["choice", "edge2", "span"])
def test_the_size_of_windows_and_passes_does_not_count(
    bert: Path, store: Store, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = of_kind(store, tmp_path, kind)
    whole, rows = read(data, bert), np.arange(18)
    shutil.rmtree(store.root / "encoded")
    written: list[int] = []
    real = arrays._Numbers.append

    def append(self: Any, part: Any) -> None:
        written.append(part.nbytes)
        real(self, part)

    monkeypatch.setattr(frozen, "WINDOW", 4096)
    monkeypatch.setattr(arrays._Numbers, "append", append)
    small = read(data, bert, places=places_for(bert, "x", micro_tokens=5))
    [entry] = entries(store)
    columns = list(store.encoded(entry).glob("*.npy"))
    assert len(written) > 4 * len(columns)
    for name in ("labels", "spans", "lost", "groups", "bounds", "rows", "parts", "offsets"):
        assert np.array_equal(getattr(small.encoded, name), getattr(whole.encoded, name)), name
    for pooling in ("first", "mean"):
        ours, other = (one.vectors(rows, pooling=pooling) for one in (small, whole))
        torch.testing.assert_close(ours.hidden, other.hidden, rtol=HALF_ULP, atol=1e-5)
        torch.testing.assert_close(ours.pooled, other.pooled, rtol=HALF_ULP, atol=1e-5)


# once


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry per forward pass of an encoder: its tokens."""
    seen: list[int] = []
    real = ways._output

    def output(encoder: Any, tokens: Any, *others: Any, **options: Any) -> Any:
        if "output_hidden_states" in options:
            seen.append(int(tokens["input_ids"].numel()))
        return real(encoder, tokens, *others, **options)

    monkeypatch.setattr(ways, "_output", output)
    return seen


def test_one_pass_reads_every_token_once_for_all_parts_layers_and_poolings(
    bert: Path, data: cache.Located, passes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    splits = tokens_of(data, bert)
    assert splits.selection is not None
    parts: Any = {"train": splits.train, "selection": splits.selection, "validation": splits.validation}
    expected = sum(int(part.input_lengths.sum()) for part in parts.values())
    before = {part: read(data, bert, part).vectors(np.arange(3)).hidden for part in parts}
    assert sum(passes) == expected
    monkeypatch.setattr(model, "load", None)  # nor is an encoder loaded,
    monkeypatch.setattr(cache, "encoded", None)  # or a text looked at
    for part, hidden in before.items():
        assert torch.equal(read(data, bert, part).vectors(np.arange(3)).hidden, hidden)
    assert sum(passes) == expected


def test_a_layer_is_a_view_of_the_file_that_cannot_change_it(bert: Path, data: cache.Located) -> None:
    ours = read(data, bert, "validation")
    for pooling, held in (("first", ours.tokens), ("mean", ours.means)):
        layer = ours.layer(1, pooling)  # type: ignore[arg-type]
        assert layer.data_ptr() == held[1].data_ptr()
        before = layer.clone()
        layer.zero_()
        assert torch.equal(read(data, bert, "validation").layer(1, pooling), before)  # type: ignore[arg-type]
    backwards = read(data, bert, "validation").take(np.arange(12)[::-1].copy())
    assert torch.equal(backwards.layer(1), read(data, bert, "validation").layer(1).flip(0))
    assert torch.equal(backwards.layer(1, "mean"), read(data, bert, "validation").layer(1, "mean").flip(0))


def test_whatever_changes_a_number_makes_another_entry(
    store: Store, data: cache.Located, tmp_path: Path, encoder: Encoders, monkeypatch: pytest.MonkeyPatch
) -> None:
    def is_new(data: cache.Located = data, **options: Any) -> bool:
        before = entries(store)
        read(data, options.pop("encoder", encoder("bert")), **options)
        return len(entries(store)) > len(before)

    path = encoder("bert")
    assert is_new()
    assert not is_new()
    assert not is_new(part="selection")  # of the same file
    assert is_new(part="validation")
    assert is_new(max_length=17)
    assert is_new(precision="bf16")
    assert is_new(encoder=encoder("electra"))
    assert is_new(encoder=Frozen("sha256:other", str(path)))
    assert is_new(encoder=Frozen(plain(path).identity, str(path), "1" * 16, weights(path, tmp_path / "w", 1.5)))
    assert is_new(encoder=Frozen(plain(path).identity, str(path), None, weights(path, tmp_path / "w", 1.5)))
    assert is_new(encoder=Frozen(plain(path).identity, str(path), None, weights(path, tmp_path / "w", 1.6)))
    assert is_new(found(store, tmp_path / "data", limit_train=9))
    assert not is_new(found(store, tmp_path / "data", holdout=0.5))  # divides what is kept
    assert is_new(found(store, tmp_path / "data", dataclasses.replace(PAIRS, format=Pair("hypothesis", "premise"))))
    monkeypatch.setitem(vars(features), "version", lambda name: "0")
    assert is_new()
    monkeypatch.setattr(network, "__file__", str(write_rows(tmp_path / "network.py", [])))
    assert is_new()
    write_rows(tmp_path / "data" / "rte" / "train.jsonl", pair_rows(24, seed=9))
    assert is_new(found(store, tmp_path / "data"))


def entries(store: Store) -> dict[str, int]:
    """The kept features, and when each was written."""
    kinds = {key: arrays.read_json(store.encoded(key) / arrays.MANIFEST)["identity"] for key in store.encoded_keys()}
    return {key: store.encoded(key).stat().st_mtime_ns for key, made in kinds.items() if made["kind"] == "features"}


def weights(path: Path, folder: Path, factor: float) -> Path:
    """The weights folder of a step that did nothing but multiply the encoder's embeddings."""
    from transformers import AutoModel

    encoder = AutoModel.from_pretrained(path)
    tensors = {name: value.clone() for name, value in encoder.state_dict().items() if "pooler" not in name}
    tensors["embeddings.word_embeddings.weight"] *= factor
    folder.mkdir(exist_ok=True)
    save_file(tensors, folder / "encoder.safetensors")
    return folder


def test_features_of_a_step_outlive_its_weights(bert: Path, data: cache.Located, tmp_path: Path) -> None:
    folder = weights(bert, tmp_path / "w", 3.0)
    step = Frozen(plain(bert).identity, str(bert), "1" * 16, folder)
    gone = dataclasses.replace(step, weights=None)
    with pytest.raises(StoreError, match="step 1111111111111111: has no weights"):
        read(data, gone)
    ours = read(data, step)
    expected = list(alone(bert, tokens_of(data, bert).train, folder))
    assert_close(ours.layer(2), torch.stack([one[2, 0] for one in expected]))
    assert not torch.allclose(ours.layer(0).float(), read(data, bert).layer(0).float(), rtol=0.1)
    assert torch.equal(read(data, gone).layer(2), ours.layer(2))


def read_once(store: Path, folder: Path, bert: Path, told: Path, reading: Any, waiting: Any) -> None:
    """What a process of its own does: it goes on reading until another one waits, and tells how often it read."""
    seen, real = [], frozen._read

    def counted(*arguments: Any) -> Any:
        seen.append(1)
        reading.set()
        assert waiting.wait(240)
        return real(*arguments)

    frozen._read = counted
    features.time.sleep = lambda seconds: waiting.set() or waiting.wait(seconds)  # type: ignore[assignment]
    layer = read(found(Store.open(store), folder), bert).layer(1)
    told.write_text(json.dumps([len(seen), float(layer.float().sum())]))


def test_of_processes_that_need_the_same_one_computes(
    bert: Path, store: Store, data: cache.Located, tmp_path: Path
) -> None:
    context = multiprocessing.get_context("spawn")
    events = context.Event(), context.Event()
    told = [tmp_path / name for name in ("one", "two")]
    started = [
        context.Process(target=read_once, args=(store.root, tmp_path / "data", bert, path, *events)) for path in told
    ]
    started[0].start()
    assert events[0].wait(240)
    started[1].start()
    for process in started:
        process.join(240)
    counts, sums = zip(*(json.loads(path.read_text()) for path in told), strict=True)
    assert counts == (1, 0)
    assert sums[0] == sums[1] == float(read(data, bert).layer(1).float().sum())
    assert len(entries(store)) == 1
    assert verify(store) == []


def test_a_claim_of_somebody_who_gives_up_is_taken_over(
    bert: Path, store: Store, data: cache.Located, monkeypatch: pytest.MonkeyPatch
) -> None:
    read(data, bert)
    [key] = entries(store)
    shutil.rmtree(store.encoded(key))
    other = Claim(store.claim(key), dict)
    assert other.take()
    waited: list[float] = []

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        store.claim(key).unlink(missing_ok=True)  # it fails, and leaves nothing

    monkeypatch.setattr(features.time, "sleep", sleep)
    assert len(read(data, bert)) == 18
    assert len(waited) == 1
    assert not store.claim(key).exists()


# whatever breaks it

BREAK = {
    "vectors are cut short": lambda folder: os.truncate(folder / "tokens-1.npy", 200),
    "a layer is gone": lambda folder: (folder / "mean-2.npy").unlink(),
    "a header is damaged": lambda folder: (folder / "mean-0.npy").write_bytes(
        b"x" * (folder / "mean-0.npy").stat().st_size
    ),
    "no manifest": lambda folder: (folder / arrays.MANIFEST).unlink(),
    "everything is gone": shutil.rmtree,
}


@pytest.mark.parametrize("what", BREAK)
def test_a_broken_entry_is_computed_again(bert: Path, store: Store, data: cache.Located, what: str) -> None:
    before = read(data, bert).layer(1, "mean").clone()
    [key] = entries(store)
    BREAK[what](store.encoded(key))
    assert what == "everything is gone" or len(verify(store)) == 1
    assert torch.equal(read(data, bert).layer(1, "mean"), before)
    assert list(entries(store)) == [key]
    assert verify(store) == []
    assert list((store.root / "encoded").glob(".*")) == []


def test_a_changed_number_is_found_by_verify(bert: Path, store: Store, data: cache.Located) -> None:
    read(data, bert)
    [key] = entries(store)
    with (store.encoded(key) / "tokens-1.npy").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x7f")
    assert [problem.message for problem in verify(store)] == ["tokens-1.npy is not what was written"]


def test_a_pass_that_fails_leaves_nothing(
    bert: Path, store: Store, data: cache.Located, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frozen, "WINDOW", 2048)
    real, calls = frozen._read, []

    def failing(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise OSError(28, "No space left on device")
        return real(*arguments)

    monkeypatch.setattr(frozen, "_read", failing)
    with pytest.raises(StoreError, match="the disk is full"):
        read(data, bert)
    assert entries(store) == {}
    assert list((store.root / "encoded").glob(".*")) == []
    assert list((store.root / "claims").iterdir()) == []
    assert len(read(data, bert)) == 18


def test_a_disk_that_is_too_small_is_noticed_after_the_first_window(
    bert: Path, store: Store, data: cache.Located, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(Store, "check_writable", lambda self, need: asked.append(need))
    monkeypatch.setattr(frozen, "WINDOW", 2048)
    read(data, bert)
    [key] = entries(store)
    size = sum(path.stat().st_size for path in store.encoded(key).glob("*.npy"))
    assert asked == [pytest.approx(size, rel=0.4)]


def test_an_encoder_that_does_not_give_its_layers_is_an_error(
    bert: Path, data: cache.Located, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "states", lambda *_: None)
    with pytest.raises(EncoderError, match="does not give the hidden states of its layers"):
        read(data, bert)


def test_data_without_a_selection_set_has_no_features_of_one(bert: Path, store: Store, tmp_path: Path) -> None:
    folder = write_task(tmp_path / "d", "rte", pair_rows)
    with pytest.raises(ValueError, match="no selection set"):
        read(found(store, folder, selection=None), bert, "selection")
    both = found(store, folder, selection="validation")
    assert torch.equal(read(both, bert, "selection").layer(1), read(both, bert, "validation").layer(1))
    assert len(read(both, bert)) == 24


# upkeep


def test_ls_verify_and_gc_know_features(bert: Path, store: Store, data: cache.Located, tmp_path: Path) -> None:
    read(data, bert)
    read(data, Frozen(plain(bert).identity, str(bert), "1" * 16, weights(bert, tmp_path / "w", 2.0)), "validation")
    rows = {row["label"]: row for row in listing(store) if row["kind"] == "features"}
    assert sorted(rows) == ["rte · train · 16", f"rte · validation · 16 · {'1' * 16}"]
    assert verify(store) == []
    assert sum(size for _, size in collect_garbage(store, dry_run=True)) > 2 * 3 * 2 * 32 * 36
    collect_garbage(store, dry_run=False)
    assert listing(store) == []
    assert len(read(data, bert)) == 18
