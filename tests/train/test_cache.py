"""The cache of data sets: it never changes a number, is never taken for another, and survives whatever breaks it."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.kit import (
    FAST,
    HERE,
    Command,
    numbers,
    own_table,
    pair_rows,
    stretch_rows,
    stretch_tasks,
    study_words,
    write_rows,
    write_study,
    write_task,
)  # fmt: skip

from layover import arrays
from layover.claims import Claim
from layover.errors import StoreError, TaskError
from layover.session import Session
from layover.store import Store
from layover.tasks import TASKS
from layover.tasks import load as loading
from layover.tasks.formats import Pair, Single
from layover.tasks.load import load, locate
from layover.tasks.own import own_files, own_task
from layover.tasks.task import Task
from layover.train import cache, encode, tokens
from layover.train.encode import CHUNK, Encoded, columns, stretches
from layover.upkeep import collect_garbage, listing, verify

PAIRS = Task("rte", 1, Pair("premise", "hypothesis"), ("accuracy",), ("entailment", "not_entailment"))
DIVIDED: dict[str, Any] = {"limit_train": None, "limit_validation": None, "selection": "holdout", "holdout": 0.25}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_task(tmp_path / "data", "rte", pair_rows)


@pytest.fixture
def tokenizer(bert: Path) -> Any:
    return tokenizer_in(bert)


def tokenizer_in(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


def cached(store: Store, data: Path, tokenizer: Any, task: Task = PAIRS, length: int = 16, **how: Any) -> cache.Splits:
    found = cache.located(store, task, locate(task, [data]), **{**DIVIDED, **how})
    return cache.splits(found, tokenizer, length)


def content(encoded: Encoded | None) -> dict[str, Any]:
    """All that an encoded set holds, its own tokens alone, ready to compare."""
    if encoded is None:
        return {}
    own = stretches(*encoded.offsets.T)
    found: dict[str, Any] = {}
    fields = {field.name: getattr(encoded, field.name) for field in dataclasses.fields(encoded)}
    for name, value in {**fields, "offsets": encoded.input_lengths}.items():
        if name in ("texts", "golds"):
            found[name] = value and value.to_pylist()
        elif value is not None:
            array = value[own] if name in ("ids", "types", "chars") else value
            found[name] = (array.dtype.str, array.shape, array.tobytes())
    return found


def contents(splits: cache.Splits) -> list[dict[str, Any]]:
    return [content(part) for part in (splits.train, splits.selection, splits.validation)]


def entries(store: Store) -> dict[str, int]:
    """The kept data sets, and when each was written."""
    return {key: store.encoded(key).stat().st_mtime_ns for key in store.encoded_keys()}


@pytest.fixture
def nothing_is_read(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Calling it makes every reading of a row and every call of a tokenizer an error."""

    def arm() -> None:
        def forbidden(*_: object, **__: object) -> None:
            raise AssertionError("a row was read or a text was tokenized")

        monkeypatch.setattr(loading, "rows", forbidden)
        monkeypatch.setattr(encode, "fit", forbidden)

    return arm


# the same numbers

KINDS = ["single", "pair", "value", "pair_value", "choice", *stretch_tasks()]
WAYS = {
    "holdout": {},
    "validation": {"selection": "validation"},
    "limited": {"limit_train": 11, "limit_validation": 5},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS)
def test_cold_warm_and_without_a_cache_are_the_same(
    store: Store, tmp_path: Path, tokenizer: Any, kind: str, way: str, nothing_is_read: Callable[[], None]
) -> None:
    how = {**DIVIDED, **WAYS[way]}
    if kind in stretch_tasks():
        task = stretch_tasks()[kind]
        source = locate(task, [write_task(tmp_path, task.name, stretch_rows)])
    else:
        table = own_table(tmp_path, kind)
        task, source = own_task(kind, table), locate(PAIRS, [], own_files(table))
    expected = contents(cache.splits(load(task, source, **how), tokenizer, 12))
    cold = cache.located(store, task, source, **how)
    assert contents(cache.splits(cold, tokenizer, 12)) == expected
    nothing_is_read()
    warm = cache.located(store, task, source, **how)
    assert contents(cache.splits(warm, tokenizer, 12)) == expected
    assert warm.task == cold.task
    assert (warm.train.n_total, warm.validation.n_total) == (24, 12)


