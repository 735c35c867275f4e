"""The training loop: schedule, epochs, selection, stopping, repeating and resuming."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.kit import own_table, task_of_kind, trained

from layover.encoders import find
from layover.errors import StepError
from layover.step import Places, Recipe, TaskRef, Train, key_of
from layover.store import Store
from layover.tasks.load import locate
from layover.tasks.own import declaration, own_files, own_task
from layover.train import loop, work
from layover.train.loop import learning_rate
from layover.train.update import Update

RECIPE = Recipe(
    epochs=2, batch_size=4, max_length=32, learning_rate=1e-3, evaluate_every=2, patience=4, dropout=0.1
)  # fmt: skip


def test_the_rate_warms_up_and_falls_to_zero_in_a_line() -> None:
    recipe = Recipe(learning_rate=1.0, warmup=0.2)
    rates = [learning_rate(step, 10, recipe) for step in range(10)]
    assert rates == pytest.approx([1 / 3, 2 / 3, 1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8])


def test_without_warm_up_the_first_rate_is_the_full_one() -> None:
    recipe = Recipe(learning_rate=0.5, warmup=0.0)
    assert [learning_rate(step, 4, recipe) for step in range(4)] == pytest.approx([0.5, 0.375, 0.25, 0.125])


def test_a_constant_schedule_stays_after_its_warm_up() -> None:
    recipe = Recipe(learning_rate=1.0, warmup=0.5, schedule="constant")
    assert [learning_rate(step, 4, recipe) for step in range(4)] == pytest.approx([1 / 3, 2 / 3, 1, 1])


@pytest.mark.parametrize("total", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("warmup", [0.0, 0.06, 0.1, 0.5, 0.99])
def test_no_rate_is_zero_or_above_the_recipes(total: int, warmup: float) -> None:
    recipe = Recipe(learning_rate=0.25, warmup=warmup)
    rates = [learning_rate(step, total, recipe) for step in range(total)]
    assert all(0 < rate <= 0.25 for rate in rates)
    assert np.diff(np.sign(np.diff(rates))).max(initial=0) <= 0  # it rises, then falls, once


def test_small_tasks_get_40_epochs_and_large_ones_10() -> None:
    assert [Recipe().n_epochs(n) for n in (1, 1500, 1501, 10**6)] == [40, 40, 10, 10]
    assert Recipe(epochs=3).n_epochs(10) == 3


# real runs


@pytest.fixture
def run(bert: Path, tmp_path: Path) -> Callable[..., Any]:
    """`run(recipe, kind="single", ...)`: one training run in a folder of its own."""
    count = 0

    def once(recipe: Recipe, kind: str = "single", n_train: int = 16, load: Any = None, **options: Any) -> Any:
        nonlocal count
        count += 1
        folder = tmp_path / f"run{count}"
        _, data = task_of_kind(folder, kind, n_train, **(load or {}))
        return trained(bert, data, folder, recipe, **options)

    return once


def same(one: Any, two: Any) -> None:
    """Two results are bit for bit the same."""
    left, right = ({**dataclasses.asdict(r.state), "epoch": 0, "batch": 0} for r in (one, two))
    assert left == right  # but for the position in an epoch that is over
    for name in ("rows", "gold", "predicted"):
        found, expected = (getattr(result.decoded.predictions, name) for result in (one, two))
        assert found.tolist() == expected.tolist(), name
    assert scores(one).tobytes() == scores(two).tobytes()
    weights, others = one.network.state_dict(), two.network.state_dict()
    assert weights.keys() == others.keys()
    for name, tensor in weights.items():
        assert torch.equal(tensor, others[name]), name


def scores(result: Any) -> np.ndarray:
    """The scores of all predictions, end to end."""
    return np.concatenate(result.decoded.scores)


def test_the_same_step_twice_is_the_same_bit_for_bit(run: Callable[..., Any]) -> None:
    torch.manual_seed(1)
    one = run(RECIPE)
    torch.manual_seed(2)
    torch.rand(100)  # what happened before in the process does not matter
    same(one, run(RECIPE))


def test_another_seed_is_another_run(run: Callable[..., Any]) -> None:
    assert scores(run(RECIPE)).tobytes() != scores(run(RECIPE, seed=2)).tobytes()


class Killed(Exception):
    pass


@pytest.mark.parametrize("checkpoint", ["best", "last"])
@pytest.mark.parametrize("kind", ["single", "choice", "edge2", "span"])
def test_a_run_resumed_from_any_checkpoint_is_the_same_bit_for_bit(
    run: Callable[..., Any], tmp_path: Path, kind: str, checkpoint: Any
) -> None:
    recipe = dataclasses.replace(RECIPE, checkpoint=checkpoint)
    whole = run(recipe, kind)
    assert whole.state.step == 6
    for at in range(2, 7):
        resume = tmp_path / f"resume{at}"

        def die(progress: dict[str, Any], at: int = at) -> None:
            if progress["step"] == at:
                raise Killed

        with pytest.raises(Killed):
            run(recipe, kind, checkpoint_seconds=0.0, resume=resume, report=die)
        assert (resume / "checkpoint.safetensors").is_file()
        steps: list[int] = []
        again = run(recipe, kind, resume=resume, report=lambda progress, steps=steps: steps.append(progress["step"]))
        assert steps == list(range(at, 7))  # the step that was not saved is done again, none before it
        same(whole, again)


def test_a_run_resumed_after_its_last_step_only_predicts(run: Callable[..., Any], tmp_path: Path) -> None:
    whole = run(RECIPE, checkpoint_seconds=0.0, resume=tmp_path / "resume")
    steps: list[int] = []
    again = run(RECIPE, resume=tmp_path / "resume", report=lambda progress: steps.append(progress["step"]))
    assert steps == []
    same(whole, again)


def test_a_run_tells_of_its_curve_while_it_grows(run: Callable[..., Any]) -> None:
    seen: list[tuple[int, int, float | None]] = []
    result = run(
        dataclasses.replace(RECIPE, evaluate_every=2),
        report=lambda at: seen.append((at["step"], len(at["curve"]), at["loss"])),
    )
    assert [(step, points) for step, points, _ in seen] == [(step, step // 2) for step in range(1, 7)]
    assert [loss is None for _, _, loss in seen] == [step % 2 == 0 for step in range(1, 7)]  # in the curve by then
    assert len(result.state.curve) == 3


@pytest.mark.parametrize("damage", [b"", b"\xff" * 64, None])
def test_a_damaged_checkpoint_costs_its_work_and_nothing_else(
    run: Callable[..., Any], tmp_path: Path, damage: bytes | None
) -> None:
    whole = run(RECIPE, checkpoint_seconds=0.0, resume=tmp_path / "resume")
    path = tmp_path / "resume" / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:-5] if damage is None else damage)
    same(whole, run(RECIPE, resume=tmp_path / "resume"))


def scores_of(monkeypatch: pytest.MonkeyPatch, scores: list[float]) -> None:
    """Let the selection scores be these, one per evaluation."""
    waiting = iter(scores)

    class Fixed:
        @staticmethod
        def score(*_: Any) -> float:
            return next(waiting)

    monkeypatch.setattr(work, "get_metric", lambda _: Fixed)


EACH_STEP = Recipe(epochs=4, batch_size=4, max_length=32, learning_rate=1e-3, evaluate_every=1, dropout=0.0)


def test_training_stops_when_patience_runs_out(run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    scores_of(monkeypatch, [10, 50, 40, 50, 30, 99, 99])
    state = run(dataclasses.replace(EACH_STEP, patience=3)).state
    assert (state.stopped, state.step, state.best_step, state.best_score) == ("patience", 5, 2, 50)
    assert [point["selection"] for point in state.curve] == [10, 50, 40, 50, 30]
    assert [point["epoch"] for point in state.curve] == pytest.approx([1 / 3, 2 / 3, 1, 4 / 3, 5 / 3], abs=1e-4)


def test_an_improvement_resets_patience(run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    scores_of(monkeypatch, [10, 5, 20, 5, 30, 5, 5])
    state = run(dataclasses.replace(EACH_STEP, patience=2)).state
    assert (state.stopped, state.step, state.best_step) == ("patience", 7, 5)


def test_the_best_weights_or_the_last_ones_are_kept(run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept after 12 steps is what a run holds that ends at the best step."""
    kept = {}
    for checkpoint in ("best", "last"):
        scores_of(monkeypatch, [10, 20, 90, *[30] * 9])
        result = run(dataclasses.replace(EACH_STEP, checkpoint=checkpoint, patience=20))  # type: ignore[arg-type]
        assert (result.state.step, result.state.best_step) == (12, 3)
        kept[checkpoint] = result.network.state_dict()
    weights: dict[int, Any] = {}

    def watched(job: Any, state: Any, *_: Any) -> None:
        weights[state.step] = {n: t.clone() for n, t in job.network.state_dict().items()}

    monkeypatch.setattr(loop, "_report", watched)
    scores_of(monkeypatch, [10, 20, 90, *[30] * 9])
    run(dataclasses.replace(EACH_STEP, patience=20))
    for checkpoint, step in (("best", 3), ("last", 12)):
        assert all(torch.equal(kept[checkpoint][name], tensor) for name, tensor in weights[step].items())


