"""Upkeep of a store: list it, verify it, and collect what is no longer needed."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from layover import identity
from layover.arrays import MANIFEST, damage
from layover.claims import alive, read_claim
from layover.errors import LayoverError, Problem
from layover.files import read_json, read_jsonl
from layover.integrity import WEIGHTS
from layover.plan import find
from layover.records import Record, unused
from layover.step import Choose, Joint, Measure, Member, Merge, Probe, Train, from_json, key_of
from layover.store import ENCODED, Store

FILES = ("step.json", "observations.jsonl", "provenance.json")
SCORED = ("predictions.parquet", "curve.jsonl", "log.txt")
FILES_OF = {
    Train.kind: SCORED, Probe.kind: SCORED, Member.kind: SCORED, Choose.kind: ("choice.json",),
    Joint.kind: ("log.txt",), Merge.kind: ("log.txt",), Measure.kind: ("log.txt",),
}  # fmt: skip


def labels_of(store: Store) -> dict[str, str]:
    """The label of every step of the recorded studies, by key."""
    return {key: label for study in store.studies().values() for key, label in study.labels.items()}


def find_step(store: Store, name: str) -> str:
    """The key of the step with this label, key, or a part that only one has; raises StudyError otherwise."""
    return find({**dict.fromkeys(store.finished_keys(), ""), **labels_of(store)}, name)


def listing(store: Store) -> list[dict[str, Any]]:
    """One row per finished step, and one per data set that is kept encoded or as features."""
    labels = labels_of(store)
    rows = []
    for key in store.finished_keys():
        kind = store.read(key, "step.json")["kind"]
        size = store.size(store.folder(key)) / 1e6
        kept = "kept" if store.has_weights(key) else ""
        rows.append({"key": key, "kind": kind, "label": labels.get(key, ""), "MB": f"{size:.1f}", "weights": kept})
    for key in store.encoded_keys():
        folder = store.encoded(key)
        kind, label = _described(folder)
        rows.append({"key": key, "kind": kind, "label": label, "MB": f"{_size(folder) / 1e6:.1f}", "weights": ""})
    return rows


def _described(folder: Path) -> tuple[str, str]:
    """What an encoded data set is, of which task, and of features from which step's encoder, if any."""
    try:
        made_of = read_json(folder / MANIFEST)["identity"]
        fields = [made_of["task"]["name"], made_of.get("file"), made_of.get("max_length"), made_of.get("start")]
        return made_of["kind"], " · ".join(str(field) for field in fields if field)
    except (OSError, ValueError, KeyError, TypeError):
        return "damaged", ""


def verify(store: Store) -> list[Problem]:
    """What is wrong: a file that cannot be read or has changed, or a key that its step or data set does not have.

    What has changed is noted in the step's folder: the next run of a study that has the step does it again.
    """
    steps = [problem for key in store.finished_keys() for problem in _verify_step(store, key)]
    return steps + [problem for key in store.encoded_keys() for problem in _verify_encoded(store, key)]


def _verify_encoded(store: Store, key: str) -> list[Problem]:
    folder, hint = store.encoded(key), "it is made again when it is next needed, or by removing the folder"
    if wrong := damage(folder):
        return [Problem(str(folder), wrong, hint)]
    own = identity.key(ENCODED, read_json(folder / MANIFEST)["identity"])
    return [Problem(str(folder), f"holds the data set {own}", hint)] if own != key else []


def collect_garbage(store: Store, dry_run: bool) -> list[tuple[Path | str, int]]:
    """Drop weights that no recorded study still needs, dead attempts, damaged steps that were put aside, and data sets.

    Returns what was dropped, with sizes; of a bucket's objects the addresses. Weights are needed while a recorded study
    has an unfinished step that starts from them. Scores, predictions and curves are never dropped: a step whose weights
    are asked for again is trained again. Data sets and features, which are made again when they are needed, and plans
    that no study has any more stay while anybody is at work in the store.
    """
    needed = {key for study in store.studies().values() for key in _needed(store, study)}
    unneeded = [key for key in store.finished_keys() if key not in needed and store.has_weights(key)]
    weights = [(store.folder(key) / WEIGHTS, store.size(store.folder(key) / WEIGHTS)) for key in unneeded]
    dead: list[Path] = []
    for path in (store.root / "work").iterdir():
        claim = read_claim(store.claim(path.name.split(".")[0]))
        # the checkpoint of an unfinished step is work that can be gone on with
        if not (claim and alive(claim)) and not (path.name.endswith(".resume") and not store.finished(path.name[:-7])):
            dead.append(path)
    claims = (read_claim(path) for path in (store.root / "claims").glob("*.json"))
    if not any(claim and alive(claim) for claim in claims):
        dead += sorted((store.root / "encoded").iterdir()) + unused(store.root / "studies")
    dead += sorted((store.root / "quarantine").iterdir())
    found, waste = [(path, _size(path)) for path in dead], store.shared.garbage()
    if not dry_run:
        for key in unneeded:
            store.drop_weights(key)
        for path, _ in found:
            path.unlink() if path.is_file() else shutil.rmtree(path, ignore_errors=True)
        store.shared.remove(waste)
    return [*weights, *found, *((f"{store.place}/{name}", size) for name, size in waste.items())]


def _needed(store: Store, study: Record) -> set[str]:
    """Keys of the steps whose weights an unfinished step of a study needs."""
    found: set[str] = set()
    for key, content in reversed(study.steps.items()):  # children come first here
        if not store.finished(key) or (key in found and not store.has_weights(key)):
            found.update(from_json(content).reads(key in found))
    return found


def _verify_step(store: Store, key: str) -> list[Problem]:
    import pyarrow.parquet as pq
    from safetensors import safe_open

    def check(path: Path) -> None:
        if path.suffix == ".json":
            read_json(path)
        elif path.suffix == ".jsonl":
            read_jsonl(path)
        elif path.suffix == ".parquet":
            pq.read_table(path)
        elif path.suffix == ".safetensors":
            with safe_open(path, framework="np") as file:
                [file.get_tensor(name) for name in file.keys()]  # noqa: SIM118

    folder, damage_of = store.folder(key), store.shared.damage
    changed = [*damage_of(folder, True), *damage_of(folder / WEIGHTS, True)]
    if changed:
        store.note(key, {str(path.relative_to(folder)): what for path, what in changed})
    hint = "the next run of its study does the step again"
    problems = [Problem(store.address(path), what, hint) for path, what in changed]
    told = {path for path, _ in changed}
    problems += [
        Problem(store.address(folder / name), "is missing")
        for name in FILES
        if not (folder / name).is_file() and folder / name not in told
    ]
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p not in told):
        try:
            check(path)
        except Exception as error:  # whatever a reader raises, the file is damaged
            problems.append(Problem(store.address(path), f"cannot be read: {type(error).__name__}: {error}"))
    try:
        step = store.step(key)
        lacks = [folder / name for name in FILES_OF[step.kind] if not (folder / name).is_file()]
        problems += [Problem(store.address(path), "is missing") for path in lacks if path not in told]
        rows = folder / "observations.jsonl"
        if "predictions.parquet" in FILES_OF[step.kind] and rows.is_file() and not rows.stat().st_size:
            problems.append(Problem(store.address(rows), "is empty"))
        if key_of(step) != key:
            what = f"holds the step {key_of(step)} (scheme {identity.SCHEME})"
            problems.append(Problem(store.address(folder), what))
    except (LayoverError, KeyError, TypeError, AttributeError) as error:
        problems.append(Problem(store.address(folder), f"its step cannot be read: {error}"))
    return problems


def _size(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
