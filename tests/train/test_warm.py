"""What a process keeps: a run that comes after others is bit for bit the run alone in a process of its own."""

from __future__ import annotations

import gc
import multiprocessing
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tests.kit import FAMILIES, FAST, make_encoder, numbers, study_words, task_of_kind, trained, write_study
from torch import nn
from transformers import AutoModel, AutoTokenizer

from layover.errors import EncoderError
from layover.session import Session
from layover.step import Recipe
from layover.train import model, warm
from layover.train.determinism import OWN_THREADS, prepare_process
from layover.train.loop import Job
from layover.train.network import Network

Encoders = Callable[[str], Path]
KINDS = ("single", "pair", "value", "choice")
PRELOADED = ["layover.session", "layover.train.work", "transformers.models.auto.modeling_auto", "pyarrow.parquet"]


def write(folder: Path, encoder: Path, **recipe: Any) -> Path:
    """A study of two steps: `stop`, and `mine` from its weights, with dropout."""
    folder.mkdir(exist_ok=True)
    strategies = {"stilts": {"kind": "stilts", "sources": ["stop"]}}
    words = study_words(encoder, folder, strategies=strategies, recipe={**FAST, "dropout": 0.2, **recipe})
    return write_study(folder / "study.toml", words)


def run(study: Path, store: Path) -> dict[str, bytes]:
    """Run a study and keep all weights; the bytes of every number and weight."""
    session = Session.open(study, store)
    summary = session.keeping(list(session.plan.steps)).run()
    assert summary.complete, summary.failed
    return results(store)


def results(store: Path) -> dict[str, bytes]:
    """The bytes of every number and weight in a store."""
    weights = {str(p.relative_to(store)): p.read_bytes() for p in store.glob("steps/*/weights/*.safetensors")}
    assert len(weights) == 4
    return {**numbers(store), **weights}


