"""The papers' studies: their counts and hyperparameters, their switches, and that they run."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tests.kit import Command, pair_rows, single_rows, write_rows

from layover.errors import HubError, Problem
from layover.plan import Plan, compile_plan
from layover.recipe import Recipe
from layover.step import Joint, Member, Train
from layover.study import load_study

PAPERS = ("pruksachatkun2020", "chang2021", "weller2022", "tamkin2020")
SETS = [
    (rate, dropout) for rate in (2e-5, 1e-5, 5e-6, 3e-6) for dropout in (0.2, 0.1)
]  # as the paper's code numbers them


@pytest.fixture(autouse=True)
def nothing_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without network, data and weights but those of minilm."""

    def hub(name: str) -> Any:
        raise HubError(Problem(name, "no network"))

    monkeypatch.setattr("layover.encoders._from_hub", hub)
    monkeypatch.delenv("LAYOVER_DATA", raising=False)


def planned(name: str, *switches: str) -> Plan:
    return compile_plan(load_study(name, switches)[0], stand_in=True)


def trains(plan: Plan) -> list[Train]:
    return [step for step in plan.steps.values() if isinstance(step, Train)]


def recipes(name: str, *switches: str) -> Any:
    return load_study(name, switches)[0].recipe_for


# Pruksachatkun et al. 2020


def test_pruksachatkun_has_the_papers_observations() -> None:
    plan = planned("pruksachatkun2020")
    roles = Counter(score.role for score in plan.scores)
    assert roles == {"target": 10 * 12 * 3, "probing": 25 * 12 * 3, "source": 11 * 3}
    assert roles["target"] + roles["probing"] == 1260
    assert len(plan.steps) == 1260 + 33  # each intermediate training once for each restart
    assert plan.requested == 35 * 3 + 2 * 35 * 11 * 3
    assert plan.lacking.encoders.keys() == {"roberta-large"}


def test_pruksachatkuns_restarts_have_a_seed_for_each_stage() -> None:
    seeds: dict[str, set[int]] = {"source": set(), "target": set(), "probing": set()}
    plan = planned("pruksachatkun2020")
    for score in plan.scores:
        step = plan.steps[score.key]
        assert isinstance(step, Train)
        seeds[score.role].add(step.seed)
        if step.start:  # a restart's second stage begins with its own first
            first = plan.steps[step.start]
            assert isinstance(first, Train)
            assert step.seed - first.seed == {"target": 1, "probing": 2}[score.role]
    assert seeds == {
        "source": {1111001, 523821, 921}, "target": {1111002, 523822, 922}, "probing": {1111003, 523823, 923},
    }  # fmt: skip


@pytest.mark.parametrize(("task", "role", "number", "batch", "every"), [
    ("sst2", "source", 7, 64, 5000), ("socialiqa", "source", 0, 4, 5000), ("qqp", "source", 5, 8, 5000),
    ("qamr", "source", 3, 4, 5000), ("ccg", "source", 5, 4, 5000), ("cosmosqa", "source", 6, 4, 5000),
    ("cosmosqa", "target", 7, 4, 5000), ("commonsenseqa", "target", 6, 4, 2500), ("copa", "target", 5, 32, 100),
    ("rte", "target", 4, 4, 625), ("cb", "target", 2, 4, 60), ("wsc", "target", 5, 32, 130),
    ("wic", "target", 3, 32, 1000), ("record", "target", 2, 4, 5000), ("boolq", "target", 7, 4, 2400),
    ("edge_ner", "probing", 0, 8, 1000), ("edge_spr1", "probing", 1, 32, 100), ("edge_dep_ewt", "probing", 0, 4, 1000),
    ("se_odd_man_out", "probing", 3, 64, 5000), ("se_obj_number", "probing", 4, 64, 5000),
    ("aj_wh", "probing", 3, 4, 416), ("cola", "probing", 5, 4, 5000),
])  # fmt: skip
def test_pruksachatkuns_hyperparameters(task: str, role: str, number: int, batch: int, every: int) -> None:
    recipe: Recipe = recipes("pruksachatkun2020")(task, role, "stilts")
    found = (recipe.learning_rate, recipe.dropout), recipe.batch_size, recipe.evaluate_every, recipe.patience
    assert found == (SETS[number], batch, every, 20)
    assert (recipe.dropout_at, recipe.max_length, recipe.max_grad_norm) == ("output", 256, 5.0)
    edge = task.startswith("edge_")
    assert (recipe.optimizer, recipe.schedule) == (("amsgrad", "constant") if edge else ("bertadam", "linear"))
    assert recipe.max_steps == (every * (100 if every == 100 else 250) if edge else 0)


