"""Graphs: a run by captured steps is the run without them. On a CPU what would be captured is called again instead."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.kit import job_of

from layover.train import graphs, loop, masks, network, precision, remedies, ways
from layover.train.batching import micro_batches
from layover.train.graphs import CannotCapture, Graphs, Work, alike
from layover.train.loop import Job, Turn, Update
from layover.train.ways import Ability

Encoders = Callable[[str], Path]
CPU = torch.device("cpu")
NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
CAPTURED = ("bert", "roberta", "distilroberta", "electra", "modernbert")  # not DeBERTa, whose steps wait for the GPU


class Recorder:
    """Does work twice, as before a capture, and "captures" it by calling it again; counts captures and replays."""

    def __init__(self) -> None:
        self.made = self.replayed = 0

    def __call__(self, work: Work) -> Work:
        work()
        work()
        self.made += 1

        def replay() -> None:
            self.replayed += 1
            work()

        return replay


def refusing(work: Work) -> Work:
    raise CannotCapture("no")


def stock(encoder: Path, folder: Path, kind: str = "pair", **fields: Any) -> Job:
    """A run with the stock encoder, padded, as on a GPU. On a CPU without dropout, whose masks are not recorded."""
    return job_of(encoder, folder, kind, CPU, **{"dropout": 0.0, "epochs": 2, "learning_rate": 1e-3, **fields})


@pytest.fixture(autouse=True)
def _as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("layover.train.ways.prepare", lambda *_: Ability("stock"))


def ended(job: Job) -> dict[str, torch.Tensor]:
    """The weights that a run ends with, and its losses."""
    state = loop.fit(job)
    losses = torch.tensor([point["loss"] for point in state.curve])
    return {"losses": losses, **{n: t.detach().cpu().clone() for n, t in job.network.state_dict().items()}}


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], close: float) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=close, atol=close, msg=name)


@pytest.mark.parametrize("kind", ["pair", "value", "choice"])
def test_a_run_by_captured_steps_is_the_run_without(
    bert: Path, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = ended(stock(bert, tmp_path, kind))
    recorder = Recorder()
    monkeypatch.setattr(graphs, "OnGpu", lambda: recorder)
    job = dataclasses.replace(stock(bert, tmp_path, kind), graphs="on")
    assert len(job.train) == 18  # two whole batches an epoch, and one of two
    assert_same(ended(job), expected, 0.0)
    assert recorder.made >= 2  # a pass at least, and the update
    assert recorder.replayed == 4 * 2


def test_a_pass_is_captured_once_for_a_shape_and_reads_the_batch_at_hand(bert: Path, tmp_path: Path) -> None:
    job, recorder = stock(bert, tmp_path), Recorder()
    job.network.prepare(CPU).eval()  # as after an evaluation
    found = Graphs(job, lambda _: pytest.fail("no batch is different"), recorder)
    batches = [np.arange(8), np.arange(8)[::-1].copy(), np.arange(8, 16), np.arange(8)]
    shapes = set()
    for step, examples in enumerate(batches):
        loss = found.gradients(Turn(examples, step))
        gradients = {n: p.grad.clone() for n, p in job.network.named_parameters() if p.grad is not None}
        expected = loop.gradients(job, Turn(examples, step))
        assert float(loss) == pytest.approx(float(expected), rel=1e-6)
        own = {n: p.grad for n, p in job.network.named_parameters() if p.grad is not None}
        assert own.keys() == gradients.keys()
        for name, gradient in own.items():
            torch.testing.assert_close(gradients[name], gradient, rtol=1e-5, atol=1e-7, msg=name)
        shapes.add(int(job.train.longest[examples].max()))
    assert recorder.made == len(found.passes) == len(shapes)
    assert recorder.replayed == len(batches)
    assert job.network.training


def test_what_is_captured_is_trained_not_evaluated(bert: Path, tmp_path: Path) -> None:
    job = job_of(bert, tmp_path, "pair", CPU, dropout=0.5)
    job.network.prepare(CPU).eval()
    found = Graphs(job, lambda _: pytest.fail("no batch is different"), Recorder())
    losses = [float(found.gradients(Turn(np.arange(8), 0))) for _ in range(2)]
    job.network.eval()
    batch = loop.collate(job.train, np.arange(8), job.padding, CPU, False)
    with torch.no_grad():
        plain = float(job.network.head.loss(job.network(batch), batch))
    assert abs(losses[0] - plain) > 1e-3 * plain  # dropout was on


def test_only_batches_of_one_shape_are_captured(bert: Path, tmp_path: Path) -> None:
    def asked(kind: str, examples: int = 8, micro_tokens: int = 10**6, **fields: Any) -> bool:
        job = stock(bert, tmp_path / kind, kind, **fields)
        return alike(job, micro_batches(job.train, np.arange(examples), micro_tokens, False))

    assert all(asked(kind) for kind in ("single", "pair", "value", "choice"))
    assert not asked("pair", examples=7)  # the last of an epoch
    assert not asked("pair", micro_tokens=40)  # several passes
    assert not asked("pair", pooling="mean")
    assert not any(asked(kind) for kind in ("span", "tagging", "edge1", "edge2", "words", "coreference"))
    mixed = dataclasses.replace(job := stock(bert, tmp_path / "choice", "choice"), train=_one_choice_more(job.train))
    assert not alike(mixed, [np.arange(8)])
    assert alike(mixed, [np.arange(1, 9)])


def _one_choice_more(data: Any) -> Any:
    """The first example takes an input of the last one."""
    groups = data.groups.copy()
    groups[1:-1] += 1
    return dataclasses.replace(data, groups=groups)


@pytest.mark.parametrize(
    "fields",
    [{"l2sp": 0.5, "l2sp_head": 0.1}, {"optimizer": "recadam", "recadam_pull": 50.0, "recadam_t0": 2},
     {"layer_decay": 0.7}, {"freeze": "embeddings, 0"}, {"freeze": "encoder"}, {"lora": 2}],
)  # fmt: skip
def test_a_run_with_a_remedy_is_the_run_without_graphs(
    bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any]
) -> None:
    def remedied() -> Job:
        job = stock(bert, tmp_path, **fields)
        remedies.prepare(job.network, job.recipe, 1)
        return dataclasses.replace(job, anchor=remedies.anchor(job.network, job.recipe))

    expected, recorder = ended(remedied()), Recorder()
    monkeypatch.setattr(graphs, "OnGpu", lambda: recorder)
    assert_same(ended(dataclasses.replace(remedied(), graphs="on")), expected, 0.0)
    assert recorder.replayed


def test_a_step_that_cannot_be_captured_is_taken_without(
    bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = ended(stock(bert, tmp_path))
    monkeypatch.setattr(graphs, "OnGpu", lambda: refusing)
    job = dataclasses.replace(stock(bert, tmp_path), graphs="on")
    with pytest.warns(RuntimeWarning, match="trained without CUDA graphs: no") as told:
        assert_same(ended(job), expected, 0.0)
    assert len(told) == 1


def test_trying_an_update_out_leaves_no_trace(bert: Path, tmp_path: Path) -> None:
    job = stock(bert, tmp_path, learning_rate=0.1, weight_decay=0.5, max_grad_norm=0.01)
    update = Update(job.network.prepare(CPU), job.recipe, CPU)
    found = Graphs(job, lambda _: pytest.fail("no batch is different"), Recorder())
    update.take(found.gradients(Turn(np.arange(8), 0)), 0.1)
    weights = {n: p.detach().clone() for n, p in job.network.named_parameters()}
    gradients = [gradient.clone() for gradient in found.kept.values()]
    found._captured(update)
    assert all(torch.equal(p, weights[n]) for n, p in job.network.named_parameters())
    assert all(torch.equal(a, b) for a, b in zip(gradients, found.kept.values(), strict=True))
    assert float(update.broken) == 0
    moments = [value for state in update.optimizer.state.values() for value in state.values()]
    assert moments
    assert not any(value.any() for value in moments)


def test_a_loss_that_is_not_finite_stops_a_run_by_graphs_too(
    bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graphs, "OnGpu", Recorder)
    job = dataclasses.replace(stock(bert, tmp_path), graphs="on")
    with torch.no_grad():
        job.network.head.linear.weight.fill_(float("nan"))
    before = {n: p.detach().clone() for n, p in job.network.encoder.named_parameters()}
    assert loop.fit(job).stopped == "nan"
    assert all(torch.equal(p, before[n]) for n, p in job.network.encoder.named_parameters())


def one_layer(encoder: Path, folder: Path) -> Job:
    """A run whose encoder is quick to compile."""
    job = stock(encoder, folder)
    inner: Any = job.network.encoder
    inner.encoder.layer = inner.encoder.layer[:1]
    masks.install(inner)
    job.network.prepare(CPU)
    return job


def gradients(job: Job, compiling: bool, step: int = 0) -> dict[str, torch.Tensor]:
    job.network.compiling = compiling
    loss = loop.gradients(job, Turn(np.arange(8), step))
    return {"loss": loss, **{n: p.grad for n, p in job.network.named_parameters() if p.grad is not None}}


def graphs_compiled() -> int:
    return torch._dynamo.utils.counters["stats"]["unique_graphs"]


@pytest.fixture
def _nothing_compiled() -> None:
    torch.compiler.reset()
    torch._dynamo.utils.counters.clear()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no C++ compiler")
@pytest.mark.usefixtures("_nothing_compiled")
def test_a_compiled_encoder_gives_the_same_gradients(bert: Path, tmp_path: Path) -> None:
    job = one_layer(bert, tmp_path)
    assert_same(gradients(job, True), gradients(job, False), 1e-5)
    assert graphs_compiled() == 1


@pytest.mark.usefixtures("_nothing_compiled")
def test_what_is_compiled_serves_casts_of_weights_and_later_runs(
    bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    traced = torch.compile(ways.call, dynamic=False, backend="aot_eager")  # all of it but making kernels
    monkeypatch.setattr(network, "compiled", lambda: traced)
    for job in (one_layer(bert, tmp_path), one_layer(bert, tmp_path)):
        for step in range(2):
            job.network.compiling = True
            with precision.computing(job.network, "fp32", CPU) as now:
                now.casts = precision.cast(job.network, torch.float32)  # as to bf16 on a GPU
                job.network.train().zero_grad(set_to_none=True)
                batch = loop.collate(job.train, np.arange(8), job.padding, CPU, False)
                loss = job.network.head.loss(now.scores(batch), batch)
                now.backward(loss / 8)
            own = {n: p.grad for n, p in job.network.named_parameters() if p.grad is not None}
            assert_same({"loss": loss.detach(), **own}, gradients(job, False, step), 1e-5)
    assert graphs_compiled() == 1


@pytest.mark.usefixtures("_nothing_compiled")
def test_only_what_is_captured_is_compiled(bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    traced = torch.compile(ways.call, dynamic=False, backend="eager")
    monkeypatch.setattr(network, "compiled", lambda: traced)
    monkeypatch.setattr(graphs, "OnGpu", Recorder)
    expected = ended(one_layer(bert, tmp_path))
    job = dataclasses.replace(one_layer(bert, tmp_path), graphs="compiled")
    job = dataclasses.replace(job, selection=job.train)  # evaluated in batches of another size
    assert_same(ended(job), expected, 1e-6)
    shapes = {
        int(job.train.longest[order].max()) for epoch in (0, 1) for order in loop.epoch_order(18, 8, 1, epoch)[:2]
    }
    assert 0 < graphs_compiled() <= len(shapes)
    assert not job.network.compiling


# with a GPU


def on_gpu(encoder: Path, folder: Path, kind: str, with_graphs: bool, **fields: Any) -> Job:
    fields = {"dropout": 0.1, "epochs": 3, "learning_rate": 1e-3, **fields}
    return dataclasses.replace(
        job_of(encoder, folder, kind, torch.device("cuda"), **fields), graphs="on" if with_graphs else "off"
    )


@NO_GPU
@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
@pytest.mark.parametrize("kind", ["pair", "value", "choice", "edge2"])
@pytest.mark.parametrize("family", CAPTURED)
def test_on_a_gpu_graphs_give_the_same_run_with_dropout_on(
    encoder: Encoders, family: str, kind: str, precision: Any, tmp_path: Path
) -> None:
    runs = [
        ended(on_gpu(encoder(family), tmp_path, kind, with_graphs, precision=precision))
        for with_graphs in (False, True)
    ]
    assert_same(runs[1], runs[0], {"fp32": 1e-4, "tf32": 1e-3, "bf16": 1e-2}[precision])


@NO_GPU
def test_on_a_gpu_deberta_is_trained_without_graphs(encoder: Encoders, tmp_path: Path) -> None:
    with pytest.warns(RuntimeWarning, match="waits for the GPU"):
        found = ended(on_gpu(encoder("deberta-v3"), tmp_path, "pair", True))
    assert_same(found, ended(on_gpu(encoder("deberta-v3"), tmp_path, "pair", False)), 1e-4)


@NO_GPU
def test_on_a_gpu_a_run_by_graphs_can_be_killed_and_goes_on(bert: Path, tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    def kill(told: dict[str, Any]) -> None:
        if told["step"] == 4:
            raise Killed

    job = on_gpu(bert, tmp_path, "pair", True, evaluate_every=1)
    expected = ended(on_gpu(bert, tmp_path, "pair", True, evaluate_every=1))
    resume = tmp_path / "resume"
    with pytest.raises(Killed):
        loop.fit(dataclasses.replace(job, resume=resume, checkpoint_seconds=0.0, report=kill))
    again = on_gpu(bert, tmp_path, "pair", True, evaluate_every=1)
    assert_same(ended(dataclasses.replace(again, resume=resume)), expected, 1e-4)
