"""A cohort's runs end as they end by themselves, whatever happens to the others, and are published one by one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.kit import FAST, HERE, Command, a_train, study_words, task_of_kind, write_study

from layover.execute import execute
from layover.plan import compile_plan
from layover.run import run_steps
from layover.step import Choose, Recipe, TaskRef, Train, key_of
from layover.store import Store
from layover.study import Study
from layover.train import loop, model
from layover.train.cohort import Run, fit_together
from layover.train.encode import encode

Encoders = Callable[[str], Path]
# an epsilon that shows the scale of gradients: that of a key's bias is nothing but rounding, which Adam would enlarge
RECIPE = Recipe(
    epochs=3, batch_size=7, max_length=32, learning_rate=1e-3, adam_epsilon=1e-3, evaluate_every=2, patience=0
)
VARIANTS: list[dict[str, Any]] = [
    {},
    {"dropout": 0.3, "learning_rate": 4e-3, "schedule": "constant"},
    {"dropout": 0.0, "max_grad_norm": 0.05, "weight_decay": 0.2, "checkpoint": "last"},
    {"epochs": 2, "warmup": 0.5, "dropout": 0.2, "dropout_at": "output", "pooling": "mean"},
]


class Workshop:
    """Makes jobs of one task on one encoder."""

    def __init__(self, encoder: Path, folder: Path, kind: str = "pair") -> None:
        self.encoder, self.folder = encoder, folder
        self.task, self.data = task_of_kind(folder, kind)

    def job(self, recipe: Recipe, seed: int, **fields: Any) -> loop.Job:
        found = model.load(str(self.encoder), None, self.task, recipe, seed)
        parts = [
            encode(part, self.task, found.tokenizer, found.max_length)
            for part in (self.data.train, self.data.selection)
        ]

        def score(raw: Any) -> float:
            """How near the scores are to something: it changes with every step, unlike an accuracy of six examples."""
            return float(np.abs(np.where(np.isfinite(raw.scores), raw.scores, 0.0)).sum())

        given: dict[str, Any] = {
            "network": found.network, "padding": found.tokenizer.pad_token_id, "train": parts[0], "selection": parts[1],
            "recipe": recipe, "seed": seed, "score": score, "micro_tokens": 150, "checkpoint_seconds": 1e9,
            "device": torch.device("cpu"), "resume": self.folder / f"resume{seed}", "report": lambda _: None,
        }  # fmt: skip
        return loop.Job(**{**given, **fields})

    def jobs(self, variants: Sequence[dict[str, Any]] = VARIANTS, **fields: Any) -> list[loop.Job]:
        return [self.job(dataclasses.replace(RECIPE, **v), seed, **fields) for seed, v in enumerate(variants, 1)]


@pytest.fixture
def workshop(bert: Path, tmp_path: Path) -> Workshop:
    return Workshop(bert, tmp_path)


def together(jobs: Sequence[loop.Job]) -> list[Run]:
    """The runs in the order of their jobs."""
    ended = {id(run.job): run for run in fit_together(jobs)}
    return [ended[id(job)] for job in jobs]


def same(run: Run, job: loop.Job, state: Any, exactly: bool = False) -> None:
    """A run of a cohort ended as the same job by itself."""
    near: dict[str, Any] = {"rel": 0, "abs": 0} if exactly else {"rel": 1e-4, "abs": 1e-5}
    found = run.ended()
    assert (found.step, found.best_step, found.stopped, found.tokens) == (
        state.step, state.best_step, state.stopped, state.tokens,
    )  # fmt: skip
    assert len(found.curve) == len(state.curve)
    for one, two in zip(found.curve, state.curve, strict=True):
        assert one == pytest.approx(two, **near)
    for (name, one), two in zip(run.job.network.named_parameters(), job.network.parameters(), strict=True):
        assert float((one - two).detach().abs().max()) <= (0 if exactly else 2e-5), name


@pytest.mark.parametrize(
    ("family", "kind"),
    [("bert", "choice"), ("roberta", "span"), ("electra", "edge2"), ("modernbert", "pair"), ("distilroberta", "value")],
)
def test_every_run_ends_as_by_itself(encoder: Encoders, family: str, kind: str, tmp_path: Path) -> None:
    """Rates, schedules, clipping, decay, dropout, lengths of training and kept weights of their own."""
    workshop = Workshop(encoder(family), tmp_path, kind)
    alone = workshop.jobs()
    states = [loop.fit(job) for job in alone]
    runs = together(workshop.jobs())
    for run, job, state in zip(runs, alone, states, strict=True):
        same(run, job, state)
        assert (run.together, run.apart) == (state.step, "")
    weights = [next(run.job.network.parameters()).detach() for run in runs]
    assert all(not torch.equal(weights[0], other) for other in weights[1:])


def test_what_cannot_be_stacked_is_trained_apart_and_says_so(encoder: Encoders, tmp_path: Path) -> None:
    workshop = Workshop(encoder("deberta-v3"), tmp_path)
    alone = workshop.jobs(VARIANTS[:2])
    states = [loop.fit(job) for job in alone]
    for run, job, state in zip(together(workshop.jobs(VARIANTS[:2])), alone, states, strict=True):
        same(run, job, state, exactly=True)
        assert run.together == 0
        assert run.apart == "DebertaV2Model cannot be stacked: it reads a layer's weights itself"


def test_a_run_by_itself_is_the_same_bit_for_bit(workshop: Workshop) -> None:
    (alone,) = workshop.jobs(VARIANTS[:1])
    state = loop.fit(alone)
    (run,) = together(workshop.jobs(VARIANTS[:1]))
    same(run, alone, state, exactly=True)
    assert (run.together, run.apart) == (0, "")


def test_runs_that_stop_early_are_given_out_at_once_and_the_others_go_on(workshop: Workshop) -> None:
    def jobs() -> list[loop.Job]:
        found = workshop.jobs([{"patience": 2}, {}, {"patience": 1}])
        scores = iter([9.0, 8.0, 7.0]), iter(range(9)), iter([5.0, 4.0])
        return [dataclasses.replace(job, score=lambda _, own=own: float(next(own)))
                for job, own in zip(found, scores, strict=True)]  # fmt: skip

    alone = jobs()
    states = [loop.fit(job) for job in alone]
    assert [state.stopped for state in states] == ["patience", "", "patience"]
    assert [state.step for state in states] == [6, 9, 4]
    again = jobs()
    order = list(fit_together(again))
    assert [again.index(run.job) for run in order] == [2, 0, 1]
    assert [run.together for run in order] == [4, 6, 6]  # the last one went on by itself
    for run in order:
        weights = list(run.job.network.parameters())
        assert all(p.untyped_storage().nbytes() == p.nbytes for p in weights)  # nobody's memory but its own
        number = again.index(run.job)
        same(run, alone[number], states[number])


def test_runs_resumed_from_checkpoints_of_different_steps_end_as_those_never_killed(workshop: Workshop) -> None:
    whole = workshop.jobs()
    states = [loop.fit(job) for job in whole]

    class Killed(Exception):
        pass

    for number, job in enumerate(workshop.jobs(checkpoint_seconds=0.0)):

        def die(told: dict[str, Any], at: int = 2 + number) -> None:
            if told["step"] == at:
                raise Killed

        with pytest.raises(Killed):
            loop.fit(dataclasses.replace(job, report=die))
    runs = together(workshop.jobs())
    for run, job, state in zip(runs, whole, states, strict=True):
        same(run, job, state)
    assert [run.together for run in runs] == [7, 7, 6, 2]  # the first has 8 steps left, the last of them by itself


def test_a_cohort_that_is_killed_leaves_checkpoints_from_which_each_goes_on(workshop: Workshop) -> None:
    whole = workshop.jobs()
    states = [loop.fit(job) for job in whole]
    for run in fit_together(workshop.jobs(checkpoint_seconds=0.0)):
        assert run.ended().step > 0
        break  # nothing else is asked for: the others are left where they are
    for run, job, state in zip(together(workshop.jobs()), whole, states, strict=True):
        same(run, job, state)


# what goes wrong in one run


def test_a_run_that_becomes_nan_does_not_harm_the_others(workshop: Workshop) -> None:
    variants = [{}, {"learning_rate": 1e30}, {"dropout": 0.2}]
    alone = workshop.jobs(variants)
    states = [loop.fit(job) for job in alone]
    assert [state.stopped for state in states] == ["", "nan", ""]
    runs = together(workshop.jobs(variants))
    assert runs[1].ended().stopped == "nan"
    assert runs[1].ended().step == states[1].step
    for number in (0, 2):
        same(runs[number], alone[number], states[number])
        assert runs[number].together == states[number].step


@pytest.mark.parametrize("where", ["score", "report", "data", "start"])
def test_a_run_that_raises_fails_alone(workshop: Workshop, where: str) -> None:
    def broken(*_: Any) -> float:
        raise RuntimeError("it broke")

    alone = workshop.jobs(VARIANTS[:3])
    states = [loop.fit(job) for job in alone]
    jobs = workshop.jobs(VARIANTS[:3])
    if where == "data":
        bad = dataclasses.replace(jobs[1].train, labels=jobs[1].train.labels + 7)
        jobs[1] = dataclasses.replace(jobs[1], train=bad)
    elif where == "start":
        jobs[1] = dataclasses.replace(jobs[1], device=torch.device("meta"))
    else:
        jobs[1] = dataclasses.replace(jobs[1], **{where: broken})
    runs = together(jobs)
    with pytest.raises((RuntimeError, IndexError, NotImplementedError, KeyError)):
        runs[1].ended()
    for number in (0, 2):
        same(runs[number], alone[number], states[number])
        # no pass of all was possible, or the one on another device was set up for that
        apart = {"data": "IndexError", "start": "the encoders are not"}.get(where, "")
        assert runs[number].apart.startswith(apart)
        assert bool(runs[number].apart) == bool(apart)


# studies


def words(bert: Path, folder: Path, **fields: Any) -> dict[str, Any]:
    """Two swept cells and three seeds of two tasks, with dropout."""
    sweep = {"learning_rate": [1e-3, 3e-3]}
    return study_words(
        bert, folder, seeds=[1, 2, 3], sweep=sweep, recipe={**FAST, "adam_epsilon": 1e-3, "dropout": 0.1}, **fields
    )


def test_a_study_in_cohorts_publishes_the_steps_of_the_same_study_without(
    bert: Path, tmp_path: Path, command: Command
) -> None:
    ran = {}
    for cohort in (1, 3):
        file = write_study(
            tmp_path / f"{cohort}.toml", words(bert, tmp_path / "data", placement={**HERE, "cohort": cohort})
        )
        store = tmp_path / f"store{cohort}"
        done = command("run", file, "--store", store)
        assert done.code == 0, done
        assert "15 steps run, 0 reused" in done.out
        ran[cohort] = Store.open(store)
        assert list((store / "work").iterdir()) == list((store / "claims").iterdir()) == []
    assert sorted(ran[1].finished_keys()) == sorted(ran[3].finished_keys())
    sizes = []
    for key in ran[1].finished_keys():
        if ran[1].read(key, "step.json")["kind"] != "train":
            continue
        for row, other in zip(ran[1].read(key, "curve.jsonl"), ran[3].read(key, "curve.jsonl"), strict=True):
            assert row == pytest.approx(other, rel=1e-4)
        one, two = (store.predictions(key) for store in ran.values())
        assert one is not None
        assert two is not None
        assert one.gold.tolist() == two.gold.tolist()
        alone, facts = (store.read(key, "provenance.json") for store in ran.values())
        assert "cohort" not in alone
        sizes.append(facts["cohort"])
        assert (facts["together"], facts["apart"]) == (facts["steps"], "")
        assert f"cohort: {facts['cohort']}" in (ran[3].folder(key) / "log.txt").read_text()
    assert sorted(sizes) == [2] * 4 + [3] * 9


def plan_of(bert: Path, folder: Path, **fields: Any) -> Any:
    return compile_plan(Study(**words(bert, folder, **fields)))


def test_a_cohort_is_of_ready_trainings_of_one_task_and_no_larger_than_asked(
    bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from concurrent.futures import Future

    from tests.kit import fake_work

    from layover.run import WORK

    plan = plan_of(bert, tmp_path, placement={**HERE, "cohort": 2})
    store = Store.open(tmp_path / "store")
    submitted: list[list[Any]] = []

    class Watched:
        slots, sharing = 2, 1

        def submit(self, fn: Any, /, *args: Any, needs: Any = None) -> Future[Any]:
            steps, *rest = args
            submitted.append([step for step, _ in steps])
            assert all(store.finished(parent) for step, _ in steps for parent in step.parents)
            future: Future[Any] = Future()
            future.set_result(fn(steps, *rest))
            return future

        def stop(self) -> None: ...

        def close(self) -> None: ...

    monkeypatch.setitem(WORK, Train, lambda step, store, places, attempt, keep, report: fake_work(store, attempt, keep))
    assert execute(plan, store, Watched(), lambda *_: None).complete
    keys = [key_of(step) for steps in submitted for step in steps]
    assert sorted(keys) == sorted(plan.steps)
    sizes = [len(steps) for steps in submitted]
    assert set(sizes) == {1, 2}
    assert sizes.count(2) >= 5  # two cells or seeds; which meet depends on what is ready at a time
    for steps in submitted:
        assert len(steps) == 1 or steps[0].task == steps[1].task
        assert len(steps) == 1 or not any(isinstance(step, Choose) for step in steps)


def test_trainings_on_plain_text_are_no_cohort(tmp_path: Path) -> None:
    from layover.run import cohort

    task = TaskRef("wiki", 1, "sha256:" + "0" * 64, "masked_accuracy", declaration={"format": "text", "text": "text"})
    assert cohort(a_train(task=task), Store.open(tmp_path)) is None
    assert cohort(a_train(), Store.open(tmp_path)) is not None


@pytest.mark.parametrize("field", ["batch_size", "max_length", "precision"])
def test_trainings_with_batches_of_another_shape_are_no_cohort(bert: Path, tmp_path: Path, field: str) -> None:
    from layover.run import cohort

    plan, store = plan_of(bert, tmp_path), Store.open(tmp_path / "store")
    step = next(step for step in plan.steps.values() if isinstance(step, Train) and not step.recipe_from)
    other = {"batch_size": 3, "max_length": 20, "precision": "bf16"}[field]
    changed = dataclasses.replace(step, recipe=dataclasses.replace(step.recipe, **{field: other}))
    assert cohort(step, store) != cohort(changed, store)
    free = dataclasses.replace(step.recipe, learning_rate=0.1, dropout=0.7, patience=1, epochs=9, pooling="mean")
    assert cohort(step, store) == cohort(dataclasses.replace(step, recipe=free, seed=9, start="key"), store)
    task = dataclasses.replace(step.task, limit_train=5)
    assert cohort(step, store) != cohort(dataclasses.replace(step, task=task), store)


def steps_of(plan: Any) -> list[Train]:
    """The cells of one task's sweep, with seeds of their own."""
    first = next(step for step in plan.steps.values() if isinstance(step, Train) and not step.parents)
    return [dataclasses.replace(first, seed=seed) for seed in range(3)]


