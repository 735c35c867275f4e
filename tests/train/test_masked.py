"""The head that predicts hidden tokens: what transformers computes, where its weights come from, what it learns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tests.kit import FAMILIES, POSITIONS, make_maskless, places_for, task_of_kind, trained, write_rows

from layover.errors import EncoderError
from layover.metrics import get_metric
from layover.step import Recipe
from layover.train import checkpoint, loop, masked, model, standard
from layover.train.batching import collate, micro_batches
from layover.train.collapse import collapse
from layover.train.encode import encode
from layover.train.masking import Masking, hidden_once
from layover.train.precision import Computing, cast
from layover.train.work import training, write_weights

Encoders = Callable[[str], Path]
CPU = torch.device("cpu")
RECIPE = Recipe(epochs=2, batch_size=9, max_length=POSITIONS, learning_rate=1e-3, dropout=0.0)


@pytest.fixture(scope="module")
def released(encoder: Encoders, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The tiny encoder of a family as a release with its masked-LM head, all of whose weights are random."""

    def make(family: str) -> Path:
        folder = tmp_path_factory.mktemp("released") / family
        config = transformers.AutoConfig.from_pretrained(encoder(family))
        torch.manual_seed(3)
        full = transformers.AutoModelForMaskedLM.from_config(config)
        with torch.no_grad():
            for parameter in full.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
        full.save_pretrained(folder)
        transformers.AutoTokenizer.from_pretrained(encoder(family)).save_pretrained(folder)
        return folder

    return make


def text_batch(location: Path, tmp_path: Path, step: int = 4) -> tuple[Any, Any]:
    """A network for plain text, and its training set, which hides tokens."""
    task, data = task_of_kind(tmp_path, "text")
    found = model.load(str(location), None, task, RECIPE, 1)
    encoded = encode(data.train, task, found.tokenizer, found.max_length)
    return found, replace(encoded, masking=Masking.of(found.tokenizer, len(found.tokenizer), 1))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_released_head_gives_the_loss_of_transformers(
    released: Callable[[str], Path], family: str, tmp_path: Path
) -> None:
    location = released(family)
    found, encoded = text_batch(location, tmp_path)
    network = found.network.prepare(CPU).eval()
    assert masked.released_head(str(location), network.encoder) is not None
    batch = collate(encoded, np.arange(8), found.tokenizer.pad_token_id, CPU, network.packed, 4)
    with torch.inference_mode():
        scores = network(batch)
        loss = network.head.loss(scores, batch)
    # the same tokens, hidden in the same places, given to transformers' own class one text after the other
    own = transformers.AutoModelForMaskedLM.from_pretrained(location).eval()
    total = 0.0
    for example in range(8):
        ids = encoded.ids[slice(*encoded.offsets[example])]
        alone = np.array([example])
        read, places, right = encoded.masking.hide(encoded, alone, ids, 4)
        labels = torch.full((1, len(ids)), -100)
        labels[0, places] = torch.from_numpy(right)
        with torch.inference_mode():
            output = own(input_ids=torch.from_numpy(read.astype(np.int64))[None], labels=labels)
        total += float(output.loss) * len(places)
    assert float(loss) == pytest.approx(total, rel=1e-4)
    kept = network.head.kept(scores, network.head.predict(scores, batch), batch)
    assert float(-kept.sum()) == pytest.approx(total, rel=1e-4)