@pytest.mark.parametrize("limit_train", [None, 9])
def test_an_own_task_without_a_validation_file_is_divided_as_ever(
    store: Store, tmp_path: Path, tokenizer: Any, limit_train: int | None, nothing_is_read: Callable[[], None]
) -> None:
    table = own_table(tmp_path, "single")
    del table["validation"]
    task = own_task("mine", table)
    source, how = locate(task, [], own_files(table)), {**DIVIDED, "limit_train": limit_train}
    examples = load(task, source, **how)
    expected = contents(cache.splits(examples, tokenizer, 16))
    cold = cache.located(store, task, source, **how)
    assert contents(cache.splits(cold, tokenizer, 16)) == expected
    nothing_is_read()
    warm = cache.located(store, task, source, **how)
    assert contents(cache.splits(warm, tokenizer, 16)) == expected
    assert (warm.train.n_total, warm.validation.n_total) == (examples.n_train_total, examples.n_validation_total)
    assert (warm.train.n_total, warm.validation.n_total) == (19, 5)


def test_a_step_without_a_selection_set_trains_on_all_rows(store: Store, data: Path, tokenizer: Any) -> None:
    found = cached(store, data, tokenizer, selection=None)
    assert (len(found.train), found.selection, len(found.validation)) == (24, None, 12)
    assert len(cached(store, data, tokenizer).train) == 18


def test_more_rows_than_there_are_is_no_limit(store: Store, data: Path, tokenizer: Any) -> None:
    cached(store, data, tokenizer)
    before = entries(store)
    cached(store, data, tokenizer, limit_train=1000, holdout=0.5)
    assert entries(store) == before


@pytest.fixture
def study(bert: Path, tmp_path: Path) -> Path:
    (tmp_path / "bert").symlink_to(bert)
    words = study_words(bert, tmp_path, encoders=["bert"], recipe={**FAST, "epochs": 2}, placement=HERE)
    return write_study(tmp_path / "study.toml", words)


def test_a_study_that_finds_its_data_in_the_store_has_the_same_numbers(
    study: Path, tmp_path: Path, command: Command, nothing_is_read: Callable[[], None]
) -> None:
    assert command("run", study, "--store", tmp_path / "s").code == 0
    expected, kept = numbers(tmp_path / "s"), entries(Store.open(tmp_path / "s"))
    facts = {
        path.parent.name: json.loads(path.read_text()) for path in (tmp_path / "s").glob("steps/*/provenance.json")
    }
    shutil.rmtree(tmp_path / "s" / "steps")
    nothing_is_read()
    assert command("run", study, "--store", tmp_path / "s").code == 0
    assert numbers(tmp_path / "s") == expected
    assert entries(Store.open(tmp_path / "s")) == kept
    for path in (tmp_path / "s").glob("steps/*/provenance.json"):
        same = ("examples", "available", "truncated", "lost", "majority", "tokens")
        again, before = json.loads(path.read_text()), facts[path.parent.name]
        assert {name: again[name] for name in same} == {name: before[name] for name in same}


# never taken for another


def test_whatever_changes_the_tokens_makes_another_entry(
    store: Store, data: Path, tokenizer: Any, encoder: Callable[[str], Path]
) -> None:
    seen: set[str] = set()

    def is_new(tokenizer: Any = tokenizer, task: Task = PAIRS, **how: Any) -> bool:
        before = len(store.encoded_keys())
        cached(store, data, tokenizer, task, **how)
        seen.update(store.encoded_keys())
        return len(store.encoded_keys()) > before

    assert is_new()
    assert not is_new()
    assert is_new(length=17)  # max_length
    assert is_new(limit_train=10)
    assert is_new(limit_validation=10)
    assert is_new(tokenizer_in(encoder("electra")))  # another model type
    other = tokenizer_in(encoder("bert"))
    other.add_tokens(["trains"])  # the same model type, another vocabulary
    assert is_new(other)
    cut = tokenizer_in(encoder("bert"))
    cut.truncation_side = "left"
    assert is_new(cut)
    for change in (
        {"version": 2}, {"labels": ("not_entailment", "entailment")}, {"spellings": {"yes": "entailment"}},
        {"format": Pair("hypothesis", "premise")}, {"format": Pair("premise", "hypothesis", cut="first")},
        {"format": Single("premise")}, {"prepare": dict},
    ):  # fmt: skip
        assert is_new(task=dataclasses.replace(PAIRS, **change)), change
    write_rows(data / "rte" / "validation.jsonl", pair_rows(12, seed=9))
    assert is_new()


def test_metrics_and_words_about_a_task_make_no_other_entry(store: Store, data: Path, tokenizer: Any) -> None:
    cached(store, data, tokenizer)
    before = entries(store)
    cached(store, data, tokenizer, dataclasses.replace(PAIRS, metrics=("f1",), about="x", source="y", licence="z"))
    assert entries(store) == before


