"""What a store holds of sources for a target: read once, as training reads it, and left out with a reason where not."""

from __future__ import annotations

import json
import os
import random
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.kit import make_encoder, own_table, pair_rows, single_rows, study_words, text_table, write_rows, write_task

from layover.encoders import find
from layover.errors import EncoderError, StoreError, TaskError
from layover.select import leaks, maps, taskvectors
from layover.select.checked import NEEDS, Checked, checked
from layover.select.evidence import evidence
from layover.select.sources import Source, sources_in
from layover.select.target import Reading, Target, own_target, target_of
from layover.select.vectors import Lazy, features_of, outputs, rows_of, vectors
from layover.session import Session
from layover.store import Store
from layover.study import Study
from layover.tasks import TASKS
from layover.tasks.load import surveyed
from layover.train import frozen, taskvector, warm

READING = Reading(rows=20, source_rows=16, seed=3, max_length=32)
CPU: dict[str, Any] = {"device": "cpu", "threads": 1}


@dataclass(frozen=True)
class World:
    """A store in which sources were trained, the encoder that they began as, and a folder with their data."""

    store: Store
    encoder: Path
    folder: Path
    tables: dict[str, Any]

    @property
    def files(self) -> dict[str, dict[str, Path]]:
        """The files of users' own tasks."""
        return {n: {s: Path(t[s]) for s in ("train", "validation") if s in t} for n, t in self.tables.items()}

    def target(self, name: str = "mine", table: Any = None, **options: Any) -> Target:
        """An own file as a target."""
        task, files, labelled = own_target(name, table or self.tables[name])
        how = {"reading": READING, "files": {**self.files, name: files}, "labelled": labelled, **CPU, **options}
        return target_of(self.store, task, find(str(self.encoder)), **how)

    def rows(self, name: str, rows: Any, reading: Reading = READING, **words: Any) -> Target:
        """Such rows as a target."""
        path = write_rows(self.folder / f"{name}.jsonl", rows)
        table = {"train": str(path), "format": "single", "text": "text", **words}
        return self.target(name, table, reading=reading)

    def sources(self, *names: str) -> tuple[Source, ...]:
        return sources_in(self.store, names)


