"""Cases: one vector and one label for what a head reads, from the stock encoder; and what other tasks' heads say."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tests.kit import own_table, places_for, single_rows, stretch_rows, stretch_tasks, write_rows, write_task

from layover.step import Recipe
from layover.store import Store
from layover.tasks.load import locate
from layover.tasks.own import own_files, own_task
from layover.train import cache, cases, features, model, outputs, work
from layover.train.batching import collate
from layover.train.cases import Cases, cases_of
from layover.train.determinism import CPU
from layover.train.encode import Encoded
from layover.train.features import Features, Frozen

Encoders = Callable[[str], Path]
HALF_ULP = 2**-8  # of bf16, in which features are kept
OWN = ("single", "pair", "value", "pair_value", "choice")
WHOLE: dict[str, Any] = {"limit_train": None, "limit_validation": None, "selection": None, "holdout": 0.1}
LENGTH = 24


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store")


def of_kind(store: Store, folder: Path, kind: str) -> cache.Located:
    """The generated data of an own task, or of one about stretches of text."""
    if kind in (made := stretch_tasks()):
        return cache.located(store, made[kind], locate(made[kind], [write_task(folder, kind, stretch_rows)]), **WHOLE)
    table = own_table(folder, kind)
    task = own_task(kind, table)
    return cache.located(store, task, locate(task, [], own_files(table)), **WHOLE)


def read(data: cache.Located, encoder: Path, weights: Path | None = None) -> Features:
    which = Frozen(f"sha256:{encoder.name}", str(encoder), weights=weights)
    return features.features(data, "train", which, max_length=LENGTH, places=places_for(encoder, which.identity))


def alone(encoder: Path, encoded: Encoded) -> Iterator[np.ndarray[Any, Any]]:
    """The hidden states [layers, tokens, width] that the stock encoder gives for each input by itself."""
    from transformers import AutoModel

    stock = AutoModel.from_pretrained(encoder).eval()
    for begin, end in encoded.offsets:
        inputs = {"input_ids": encoded.ids[begin:end]}
        inputs |= {} if encoded.types is None else {"token_type_ids": encoded.types[begin:end]}
        with torch.inference_mode():
            tensors = {name: torch.from_numpy(part.astype(np.int64))[None] for name, part in inputs.items()}
            yield torch.stack(stock(**tensors, output_hidden_states=True).hidden_states)[:, 0].numpy()


def tokens_of(data: cache.Located, encoder: Path) -> Encoded:
    from transformers import AutoTokenizer

    return cache.splits(data, AutoTokenizer.from_pretrained(encoder), LENGTH).train


def expected(task: Any, encoded: Encoded, states: list[Any], pooling: str) -> tuple[list[Any], list[Any]]:
    """Vectors [layers, d] and labels of every case but those drawn, written out for each kind of task by itself."""
    found, labels = [], []
    for example in range(len(encoded)):
        inputs = range(*encoded.groups[example : example + 2])
        pooled = [states[i][:, 0] if pooling == "first" else states[i].mean(1) for i in inputs]
        for target in range(*encoded.bounds[example : example + 2]):
            if encoded.lost[target]:
                continue
            spans, label, reads = encoded.spans[target], encoded.labels[target], task.format.reads
            if task.output == "choice":
                found += pooled
                labels += ["right" if number == label else "wrong" for number in range(len(pooled))]
                continue
            own = [pooled[0]] if reads.sentence or not len(spans) else []
            for begin, end in spans:
                tokens = states[inputs[0]][:, begin:end]
                own.append(tokens[:, 0] if reads.pool == "first" else tokens.mean(1))
            found.append(np.concatenate(own, axis=-1))
            if task.output == "value":
                labels.append(float(label))
            elif task.output == "labels":
                labels.append("+".join(task.labels[i] for i in np.flatnonzero(label)))
            else:
                labels.append(task.labels[int(label)])
    return found, labels


def named(found: Cases) -> list[Any]:
    return found.labels.tolist() if found.names is None else [found.names[label] for label in found.labels]


@pytest.mark.parametrize("kind", [*OWN, *(kind for kind in stretch_tasks() if kind != "span")])
def test_vectors_are_what_the_stock_encoder_gives_for_the_same_input(
    encoder: Encoders, store: Store, tmp_path: Path, kind: str
) -> None:
    path, data = encoder("electra"), of_kind(store, tmp_path, kind)
    ours = read(data, path)
    every = cases_of(data.task, ours.encoded, 10**6, 1)
    encoded = tokens_of(data, path)
    states = list(alone(path, encoded))
    for pooling in ("first", "mean"):
        vectors = cases.vectors(ours, every, data.task, pooling)
        right, labels = expected(data.task, encoded, states, pooling)
        assert vectors.dtype == np.float32
        assert vectors.shape == (3, len(right), 32 * cases.parts(data.task))
        np.testing.assert_allclose(vectors, np.stack(right, axis=1), rtol=HALF_ULP, atol=HALF_ULP)
        assert named(every) == labels
        assert len(set(labels)) > 1


def test_of_an_answer_begin_end_and_one_other_token_of_the_passage_are_read(
    bert: Path, store: Store, tmp_path: Path
) -> None:
    data = of_kind(store, tmp_path, "span")
    ours, encoded = read(data, bert), tokens_of(data, bert)
    every = cases_of(data.task, ours.encoded, 10**6, 1)
    vectors = cases.vectors(ours, every, data.task, "first")
    states = list(alone(bert, encoded))
    assert encoded.chars is not None
    for example in range(len(encoded)):
        own = np.flatnonzero(every.example == example)
        places = dict(zip(every.place[own].tolist(), named(every.take(own)), strict=True))
        if encoded.lost[example]:
            assert not places
            continue
        begin, end = encoded.spans[example, 0]
        inside = encoded.chars[slice(*encoded.offsets[example])]
        others = [place for place, name in places.items() if name == "elsewhere"]
        answer = {int(begin): "begin", **({int(end) - 1: "end"} if end - begin > 1 else {})}
        assert {place: name for place, name in places.items() if name != "elsewhere"} == answer
        assert len(others) == 1
        assert inside[others[0], 1] > inside[others[0], 0]  # of the passage: neither special nor of the question
        assert not begin <= others[0] < end
        np.testing.assert_allclose(vectors[:, own], states[example][:, every.place[own]], rtol=HALF_ULP, atol=1e-3)
    other = cases_of(data.task, ours.encoded, 10**6, 2)
    assert not np.array_equal(other.place, every.place)
    assert np.array_equal(cases_of(data.task, ours.encoded, 10**6, 1).place, every.place)


@pytest.mark.parametrize("kind", ["choice", "tagging", "span"])
def test_of_too_many_cases_as_many_as_wanted_are_drawn_by_the_seed(
    bert: Path, store: Store, tmp_path: Path, kind: str
) -> None:
    data = of_kind(store, tmp_path, kind)
    ours = read(data, bert)
    every, some = (cases_of(data.task, ours.encoded, most, 1) for most in (10**6, 17))
    assert len(some) == 17 < len(every)
    keys = list(zip(every.example.tolist(), every.place.tolist(), strict=True))
    where = [keys.index(pair) for pair in zip(some.example.tolist(), some.place.tolist(), strict=True)]
    assert where == sorted(where)
    assert some.labels.tolist() == every.labels[where].tolist()
    whole = cases.vectors(ours, every, data.task, "mean")
    assert np.array_equal(cases.vectors(ours, some, data.task, "mean"), whole[:, where])
    assert cases_of(data.task, ours.encoded, 17, 2).place.tolist() != some.place.tolist()


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_a_pair_is_encoded_as_a_pair_and_not_joined_by_a_separator_written_out(
    encoder: Encoders, store: Store, tmp_path: Path, family: str
) -> None:
    """Two peers join the texts with " [SEP] ": one segment, and for RoBERTa four pieces of ordinary text."""
    import json

    from transformers import AutoModel, AutoTokenizer

    path, data = encoder(family), of_kind(store, tmp_path, "pair")
    ours = read(data, path)
    vectors = cases.vectors(ours, cases_of(data.task, ours.encoded, 10**6, 1), data.task, "first")[-1]
    tokenizer, stock = AutoTokenizer.from_pretrained(path), AutoModel.from_pretrained(path).eval()
    rows = [json.loads(line) for line in (tmp_path / "pair.train.jsonl").read_text(encoding="utf-8").splitlines()]
    encoded, how = tokens_of(data, path), {"truncation": True, "max_length": LENGTH}
    for number, (row, vector) in enumerate(zip(rows, vectors, strict=True)):
        begin, end = encoded.offsets[number]
        read_as = encoded.ids[begin:end].tolist(), None if encoded.types is None else encoded.types[begin:end].tolist()
        pair = tokenizer(row["premise"], row["hypothesis"], **how)
        joined = tokenizer(f"{row['premise']} [SEP] {row['hypothesis']}", **how)
        assert read_as == (pair["input_ids"], pair.get("token_type_ids"))
        assert read_as != (joined["input_ids"], joined.get("token_type_ids"))
        with torch.inference_mode():
            right = stock(**pair.convert_to_tensors("pt", prepend_batch_axis=True)).last_hidden_state[0, 0].numpy()
        np.testing.assert_allclose(vector, right, rtol=HALF_ULP, atol=1e-3)


# what heads of other tasks say


def a_source(encoder: Path, data: cache.Located, folder: Path, pooling: Any = "first") -> Path:
    """The weights of a source, as a training leaves them: an encoder that has moved, a head that is sure of much."""
    loaded = model.load(str(encoder), None, data.task, Recipe(max_length=LENGTH, pooling=pooling), 1)
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in loaded.network.encoder.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=draw))
        loaded.network.head.linear.weight.mul_(20)
    folder.mkdir()
    result: Any = SimpleNamespace(network=loaded.network, tokenizer=loaded.tokenizer)
    work.write_weights(folder / "weights", data.task, result)
    return folder / "weights"


def by_the_network(encoder: Path, weights: Path, source: Any, data: cache.Located, pooling: str) -> Any:
    """The scores that the source's whole network gives the target's rows, input by input or target by target."""
    settings = Recipe(max_length=LENGTH, pooling=pooling)  # type: ignore[arg-type]
    loaded = model.load(str(encoder), weights, source, settings, 1, carried=True)
    encoded = tokens_of(data, encoder)
    network = loaded.network.eval()
    batch = collate(encoded, np.arange(len(encoded)), loaded.tokenizer.pad_token_id, CPU, packed=False)
    with torch.inference_mode():
        return network(batch), encoded


@pytest.mark.parametrize(
    ("of", "on", "pooling"),
    [("pair", "single", "mean"), ("choice", "choice", "first"), ("tagging", "tagging", "first"),
     ("edge1", "edge1", "mean"), ("words", "words", "mean"), ("edge2", "coreference", "first")],
)  # fmt: skip
def test_a_sources_head_says_what_its_network_says_of_the_targets_rows(
    bert: Path, store: Store, tmp_path: Path, of: str, on: str, pooling: Any
) -> None:
    theirs = of_kind(store, tmp_path / "of", of)
    weights = a_source(bert, theirs, tmp_path / "run", pooling=pooling)
    data = of_kind(store, tmp_path / "on", on)
    ours = read(data, bert, weights)
    every = cases_of(data.task, ours.encoded, 10**6, 1)
    found = outputs.outputs(ours, every, theirs.task, data.task, weights, pooling)
    scores, _ = by_the_network(bert, weights, theirs.task, data, pooling)
    if of == "choice":
        right = scores.softmax(-1).flatten()
        probabilities = torch.stack([1 - right, right], dim=1)
    elif theirs.task.output == "labels":
        probabilities = scores.sigmoid() / scores.sigmoid().sum(-1, keepdim=True)
    else:
        probabilities = scores.softmax(-1)
    assert found is not None
    assert found.shape == probabilities.shape == (len(every), found.shape[1])
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-5)
    np.testing.assert_allclose(found, probabilities, atol=2 * HALF_ULP)
    assert np.ptp(found[:, 0]) > 0
    some = cases_of(data.task, ours.encoded, 11, 1)
    where = [i for i, key in enumerate(zip(every.example, every.place, strict=True))
             if key in set(zip(some.example, some.place, strict=True))]  # fmt: skip
    taken = outputs.outputs(ours, some, theirs.task, data.task, weights, pooling)
    assert taken is not None
    assert np.array_equal(taken, found[where])


def test_a_head_that_reads_whole_texts_reads_those_of_a_target_about_words_in_them(
    bert: Path, store: Store, tmp_path: Path
) -> None:
    theirs, data = of_kind(store, tmp_path / "of", "pair"), of_kind(store, tmp_path / "on", "words")
    weights = a_source(bert, theirs, tmp_path / "run")
    ours = read(data, bert, weights)
    every = cases_of(data.task, ours.encoded, 10**6, 1)
    found = outputs.outputs(ours, every, theirs.task, data.task, weights, "first")
    loaded = model.load(str(bert), weights, theirs.task, Recipe(max_length=LENGTH), 1, carried=True)
    vectors = torch.from_numpy(cases.vectors(ours, every, data.task, "first")[-1, :, :32].copy())
    probabilities = loaded.network.head.linear(vectors).softmax(-1).detach().numpy()
    assert found is not None
    np.testing.assert_allclose(found, probabilities, atol=1e-5)


@pytest.mark.parametrize(
    ("of", "on", "why"),
    [
        ("choice", "single", "choices there, whole texts in the target"),
        ("pair", "choice", "whole texts there, choices in the target"),
        ("value", "single", "predicts a number"),
        ("span", "span", "a place in a passage"),
        ("tagging", "single", "1 stretch of a text there, whole texts in the target"),
        ("single", "tagging", "whole texts there, 1 stretch of a text in the target"),
        ("words", "coreference", "texts and 2 stretches of a text there, 2 stretches of a text in the target"),
        ("edge1", "edge2", "1 stretch of a text there, 2 stretches of a text in the target"),
    ],
)
def test_a_head_for_other_inputs_says_nothing_and_the_reason_is_told(
    bert: Path, store: Store, tmp_path: Path, of: str, on: str, why: str
) -> None:
    source, data = of_kind(store, tmp_path / "of", of).task, of_kind(store, tmp_path / "on", on)
    assert why in outputs.unlike(source, data.task)
    ours = read(data, bert)
    every = cases_of(data.task, ours.encoded, 10**6, 1)
    assert outputs.outputs(ours, every, source, data.task, tmp_path / "none", "first") is None


def test_choices_of_different_numbers_each_share_one_probability(bert: Path, store: Store, tmp_path: Path) -> None:
    """Beside a question with three choices, padding of one with two must not take a share."""
    import dataclasses

    data = of_kind(store, tmp_path, "choice")
    weights = a_source(bert, data, tmp_path / "run")
    ours = read(data, bert, weights)
    groups = ours.encoded.groups.copy()
    groups[1] = 3  # the first question has three choices, the second one
    uneven = dataclasses.replace(ours, encoded=dataclasses.replace(ours.encoded, groups=groups))
    every = cases_of(data.task, uneven.encoded, 10**6, 1)
    found = outputs.outputs(uneven, every, data.task, data.task, weights, "first")
    assert found is not None
    np.testing.assert_allclose(np.add.reduceat(found[:, 1], groups[:-1]), 1, atol=1e-5)


def test_a_task_of_one_row_has_one_case(bert: Path, store: Store, tmp_path: Path) -> None:
    table = {"train": str(write_rows(tmp_path / "t.jsonl", single_rows(3))), "format": "single", "text": "text"}
    task = own_task("mine", table)
    data = cache.located(store, task, locate(task, [], own_files(table)), **{**WHOLE, "limit_train": 1})
    ours = read(data, bert)
    found = cases_of(task, ours.encoded, 5, 1)
    assert cases.vectors(ours, found, task, "mean").shape == (3, 1, 32)