def test_other_code_makes_another_entry(
    store: Store, data: Path, tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = tmp_path / "tokens.py"
    changed.write_text(Path(tokens.__file__).read_text() + "# changed\n")
    cached(store, data, tokenizer)
    before = store.encoded_keys()
    monkeypatch.setattr(tokens, "__file__", str(changed))
    cached(store, data, tokenizer)
    assert len(store.encoded_keys()) == 2 * len(before)


def test_the_entries_of_the_catalogue_can_be_named(store: Store) -> None:
    for task in TASKS:
        declared = cache._declaration(task)
        assert json.loads(json.dumps(declared)) == declared
        assert " at 0x" not in json.dumps(declared)  # an address: no other process would find the entry
        assert len(cache._code(task)) == 64


def test_an_entry_under_another_entrys_key_is_not_read(store: Store, data: Path, tokenizer: Any) -> None:
    expected = contents(cached(store, data, tokenizer, length=12))
    short = set(store.encoded_keys())
    cached(store, data, tokenizer, length=32)
    long = [key for key in store.encoded_keys() if key not in short]
    sets = [key for key in short if "max_length" in (store.encoded(key) / arrays.MANIFEST).read_text()]
    for key, other in zip(sets, long, strict=True):
        shutil.rmtree(store.encoded(key))
        shutil.copytree(store.encoded(other), store.encoded(key))
    assert {p.message.split()[0] for p in verify(store)} == {"holds"}
    assert contents(cached(store, data, tokenizer, length=12)) == expected
    assert verify(store) == []


def test_a_tokenizers_digest_is_of_its_content_and_not_of_its_last_call(bert: Path, encoder: Any) -> None:
    one, other = tokenizer_in(bert), tokenizer_in(bert)
    digest = tokens.digest(one)
    one("the film", truncation=True, max_length=5, padding="max_length")
    assert tokens.digest(one) == tokens.digest(other) == digest
    assert one("the film was good", "and bright") == other("the film was good", "and bright")
    other.split_special_tokens = True
    assert tokens.digest(other) != digest
    families = ("bert", "electra", "roberta", "deberta-v3", "modernbert")
    assert len({tokens.digest(tokenizer_in(encoder(family))) for family in families}) == len(families)


# whatever breaks it

BREAK = {
    "a column is shorter": lambda folder: os.truncate(folder / "ids.npy", 130),
    "a column is gone": lambda folder: (folder / "rows.npy").unlink(),
    "no manifest": lambda folder: (folder / arrays.MANIFEST).unlink(),
    "half a manifest": lambda folder: os.truncate(folder / arrays.MANIFEST, 50),
    "everything is gone": shutil.rmtree,
}


@pytest.mark.parametrize("what", BREAK)
def test_a_broken_entry_is_made_again(store: Store, data: Path, tokenizer: Any, what: str) -> None:
    expected, before = contents(cached(store, data, tokenizer)), entries(store)
    for key in before:
        if (store.encoded(key) / "ids.npy").exists():
            BREAK[what](store.encoded(key))
    assert what == "everything is gone" or len(verify(store)) == 2
    assert contents(cached(store, data, tokenizer)) == expected
    assert set(entries(store)) == set(before)
    assert verify(store) == []
    assert [path.name for path in (store.root / "encoded").glob(".*")] == []


def encode_once(store: Path, data: Path, bert: Path, lock: Any = None) -> None:
    """What a process of its own does; with a `lock`, it tells when its first chunk is written, and then hangs."""
    if lock is not None:
        real = cache.encode.columns

        def slow(*arguments: Any) -> Iterator[Any]:
            yield from real(*arguments)
            lock.set()
            time.sleep(600)

        cache.encode.columns = slow  # type: ignore[assignment]
    cached(Store.open(store), data, tokenizer_in(bert))


def test_many_processes_at_once_make_one_entry_each(store: Store, data: Path, bert: Path, tokenizer: Any) -> None:
    context = multiprocessing.get_context("spawn")
    started = [context.Process(target=encode_once, args=(store.root, data, bert)) for _ in range(3)]
    for process in started:
        process.start()
    for process in started:
        process.join(240)
    assert [process.exitcode for process in started] == [0, 0, 0]
    assert len(store.encoded_keys()) == 3  # the rows, train and validation
    assert list((store.root / "encoded").glob(".*")) == []
    assert verify(store) == []
    examples = load(PAIRS, locate(PAIRS, [data]), **DIVIDED)
    assert contents(cached(store, data, tokenizer)) == contents(cache.splits(examples, tokenizer, 16))


def test_a_killed_writer_leaves_nothing_that_is_read(store: Store, data: Path, bert: Path, tokenizer: Any) -> None:
    context = multiprocessing.get_context("spawn")
    lock = context.Event()
    process = context.Process(target=encode_once, args=(store.root, data, bert, lock))
    process.start()
    assert lock.wait(240)
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join()
    left = list((store.root / "encoded").glob(".*"))
    assert len(left) == 1
    assert (left[0] / "ids.npy").exists()
    assert len(store.encoded_keys()) == len(listing(store)) == 1  # the rows were read before
    examples = load(PAIRS, locate(PAIRS, [data]), **DIVIDED)
    assert contents(cached(store, data, tokenizer)) == contents(cache.splits(examples, tokenizer, 16))
    assert verify(store) == []
    collect_garbage(store, dry_run=False)
    assert list((store.root / "encoded").iterdir()) == []


def test_a_full_disk_is_a_store_error_and_leaves_nothing(
    store: Store, data: Path, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(arrays, "sync", full)
        with pytest.raises(StoreError, match="the disk is full"):
            cached(store, data, tokenizer)
    assert list((store.root / "encoded").iterdir()) == []
    assert len(cached(store, data, tokenizer).train) == 18


@pytest.mark.parametrize("when", ["surveyed", "encoded"])
def test_a_file_that_changes_while_it_is_read_is_an_error_and_nothing_is_kept(
    store: Store, data: Path, tokenizer: Any, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    real = loading.rows

    def changed(task: Task, source: Any, split: str) -> Any:
        yield from real(task, source, split)
        with (data / "rte" / "train.jsonl").open("a") as file:
            file.write(json.dumps(pair_rows(1)[0]) + "\n")

    found = cache.located(store, PAIRS, locate(PAIRS, [data]), **DIVIDED) if when == "encoded" else None
    before = entries(store)
    monkeypatch.setattr(loading, "rows", changed)
    with pytest.raises(TaskError, match="changed while"):
        cache.splits(found, tokenizer, 16) if found else cached(store, data, tokenizer)
    assert entries(store) == before
    assert list((store.root / "encoded").glob(".*")) == []


# what a session checks


def test_a_session_reads_rows_once_and_a_bad_row_every_time(
    study: Path, tmp_path: Path, nothing_is_read: Callable[[], None]
) -> None:
    session = Session.open(study, tmp_path / "s")
    good = (tmp_path / "single.train.jsonl").read_text()
    (tmp_path / "single.train.jsonl").write_text(good + '{"text": "", "label": "no"}\n')
    session = Session.open(study, tmp_path / "s")
    for _ in range(2):
        with pytest.raises(TaskError, match="line 25: field 'text' is empty"):
            session.check()
    (tmp_path / "single.train.jsonl").write_text(good)
    session = Session.open(study, tmp_path / "s")
    session.check()
    nothing_is_read()
    session.check()
    Session.open(study, tmp_path / "s").check()


# upkeep


def test_ls_verify_and_gc_know_encoded_data(store: Store, data: Path, tokenizer: Any) -> None:
    cached(store, data, tokenizer)
    rows = sorted((row["kind"], row["label"]) for row in listing(store))
    assert rows == [("encoded", "rte · train · 16"), ("encoded", "rte · validation · 16"), ("survey", "rte")]
    broken = store.encoded(store.encoded_keys()[0])
    (broken / arrays.MANIFEST).write_text("{")
    assert "damaged" in {row["kind"] for row in listing(store)}
    assert [problem.place for problem in verify(store)] == [str(broken)]
    claim = Claim(store.claim("1" * 16), dict)
    assert claim.take()
    with claim:
        assert collect_garbage(store, dry_run=False) == []  # somebody is at work
    assert len(collect_garbage(store, dry_run=True)) == 3
    assert len(store.encoded_keys()) == 3
    collect_garbage(store, dry_run=False)
    assert listing(store) == []
    assert len(cached(store, data, tokenizer).train) == 18


# memory


def test_examples_are_read_as_they_are_encoded(tokenizer: Any) -> None:
    read = 0

    def endless() -> Iterator[Any]:
        nonlocal read
        while True:
            row = {"premise": "the film", "hypothesis": "was good", "label": 0}
            yield from PAIRS.examples(read, row)
            read += 1

    made = columns(endless(), PAIRS, tokenizer, 16)
    for turn in range(1, 4):
        next(made)
        assert read <= (turn + 1) * CHUNK