def test_a_step_that_is_done_claimed_or_broken_leaves_the_others(bert: Path, tmp_path: Path) -> None:
    from layover.claims import Claim

    plan, store = plan_of(bert, tmp_path), Store.open(tmp_path / "store")
    done, claimed, fine = steps_of(plan)
    broken = dataclasses.replace(fine, start="0123456789abcdef")
    nan = dataclasses.replace(fine, recipe=dataclasses.replace(fine.recipe, learning_rate=1e30))
    (first,) = run_steps([(done, False)], store, plan.places)
    assert first.status == "finished"
    claim = Claim(store.claim(key_of(claimed)), dict)
    assert claim.take()
    with claim:
        steps = [(done, False), (claimed, False), (broken, False), (fine, True), (nan, False)]
        outcomes = run_steps(steps, store, plan.places)
    assert [outcome.key for outcome in outcomes] == [key_of(step) for step, _ in steps]
    assert [outcome.status for outcome in outcomes] == ["finished", "claimed", "failed", "finished", "finished"]
    assert "the weights of step 0123456789abcdef" in outcomes[2].error
    assert store.weights(key_of(fine)) is not None
    assert store.weights(key_of(nan)) is None
    assert {row["status"] for row in store.read(key_of(nan), "observations.jsonl")} == {"degenerate: loss became NaN"}
    assert {row["status"] for row in store.read(key_of(fine), "observations.jsonl")} != {"degenerate: loss became NaN"}
    assert store.read(key_of(fine), "provenance.json")["cohort"] == 2
    assert list((store.root / "claims").iterdir()) == []


def test_a_full_disk_stops_a_cohort_and_lets_go_of_every_claim(
    bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno

    from layover.errors import StoreError

    plan, store = plan_of(bert, tmp_path), Store.open(tmp_path / "store")

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(Store, "publish", full)
    with pytest.raises(StoreError, match="the disk is full"):
        run_steps([(step, False) for step in steps_of(plan)], store, plan.places)
    assert list((store.root / "claims").iterdir()) == []
    assert store.finished_keys() == []
