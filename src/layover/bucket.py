"""Bucket: a store's directory as this machine's mirror of a store in a bucket.

    layover.json                               the scheme of the store
    manifests/<key>.json                       a finished step: written last, by one conditional put. It has the
                                               attempt, and the sizes and digests of its files
    manifests/<key>.weights.json               the same of its weights, which come and go apart
    manifests/<key>.damaged.json               what `layover store verify` found, for the next run to mend
    files/<key>/<attempt>/...                  the files; of no account until a manifest names their attempt
    claims/<key>.json  resume/<key>/...        who works on a step, and its last checkpoint (see `layover.underway`)
    errors/<key>.txt  studies/<name>.json      with what an attempt failed; the cells of the studies run here
    quarantine/<key>.<when>.json               the manifests of what was damaged

The mirror has the layout of any store. In it a step's folder exists if and only if the bucket had its manifest when it
was last looked at, and files come when they are read: what does not have the size and digest of the manifest is never
seen. `listed/` has what was seen of the bucket, `incoming/` what is on its way. All of it can be removed at any time.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from layover import identity, integrity
from layover.claims import alive, parsed
from layover.errors import Problem, StoreError
from layover.files import inside, read_json, write_json, write_text
from layover.integrity import MANIFEST, NOTE, OWN, WEIGHTS
from layover.objects import Objects
from layover.underway import ClaimObject, Keeper

ORPHAN_SECONDS = 3600.0  # after which an attempt that nobody named is garbage: it may be on its way that long
KINDS = ("manifests", "studies", "errors")  # small objects of which the mirror has all
TOP = (*KINDS, "layover.json", "files", "claims", "resume", "quarantine", "probe")
RESULTS, OF_WEIGHTS, OF_DAMAGE = ".json", f".{WEIGHTS}.json", ".damaged.json"
NAMES = {
    "manifests": re.compile(rf"([0-9a-f]{{{identity.KEY_LENGTH}}})(\.json|\.{WEIGHTS}\.json|\.damaged\.json)"),
    "studies": re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,79})(\.json)"),
    "errors": re.compile(rf"([0-9a-f]{{{identity.KEY_LENGTH}}})(\.txt)"),
}
ATTEMPT = re.compile(r"[0-9a-f]{8,40}")
AGAIN = "the next run of its study does the step again"


def mirror_of(url: str) -> Path:
    """The directory of this machine's mirror of a bucket, in LAYOVER_CACHE or ~/.cache/layover."""
    cache = Path(os.environ.get("LAYOVER_CACHE") or Path.home() / ".cache" / "layover")
    name = re.sub(r"[^A-Za-z0-9]+", "-", url.partition("://")[2]).strip("-")[-40:]
    return cache / "stores" / f"{name}-{sha256(url.encode('utf-8')).hexdigest()[:12]}"


