"""Bucket: a store's directory as this machine's mirror of a store in a bucket.

    layover.json                               the scheme of the store
    manifests/<key>.json                       a finished step: written last, by one conditional put. It has the
                                               attempt, and the sizes and digests of its files
    manifests/<key>.weights.json               the same of its weights, which come and go apart
    manifests/<key>.damaged.json               what `layover store verify` found, for the next run to mend
    files/<key>/<attempt>/...                  the files; of no account until a manifest names their attempt
    claims/<key>.json  resume/<key>/...        who works on a step, and its last checkpoint (see `layover.underway`)
    errors/<key>.txt  studies/<name>.json      with what an attempt failed; the studies run here, and their plans
    quarantine/<key>.<when>.json               the manifests of what was damaged

The mirror has the layout of any store. In it a step's folder exists if and only if the bucket had its manifest when it
was last looked at, and files come when they are read: what does not have the size and digest of the manifest is never
seen. `listed/` has what was seen of the bucket, `incoming/` what is on its way. All of it can be removed at any time.
"""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from layover import identity, pulse
from layover.claims import alive, parsed
from layover.errors import Problem, StoreError
from layover.files import read_json, write_text
from layover.integrity import MANIFEST, WEIGHTS
from layover.mirror import KINDS, OF_DAMAGE, OF_WEIGHTS, RESULTS, Mirror, as_json, attempt_of, content_of
from layover.objects import Objects
from layover.records import plan_files, unused
from layover.underway import ClaimObject, Keeper

ORPHAN_SECONDS = 3600.0  # after which an attempt that nobody named is garbage: it may be on its way that long
TOP = (*KINDS, "layover.json", "files", "claims", "resume", "quarantine", "probe")


