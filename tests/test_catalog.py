"""The catalog: a copy that is never wrong, whatever becomes of it."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import pytest
from tests.kit import a_train, publish_fake

from layover.catalog import catalog
from layover.errors import StoreError
from layover.integrity import CATALOG
from layover.query import ask
from layover.step import key_of
from layover.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store.open(tmp_path / "store")
    for seed in (1, 2, 3):
        publish_fake(made, a_train(seed=seed), value=10.0 * seed)
    return made


def means(store: Store) -> list[float]:
    sql = "select s.value from scores s join steps t using (key) where split = 'validation' order by t.seed"
    return [row[0] for row in ask(store, sql)[1]]


def test_it_has_every_finished_step_and_reads_each_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    assert means(store) == [10.0, 20.0, 30.0]
    read: list[str] = []
    real = Store.read

    def noted(self: Store, key: str, name: str) -> object:
        read.append(key)
        return real(self, key, name)

    monkeypatch.setattr(Store, "read", noted)
    assert means(store) == [10.0, 20.0, 30.0]
    assert read == []
    publish_fake(store, a_train(seed=4), value=40.0)
    assert means(store) == [10.0, 20.0, 30.0, 40.0]
    assert set(read) == {key_of(a_train(seed=4))}


def test_what_is_gone_is_left_out(store: Store) -> None:
    means(store)
    shutil.rmtree(store.folder(key_of(a_train(seed=2))))
    assert means(store) == [10.0, 30.0]
    publish_fake(store, a_train(seed=2), value=25.0)
    assert means(store) == [10.0, 25.0, 30.0]


@pytest.mark.parametrize("damage", ["gone", "cut", "empty", "text", "folder"])
def test_one_that_is_lost_or_damaged_is_made_again(store: Store, damage: str) -> None:
    means(store)
    path = store.root / CATALOG
    whole = path.read_bytes()
    path.unlink()
    if damage == "folder":
        path.mkdir()  # it cannot be written then either
    elif damage != "gone":
        path.write_bytes({"cut": whole[: len(whole) // 2], "empty": b"", "text": b"hello"}[damage])
    assert means(store) == [10.0, 20.0, 30.0]
    assert [p.name for p in store.root.iterdir() if p.name.startswith(".")] == []


def test_another_version_of_its_columns_is_made_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    means(store)
    monkeypatch.setattr("layover.catalog.VERSION", b"0")
    catalog(store)
    monkeypatch.undo()
    assert means(store) == [10.0, 20.0, 30.0]


def test_a_damaged_score_is_refused_and_never_copied(store: Store) -> None:
    path = store.folder(key_of(a_train(seed=2))) / "observations.jsonl"
    path.write_text(path.read_text().replace("20.0", "99.0"))
    with pytest.raises(StoreError, match=r"observations\.jsonl: has changed since it was written(.|\n)*store verify"):
        means(store)
    assert not (store.root / CATALOG).exists()
    assert catalog(store, without_damaged=True).num_rows == 2
    with pytest.raises(StoreError, match="has changed"):  # it is not forgotten either
        means(store)


def test_several_that_ask_at_once_all_get_the_whole(store: Store) -> None:
    found: list[list[float]] = []
    asking = [threading.Thread(target=lambda: found.append(means(store))) for _ in range(4)]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    assert found == [[10.0, 20.0, 30.0]] * 4


def test_a_store_without_steps_has_an_empty_one(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "s")
    assert catalog(store).num_rows == 0
    assert ask(store, "select * from observations")[1] == []
    assert not (store.root / CATALOG).exists()