@dataclass(frozen=True)
class Bucket:
    """The bucket that a directory mirrors. `wait` is how long to wait for what another machine is doing."""

    objects: Objects
    root: Path
    wait = 2.0

    def arrive(self, create: bool) -> None:
        """Have the bucket's marker in the mirror, making the store where there is none and that is asked for."""
        place, marker = self.objects.url, self.objects.read("layover.json")
        if marker is None:
            if not create:
                hint = "name one with --store, or run a study first"
                raise StoreError(Problem(place, "is not a layover store", hint))
            if others := sorted(set(self.objects.top()) - set(TOP)):
                message = f"exists and is not a layover store: it has {', '.join(others[:3])}"
                raise StoreError(Problem(place, message, "name an empty or new prefix with --store"))
            self.objects.check()
            self.objects.put_once("layover.json", _bytes({"scheme": identity.SCHEME}))
            marker = self.objects.read("layover.json") or b""
        self.make_folders()
        write_text(self.root / "layover.json", marker.decode("utf-8", "replace"), durable=False)
        write_text(self.root / "mirror.txt", f"{place}\n", durable=False)

    def make_folders(self) -> None:
        """Make what a mirror has beside the folders of a store."""
        for folder in (*(f"listed/{kind}" for kind in KINDS), "incoming"):
            (self.root / folder).mkdir(parents=True, exist_ok=True)

    def address(self, path: Path) -> str:
        """Where in the bucket the place in the mirror comes from."""
        parts = path.relative_to(self.root).parts if path.is_relative_to(self.root) else ()
        if parts[:1] == ("steps",) and len(parts) > 1:
            weights = parts[2:3] == (WEIGHTS,) and len(parts) > 3
            attempt = self._manifest(self.root.joinpath(*parts[: 3 if weights else 2])).get("attempt", "")
            own = len(parts) == 2 or parts[-1] in OWN or parts[2:] == (WEIGHTS,)
            end = OF_WEIGHTS if parts[2:3] == (WEIGHTS,) else RESULTS
            rest = f"manifests/{parts[1]}{end}" if own else f"files/{parts[1]}/{attempt}/{'/'.join(parts[2:])}"
            return f"{self.objects.url}/{rest}"
        kept = parts[:1] in ((), ("layover.json",), ("studies",))
        return "/".join((self.objects.url, *parts)) if kept else str(path)

    # what there is

    def refresh(self, keys: Iterable[str] | None = None) -> None:
        """Make the mirror have what the bucket has now: of these steps, or of all, with records, errors and claims."""
        if keys is not None:
            for end in (RESULTS, OF_WEIGHTS):
                names = [f"{key}{end}" for key in keys]
                for name, data in zip(names, self._read("manifests", names), strict=True):
                    self._take_in("manifests", name, data)
                keys = [key for key in keys if (self.root / "steps" / key).is_dir()]
            return
        for kind in KINDS:
            self._refresh(kind)
        found = [name for name in self.objects.listed("claims") if name.count("/") == 1]
        for name, data in zip(found, self.objects.each(self.objects.read, found), strict=True):
            if (claim := parsed(data or b"")) is not None and inside(name):
                write_json(self.root / name, claim, durable=False)

    def _refresh(self, kind: str) -> None:
        """Take in the objects of a kind that are new or have changed, and forget those that are gone."""
        entries = self.objects.listed(kind).items()
        tokens = {name.partition("/")[2]: entry.token for name, entry in entries}
        listed = {name: token for name, token in tokens.items() if NAMES[kind].fullmatch(name)}
        known = self._known(kind)
        new = [name for name, token in listed.items() if known.get(name) != token]
        new.sort(key=lambda name: (name.endswith(OF_DAMAGE), name))  # a step, its weights, and what is noted of it
        gone = sorted(known.keys() - listed.keys(), reverse=True)
        for name, data in zip(new, self._read(kind, new), strict=True):
            self._take_in(kind, name, data)
            self._saw(kind, name, listed[name])
        # once more, one by one: this process or another may have published it since the listing
        for name, data in zip(gone, self._read(kind, gone), strict=True):
            if data is None:
                self._take_in(kind, name, None)

    def _read(self, kind: str, names: Iterable[str]) -> list[bytes | None]:
        return self.objects.each(lambda name: self.objects.read(f"{kind}/{name}"), names)

    def _known(self, kind: str) -> dict[str, str]:
        """The objects of a kind that the mirror has something of, with what their content was known by."""
        steps = os.scandir(self.root / "steps") if kind == "manifests" else ()
        known = {f"{step.name}{RESULTS}": "" for step in steps}
        seen = (entry.name.rpartition("@") for entry in os.scandir(self.root / "listed" / kind))
        return known | {name: token for name, _, token in seen}

    def _saw(self, kind: str, name: str, token: str | None) -> None:
        """Remember what an object's content is known by; None where there is none."""
        folder = self.root / "listed" / kind
        if token is not None:
            (folder / f"{name}@{token}").touch()
        for old in folder.glob(f"{name}@*"):
            if old.name != f"{name}@{token}":
                old.unlink(missing_ok=True)

    def _take_in(self, kind: str, name: str, data: bytes | None) -> None:
        """Have an object's content where a store has it; None where there is no such object."""
        found = NAMES[kind].fullmatch(name)
        if found is None:
            return
        if data is None:
            self._saw(kind, name, None)
        if kind == "errors":
            aside = self.root / "work" / f"{found[1]}.elsewhere" / "error.txt"
            return _write(aside, data) if data is not None else shutil.rmtree(aside.parent, ignore_errors=True)
        if kind == "studies":
            return _write(self.root / "studies" / name, data)
        folder = self.root / "steps" / found[1]
        if found[2] == OF_DAMAGE:
            return _write(folder / NOTE, data) if folder.is_dir() else None
        return self._have(folder / WEIGHTS if found[2] == OF_WEIGHTS else folder, data)

    def _have(self, part: Path, data: bytes | None) -> None:
        """Have a part, a step's folder or its weights, with this manifest alone, unless it is of that attempt."""
        if data is not None and (part / MANIFEST).is_file() and _attempt(part / MANIFEST) == _attempt(data) is not None:
            return
        aside, made = (self.root / "incoming" / uuid.uuid4().hex for _ in range(2))
        with suppress(FileNotFoundError):
            part.rename(aside)
            (self.root / "catalog.parquet").unlink(missing_ok=True)
            if part.name != WEIGHTS:
                self._saw("manifests", f"{part.name}{OF_WEIGHTS}", None)
            shutil.rmtree(aside, ignore_errors=True)
        if data is None or not part.parent.is_dir():
            return
        made.mkdir()
        (made / MANIFEST).write_bytes(data)
        try:
            made.rename(part)
        except OSError:  # another process did the same
            shutil.rmtree(made, ignore_errors=True)

    # what is in it

    def fetch(self, folder: Path, names: Iterable[str]) -> None:
        """Have files of a finished step in the mirror; raises StoreError where one is not what was written."""
        if not (folder / MANIFEST).is_file():
            self.refresh([folder.name])
        names, prefix = list(names), f"{WEIGHTS}/"
        if weights := [name.removeprefix(prefix) for name in names if name.startswith(prefix)]:
            self._fetch(folder / WEIGHTS, weights)
        self._fetch(folder, [name for name in names if not name.startswith(prefix)] if names else None)

    def fetch_weights(self, folder: Path) -> None:
        """Have the weights of a finished step in the mirror, where the bucket has them."""
        if not (folder / WEIGHTS / MANIFEST).is_file():
            self.refresh([folder.name])
        self._fetch(folder / WEIGHTS, None)

    def _fetch(self, part: Path, names: Iterable[str] | None, tries: int = 2) -> None:
        files = self._files(part)
        missing = [
            name for name in (files if names is None else names) if name in files and not (part / name).is_file()
        ]
        before = _attempt(part / MANIFEST)
        wrong = [pair for pair in self.objects.each(lambda name: (name, self._bring(part, name)), missing) if pair[1]]
        if not wrong:
            return
        key = (part.parent if part.name == WEIGHTS else part).name
        self.refresh([key])  # another machine may have put the step aside meanwhile, and done it again
        if tries > 1 and _attempt(part / MANIFEST) != before:
            return self._fetch(part, names, tries - 1)
        name, what = wrong[0]
        with suppress(StoreError):  # who may only read is told all the same
            self.note(key, {f"{WEIGHTS}/{name}" if part.name == WEIGHTS else name: what})
        hint = f"{AGAIN}; see `layover store verify --store {self.objects.url}`"
        raise StoreError(Problem(self.address(part / name), what, hint))

    def _bring(self, part: Path, name: str, keep: bool = True) -> str:
        """Have one file in the mirror, or look at it alone; what is wrong with its object, "" where nothing is."""
        about, incoming = self._files(part)[name], self.root / "incoming" / uuid.uuid4().hex
        incoming.parent.mkdir(parents=True, exist_ok=True)
        try:
            if not self.objects.download(self._object(part, name), incoming):
                return "is missing"
            if (wrong := integrity.wrong(incoming, about)) or not keep:
                return wrong
            with suppress(FileNotFoundError):  # the part was put aside meanwhile
                (part / name).parent.mkdir(parents=(part / MANIFEST).is_file(), exist_ok=True)
                incoming.replace(part / name)
            return ""
        finally:
            incoming.unlink(missing_ok=True)

    def damage(self, part: Path, anew: bool) -> list[tuple[Path, str]]:
        """What is wrong with a part in the bucket; without `anew` a file that is sound in the mirror is believed."""
        if not (part / MANIFEST).is_file():
            return []
        if _attempt(part / MANIFEST) is None:
            return [(part / MANIFEST, "cannot be read")]

        def look(item: tuple[str, dict[str, Any]]) -> tuple[Path, str]:
            name, about = item
            if not anew and not integrity.wrong(part / name, about):
                return part / name, ""
            # who looks at every object of a large bucket has no room for all weights
            keep = not anew or part.name != WEIGHTS or (part / name).is_file()
            return part / name, self._bring(part, name, keep)

        return [found for found in self.objects.each(look, self._files(part).items()) if found[1]]

    def suspect(self, folder: Path) -> bool:
        """Whether damage was noted, or the manifest itself cannot be read."""
        return (folder / NOTE).exists() or _attempt(folder / MANIFEST) is None

    def size(self, part: Path) -> int:
        """The bytes of a part in the bucket, of a step's folder those of its weights too."""
        own = sum(int(about["bytes"]) for about in self._files(part).values())
        return own + (self.size(part / WEIGHTS) if part.name != WEIGHTS else 0)

    def _manifest(self, part: Path) -> dict[str, Any]:
        """The manifest of a part in the mirror, empty where it has none that can be read."""
        with suppress(OSError, ValueError):
            found = read_json(part / MANIFEST)
            return found if isinstance(found, dict) else {}
        return {}

    def _files(self, part: Path) -> dict[str, dict[str, Any]]:
        """The files of a part with sizes and digests; a name that would lead out of it is none of them."""
        files = self._manifest(part).get("files")
        listed = files.items() if isinstance(files, Mapping) else ()
        return {name: dict(about) for name, about in listed if inside(name) and isinstance(about, Mapping)}

    def _object(self, part: Path, name: str) -> str:
        folder, weights = (part.parent, f"{WEIGHTS}/") if part.name == WEIGHTS else (part, "")
        return f"files/{folder.name}/{_attempt(part / MANIFEST)}/{weights}{name}"

    # publishing, and taking back

    def publish(self, key: str, attempt: Path) -> bool:
        """Upload an attempt and name it in a manifest by one conditional put. False where another one was first.

        Weights that the step which stands does not have are published alone. What was not published goes.
        """
        stands = self.objects.read(f"manifests/{key}{RESULTS}")
        weights, first, others = (attempt / WEIGHTS).is_dir(), False, False
        if stands is None:
            data = _named(attempt, weights=weights)
            self._upload(key, attempt, attempt / WEIGHTS if weights else None)
            first = self.objects.put_once(f"manifests/{key}{RESULTS}", data)
            others = not first and bool(_parsed(self.objects.read(f"manifests/{key}{RESULTS}") or b"").get("weights"))
        elif weights:
            self._upload(key, None, attempt / WEIGHTS)
        # who lost a race leaves the weights to who won it, so that they are of the run that has the scores
        data = _named(attempt / WEIGHTS) if weights and not others else b""
        kept = bool(data) and self.objects.put_once(f"manifests/{key}{OF_WEIGHTS}", data)
        if weights and not kept:
            shutil.rmtree(attempt / WEIGHTS)
        prefix = f"files/{key}/{_id(attempt)}"
        if first:
            self._have(self.root / "steps" / key, None)
            self._saw("manifests", f"{key}{RESULTS}", "")
        else:
            lost = [n for n in self.objects.listed(prefix) if not (kept and n.startswith(f"{prefix}/{WEIGHTS}/"))]
            self.objects.remove(lost)
            self._take_in("manifests", f"{key}{RESULTS}", self.objects.read(f"manifests/{key}{RESULTS}"))
        if kept:
            self._saw("manifests", f"{key}{OF_WEIGHTS}", "")
        return first

    def _upload(self, key: str, attempt: Path | None, weights: Path | None) -> None:
        """Upload the files of an attempt, of its weights, or of both, and see that they are there."""
        parts = [part for part in (attempt, weights) if part is not None]
        root = parts[0].parent if attempt is None else parts[0]
        sizes = {part / name: int(about["bytes"]) for part in parts for name, about in self._files(part).items()}
        prefix = f"files/{key}/{_id(root)}"
        names = {f"{prefix}/{path.relative_to(root).as_posix()}": path for path in sizes}
        self.objects.each(lambda name: self.objects.upload(name, names[name]), names)
        there = self.objects.listed(prefix)
        if lost := [name for name, path in names.items() if name not in there or there[name].size != sizes[path]]:
            hint = "run the same command again: it goes on from the last checkpoint"
            raise StoreError(Problem(f"{self.objects.url}/{lost[0]}", "was uploaded and is not there", hint))

    def discard(self, key: str) -> None:
        """Remove the error of an earlier attempt at a finished step, if any is known; the others are garbage."""
        if f"{key}.txt" in self._known("errors"):
            self.objects.remove([f"errors/{key}.txt"])

    def withdraw(self, key: str, part: Path, why: str) -> None:
        """Remove the manifest of a damaged step, or of its weights, unless it is of another attempt by now."""
        ends = (OF_WEIGHTS,) if part.name == WEIGHTS else (OF_WEIGHTS, RESULTS)
        names = [f"{key}{end}" for end in ends]
        found = dict(zip(names, self._read("manifests", names), strict=True))
        if found[names[-1]] is None or _attempt(found[names[-1]] or b"") != _attempt(part / MANIFEST):
            return
        told = {name: (data or b"").decode("utf-8", "replace") for name, data in found.items()}
        self.objects.put(f"quarantine/{key}.{uuid.uuid4().hex[:8]}.json", _bytes({"why": why, "manifests": told}))
        for name in (*names, f"{key}{OF_DAMAGE}"):  # one after the other: weights are never left without their step
            self.objects.remove([f"manifests/{name}"])
            self._saw("manifests", name, None)

    def note(self, key: str, note: Mapping[str, str] | None) -> None:
        """Say in mirror and bucket what is damaged in a step; None where nothing is."""
        folder, name = self.root / "steps" / key, f"manifests/{key}{OF_DAMAGE}"
        if note is None:
            return self.objects.remove([name])
        _write(folder / NOTE, _bytes(note))
        return self.objects.put(name, _bytes(note))

    def drop_weights(self, folder: Path) -> None:
        """Remove the weights of a finished step: first what names them."""
        names = [self._object(folder / WEIGHTS, name) for name in self._files(folder / WEIGHTS)]
        self.objects.remove([f"manifests/{folder.name}{OF_WEIGHTS}"])
        self._saw("manifests", f"{folder.name}{OF_WEIGHTS}", None)
        self.objects.remove(names)

    # work that is under way, and what it leaves

    def slot(self, path: Path) -> ClaimObject:
        """The claim that all machines see; the mirror has a copy."""
        return ClaimObject(self.objects, path)

    def keeping(self, key: str, folder: Path) -> Keeper:
        """While a step is worked on: its last checkpoint, from wherever it was, and to wherever it goes on."""
        return Keeper(self.objects, key, folder)

    def failed(self, key: str, text: str) -> None:
        """Let others know with what error an attempt ended."""
        with suppress(StoreError):  # this machine has it
            self.objects.put(f"errors/{key}.txt", text.encode("utf-8"))
            self._saw("errors", f"{key}.txt", "")

    def record_study(self, name: str) -> None:
        """Put the record of a study that the mirror has."""
        self.objects.put(f"studies/{name}.json", (self.root / "studies" / f"{name}.json").read_bytes())

    def check(self) -> None:
        """Raise StoreError, before any work, where the bucket cannot be written or has no conditional put."""
        self.objects.check()

    def garbage(self) -> dict[str, int]:
        """Attempts that no manifest names, quarantine, dead claims, and what is left of steps that are finished."""
        groups = ("files", "resume", "errors", "claims", "quarantine", "probe")
        found = {group: self.objects.listed(group) for group in groups}
        self.refresh()  # after the listing: what was published meanwhile is named
        live = {name.split("/")[1][:-5] for name in found["claims"] if _alive(self.objects.read(name))}
        finished = {entry.name for entry in os.scandir(self.root / "steps")}
        newest: dict[tuple[str, ...], float] = {}
        for name, entry in found["files"].items():
            newest[_owner(name)] = max(newest.get(_owner(name), 0.0), entry.modified)
        old = time.time() - ORPHAN_SECONDS
        dead = {
            owner for owner, when in newest.items() if owner[0] not in live and when < old and not self._names(*owner)
        }
        waste = {name: entry.size for name, entry in found["files"].items() if _owner(name) in dead}
        for group in ("resume", "errors"):
            over = finished - live
            waste |= {n: e.size for n, e in found[group].items() if n.split("/")[1].removesuffix(".txt") in over}
        waste |= {n: e.size for n, e in found["claims"].items() if n.split("/")[1][:-5] not in live}
        return waste | {n: e.size for group in ("quarantine", "probe") for n, e in found[group].items()}

    def _names(self, key: str, attempt: str, weights: str) -> bool:
        """Whether a manifest names an attempt: for its weights their own does."""
        return _attempt(self.root / "steps" / key / weights / MANIFEST) == attempt

    def remove(self, names: Iterable[str]) -> None:
        """Remove garbage."""
        self.objects.remove(names)


