"""Catalog: the finished steps of a store as one table, so that a question need not read a hundred thousand folders.

`catalog.arrow` in the store is a copy and nothing else: what it lacks is read from the steps' folders and added, what
is no longer there is left out, and one that is lost or damaged is made again. What goes into it has the digests of the
step's manifest, so that damage is never copied.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layover.errors import Problem, StoreError
from layover.files import write_table
from layover.integrity import CATALOG, changed
from layover.store import Store

if TYPE_CHECKING:
    import pyarrow as pa

VERSION = b"2"  # of the table's columns
READ = ("step.json", "provenance.json", "observations.jsonl")


def catalog(store: Store, without_damaged: bool = False, keep: bool = True) -> pa.Table:
    """A row per finished step: key, kind, what it was made of, how long it took, and its scores as a list.

    Raises StoreError where a file that has to be read is damaged, or leaves its step out. Without `keep` nothing is
    written to the store.
    """
    import pyarrow as pa

    path, finished, table = store.root / CATALOG, store.finished_keys(), _read(store.root / CATALOG)
    keys = table["key"].to_pylist()
    if keys == finished:  # both in order: nothing to add, and nothing to leave out
        return table
    new = set(finished).difference(keys)
    gone = set(keys).difference(finished)
    if gone:
        there = [index for index, key in enumerate(keys) if key not in gone]
        table = table.take(pa.array(there, pa.int64()))
    if new:
        more = pa.Table.from_pylist(rows(store, sorted(new), without_damaged), schema=_schema())
        table = pa.concat_tables([table, more]).sort_by("key")
    if keep and (new or gone):
        with suppress(OSError):  # where it cannot be written, the next question takes as long as this one
            write_table(path, table)
    return table


def rows(store: Store, keys: Iterable[str], without_damaged: bool = False) -> list[dict[str, Any]]:
    """What the catalog has of these finished steps, each read from its folder."""
    with ThreadPoolExecutor() as at_once:  # reading waits for the disk
        found = list(at_once.map(lambda key: _row(store, key, without_damaged), keys))
    return [row for row in found if row]


def _schema() -> pa.Schema:
    import pyarrow as pa

    score = pa.struct(
        [("task", pa.string()), ("split", pa.string()), ("metric", pa.string()), ("value", pa.float64()),
         ("status", pa.string())]
    )  # fmt: skip
    columns = [
        ("key", pa.string()), ("kind", pa.string()), ("task", pa.string()), ("tasks", pa.list_(pa.string())),
        ("encoder", pa.string()), ("seed", pa.int64()), ("start", pa.string()), ("learning_rate", pa.float64()),
        ("batch_size", pa.int64()), ("epochs", pa.int64()), ("limit_train", pa.int64()), ("examples", pa.int64()),
        ("available", pa.int64()), ("tokens", pa.int64()), ("seconds", pa.float64()), ("device", pa.string()),
        ("scores", pa.list_(score)),
    ]  # fmt: skip
    return pa.schema(columns, metadata={"version": VERSION})


def _row(store: Store, key: str, or_nothing: bool) -> dict[str, Any]:
    """What the catalog has of a finished step; nothing where it is damaged, if that is wanted."""
    with suppress(*([StoreError] if or_nothing else [])):
        store.fetched(key, *READ)
    for name in READ:
        if what := changed(store.folder(key), name):
            if or_nothing:
                return {}
            path, hint = store.folder(key) / name, "the next run of its study does the step again"
            raise StoreError(
                Problem(store.address(path), what, f"{hint}; see `layover store verify --store {store.place}`")
            )
    content, facts = store.read(key, "step.json"), store.read(key, "provenance.json")
    step = content["step"]
    tasks = [step["task"]] if "task" in step else [task for task in step.get("tasks", []) if isinstance(task, dict)]
    recipe = step.get("recipe") or {}
    return {
        "key": key,
        "kind": content["kind"],
        "task": tasks[0]["name"] if len(tasks) == 1 else None,
        "tasks": [task["name"] for task in tasks],
        "limit_train": tasks[0].get("limit_train") if tasks else None,
        **{name: step.get(name) for name in ("encoder", "seed", "start")},
        **{name: recipe.get(name) for name in ("learning_rate", "batch_size", "epochs")},
        "examples": (facts.get("examples") or {}).get("train"),
        "available": (facts.get("available") or {}).get("train"),
        **{name: facts.get(name) for name in ("tokens", "seconds", "device")},
        "scores": list(_scores(store, key)),
    }


def _scores(store: Store, key: str) -> Iterator[dict[str, Any]]:
    for row in store.read(key, "observations.jsonl"):
        yield {name: row.get(name) for name in ("task", "split", "metric", "value", "status")}


def _read(path: Path) -> pa.Table:
    """The table in a file; an empty one where there is none, or one of another version, or a damaged one."""
    import pyarrow as pa
    import pyarrow.feather as feather

    with suppress(OSError, pa.ArrowException, ValueError):
        found = feather.read_table(path, memory_map=False)
        if found.schema.equals(_schema()) and (found.schema.metadata or {}).get(b"version") == VERSION:
            return found
    return _schema().empty_table()