def test_pruksachatkuns_epochs() -> None:
    found = recipes("pruksachatkun2020")
    epochs = {
        task: found(task, role).n_epochs(n)
        for task, role, n in (("copa", "target", 400), ("rte", "target", 2490), ("aj_eos", "probing", 382))
    }
    assert epochs == {"copa": 40, "rte": 10, "aj_eos": 10}
    assert recipes("pruksachatkun2020", "as-written")("aj_eos", "probing").n_epochs(382) == 40


def test_pruksachatkuns_switches() -> None:
    written: Recipe = recipes("pruksachatkun2020", "as-written")("edge_srl", "probing")
    assert (written.optimizer, written.schedule, written.max_steps, written.warmup) == ("adamw", "linear", 0, 0.06)
    assert (written.dropout_at, written.learning_rate) == ("encoder", 2e-5)
    mended: Recipe = recipes("pruksachatkun2020", "mended")("edge_srl", "probing")
    assert (mended.optimizer, mended.schedule, mended.warmup) == ("bertadam", "linear", 0.1)
    assert recipes("pruksachatkun2020", "mended")("socialiqa", "source").learning_rate == 5e-6
    swept = planned("pruksachatkun2020", "sweep")
    # eight cells and a choice for each task: those in two roles differ in nothing but what is swept
    assert len(swept.steps) == 1293 + 44 * (8 + 1)
    sizes = planned("pruksachatkun2020", "sizes")
    columns = {(score.source, score.condition) for score in sizes.scores if score.role == "target"} - {("", "")}
    assert Counter(source for source, _ in columns) == {
        "commonsenseqa": 4, "ccg": 6, "hellaswag": 6, "qqp": 10, "mnli": 10
    }  # fmt: skip
    opened = load_study("pruksachatkun2020", ["open"])[0]
    assert "edge_srl_ewt" in opened.tasks.probing
    assert "se_tree_depth" not in opened.tasks.probing
    both = load_study("pruksachatkun2020", ["open", "mended"])[0]
    assert both.name == "pruksachatkun2020-mended-open"


# Chang and Lu 2021


def test_chang_scores_every_trial() -> None:
    plan = planned("chang2021")
    trials = Counter((score.source, score.target) for score in plan.scores if score.role == "target")
    assert set(trials.values()) == {36}
    assert len(trials) == 4 * 7
    sources = [step for step in trains(plan) if step.start is None and step.task.name in ("hellaswag", "syn_gpt2")]
    assert [step.seed for step in sources] == [42, 42]
    assert len(plan.steps) == 36 * 28 + 3
    assert {step.seed for step in trains(plan) if step.start} == {12, 42}


def test_changs_recipes() -> None:
    found = recipes("chang2021")
    shown = {
        task: (recipe.epochs, recipe.max_length)
        for task in load_study("chang2021")[0].tasks.target
        for recipe in [found(task, "target")]
    }
    assert shown == {
        "rte_glue": (5, 100), "mednli": (5, 80), "wic": (5, 70), "cola": (5, 50), "socialiqa_clip60": (3, 70),
        "winogrande_xs": (10, 50), "winogrande_m": (5, 50),
    }  # fmt: skip
    first: Recipe = found("hellaswag", "source")
    assert (first.learning_rate, first.batch_size, first.warmup, first.max_length) == (1e-5, 8, 0.1, 120)
    assert (first.checkpoint, first.patience, first.weight_decay) == ("last", 0, 0.0)
    heads = {step.head for step in trains(planned("chang2021")) if step.start}
    assert heads == {"matched"}


# Weller et al. 2022


def test_weller_trains_every_pair_both_ways() -> None:
    plan = planned("weller2022")
    joint = [step for step in plan.steps.values() if isinstance(step, Joint)]
    sequential = [step for step in trains(plan) if step.start]
    assert Counter(len(step.tasks) for step in joint) == {2: 36 * 5, 9: 5}
    assert len(sequential) == 72 * 5
    assert len(trains(plan)) == 72 * 5 + 9 * 5
    assert sum(isinstance(step, Member) for step in plan.steps.values()) == (72 + 9) * 5
    pairs = Counter(score.strategy for score in plan.scores if score.role == "target")
    assert pairs == {"direct": 45, "stilts": 360, "multitask": 360, "multitask_all": 45}
    assert {(step.mixture.sampler, step.mixture.epoch) for step in joint if len(step.tasks) == 2} == {
        ("uniform", "shortest")
    }
    recipe = joint[0].recipe
    assert (recipe.epochs, recipe.evaluations_per_epoch, recipe.batch_size, recipe.max_length) == (10, 2, 128, 128)