def test_holdout_selects_on_a_part_of_train_and_validation_on_validation(run: Callable[..., Any]) -> None:
    recipe = dataclasses.replace(EACH_STEP, patience=100)
    held = run(recipe, load={"selection": "holdout", "holdout": 0.25})
    assert held.truncated.keys() == {"train", "selection", "validation"}
    assert held.state.step == 4 * 3  # 12 of 16 examples are trained on
    seen = run(recipe, load={"selection": "validation"})
    assert seen.state.step == 4 * 4
    best = max(point["selection"] for point in seen.state.curve)
    accuracy = 100 * float(right(seen).mean())
    assert seen.state.best_score == best == pytest.approx(accuracy)  # the same examples, the best weights


def right(result: Any) -> np.ndarray:
    """Which predictions are right."""
    return result.decoded.predictions.predicted == result.decoded.predictions.gold


def test_a_recipe_that_never_selects_looks_at_no_selection_set(run: Callable[..., Any]) -> None:
    result = run(dataclasses.replace(EACH_STEP, checkpoint="last", patience=0))
    assert result.state.best_score is None
    assert "selection" not in result.truncated
    assert all("selection" not in point for point in result.state.curve)


@pytest.mark.parametrize("field", ["learning_rate", "warmup", "weight_decay", "max_grad_norm", "dropout", "schedule",
                                   "adam_epsilon", "pooling", "batch_size"])  # fmt: skip
