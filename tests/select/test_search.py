"""The search through real studies: rungs in a store, planted truths, what it costs, and going on after a kill."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.kit import fake_work, own_table, study_words

from layover.budget import examples_trained
from layover.errors import StepError, StudyError
from layover.kinds import WORK
from layover.select.halving import Rung
from layover.select.observed import of_store
from layover.select.search import Rungs, few_shot, rung_study, search
from layover.session import Session
from layover.step import Train, key_of
from layover.store import Store
from layover.study import Study

SOURCES = [f"source{i}" for i in range(8)]
TRUTH = dict(zip(SOURCES, (-3.0, 1.0, 8.0, 0.0, 3.0, -6.0, 2.0, -1.0), strict=True))
VALIDATION = 200


class Work:
    """Trainings that are fakes: a target's score is what is planted for the source that its run started from."""

    def __init__(self, truth: dict[str, float], bad: str = "") -> None:
        self.truth, self.bad, self.runs = truth, bad, list[Train]()

    def __call__(self, step: Any, store: Store, places: Any, attempt: Path, keep: bool, _: Any) -> None:
        source = store.step(step.start).task.name if step.start else ""  # type: ignore[union-attr]
        if self.bad in (step.task.name, f"{source} first"):
            raise RuntimeError("it broke")
        self.runs.append(step)
        draw = np.random.default_rng([step.seed, len(source), *map(ord, source[-1:])])
        right = round(VALIDATION * (0.7 + (self.truth.get(source, 0.0) + 0.3 * draw.normal()) / 100))
        fake_work(store, attempt, keep, value=100 * right / VALIDATION)
        gold = np.arange(VALIDATION) % 2
        predicted = np.where(np.arange(VALIDATION) < right, gold, 1 - gold)
        table = pa.table(
            {"row": np.arange(VALIDATION), "gold": gold.astype(float), "predicted": predicted.astype(float)}
        )
        pq.write_table(table.replace_schema_metadata({"n_classes": "2"}), attempt / "predictions.parquet")


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Work]:
    def plant(truth: dict[str, float], bad: str = "") -> Work:
        work = Work(truth, bad)
        monkeypatch.setitem(WORK, Train, work)
        return work

    return plant


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What has an identity as encoders do, and is never loaded."""
    folder = tmp_path_factory.mktemp("encoders") / "fake"
    folder.mkdir()
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        (folder / name).write_text('{"num_hidden_layers": 2, "hidden_size": 32}')
    return folder


def study(encoder: Path, folder: Path, rows: int = 2_000, sources: list[str] = SOURCES, **words: Any) -> Study:
    source, target = own_table(folder / "source", n_train=rows), own_table(folder / "target", n_train=rows // 4)
    strategies = {"direct": {"kind": "direct"}, "stilts": {"kind": "stilts", "sources": [*sources]}}
    tasks = {"mine": target, **dict.fromkeys(sources, source)}
    usual = {"seeds": [1, 2, 3], "strategies": strategies, "task": tasks, **words}
    return Study(**study_words(encoder, folder, **usual))


def opener(folder: Path) -> Callable[[Study], Session]:
    return partial(Session.open, store=folder / "store")


def test_it_finds_the_best_source_at_a_quarter_of_the_cost(fake: Path, tmp_path: Path, planted: Any) -> None:
    work, asked = planted(TRUTH), study(fake, tmp_path)
    found = search(asked, "mine", opener(tmp_path))
    assert found.best == "source2"
    assert found.share <= 0.25
    whole = Session.open(asked, store=tmp_path / "other").plan
    assert len(whole.steps) == 3 * (8 + 9)
    count = partial(examples_trained, extents=Rungs.of(asked, "mine", "stilts", opener(tmp_path)).extents)
    assert found.full == pytest.approx(sum(map(count, whole.steps.values())))
    assert found.spent == pytest.approx(sum(map(count, work.runs)))  # each was run once, and nothing else was
    assert [len(rung.sources) for rung, _ in found.rungs] == [8, 4, 2]
    assert found.rungs[-1][0].share > found.rungs[0][0].share
    first = found.standings[0]
    assert first.effect is not None
    assert first.effect.low is not None
    assert first.effect.low < first.effect.delta < first.effect.high  # type: ignore[operator]


def test_a_search_again_runs_nothing_and_says_the_same(fake: Path, tmp_path: Path, planted: Any) -> None:
    planted(TRUTH)
    asked = study(fake, tmp_path)
    first = search(asked, "mine", opener(tmp_path))
    again = planted({})
    assert search(asked, "mine", opener(tmp_path)).to_json() == first.to_json()
    assert not again.runs
    rungs = Store.open(tmp_path / "store").studies()
    assert set(rungs) == {f"small-mine-rung-{n}" for n in (1, 2, 3)}


def test_rungs_with_all_rows_have_the_steps_of_the_full_matrix(fake: Path, tmp_path: Path, planted: Any) -> None:
    work, asked = planted(TRUTH), study(fake, tmp_path)
    found = search(asked, "mine", opener(tmp_path), budget=1.0)
    assert found.best == "source2"
    full = set(Session.open(asked, store=tmp_path / "other").plan.steps)
    last = found.rungs[-1][0]
    assert last.share == 1
    assert last.seeds == 3
    done = {key_of(step) for step in work.runs if step.task.limit_train is None}
    assert done <= full
    assert len(done) >= 3 + 2 * 3 * len(last.sources)
    assert len(work.runs) == len({key_of(step) for step in work.runs})


def test_where_all_hurt_it_says_to_train_directly(fake: Path, tmp_path: Path, planted: Any) -> None:
    planted({name: -5.0 - i for i, name in enumerate(SOURCES)})
    assert search(study(fake, tmp_path), "mine", opener(tmp_path)).best == ""


def test_a_source_that_breaks_is_dropped_and_says_so(fake: Path, tmp_path: Path, planted: Any) -> None:
    planted(TRUTH, bad="source2")
    found = search(study(fake, tmp_path), "mine", opener(tmp_path))
    assert found.best == "source4"
    assert {one.source: one.dropped for one in found.standings}["source2"] == "failed"


def test_where_training_directly_breaks_nothing_can_be_said(fake: Path, tmp_path: Path, planted: Any) -> None:
    planted(TRUTH, bad=" first")
    with pytest.raises(StepError, match="mine directly gave nothing"):
        search(study(fake, tmp_path, sources=SOURCES[:2]), "mine", opener(tmp_path))


def test_a_study_that_fits_no_search_is_told_all_that_is_wrong(fake: Path, tmp_path: Path) -> None:
    asked = study(fake, tmp_path, sources=SOURCES[:2], sizes={"target": [50, 0]})
    with pytest.raises(StudyError) as told:
        search(asked, "mina", opener(tmp_path), strategy="stilt")
    places = {problem.place: problem for problem in told.value.problems}
    assert set(places) == {"target", "strategy", "sizes"}
    assert "did you mean 'mine'" in places["target"].hint
    assert "did you mean 'stilts'" in places["strategy"].hint
    assert not (tmp_path / "store" / "steps").exists() or not list((tmp_path / "store" / "steps").iterdir())


def test_what_a_study_says_of_tasks_that_are_not_in_a_rung_goes_with_them(fake: Path, tmp_path: Path) -> None:
    words = study(fake, tmp_path, sources=SOURCES[:3]).words()
    words["recipe"] = {**words["recipe"], "task": {"source0": {"epochs": 2}, "source1": {"epochs": 3}}}
    words["limit"] = {"task": {"source0": {"train": 100}, "source1": {"validation": 8}}}
    words["contrast"] = [{"of": ["stilts"], "against": "direct"}]
    words["role_seeds"] = {"source": [7, 8, 9]}
    made = rung_study(Study(**words), "mine", "stilts", Rung(2, ("source1", "source2"), 0.5, 2), {"source1": 70})
    assert made.name == "small-mine-rung-2"
    assert made.seeds == [1, 2]
    assert made.role_seeds.source == [7, 8]
    assert list(made.recipe.task) == ["source1"]
    assert made.limit_for("source1", "source") == {"train": 70, "validation": 8}
    assert made.limit_for("source2", "source")["train"] is None
    assert set(made.task) == {"mine", "source1", "source2"}
    assert not made.contrast


def test_results_in_a_store_are_observed_once_whatever_study_asked(fake: Path, tmp_path: Path, planted: Any) -> None:
    planted(TRUTH)
    asked = study(fake, tmp_path, rows=80, sources=SOURCES[:3], seeds=[1, 2])
    for one in (asked, asked.changed(name="again"), asked.changed(name="part", seeds=[1])):
        opener(tmp_path)(one).run()
    seen = of_store(Store.open(tmp_path / "store"))
    matrix = opener(tmp_path)(asked).transfer().matrix()
    assert len(seen) == 3
    for one in seen:
        cell = matrix.cells[one.source, "mine"]
        assert cell.noise is not None
        assert (one.delta, one.error, one.strategy) == (cell.delta, cell.noise.error, "stilts")
        assert one.delta == pytest.approx(TRUTH[one.source], abs=1.5)
    named = asked.words() | {"name": "other", "seeds": [3]}
    named["strategies"] = {"plain": {"kind": "direct"}, "via": {"kind": "stilts", "sources": ["source0"]}}
    named["task"] = {name: named["task"][name] for name in ("mine", "source0")}
    opener(tmp_path)(Study(**named)).run()
    more = of_store(Store.open(tmp_path / "store"))
    assert len(more) == 4  # other runs of one stop, and a strategy by its kind, whatever it is called
    assert [one.strategy for one in more] == ["stilts"] * 4
    assert replace(more[-1], delta=0.0, error=0.0) == replace(
        next(one for one in seen if one.source == "source0"), delta=0.0, error=0.0, study="other"
    )


def test_few_rows_of_the_target_and_the_sources_that_the_study_trains(fake: Path, tmp_path: Path, planted: Any) -> None:
    work, asked = planted(TRUTH, bad="source7"), study(fake, tmp_path)
    found = few_shot(asked, "mine", opener(tmp_path), rows=40)
    assert found.rows == 40
    scores = found.scores()
    assert sorted(scores) == SOURCES
    assert found.effects["source7"] is None
    assert np.isnan(scores["source7"])
    ranked = sorted(SOURCES[:7], key=lambda name: -scores[name])
    assert ranked == sorted(SOURCES[:7], key=lambda name: -TRUTH[name])
    last = [step for step in work.runs if step.task.name == "mine"]
    assert {(step.seed, step.task.limit_train) for step in last} == {(1, 40)}
    whole = set(Session.open(asked, store=tmp_path / "other").plan.steps)
    assert {key_of(step) for step in work.runs if step.task.name != "mine"} < whole
    extents = Rungs.of(asked, "mine", "stilts", opener(tmp_path)).extents
    count = partial(examples_trained, extents=extents)
    one, before = count(last[0]), count(next(step for step in work.runs if step.task.name == "source1"))
    assert found.spent == pytest.approx(9 * one)  # asked for with the source that broke
    assert found.before == pytest.approx(8 * before)


def test_few_rows_again_run_nothing_and_more_than_there_are_are_all(fake: Path, tmp_path: Path, planted: Any) -> None:
    planted(TRUTH)
    asked = study(fake, tmp_path, rows=400, sources=SOURCES[:3])
    first = few_shot(asked, "mine", opener(tmp_path), rows=50)
    again = planted({})
    assert few_shot(asked, "mine", opener(tmp_path), rows=50) == first
    assert not again.runs
    work = planted(TRUTH)
    every = few_shot(asked, "mine", opener(tmp_path), rows=5_000)
    assert every.rows == 100
    assert {step.task.limit_train for step in work.runs} == {None}
    assert set(Store.open(tmp_path / "store").studies()) == {"small-mine-rows-50", "small-mine-rows-100"}


def test_few_rows_need_a_study_that_can_be_searched(fake: Path, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="'mina' is no target of this study"):
        few_shot(study(fake, tmp_path, sources=SOURCES[:2]), "mina", opener(tmp_path))


def test_real_trainings_of_a_tiny_encoder(bert: Path, tmp_path: Path) -> None:
    asked = study(bert, tmp_path, rows=96, sources=SOURCES[:2], seeds=[1, 2])
    found = search(asked, "mine", opener(tmp_path), budget=0.9)
    assert {one.source for one in found.standings} == set(SOURCES[:2])
    assert 0 < found.share <= 0.9
    best = found.standings[0].effect
    assert best is not None
    assert best.low is not None
    assert found.best == ("" if best.delta <= 0 else found.standings[0].source)  # type: ignore[operator]


def test_of_a_stop_that_was_tried_at_several_sizes_the_largest_counts(
    bert: Path, tmp_path: Path, planted: Callable[..., Work]
) -> None:
    planted(TRUTH)
    whole = study(bert, tmp_path, sources=SOURCES[:2], seeds=[1, 2])
    small = whole.changed(name="fewer-rows", limit={"train": 16})
    for one in (small, whole):
        opener(tmp_path)(one).run()
    seen = of_store(Store.open(tmp_path / "store"))
    assert [(one.study, one.source) for one in seen] == [(whole.name, name) for name in SOURCES[:2]]