def test_wellers_switches() -> None:
    full = planned("weller2022", "full-pass")
    assert {step.mixture.epoch for step in full.steps.values() if isinstance(step, Joint)} == {"full"}
    sizes = planned("weller2022", "qnli-half-mnli-triple")
    assert sizes.study.name == "weller2022-sizes-qnli-half-mnli-triple"
    limits = {ref.name: ref.limit_train for step in trains(sizes) for ref in step.tasks}
    assert limits == {"qnli": 52371, "mnli": 3 * 52371}
    assert len([switch for switch in load_study("weller2022")[0].switch if switch.startswith("qnli-")]) == 15


# Tamkin et al. 2020


def test_tamkins_figures() -> None:
    plan = planned("tamkin2020")
    cells = Counter((score.strategy, score.rows) for score in plan.scores if score.target == "cola")
    assert cells == {
        **{("direct", n): 10 for n in (500, 5000, 50000)},
        ("progressive", 5000): 13 * 3, ("progressive", 50000): 13 * 3, ("progressive_500", 500): 13 * 50,
        ("probing", 0): 12 * 3, ("localized", 5000): 10 * 10, ("localized_kept", 5000): 10 * 3,
        ("permuted", 5000): 10, ("single", 5000): 12 * 3, ("faster", 5000): 13 * 3, ("norms_kept", 5000): 13 * 3,
    }  # fmt: skip
    inits = {step.surgery.init for step in trains(plan) if step.surgery and step.surgery.reset}
    assert inits == {"released"}
    written = {s.surgery.init for s in trains(planned("tamkin2020", "as-written")) if s.surgery and s.surgery.reset}
    assert written == {"intended"}
    permuted = {step.seed for step in trains(plan) if step.surgery and step.surgery.order}
    assert permuted == {1}
    recipe = trains(plan)[0].recipe
    assert (recipe.batch_size, recipe.epochs, recipe.learning_rate, recipe.checkpoint) == (8, 3, 2e-5, "last")
    frozen = {step.recipe.epochs for step in trains(plan) if step.recipe.freeze == "encoder"}
    assert frozen == {10}


# all of them


@pytest.mark.parametrize("name", PAPERS)
def test_every_switch_of_a_paper_can_be_planned(name: str) -> None:
    for switch in load_study(name)[0].switch:
        plan = planned(name, switch)
        assert plan.trainings
        assert plan.study.name.endswith(f"-{switch}")


def test_presets_are_listed_and_shown(command: Command) -> None:
    listed = command("studies", "--json").json
    assert set(PAPERS) < set(listed)
    assert listed["pruksachatkun2020"]["trainings"] == 1293
    shown = command("studies", "tamkin2020", "--json").json
    assert "as-written" in shown["switches"]
    assert "Tamkin et al. 2020" in shown["about"]
    assert command("studies", "tamkin").code == 2


@pytest.mark.slow
def test_a_preset_runs_in_small_and_says_what_it_leaves_out(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the nine tasks of GLUE two are here; the report of what ran can be made."""
    monkeypatch.setattr("layover.lacking.hub_rows", lambda task, split: _nothing(task))
    data = tmp_path / "data"
    for name, rows in (("sst2", _sentences), ("qnli", _questions)):
        for split in ("train", "validation"):
            write_rows(data / name / f"{split}.jsonl", rows(40))
    options = ("--smoke", "--data", data, "--store", tmp_path / "store")
    ran = command("run", "weller2022", *options)
    assert ran.code == 0, ran.out + ran.err
    assert "minilm stands in" in ran.err
    assert "left out, since no data was found: cola, mrpc, qqp, stsb, mnli, rte_glue, wnli" in ran.err
    assert "0 failed, 0 blocked" in ran.out
    found = command("observations", "weller2022", *options).out
    strategies = {line.split(",")[1] for line in found.splitlines()[1:]}
    assert strategies == {"direct", "stilts", "multitask", "multitask_all"}
    assert command("report", "weller2022", *options, "--out", tmp_path / "report.html").code == 0


def _nothing(task: Any) -> Any:
    raise HubError(Problem(task.name, "no network"))


def _sentences(n: int) -> list[dict[str, Any]]:
    return [{"sentence": row["text"], "label": i % 2} for i, row in enumerate(single_rows(n))]


def _questions(n: int) -> list[dict[str, Any]]:
    rows = enumerate(pair_rows(n))
    return [{"question": row["premise"], "sentence": row["hypothesis"], "label": i % 2} for i, row in rows]