@pytest.fixture(scope="session")
def alone(
    encoder: Encoders, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], tuple[Path, dict[str, bytes]]]:
    """`alone("bert")`: a study, and what it ends with in a process in which nothing else ever ran."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    found: dict[str, tuple[Path, dict[str, bytes]]] = {}

    def get(family: str) -> tuple[Path, dict[str, bytes]]:
        if family not in found:
            folder = tmp_path_factory.mktemp(f"alone-{family}")
            study = write(folder, encoder(family))
            process = context.Process(target=run, args=(study, folder / "store"))
            process.start()
            process.join(120)
            assert process.exitcode == 0
            found[family] = study, results(folder / "store")
        return found[family]

    return get


def spoil(network: Any) -> None:
    """Everything that a run might do to its network, and some that none should."""
    encoder = network.encoder
    with torch.no_grad():
        for tensor in (*encoder.parameters(), *encoder.buffers()):
            tensor.fill_(1)
    calls = 0

    def breaks(*_: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise RuntimeError("out of luck")

    for module in encoder.modules():
        module.register_forward_hook(lambda _, __, output: output)
        module.some_attribute = 1
        if isinstance(module, nn.Dropout):
            module.p = 0.9
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Linear) and child.in_features == child.out_features:
                setattr(module, name, nn.Linear(child.in_features, child.out_features, bias=False))
    for parameter in list(encoder.parameters())[::2]:
        parameter.requires_grad_(False)
        parameter.grad = torch.ones_like(parameter)
    for name, value in encoder.config.to_dict().items():
        if isinstance(value, float):
            setattr(encoder.config, name, 0.5)
    network.register_forward_pre_hook(breaks)


@pytest.mark.parametrize("family", FAMILIES)
def test_after_a_run_that_broke_half_way_and_one_of_another_encoder(
    alone: Any, encoder: Encoders, family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, expected = alone(family)
    assert run(study, tmp_path / "first") == expected
    load = model.load

    def spoilt(*arguments: Any) -> Any:
        found = load(*arguments)
        spoil(found.network)
        found.tokenizer.add_tokens(["zzz", "story"])
        found.tokenizer.padding_side = "left"
        return found

    with monkeypatch.context() as patch:
        patch.setattr(model, "load", spoilt)
        summary = Session.open(write(tmp_path / "b", encoder(family), batch_size=4), tmp_path / "broken").run()
        assert not summary.complete
    assert run(study, tmp_path / "second") == expected
    other = FAMILIES[FAMILIES.index(family) - 1]
    run(write(tmp_path / "c", encoder(other), precision="bf16"), tmp_path / "other")
    assert run(study, tmp_path / "third") == expected


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(KINDS),
    seed=st.integers(0, 99),
    recipe=st.fixed_dictionaries({
        "dropout": st.sampled_from([None, 0.0, 0.2, 0.6]),
        "dropout_at": st.sampled_from(["encoder", "output"]),
        "precision": st.sampled_from(["fp32", "bf16"]),
        "pooling": st.sampled_from(["first", "mean"]),
        "learning_rate": st.sampled_from([1e-3, 0.5]),
        "batch_size": st.sampled_from([3, 8]),
    }),
)  # fmt: skip
def test_after_any_other_run_of_the_same_encoder(
    alone: Any, bert: Path, tmp_path_factory: pytest.TempPathFactory, kind: str, seed: int, recipe: dict[str, Any]
) -> None:
    folder = tmp_path_factory.mktemp("any")
    study, expected = alone("bert")
    trained(bert, task_of_kind(folder, kind)[1], folder, Recipe(epochs=1, max_length=32, **recipe), seed=seed)
    assert run(study, folder / "store") == expected


LEFT_BEHIND: dict[str, Callable[[], Any]] = {
    "random": lambda: (torch.manual_seed(5), np.random.seed(5), random.seed(5), torch.rand(7)),
    "autocast": lambda: torch.set_autocast_enabled("cpu", True),
    "gradients": lambda: torch.set_grad_enabled(False),
    "dtype": lambda: torch.set_default_dtype(torch.float64),
    "device": lambda: torch.set_default_device("meta"),
    "determinism": lambda: torch.use_deterministic_algorithms(False),
    "precision": lambda: torch.set_float32_matmul_precision("medium"),
    "threads": lambda: torch.set_num_threads(2),
}


@pytest.fixture
def _settings() -> Iterator[None]:
    """Whatever a test leaves behind is put right for the next."""
    before = torch.get_num_threads()
    yield
    torch.set_autocast_enabled("cpu", False)
    torch.set_grad_enabled(True)
    torch.set_default_dtype(torch.float32)
    torch.set_default_device(None)
    torch.set_float32_matmul_precision("highest")
    torch.set_num_threads(before)


@pytest.mark.usefixtures("_settings")
@pytest.mark.parametrize("what", LEFT_BEHIND)
def test_after_something_was_left_behind(alone: Any, tmp_path: Path, what: str) -> None:
    study, expected = alone("bert")
    LEFT_BEHIND[what]()
    assert run(study, tmp_path / "store") == expected


@pytest.mark.usefixtures("_settings")
def test_threads_are_torchs_own_choice_where_none_are_asked_for() -> None:
    torch.set_num_threads(OWN_THREADS + 1)
    prepare_process(0)
    assert torch.get_num_threads() == OWN_THREADS


@pytest.mark.parametrize("order", [("fp32", "bf16", "fp32"), ("bf16", "fp32", "bf16")])
def test_each_run_computes_in_its_own_precision(
    bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: tuple[Any, ...]
) -> None:
    load, seen = model.load, []

    def watched(*arguments: Any) -> Any:
        found = load(*arguments)
        layer = next(m for m in found.network.encoder.modules() if isinstance(m, nn.Linear))
        layer.register_forward_hook(lambda _, __, output: seen.append(output.dtype))
        return found

    monkeypatch.setattr(model, "load", watched)
    _, data = task_of_kind(tmp_path, "single")
    for index, precision in enumerate(order):
        seen.clear()
        trained(bert, data, tmp_path / str(index), Recipe(epochs=1, batch_size=9, max_length=32, precision=precision))
        assert set(seen) == {torch.bfloat16 if precision == "bf16" else torch.float32}


# what is kept


def tensors(module: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """All tensors that a module holds, those beside its parameters and buffers included."""
    for name, part in module.named_modules():
        held = {**part.__dict__, **part._parameters, **part._buffers}
        yield from ((f"{name}.{key}", value) for key, value in held.items() if isinstance(value, torch.Tensor))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_copy_is_what_transformers_loads_and_shares_nothing(encoder: Encoders, family: str) -> None:
    location = str(encoder(family))
    kept = warm._encoder(location, warm.stamp(location), None)
    one, two = warm.encoder(location, None), warm.encoder(location, None)
    plain: Any = AutoModel.from_pretrained(location, dtype=torch.float32)
    plain.pooler = None
    expected = dict(tensors(plain))
    for found in (one, two):
        assert type(found) is type(plain)
        assert str(found) == str(plain)
        assert found.config.to_dict() == plain.config.to_dict()
        assert found.training is plain.training is False
        assert {name for name, _ in tensors(found)} == set(expected)
        for name, tensor in tensors(found):
            assert torch.equal(tensor, expected[name]), name
            assert (tensor.dtype, tensor.requires_grad) == (expected[name].dtype, expected[name].requires_grad), name
    models = (kept, one, two)
    storages = [{tensor.untyped_storage().data_ptr() for _, tensor in tensors(model)} - {0} for model in models]
    parts = [{id(part) for part in (*model.modules(), model.config)} for model in models]
    for held in (storages, parts):
        assert sum(map(len, held)) == len(set().union(*held))


def test_tied_weights_stay_tied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3)
            self.second.weight = self.first.weight
            self.register_buffer("positions", torch.arange(3), persistent=False)
            self.beside = self.positions

    kept = Tied()
    monkeypatch.setattr(warm, "_encoder", lambda *_: kept)
    found = warm.encoder("nowhere", None)
    assert found.second.weight is found.first.weight
    assert found.beside is found.positions
    assert found.first.weight is not kept.first.weight
    assert torch.equal(found.first.weight, kept.first.weight)


def test_files_that_were_written_again_are_read_again(encoder: Encoders, tmp_path: Path) -> None:
    folder = make_encoder(tmp_path / "e", "bert")
    before = warm.encoder(str(folder), None).state_dict()
    written = load_file(folder / "model.safetensors")
    name = next(iter(written))
    save_file({**written, name: written[name] + 1}, folder / "model.safetensors", metadata={"format": "pt"})
    after = warm.encoder(str(folder), None).state_dict()
    changed = [key for key in before if not torch.equal(before[key], after[key])]
    assert len(changed) == 1
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["zzz"])
    assert len(warm.tokenizer(str(folder))) == len(tokenizer) - 1
    tokenizer.save_pretrained(folder)
    assert len(warm.tokenizer(str(folder))) == len(tokenizer)


def test_weights_in_several_files_and_in_half_precision(bert: Path, tmp_path: Path) -> None:
    plain: Any = AutoModel.from_pretrained(bert, dtype=torch.float32)
    plain.save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 2
    plain.half().save_pretrained(tmp_path / "half")
    whole = warm.encoder(str(bert), None).state_dict()
    shards, half = (warm.encoder(str(tmp_path / name), None).state_dict() for name in ("shards", "half"))
    assert all(torch.equal(whole[name], shards[name]) for name in whole)
    assert {tensor.dtype for tensor in half.values()} == {torch.float32}
    assert all(torch.equal(whole[name].half().float(), half[name]) for name in whole)


def test_weights_that_a_file_lacks_are_the_same_for_every_run(bert: Path, tmp_path: Path) -> None:
    plain: Any = AutoModel.from_pretrained(bert)
    written = {name: tensor for name, tensor in plain.state_dict().items() if "layer.1." not in name}
    plain.save_pretrained(tmp_path / "e", state_dict=written)
    found = []
    for seed in (1, 2):
        warm._encoder.cache_clear()
        torch.manual_seed(seed)
        state = torch.get_rng_state()
        found.append(warm.encoder(str(tmp_path / "e"), None).state_dict())
        assert torch.equal(torch.get_rng_state(), state)  # and they take nothing from the run's streams
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])
    assert any(found[0][name].std() > 0 for name in set(found[0]) - set(written))


def test_what_is_kept_is_bounded(bert: Path) -> None:
    for hundredths in range(2 * warm.KEPT):
        assert warm.encoder(str(bert), hundredths / 100).config.hidden_dropout_prob == hundredths / 100
    assert warm._encoder.cache_info().currsize <= warm.KEPT


def test_what_cannot_be_loaded_is_no_matter_of_getting_ready(bert: Path, tmp_path: Path) -> None:
    warm.prepare([str(tmp_path / "nothing"), str(bert)])
    (tmp_path / "empty").mkdir()
    with pytest.raises(EncoderError, match="cannot be loaded"):
        warm.encoder(str(tmp_path / "empty"), None)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_a_run_trained_is_gone_when_it_ends(encoder: Encoders, tmp_path: Path, family: str) -> None:
    """And not when Python next looks for cycles: by then there are several networks, their gradients and moments."""
    study = write(tmp_path, encoder(family))
    gc.collect()
    gc.disable()
    try:
        assert Session.open(study, tmp_path / "store").run().complete
        left = [kept for kept in gc.get_objects() if type(kept) in (Network, Job)]
    finally:
        gc.enable()
    assert left == []