def test_an_encoder_without_a_head_gets_a_new_one_from_the_seed(encoder: Encoders) -> None:
    location = str(encoder("bert"))
    network = transformers.AutoModel.from_pretrained(location)
    assert masked.released_head(location, network) is None
    one, same, other = (masked.head_for(location, network, seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(one["dense.weight"], same["dense.weight"])
    assert not torch.equal(one["dense.weight"], other["dense.weight"])
    assert one["dense.weight"].std() == pytest.approx(0.02, rel=0.1)
    assert "decoder" not in one  # it is the encoder's


def test_the_decoder_is_the_encoders_own_and_learns_with_it(encoder: Encoders, tmp_path: Path) -> None:
    found, encoded = text_batch(encoder("bert"), tmp_path)
    network = found.network.prepare(CPU)
    names = [name for name, _ in network.named_parameters()]
    assert len(set(names)) == len(names)
    assert not any(name.startswith("head.") and "embed" in name for name in names)
    batch = collate(encoded, np.arange(8), 0, CPU, network.packed, 0)
    network.head.loss(network(batch), batch).backward()
    vectors = network.encoder.get_input_embeddings().weight.grad
    absent = np.setdiff1d(
        np.arange(len(vectors)), encoded.ids
    )  # tokens that no text has: the decoder alone reaches them
    assert float(vectors[torch.from_numpy(absent)].abs().max()) > 0


def test_the_decoder_learns_too_where_the_encoder_is_cast(encoder: Encoders, tmp_path: Path) -> None:
    def gradient(casting: bool) -> torch.Tensor:
        found, encoded = text_batch(encoder("bert"), tmp_path)
        network = found.network.prepare(CPU)
        now = Computing(network, "fp32", CPU)
        now.casts = cast(network, torch.float32) if casting else {}  # as on a GPU, but for the numbers
        batch = collate(encoded, np.arange(8), 0, CPU, network.packed, 0)
        now.backward(network.head.loss(now.scores(batch, 1, 0), batch))
        return network.encoder.get_input_embeddings().weight.grad

    torch.testing.assert_close(gradient(casting=True), gradient(casting=False))


@pytest.mark.parametrize("family", ["bert", "deberta-v3"])
def test_gradients_do_not_depend_on_how_a_batch_is_split_or_padded(
    encoder: Encoders, family: str, tmp_path: Path
) -> None:
    def gradient(micro_tokens: int, packed: bool) -> torch.Tensor:
        found, encoded = text_batch(encoder(family), tmp_path)
        network = found.network.prepare(CPU)
        network.way = "packed" if packed and network.packed else "padded" if network.packed else network.way
        network.zero_grad(set_to_none=True)
        examples, total = np.arange(9), 0.0
        for part in micro_batches(encoded, examples, micro_tokens, network.packed):
            batch = collate(encoded, part, found.tokenizer.pad_token_id, CPU, network.packed, 2)
            loss = network.head.loss(network(batch, 1, 2), batch)
            loss.backward()
            total += float(loss.detach())
        grads = [p.grad.flatten() for p in network.parameters() if p.grad is not None]
        return torch.cat([*grads, torch.tensor([total])])

    whole = gradient(10**6, packed=True)
    for split in (gradient(40, packed=True), gradient(10**6, packed=False)):
        torch.testing.assert_close(split, whole, rtol=1e-3, atol=1e-4)


def test_a_run_that_was_stopped_goes_on_with_the_same_hidden_tokens(encoder: Encoders, tmp_path: Path) -> None:
    _, data = task_of_kind(tmp_path, "text")
    whole = trained(encoder("bert"), data, tmp_path / "whole", RECIPE)

    arguments = {"seed": 1, "start": None, "resume": tmp_path / "resume", "report": lambda _: None}
    places = places_for(encoder("bert"), "x", checkpoint_seconds=0.0)
    job = next(training(data, RECIPE, location=str(encoder("bert")), places=places, **arguments))
    run, take = loop.started(job)
    turn = next(run)
    for _ in range(3):  # of a first epoch of four
        turn = run.send(take(turn))
    run.close()
    assert checkpoint.state_in(tmp_path / "resume") is not None
    again = trained(encoder("bert"), data, tmp_path, RECIPE)
    assert again.state.curve == whole.state.curve
    for name, tensor in whole.network.state_dict().items():
        assert torch.equal(tensor, again.network.state_dict()[name]), name


def test_more_training_lowers_the_held_out_loss(encoder: Encoders, tmp_path: Path) -> None:
    def loss(epochs: int) -> float:
        _, data = task_of_kind(tmp_path, "text")
        recipe = replace(RECIPE, epochs=epochs, learning_rate=3e-3, checkpoint="last", patience=0)
        found = trained(encoder("bert"), data, tmp_path / str(epochs), recipe).decoded.predictions
        return get_metric("masked_loss").score(found)

    few, many = loss(1), loss(12)
    assert many < few - 0.5  # from ln 111 = 4.7


def test_training_in_bf16_learns(encoder: Encoders, tmp_path: Path) -> None:
    _, data = task_of_kind(tmp_path, "text")
    recipe = replace(RECIPE, epochs=6, learning_rate=3e-3, precision="bf16", checkpoint="last", patience=0)
    curve = trained(encoder("roberta"), data, tmp_path, recipe).state.curve
    assert curve[-1]["loss"] < curve[0]["loss"] - 0.3


def test_collapse_is_what_says_nothing_of_the_text(encoder: Encoders, tmp_path: Path) -> None:
    _found, encoded = text_batch(encoder("bert"), tmp_path)
    task, data = task_of_kind(tmp_path, "text")
    ended = trained(encoder("bert"), data, tmp_path, RECIPE).decoded.predictions
    uniform = float(np.log(len(encoded.masking.others)))
    assert collapse(task, "", ended, encoded, [{"loss": uniform}]) == "loss never left the label prior"
    assert collapse(task, "", ended, encoded, [{"loss": uniform - 0.5}]) == ""
    constant = replace(ended, predicted=np.full(len(ended), 7.0))
    assert collapse(task, "", constant, encoded, [{"loss": uniform - 0.5}]) == "constant prediction"


def test_what_is_evaluated_is_the_same_text_for_every_seed(encoder: Encoders, tmp_path: Path) -> None:
    _, data = task_of_kind(tmp_path, "text")
    golds = [trained(encoder("bert"), data, tmp_path / str(s), RECIPE, seed=s).decoded.predictions.gold for s in (1, 2)]
    assert np.array_equal(*golds)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_trained_one_is_exported_as_the_class_of_transformers(encoder: Encoders, family: str, tmp_path: Path) -> None:
    task, data = task_of_kind(tmp_path, "text")
    result = trained(encoder(family), data, tmp_path, RECIPE)
    write_weights(tmp_path / "weights", task, result)
    exported = standard.standard_model(tmp_path / "weights", task, "first")
    assert type(exported).__name__.endswith("ForMaskedLM")
    ids = torch.randint(5, 20, (1, 9), generator=torch.Generator().manual_seed(0))
    own = result.network.head.tied_to(exported.base_model).eval()
    with torch.inference_mode():
        expected = own.scores(exported.base_model(input_ids=ids).last_hidden_state)
        torch.testing.assert_close(exported(input_ids=ids).logits, expected, rtol=1e-4, atol=1e-4)
    exported.save_pretrained(tmp_path / "exported")
    again = transformers.AutoModelForMaskedLM.from_pretrained(tmp_path / "exported")
    for name, tensor in result.network.encoder.state_dict().items():
        assert torch.equal(again.base_model.state_dict()[name], tensor), name


def test_an_encoder_without_a_mask_token_is_refused(encoder: Encoders, tmp_path: Path) -> None:
    from layover.encoders import find, lacks_mask

    folder = make_maskless(encoder("bert"), tmp_path / "maskless")
    assert lacks_mask(find(str(folder)))
    assert not any(lacks_mask(find(str(encoder(family)))) for family in FAMILIES)
    with pytest.raises(EncoderError, match="has no mask token"):
        text_batch(folder, tmp_path)


def test_a_text_whose_every_token_is_unknown_has_nothing_to_hide(encoder: Encoders, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "t.jsonl", [{"text": "[UNK]"}, {"text": "the film was good"}] * 8)
    _, data = task_of_kind(tmp_path, "text")
    from layover.tasks.load import load, locate
    from layover.tasks.own import own_files, own_task

    table = {"format": "text", "train": str(path), "validation": str(path)}
    task = own_task("wiki", table)
    data = load(task, locate(task, [], own_files(table)), selection="validation", holdout=0.1)
    found = trained(encoder("bert"), data, tmp_path, replace(RECIPE, batch_size=1, epochs=1)).decoded.predictions
    assert set(found.rows.tolist()) == set(range(1, 16, 2))


def test_hidden_text_is_read_like_any_data_set(encoder: Encoders, tmp_path: Path) -> None:
    _found, encoded = text_batch(encoder("bert"), tmp_path)
    once = hidden_once(encoded, encoded.masking)
    batch = collate(once, np.array([5, 2]), 0, CPU, packed=False)
    rows = batch.tokens["input_ids"].flatten()
    hidden = rows[batch.spans[0].begins]
    assert (hidden == encoded.masking.mask).float().mean() > 0.4
    for place, (target, label) in enumerate(zip(batch.targets, batch.labels, strict=True)):
        example = int(once.example_of_target()[target])
        inside = int(once.spans[target, 0, 0])
        assert encoded.ids[encoded.offsets[example, 0] + inside] == label
        assert batch.example[place] == [5, 2].index(example)