def _owner(name: str) -> tuple[str, str, str]:
    """The key and the attempt that an object is of, and whether it is of its weights."""
    _, key, attempt, *rest = [*name.split("/"), "", ""]
    return key, attempt, WEIGHTS if rest[0] == WEIGHTS else ""


def _id(attempt: Path) -> str:
    """The attempt's own part of the name of its folder."""
    return attempt.name.rpartition(".")[2]


def _named(part: Path, **more: Any) -> bytes:
    """The manifest of a sealed part with its attempt, also written there."""
    attempt = _id(part.parent if part.name == WEIGHTS else part)
    data = _bytes({"attempt": attempt, **more, **read_json(part / MANIFEST)})
    (part / MANIFEST).write_bytes(data)
    return data


def _attempt(manifest: Path | bytes) -> str | None:
    """The attempt that a manifest names; None where it cannot be read."""
    try:
        found = _parsed(manifest if isinstance(manifest, bytes) else manifest.read_bytes())
    except OSError:
        return None
    attempt, files = found.get("attempt"), found.get("files")
    return attempt if isinstance(files, dict) and isinstance(attempt, str) and ATTEMPT.fullmatch(attempt) else None


def _parsed(data: bytes) -> dict[str, Any]:
    with suppress(ValueError):
        found = json.loads(data)
        return found if isinstance(found, dict) else {}
    return {}


def _bytes(value: Any) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8")


def _write(path: Path, data: bytes | None) -> None:
    """Have this content in a file; None for no file."""
    if data is None:
        path.unlink(missing_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, data.decode("utf-8", "replace"), durable=False)


def _alive(data: bytes | None) -> bool:
    claim = parsed(data or b"")
    return claim is not None and alive(claim)