@dataclass(frozen=True)
class Bucket:
    """The bucket that a directory mirrors. `wait` is how long to wait for what another machine is doing."""

    mirror: Mirror
    wait = 2.0

    @property
    def objects(self) -> Objects:
        """What is in the bucket."""
        return self.mirror.objects

    @property
    def root(self) -> Path:
        """The mirror's directory."""
        return self.mirror.root

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
            self.objects.put_once("layover.json", as_json({"scheme": identity.SCHEME}))
            marker = self.objects.read("layover.json") or b""
        self.mirror.make_folders()
        write_text(self.root / "layover.json", marker.decode("utf-8", "replace"), durable=False)
        write_text(self.root / "mirror.txt", f"{place}\n", durable=False)

    # what there is, and what is in it: see `layover.mirror`

    def address(self, path: Path) -> str:
        """Where in the bucket the place in the mirror comes from."""
        return self.mirror.address(path)

    def refresh(self, keys: Iterable[str] | None = None) -> None:
        """Make the mirror have what the bucket has now: of these steps, or of all, with records, errors and claims."""
        self.mirror.refresh(keys)

    def fetch(self, folder: Path, names: Iterable[str]) -> None:
        """Have files of a finished step in the mirror, and none that is not what was written."""
        self.mirror.fetch(folder, names)

    def fetch_weights(self, folder: Path) -> None:
        """Have the weights of a finished step in the mirror, where the bucket has them."""
        self.mirror.fetch_weights(folder)

    def damage(self, part: Path, anew: bool) -> list[tuple[Path, str]]:
        """What is wrong with a part in the bucket; without `anew` a file that is sound in the mirror is believed."""
        return self.mirror.damage(part, anew)

    def suspect(self, folder: Path) -> bool:
        """Whether damage was noted, or the manifest itself cannot be read."""
        return self.mirror.suspect(folder)

    def note(self, key: str, note: Mapping[str, str] | None) -> None:
        """Say in mirror and bucket what is damaged in a step; None where nothing is."""
        self.mirror.note(key, note)

    def size(self, part: Path) -> int:
        """The bytes of a part in the bucket, of a step's folder those of its weights too."""
        return self.mirror.size(part)

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
            winner = b"" if first else self.objects.read(f"manifests/{key}{RESULTS}")
            others = bool(content_of(winner or b"").get("weights"))
        elif weights:
            self._upload(key, None, attempt / WEIGHTS)
        # who lost a race leaves the weights to who won it, so that they are of the run that has the scores
        data = _named(attempt / WEIGHTS) if weights and not others else b""
        kept = bool(data) and self.objects.put_once(f"manifests/{key}{OF_WEIGHTS}", data)
        if weights and not kept:
            shutil.rmtree(attempt / WEIGHTS)
        prefix = f"files/{key}/{_id(attempt)}"
        if first:
            self.mirror.have(self.root / "steps" / key, None)
            self.mirror.saw("manifests", f"{key}{RESULTS}")
        else:
            lost = [n for n in self.objects.listed(prefix) if not (kept and n.startswith(f"{prefix}/{WEIGHTS}/"))]
            self.objects.remove(lost)
            self.mirror.take_in("manifests", f"{key}{RESULTS}", self.objects.read(f"manifests/{key}{RESULTS}"))
        if kept:
            self.mirror.saw("manifests", f"{key}{OF_WEIGHTS}")
        return first

    def _upload(self, key: str, attempt: Path | None, weights: Path | None) -> None:
        """Upload the files of an attempt, of its weights, or of both, and see that they are there."""
        parts = [part for part in (attempt, weights) if part is not None]
        root = parts[0].parent if attempt is None else parts[0]
        sizes = {part / name: one.about["bytes"] for part in parts for name, one in self.mirror.files(part).items()}
        prefix = f"files/{key}/{_id(root)}"
        names = {f"{prefix}/{path.relative_to(root).as_posix()}": path for path in sizes}

        def upload(name: str) -> None:
            self.objects.upload(name, names[name])
            pulse.beat()

        self.objects.each(upload, names)
        there = self.objects.listed(prefix)
        if lost := [name for name, path in names.items() if name not in there or there[name].size != sizes[path]]:
            hint = "run the same command again: it goes on from the last checkpoint"
            raise StoreError(Problem(f"{self.objects.url}/{lost[0]}", "was uploaded and is not there", hint))

    def discard(self, key: str) -> None:
        """Remove the error of an earlier attempt at a finished step, if any is known; the others are garbage."""
        if f"{key}.txt" in self.mirror.known("errors"):
            self.objects.remove([f"errors/{key}.txt"])

    def withdraw(self, key: str, part: Path, why: str) -> None:
        """Remove the manifest of a damaged step, or of its weights, unless it is of another attempt by now."""
        ends = (OF_WEIGHTS,) if part.name == WEIGHTS else (OF_WEIGHTS, RESULTS)
        names = [f"{key}{end}" for end in ends]
        found = dict(zip(names, self.mirror.read("manifests", names), strict=True))
        if found[names[-1]] is None or attempt_of(found[names[-1]] or b"") != attempt_of(part / MANIFEST):
            return
        told = {name: (data or b"").decode("utf-8", "replace") for name, data in found.items()}
        self.objects.put(f"quarantine/{key}.{uuid.uuid4().hex[:8]}.json", as_json({"why": why, "manifests": told}))
        for name in (*names, f"{key}{OF_DAMAGE}"):  # one after the other: weights are never left without their step
            self.objects.remove([f"manifests/{name}"])
            self.mirror.forget("manifests", name)

    def drop_weights(self, folder: Path) -> None:
        """Remove the weights of a finished step: first what names them."""
        names = [source.object for source in self.mirror.files(folder / WEIGHTS).values()]
        self.objects.remove([f"manifests/{folder.name}{OF_WEIGHTS}"])
        self.mirror.forget("manifests", f"{folder.name}{OF_WEIGHTS}")
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
            self.mirror.saw("errors", f"{key}.txt")

    def record_study(self, name: str) -> None:
        """Put the record of a study that the mirror has, after its plan, which is put once."""
        for path in plan_files(self.root / "studies" / f"{name}.json"):
            if path.name not in self.mirror.known("studies"):
                self.objects.put_once(f"studies/{path.name}", path.read_bytes())
                self.mirror.saw("studies", path.name)
        self.objects.put(f"studies/{name}.json", (self.root / "studies" / f"{name}.json").read_bytes())

    def check(self) -> None:
        """Raise StoreError, before any work, where the bucket cannot be written or has no conditional put."""
        self.objects.check()

    def garbage(self) -> dict[str, int]:
        """Attempts that no manifest names, quarantine, dead claims, and what is left of steps that are finished."""
        groups = ("studies", "files", "resume", "errors", "claims", "quarantine", "probe")
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
        waste |= {n: e.size for n, e in found["probe"].items() if e.modified < old}
        plans = {f"studies/{path.name}" for path in unused(self.root / "studies")}
        waste |= {n: e.size for n, e in found["studies"].items() if n in plans and e.modified < old}
        return waste | {n: e.size for n, e in found["quarantine"].items()}

    def _names(self, key: str, attempt: str, weights: str) -> bool:
        """Whether a manifest names an attempt: for its weights their own does."""
        return attempt_of(self.root / "steps" / key / weights / MANIFEST) == attempt

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
    data = as_json({"attempt": attempt, **more, **read_json(part / MANIFEST)})
    (part / MANIFEST).write_bytes(data)
    return data


def _alive(data: bytes | None) -> bool:
    claim = parsed(data or b"")
    return claim is not None and alive(claim)
