"""What a checkpoint forgot: compared with transformers' own loss, with weights moved by hand, and with itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tests.kit import FAMILIES, POSITIONS, text_table

from layover.errors import StepError
from layover.step import Places, Recipe
from layover.store import Store
from layover.tasks.load import locate
from layover.tasks.own import own_files, own_task
from layover.train import cache, model
from layover.train.cache import Located, located
from layover.train.forgetting import Forgotten, measure
from layover.train.masking import Masking, hidden_once

Encoders = Callable[[str], Path]
PLACES = Places(device="cpu", threads=1)


@pytest.fixture(scope="module")
def released(encoder: Encoders, tmp_path_factory: pytest.TempPathFactory) -> Encoders:
    """`released("bert")` is the tiny encoder of a family with a masked-LM head, as a release, all weights random."""
    made: dict[str, Path] = {}

    def make(family: str) -> Path:
        folder = tmp_path_factory.mktemp("released") / family
        torch.manual_seed(3)
        full = transformers.AutoModelForMaskedLM.from_config(transformers.AutoConfig.from_pretrained(encoder(family)))
        with torch.no_grad():
            for parameter in full.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
        full.save_pretrained(folder)
        transformers.AutoTokenizer.from_pretrained(encoder(family)).save_pretrained(folder)
        return folder

    return lambda family: made.setdefault(family, made.get(family) or make(family))


def text(folder: Path, **words: Any) -> Located:
    """Generated plain text, located in a store of its own."""
    table = text_table(folder, **words)
    task = own_task("wiki", table)
    options: dict[str, Any] = {"limit_train": None, "limit_validation": None, "selection": None, "holdout": 0.1}
    return located(Store.open(folder / "store"), task, locate(task, [], own_files(table)), **options)


def checkpoint(location: Path, folder: Path, move: Callable[[str, torch.Tensor], torch.Tensor]) -> Path:
    """A folder of weights in which each tensor of the plain encoder has been moved."""
    plain = transformers.AutoModel.from_pretrained(location)
    plain.pooler = None
    folder.mkdir()
    moved = {name: move(name, tensor).contiguous().clone() for name, tensor in plain.state_dict().items()}
    save_file(moved, folder / "encoder.safetensors")
    plain.config.save_pretrained(folder)
    return folder


def stirred(amount: float, *words: str) -> Callable[[str, torch.Tensor], torch.Tensor]:
    """Adds noise to the tensors whose names have one of the words, or to all."""
    draw = torch.Generator().manual_seed(7)

    def move(name: str, tensor: torch.Tensor) -> torch.Tensor:
        touched = not words or any(word in name for word in words)
        return tensor + amount * torch.randn(tensor.shape, generator=draw) if touched else tensor

    return move


def of(data: Located, location: Path, start: Path | None = None, head: Path | None = None) -> Forgotten:
    return measure(data, str(location), start, head, POSITIONS, PLACES)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_plain_encoder_has_forgotten_nothing(released: Encoders, family: str, tmp_path: Path) -> None:
    location, data = released(family), text(tmp_path)
    same = checkpoint(location, tmp_path / "same", lambda _, tensor: tensor)
    for found in (of(data, location), of(data, location, same)):
        metrics = found.metrics()
        assert metrics["mlm_loss_rise"] == 0.0
        assert [metrics[f"cka_{layer}"] for layer in range(3)] == pytest.approx([100.0] * 3, abs=1e-6)
        assert [metrics[f"l2_{layer}"] for layer in range(3)] == [0.0] * 3
        assert found.layers == {"plain": 2, "here": 2, "compared": 2}
        assert set(metrics) == {"mlm_loss", "mlm_loss_rise", "cka", "cka_0", "cka_1", "cka_2",
                                "l2", "l2_0", "l2_1", "l2_2"}  # fmt: skip


@pytest.mark.parametrize("family", ["bert", "roberta", "modernbert"])
def test_the_loss_is_that_of_transformers_through_the_original_head(
    released: Encoders, family: str, tmp_path: Path
) -> None:
    location, data = released(family), text(tmp_path)
    start = checkpoint(location, tmp_path / "moved", stirred(0.05))
    found = of(data, location, start)
    full = transformers.AutoModelForMaskedLM.from_pretrained(location).eval()
    trained = transformers.AutoModel.from_pretrained(location).eval()
    trained.load_state_dict(load_file(start / "encoder.safetensors"), strict=False)

    def swapped(_: Any, args: Any, kwargs: Any, output: Any) -> Any:  # the checkpoint's states into the release's head
        return trained(*args, **{k: v for k, v in kwargs.items() if k != "return_dict"})

    losses = []
    for use in (False, True):
        hook = full.base_model.register_forward_hook(swapped, with_kwargs=True) if use else None
        losses.append(_by_hand(full, location, data))
        if hook:
            hook.remove()
    assert found.plain_loss == pytest.approx(losses[0], rel=1e-4)
    assert found.loss == pytest.approx(losses[1], rel=1e-4)
    assert abs(losses[1] - losses[0]) > 1e-3


def _by_hand(full: Any, location: Path, data: Located) -> float:
    """The mean loss over the text's hidden tokens, one example after the other."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(location)
    [encoded] = cache.encoded(data, [data.validation], tokenizer, POSITIONS)
    hidden = hidden_once(encoded, Masking.of(tokenizer, full.get_input_embeddings().num_embeddings, 5))
    total = 0.0
    for number in range(len(hidden)):
        begin, end = hidden.offsets[number]
        targets = slice(*hidden.bounds[number : number + 2])
        with torch.inference_mode():
            logits = full(torch.from_numpy(hidden.ids[begin:end].astype(np.int64))[None]).logits[0]
        right = torch.from_numpy(hidden.labels[targets]).long()
        places = torch.from_numpy(hidden.spans[targets, 0, 0]).long()
        total += float(torch.nn.functional.cross_entropy(logits[places], right, reduction="sum"))
    return total / len(hidden.labels)