def test_every_setting_changes_what_is_learnt(run: Callable[..., Any], field: str) -> None:
    other = {"learning_rate": 2e-3, "warmup": 0.5, "weight_decay": 0.9, "max_grad_norm": 1e-4, "dropout": 0.5,
             "schedule": "constant", "adam_epsilon": 1e-2, "pooling": "mean", "batch_size": 5}  # fmt: skip
    recipe = dataclasses.replace(EACH_STEP, epochs=2, checkpoint="last", patience=0)
    changed = run(dataclasses.replace(recipe, **{field: other[field]}))
    assert not np.array_equal(scores(run(recipe)), scores(changed))


def test_how_a_batch_is_split_to_fit_changes_nothing(run: Callable[..., Any]) -> None:
    """Clipping and Adam forget a gradient's scale; here nothing is clipped, and a large epsilon shows the scale."""
    kept = {"checkpoint": "last", "patience": 0, "batch_size": 8}
    recipe = dataclasses.replace(EACH_STEP, max_grad_norm=1e9, adam_epsilon=1.0, learning_rate=0.1, **kept)
    whole, split = run(recipe, micro_tokens=10**6), run(recipe, micro_tokens=16)
    assert whole.state.tokens == split.state.tokens
    assert [p["loss"] for p in split.state.curve] == pytest.approx([p["loss"] for p in whole.state.curve], rel=1e-4)
    np.testing.assert_allclose(scores(split), scores(whole), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", ["single", "pair"])
def test_where_memory_runs_out_passes_are_halved_and_the_batch_stays(
    run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """It runs out in the middle of the third batch, some of whose gradients are there already."""
    recipe = dataclasses.replace(EACH_STEP, checkpoint="last", patience=0, batch_size=8, dropout=0.1)
    calm = run(recipe, kind, micro_tokens=32)
    real, seen = loop.passes, []

    def short(job: loop.Job, part: Any, examples: Any, step: int, *rest: Any) -> torch.Tensor:
        if step == 2 and job.room.tokens == 64:
            job.network.head.loss = running_out(job.network.head.loss, job.room)
        return real(job, part, examples, step, *rest)

    def running_out(loss: Any, room: Any) -> Any:
        def compute(*arguments: Any) -> torch.Tensor:
            seen.append(room.tokens)
            if room.tokens > 32 and len(seen) > 1:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nof which ...")
            return loss(*arguments)

        return compute

    monkeypatch.setattr(loop, "passes", short)
    found = run(recipe, kind, micro_tokens=64)
    assert seen[:3] == [64, 64, 32]
    assert found.micro_tokens == 32
    assert found.state.step == calm.state.step
    np.testing.assert_allclose(scores(found), scores(calm), rtol=1e-3, atol=1e-4)
    assert [p["loss"] for p in found.state.curve] == pytest.approx([p["loss"] for p in calm.state.curve], rel=1e-4)


def test_prediction_fits_too(run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = dataclasses.replace(EACH_STEP, checkpoint="last", patience=0)
    calm, real = run(recipe, micro_tokens=200), loop._predicted

    def short(job: loop.Job, *rest: Any) -> Any:
        if job.room.tokens > 60:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return real(job, *rest)

    monkeypatch.setattr(loop, "_predicted", short)
    found = run(recipe, micro_tokens=200)
    assert found.micro_tokens == 50
    np.testing.assert_allclose(scores(found), scores(calm), rtol=1e-3, atol=1e-4)


def test_an_example_that_does_not_fit_fails_its_step_with_what_to_do(
    run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(loop, "passes", never)
    with pytest.raises(StepError, match=r"one example of \d+ tokens does not fit .* lower max_length, .*2\.00 GiB"):
        run(EACH_STEP)


def test_another_error_is_not_taken_for_a_lack_of_memory(
    run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def broken(*_: Any) -> Any:
        calls.append(1)
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(loop, "passes", broken)
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        run(EACH_STEP)
    assert len(calls) == 1


def test_decay_spares_biases_and_normalisation(bert: Path, tmp_path: Path) -> None:
    task, _ = task_of_kind(tmp_path, "single")
    from layover.train.model import load

    network = load(str(bert), None, task, RECIPE, 1).network
    optimizer = Update(network, dataclasses.replace(RECIPE, weight_decay=0.3), torch.device("cpu")).optimizer
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    names = dict(network.named_parameters())
    assert len(decay) == len(names)
    for name, parameter in names.items():
        spared = name.endswith("bias") or "LayerNorm" in name
        assert decay[id(parameter)] == (0.0 if spared else 0.3), name


def test_a_loop_learns_what_can_be_learnt(run: Callable[..., Any]) -> None:
    recipe = Recipe(epochs=12, batch_size=16, max_length=32, learning_rate=3e-3, dropout=0.0, pooling="mean")
    result = run(recipe, n_train=160)
    assert result.collapsed == ""
    assert right(result).mean() >= 0.9


# collapse


@pytest.mark.parametrize("kind", ["single", "pair", "value", "choice"])
def test_a_run_that_becomes_nan_is_finished_and_marked(bert: Path, tmp_path: Path, kind: str) -> None:
    from layover.run import run_step

    table = own_table(tmp_path, kind)
    declared = {name: value for name, value in declaration(table).items() if name != "metrics"}
    task = own_task(kind, table)
    files = own_files(table)
    ref = TaskRef(kind, 1, locate(task, [], files).digest, task.primary, declaration=declared)
    encoder = find(str(bert))
    places = Places(files={kind: files}, encoders={encoder.identity: str(bert)}, device="cpu", threads=1)
    store = Store.open(tmp_path / "store")
    for evaluate_every in (1, None):
        recipe = Recipe(epochs=2, batch_size=8, max_length=32, learning_rate=1e30, evaluate_every=evaluate_every)
        step = Train(encoder.identity, ref, recipe, 1)
        outcome = run_step(step, store, places, keep_weights=True)
        assert (outcome.status, outcome.error) == ("finished", "")
        rows = store.read(key_of(step), "observations.jsonl")
        assert rows
        assert all(row["status"] == "degenerate: loss became NaN" for row in rows)
        assert all(np.isfinite(row["value"]) for row in rows)
        found = store.predictions(key_of(step))
        assert found is not None
        assert np.isfinite(found.predicted).all()


LENGTHS = {"span": 10, "words": 10}  # a pair needs more tokens before anything of its first text is left


@pytest.mark.parametrize("kind", ["edge2", "tagging", "span", "words", "coreference"])
def test_a_batch_whose_targets_were_all_cut_off_teaches_nothing_and_breaks_nothing(
    run: Callable[..., Any], kind: str
) -> None:
    result = run(dataclasses.replace(RECIPE, max_length=LENGTHS.get(kind, 6), batch_size=1, epochs=1), kind, n_train=40)
    assert 0 < result.lost["train"] < 1
    assert 0 < result.lost["validation"] < 1
    assert result.state.stopped in ("", "patience")
    assert np.isfinite([point["loss"] for point in result.state.curve]).all()
    assert all(torch.isfinite(tensor).all() for tensor in result.network.state_dict().values())
    found = result.decoded.predictions
    wrong = {"text": "", "classes": -1}
    if found.kind in wrong:
        nothing = [not len(scores) for scores in result.decoded.scores]
        assert 0 < sum(nothing) < len(nothing)
        assert all((found.predicted[i] == wrong[found.kind]) for i, lost in enumerate(nothing) if lost)