@pytest.fixture(scope="module")
def world(bert: Path, tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("select")
    data = write_task(folder / "data", "rte", pair_rows, n_train=60)
    tables = {name: own_table(folder / name, kind) for name, kind in KINDS.items()}
    tables["prose"] = text_table(folder)
    sources = ["rte", "pick", "likeness", "prose"]
    strategies = {"direct": {"kind": "direct"}, "stilts": {"kind": "stilts", "sources": sources}}
    words = study_words(bert, folder, task=tables, strategies=strategies)
    session = Session.open(Study(**words), folder / "store", data=[data])
    assert not session.run().failed
    return World(session.store, bert, folder, tables)


KINDS = {"mine": "single", "pick": "choice", "likeness": "value"}


# which sources there are


def test_sources_are_the_trainings_from_the_plain_encoder_whose_weights_were_kept(world: World) -> None:
    found = world.sources()
    assert [source.label for source in found] == ["likeness, seed 1", "pick, seed 1", "prose, seed 1", "rte, seed 1"]
    assert [source.task.output for source in found] == ["value", "choice", "tokens", "classes"]
    assert found[3].task.labels == ("entailment", "not_entailment")
    assert [source.name for source in world.sources("rte", "pick")] == ["pick", "rte"]
    assert sources_in(world.store, seeds=[2]) == ()


def test_tasks_that_were_not_trained_or_not_kept_are_all_named_at_once(world: World) -> None:
    with pytest.raises(StoreError) as told:
        world.sources("rtte", "pick", "nothing_like_it", "mine")
    assert len(told.value.problems) == 3
    assert "has no training of task 'rtte' from the plain encoder" in str(told.value)
    assert "did you mean 'rte'?" in str(told.value)
    assert "task 'mine' was trained, and its weights were not kept" in str(told.value)
    assert "layover run STUDY --keep-weights LABEL" in str(told.value)


# vectors


def test_vectors_come_from_the_plain_encoder_and_from_every_sources_weights(world: World) -> None:
    target, sources = world.target(), world.sources()
    found = vectors(target, sources)
    assert found.labels is not None
    assert (found.kind, found.names, len(found.labels)) == ("classes", ("no", "yes"), 20)
    assert found.plain.shape == (3, 20, 32)
    assert len(found.trained) == 4
    stock = warm.encoder(str(world.encoder), None).eval()
    tokenizer = warm.tokenizer(str(world.encoder))
    rows = [json.loads(x) for x in Path(world.tables["mine"]["train"]).read_text(encoding="utf-8").splitlines()]
    drawn = [rows[row]["text"] for row in features_of(target, target.plain).encoded.rows]
    assert [rows[r]["label"] for r in features_of(target, target.plain).encoded.rows] == [
        found.names[label] for label in found.labels
    ]
    for source, ours in [(None, found.plain), *zip(sources, found.trained, strict=True)]:
        if source is not None:
            stock.load_state_dict(load_file(source.weights / "encoder.safetensors"))
        for text, vector in zip(drawn[:3], ours[-1], strict=False):
            with torch.inference_mode():
                right = stock(**tokenizer(text, return_tensors="pt")).last_hidden_state[0, 0]
            np.testing.assert_allclose(vector, right, rtol=2**-8, atol=1e-3)
    assert np.abs(found.trained[3] - found.plain).max() > 1e-3


def test_pooling_is_the_same_for_every_source_and_not_for_the_first_alone(world: World) -> None:
    target, sources = world.target(reading=replace(READING, pooling="mean")), world.sources("pick", "rte")
    data = target.data
    texts = [" ".join(one.inputs[0][0]) for one in surveyed(data.survey, data.source, data.train)]
    stock, tokenizer = warm.encoder(str(world.encoder), None).eval(), warm.tokenizer(str(world.encoder))
    for order in (sources, sources[::-1]):
        for source, ours in zip(order, vectors(target, order).trained, strict=True):
            assert np.array_equal(ours, vectors(target, [source]).trained[0])
            stock.load_state_dict(load_file(source.weights / "encoder.safetensors"))
            for text, vector in zip(texts[:3], ours[-1], strict=False):
                with torch.inference_mode():
                    states = stock(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
                np.testing.assert_allclose(vector, states.mean(0), rtol=2**-8, atol=1e-3)
                assert np.abs(vector - states[0].numpy()).max() > 0.05  # the first token's is another


def test_a_pass_is_made_once_for_an_encoder_and_a_data_set(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    target, sources = world.target(), world.sources("rte", "pick")
    first = vectors(target, sources)
    monkeypatch.setattr(frozen, "load", lambda *_: pytest.fail("a pass was made again"))
    again = vectors(world.target(), sources)
    assert all(np.array_equal(one, other) for one, other in zip(first.trained, again.trained, strict=True))
    assert [len(again.trained[i]) for i in (0, 1, -1)] == [3, 3, 3]
    with pytest.raises(IndexError):
        again.trained[2]
    with pytest.raises(pytest.fail.Exception, match="made again"):
        vectors(world.target(reading=replace(READING, seed=4)), sources)  # other rows


def test_rows_are_drawn_by_the_seed_and_fewer_are_among_more(world: World) -> None:
    def drawn(rows: int, seed: int) -> set[int]:
        target = world.target(reading=replace(READING, rows=rows, seed=seed))
        return set(np.flatnonzero(target.data.train.kept).tolist())

    assert len(drawn(8, 1)) == 8
    assert drawn(8, 1) < drawn(15, 1)
    assert drawn(8, 1) != drawn(8, 2)


def test_a_lazy_sequence_makes_an_item_each_time_it_is_asked_for() -> None:
    made: list[int] = []
    lazy = Lazy(lambda i: made.append(i) or i * i, 4)
    assert (len(lazy), list(made)) == (4, [])
    assert (lazy[-1], list(lazy), lazy[1:3]) == (9, [0, 1, 4, 9], [1, 4])
    assert made == [3, 0, 1, 2, 3, 1, 2]


def test_heads_of_classes_say_something_of_a_target_and_others_nothing(world: World) -> None:
    of_text, of_choices = (outputs(world.target(name), world.sources()) for name in ("mine", "pick"))
    assert [None if given is None else given.shape for given in of_text] == [None, None, None, (20, 2)]
    assert [None if given is None else given.shape for given in of_choices] == [None, (40, 2), None, None]


# maps and task vectors


def a_linear_source(world: World, factors: Any) -> Source:
    """A source whose encoder gives the plain one's last vectors times `factors`, which scale its last norm."""
    (source,) = world.sources("rte")
    tensors = dict(warm.encoder(str(world.encoder), None).state_dict())
    for name in ("weight", "bias"):
        tensors[f"encoder.layer.1.output.LayerNorm.{name}"] *= factors
    folder = world.folder / "linear"
    folder.mkdir()
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "encoder.safetensors")
    return Source(replace(source.step, seed=77), folder, "linear")


def test_what_an_encoder_does_that_is_linear_is_recovered_and_kept(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    factors = 2.0 ** torch.arange(32).remainder(5)  # which bf16 holds exactly
    target = world.target(reading=replace(READING, source_rows=60, pooling="mean"))
    source = a_linear_source(world, factors)
    found, read = maps.map_of(target, source), vectors(target, [source])
    assert np.array_equal(read.trained[0][-1], read.plain[-1] * factors.numpy())  # it is that map indeed
    np.testing.assert_allclose(found.weights[:-1], np.diag(factors.numpy()), atol=1e-3)
    np.testing.assert_allclose(found.weights[-1], 0, atol=1e-3)
    assert found.left < 1e-9
    np.testing.assert_allclose(maps.applied(found.weights, read.plain[-1]), read.trained[0][-1], atol=1e-2)
    monkeypatch.setattr(maps, "fit", lambda *_: pytest.fail("it was fitted again"))
    assert np.array_equal(maps.map_of(target, source).weights, found.weights)


def test_every_kind_of_source_has_a_map_of_the_encoders_width(world: World) -> None:
    for source in world.sources():
        found = maps.map_of(world.target(), source)
        assert found.weights.shape == (33, 32)
        assert np.isfinite(found.weights).all()
        assert np.flatnonzero(rows_of(world.target(), source).train.kept).size == 16


def test_textemb_is_the_mean_over_inputs_of_the_mean_over_tokens(world: World) -> None:
    target, (source,) = world.target(), world.sources("pick")
    read = features_of(target, target.plain, rows_of(target, source))
    assert len(read.layer(-1, "mean")) == 32  # two choices of 16 questions
    expected = read.layer(2, "mean").float().numpy().mean(0)
    np.testing.assert_allclose(taskvectors.text_vector(target, rows_of(target, source)), expected, atol=1e-5)


def test_taskemb_is_of_a_task_and_is_kept(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    target, (pick, prose) = world.target(), world.sources("pick", "prose")
    own, other = taskvectors.task_vector(target), taskvectors.task_vector(target, rows_of(target, pick))
    assert taskvectors.task_vector(target, rows_of(target, prose)) is None
    assert own is not None
    assert other is not None
    assert 0 < own @ other < 0.99
    assert float(own @ own) == pytest.approx(1, abs=1e-5)
    # per layer: query, key, value, output, up and down with their biases, two norms
    assert own.shape == (2 * (2 * (4 * 32 + 48 + 32) + 4 * 32),)
    monkeypatch.setattr(taskvector, "task_vector", lambda *_: pytest.fail("it was made again"))
    again = taskvectors.task_vector(target)
    assert again is not None
    assert np.array_equal(own, again)


def test_the_information_of_a_unit_is_the_mean_over_its_weights_and_blocks_count_alike(bert: Path) -> None:
    encoder = warm.encoder(str(bert), None)
    draw = np.random.default_rng(0)
    diagonal = {
        f"encoder.{name}": torch.from_numpy(draw.random(tuple(p.shape))) for name, p in encoder.named_parameters()
    }
    found = taskvector.reduced(diagonal, encoder)
    inside = [name for name in diagonal if ".layer." in name]
    blocks = [diagonal[name].numpy() for name in inside]
    units = [block.mean(1) if block.ndim == 2 else block for block in blocks]
    expected = np.concatenate([unit / np.linalg.norm(unit) for unit in units]) / np.sqrt(len(units))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    louder = {name: values * (1000.0 if name == inside[3] else 1.0) for name, values in diagonal.items()}
    np.testing.assert_allclose(taskvector.reduced(louder, encoder), found, atol=1e-6)


# what cannot be used


@pytest.mark.parametrize(
    ("name", "rows", "told"),
    [
        ("three", single_rows(3), "has 3 training rows; a ranking needs 10 or more"),
        ("again", single_rows(2) * 20, "has 40 training rows that ask 2 different things; a ranking needs 10"),
        ("same", [{"text": "a film", "label": x} for x in ("no", "yes") * 9],
         "has 18 training rows that ask 1 different thing; a ranking"),
    ],
)  # fmt: skip
def test_a_target_that_nothing_can_be_told_from_is_an_error(world: World, name: str, rows: Any, told: str) -> None:
    validation = str(write_rows(world.folder / "others.jsonl", single_rows(12, 9)))
    target = world.rows(name, rows, replace(READING, rows=100), validation=validation)
    with pytest.raises(TaskError) as error:
        checked(target, world.sources())
    assert f"task '{name}': {told}" in str(error.value)
    assert error.value.problems[0].hint


def test_one_class_is_an_error_in_a_file_and_among_the_rows_that_were_drawn(world: World) -> None:
    rows = [{**row, "label": "no"} for row in single_rows(30)]
    with pytest.raises(TaskError, match=r"column 'label' holds 1 different labels: no\n.*name another column"):
        world.rows("one_class", rows)
    rows[7]["label"] = "yes"  # one row in thirty, which is not drawn by every seed
    others = str(write_rows(world.folder / "others.jsonl", single_rows(12, 9)))
    targets = [world.rows("rare", rows, replace(READING, rows=12, seed=seed), validation=others) for seed in range(12)]
    kept = [bool(target.data.train.kept[7]) for target in targets]
    assert set(kept) == {True, False}
    with pytest.raises(TaskError, match=r"task 'rare': all 12 training rows have the label 'no'\n.*two labels"):
        checked(targets[kept.index(False)], ())
    assert "labels with one row each: yes" in checked(targets[kept.index(True)], ()).notes


TABLE = {"format": "pair", "first": "a", "second": "b"}


def seen_rows(world: World) -> list[dict[str, str]]:
    """The rows that the source rte was trained on, in another order, in other capitals, and with other labels."""
    seen = [json.loads(x) for x in (world.folder / "data/rte/train.jsonl").read_text(encoding="utf-8").splitlines()]
    random.Random(1).shuffle(seen)
    return [{"a": row["premise"].upper(), "b": row["hypothesis"], "label": str(i % 2)} for i, row in enumerate(seen)]


def fresh_rows() -> list[dict[str, str]]:
    """Rows that no source has seen."""
    rows = enumerate(pair_rows(60, 5))
    return [{"a": row["premise"], "b": row["hypothesis"], "label": str(i % 2)} for i, row in rows]


def a_check(world: World, name: str, train: Any, validation: Any) -> Checked:
    """What is found of all sources for a target with these rows."""
    files = {"train": str(write_rows(world.folder / f"{name}.t.jsonl", train)),
             "validation": str(write_rows(world.folder / f"{name}.v.jsonl", validation))}  # fmt: skip
    return checked(world.target(name, {**TABLE, **files}, reading=replace(READING, rows=60)), world.sources())


def test_a_source_that_was_trained_on_the_targets_rows_is_named_and_left_out(world: World) -> None:
    own, fresh = seen_rows(world), fresh_rows()
    leaked = a_check(world, "leaked", own, fresh[:20])
    assert "rte, seed 1" not in [source.label for source in leaked.sources]
    assert leaked.excluded["rte, seed 1"].startswith(
        "it was trained on the target's own rows: on 100% (60 of 60) of the target's training rows and 0% of its"
    )
    judged = a_check(world, "judged", fresh[:40], own[:12])
    assert judged.excluded["rte, seed 1"].endswith(
        "on 0% of the target's training rows and 100% (12 of 12) of its validation rows"
    )
    clean = a_check(world, "clean", fresh[:40], fresh[40:])
    assert (clean.excluded, clean.without, clean.notes) == ({}, {}, CLEAN)
    assert len(clean.sources) == 4


CLEAN = ("sources of plain text have no labels, and so neither outputs nor a TaskEmb",)


def test_a_leak_is_a_twentieth_of_the_rows_and_more_than_one_text(world: World) -> None:
    own, fresh = seen_rows(world), fresh_rows()
    cases = {  # rows of train and of validation that the source has seen: whether it is used, and what is told
        "one of twelve": (
            fresh[:40],
            [own[0], *fresh[40:51]],
            True,
            "0% of the target's training rows and 8% (1 of 12)",
        ),
        "one text twice": (fresh[:40], [own[0], own[0], *fresh[40:50]], True, "17% (2 of 12) of its validation rows"),
        "two of twelve": (fresh[:40], [*own[:2], *fresh[40:50]], False, "17% (2 of 12) of its validation rows"),
        "a twentieth": ([*fresh[:38], *own[:2]], fresh[40:], False, "5% (2 of 40) of the target's training rows"),
        "less": ([*fresh[:39], *own[:2]], fresh[40:], True, "5% (2 of 41) of the target's training rows"),
    }
    for number, (name, (train, validation, used, words)) in enumerate(cases.items()):
        found = a_check(world, f"share{number}", train, validation)
        assert ("rte, seed 1" in [source.label for source in found.sources]) is used, name
        told = [note for note in found.notes if note not in CLEAN] if used else [*found.excluded.values()]
        assert len([one for one in told if words in one]) == 1, (name, told)


def test_what_cannot_be_compared_is_left_out_with_the_reason(world: World, tmp_path: Path) -> None:
    target = world.target()
    rte, pick = world.sources("rte")[0], world.sources("pick")[0]
    foreign = replace(rte, step=replace(rte.step, encoder="sha256:" + "f" * 64), label="foreign")
    gone = replace(pick, weights=tmp_path / "none", label="gone")
    nowhere = replace(target, places=replace(target.places, data=(), files={"mine": world.files["mine"]}))
    found = checked(nowhere, [foreign, gone, rte, pick])
    assert found.sources == ()
    assert found.excluded["foreign"] == "it is a training of another encoder (sha256:ffffffffffff)"
    assert "its weights are gone" in found.excluded["gone"]
    assert "whether it has seen the target's rows cannot be known: " in found.excluded["rte, seed 1"]
    with pytest.raises(StoreError, match=r"no source is left to rank\n.*foreign: it is a training of another encoder"):
        evidence(found)


def test_rows_without_labels_are_read_and_marked_so(world: World) -> None:
    bare = [{"text": row["text"]} for row in single_rows(30, 4)]
    target = world.rows("bare", bare)
    assert not target.labelled
    found = checked(target, world.sources("rte"))
    assert found.without == {"tasks": "the target has no labels"}
    assert any("only estimators that need none" in note for note in found.notes)
    assert vectors(target, found.sources).labels is None
    [given] = outputs(target, found.sources)
    assert given is not None
    assert given.shape == (20, 2)
    choices = [{"c": "a film", "p": row["text"], "q": "bad"} for row in bare]
    path = write_rows(world.folder / "picks.jsonl", choices)
    table = {"train": str(path), "format": "choice", "context": "c", "choices": ["p", "q"]}
    assert not world.target("picks", table).labelled
    with pytest.raises(TaskError, match="field 'label' is missing"):  # tags say what is read
        own_target("spans", {"train": str(path), "format": "tagging", "words": "p"})
    with pytest.raises(TaskError, match="queue"):  # a column that is named has to be there
        own_target("wrong", {"train": str(path), "format": "single", "text": "p", "label": "queue"})


def test_plain_text_is_no_target(world: World) -> None:
    with pytest.raises(TaskError, match="'prose': is plain text, so there is nothing to rank sources for"):
        world.target("prose", {**world.tables["prose"]})


def test_an_encoder_without_a_kind_of_vector_is_told_and_leaves_that_evidence_out(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from layover.errors import Problem
    from layover.train.precision import Computing

    monkeypatch.setattr(Computing, "states", lambda *_: None)  # as an encoder that has no such output
    target = world.target(reading=replace(READING, seed=11))
    found = checked(target, world.sources("rte"))
    assert set(found.without) == set(NEEDS)
    assert "does not give the hidden states of its layers" in found.without["features"]
    with pytest.raises(StoreError, match="does not give the hidden states"):
        evidence(found)

    def broken(*_: Any) -> Any:
        raise EncoderError(Problem("x", "cannot be loaded: it is broken"))

    monkeypatch.setattr(frozen, "load", broken)
    with pytest.raises(EncoderError, match="it is broken"):
        checked(target, ())


def test_without_a_first_token_that_stands_for_a_text_mean_pooling_is_asked_for(world: World, tmp_path: Path) -> None:
    path = make_encoder(tmp_path / "modest", "bert")
    settings = json.loads((path / "tokenizer.json").read_text(encoding="utf-8"))
    settings["post_processor"] = None  # as tokenizers of causal models have none
    (path / "tokenizer.json").write_text(json.dumps(settings), encoding="utf-8")
    target = replace(world.target(), encoder=find(str(path)))
    found = checked(target, ())
    assert "puts no token before a text whose vector stands for it: take pooling mean" in found.without["features"]
    assert not checked(replace(target, reading=replace(READING, pooling="mean")), ()).without


# all of it


def test_evidence_of_a_store_has_everything_that_estimators_read(world: World) -> None:
    pytest.importorskip("layover.select.estimator", reason="the estimators are not here yet")
    told: list[str] = []
    found = checked(world.target(), world.sources())
    made = evidence(found, tell=lambda what, *_: told.append(what))
    [told_of] = [note for note in found.notes if "was trained on" in note]
    assert told_of.startswith("likeness, seed 1 was trained on 5% (1 of 20) of the target's training rows")
    assert made.plain is not None
    assert [part.shape for part in made.features if part is not None] == [(3, 20, 32)] * 4
    assert made.maps is not None
    assert [part.shape for part in made.maps if part is not None] == [(33, 32)] * 4
    assert [part is None for part in made.outputs] == [True, True, True, False]
    assert made.source_texts is not None
    assert made.source_texts.shape == (4, 32)
    assert made.source_tasks is not None
    assert np.isnan(made.source_tasks).all(1).tolist() == [False, False, True, False]
    assert made.target_text is not None
    assert made.target_text.shape == (32,)
    assert "map of rte, seed 1" in told
    few = evidence(found, needs=["texts"])
    assert (len(few.features), few.maps, len(few.outputs), few.source_tasks) == (0, None, 0, None)
    assert np.array_equal(few.source_texts, made.source_texts)  # type: ignore[arg-type]


# real data

DATA = Path(os.environ.get("LAYOVER_TEST_DATA") or Path(__file__).parents[2].parent / "shared" / "data")


@pytest.mark.skipif(not DATA.is_dir(), reason="no real data: set LAYOVER_TEST_DATA to a data directory")
def test_real_rows_are_read_by_a_real_encoder_as_the_stock_model_reads_them(tmp_path: Path) -> None:
    store, encoder = Store.open(tmp_path / "store"), find("minilm")
    if not Path(encoder.location).is_dir():
        pytest.skip("minilm is not installed")
    targets = {}
    for name in ("rte", "rte_glue", "copa", "wic"):
        how = {"data": [DATA], "reading": Reading(rows=12, pooling="mean", max_length=256), **CPU}
        try:
            targets[name] = target_of(store, TASKS.get(name), encoder, **how)
        except TaskError as error:
            pytest.skip(f"the data directory lacks {name}: {error}")
    stock, tokenizer = warm.encoder(encoder.location, None).eval(), warm.tokenizer(encoder.location)
    shapes = {name: vectors(target, ()).plain.shape for name, target in targets.items()}
    assert shapes == {"rte": (7, 12, 384), "rte_glue": (7, 12, 384), "copa": (7, 24, 384), "wic": (7, 12, 1152)}
    data = targets["rte"].data
    examples, ours = list(surveyed(data.survey, data.source, data.train)), vectors(targets["rte"], ()).plain
    for example, vector in zip(examples[:3], ours[-1], strict=False):
        (first,), second = example.inputs[0][0], example.inputs[0][1]
        assert second is not None
        read = tokenizer(first, second[0], return_tensors="pt")
        with torch.inference_mode():
            right = stock(**read).last_hidden_state[0].mean(0)
        np.testing.assert_allclose(vector, right, rtol=2**-7, atol=5e-3)
    known = leaks.inputs_of(data, data.validation)[1]  # SuperGLUE's RTE is GLUE's
    assert leaks.seen(targets["rte_glue"], "validation", known).leaked
    assert leaks.seen(targets["copa"], "validation", known).rows == 0