@pytest.mark.parametrize(("word", "layer"), [("embeddings", 0), ("layer.0.", 1), ("layer.1.", 2)])
def test_a_layer_that_moved_is_seen_where_it_is(released: Encoders, word: str, layer: int, tmp_path: Path) -> None:
    location = released("bert")
    start = checkpoint(location, tmp_path / "moved", stirred(0.1, word))
    found = of(text(tmp_path), location, start)
    plain = {name.removeprefix("bert."): tensor for name, tensor in load_file(location / "model.safetensors").items()}
    moved = load_file(start / "encoder.safetensors")
    names = [name for name in moved if word in name]
    away = np.sqrt(sum(float(((moved[n].double() - plain[n].double()) ** 2).sum()) for n in names))
    length = np.sqrt(sum(float((plain[n].double() ** 2).sum()) for n in names))
    whole = np.sqrt(sum(float((plain[n].double() ** 2).sum()) for n in moved))
    assert found.moved == pytest.approx([away if i == layer else 0.0 for i in range(3)], rel=1e-6)
    assert found.metrics()[f"l2_{layer}"] == pytest.approx(100 * away / length, rel=1e-6)
    assert found.metrics()["l2"] == pytest.approx(100 * away / whole, rel=1e-6)
    assert [value > 0.99999 for value in found.cka] == [i < layer for i in range(3)]


@pytest.mark.parametrize("family", FAMILIES)
def test_more_noise_is_more_forgotten(released: Encoders, family: str, tmp_path: Path) -> None:
    location, data = released(family), text(tmp_path)
    found = [of(data, location, checkpoint(location, tmp_path / f"{n}", stirred(n))) for n in (0.01, 0.1)]
    slight, much = (one.metrics() for one in found)
    for name in slight:
        if name.startswith("cka"):
            assert 100 > slight[name] > much[name] > -100, name
        if name.startswith("l2"):
            assert 0 < slight[name] < much[name], name


def test_a_head_that_was_trained_is_the_one_that_is_read(encoder: Encoders, tmp_path: Path) -> None:
    location, data = encoder("bert"), text(tmp_path)
    losses = []
    for number in range(2):
        folder = tmp_path / f"head{number}"
        folder.mkdir()
        head = model.load(str(location), None, data.task, Recipe(), number).network.head
        save_file({name: p.detach().contiguous() for name, p in head.state_dict().items()}, folder / "head.safetensors")
        losses.append(of(data, location, None, folder).loss)
    assert losses[0] != losses[1]
    assert losses == pytest.approx(
        [float(np.log(len(transformers.AutoTokenizer.from_pretrained(location))))] * 2, rel=0.1
    )


def test_a_release_without_a_head_says_what_to_do(encoder: Encoders, tmp_path: Path) -> None:
    with pytest.raises(StepError, match="no masked-LM head of its own: say head = 'trained'"):
        of(text(tmp_path), encoder("bert"))


def test_too_little_text_is_refused(released: Encoders, tmp_path: Path) -> None:
    (tmp_path / "short.txt").write_text("the\n", encoding="utf-8")
    data = text(tmp_path, validation=str(tmp_path / "short.txt"))
    with pytest.raises(StepError, match="'wiki' has 1 tokens, and 1 of them to hide: too few to measure forgetting on"):
        of(data, released("bert"))


def test_how_batches_are_cut_changes_rounding_alone(released: Encoders, tmp_path: Path) -> None:
    location, data = released("bert"), text(tmp_path)
    start = checkpoint(location, tmp_path / "moved", stirred(0.05))
    whole, cut = (
        measure(data, str(location), start, None, POSITIONS, replace(PLACES, micro_tokens=n)).metrics() for n in (0, 40)
    )
    assert cut == pytest.approx(whole, rel=1e-4, abs=1e-5)
