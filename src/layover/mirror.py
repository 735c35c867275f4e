"""Mirror: what this machine has of a store in a bucket, in the layout of any store (see `layover.bucket`).

A step's folder exists if and only if the bucket had its manifest when it was last looked at, and files come when they
are read: what does not have the size and digest of the manifest is never seen. `listed/` has what was seen of the
bucket, `incoming/` what is on its way. All of it can be removed at any time.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import uuid
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from layover import identity, integrity, pulse
from layover.errors import Problem, StoreError
from layover.files import inside, read_json, write_bytes
from layover.integrity import CATALOG, MANIFEST, NOTE, OWN, WEIGHTS
from layover.objects import Objects
from layover.underway import copy_claims

KINDS = ("manifests", "studies", "errors")  # small objects of which the mirror has all
RESULTS, OF_WEIGHTS, OF_DAMAGE = ".json", f".{WEIGHTS}.json", ".damaged.json"
NAMES = {
    "manifests": re.compile(rf"([0-9a-f]{{{identity.KEY_LENGTH}}})(\.json|\.{WEIGHTS}\.json|\.damaged\.json)"),
    "studies": re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,79})(\.json|\.steps\.parquet|\.cells\.parquet)"),
    "errors": re.compile(rf"([0-9a-f]{{{identity.KEY_LENGTH}}})(\.txt)"),
}
ATTEMPT = re.compile(r"[0-9a-f]{8,40}")
AGAIN = "the next run of its study does the step again"


def mirror_of(url: str) -> Path:
    """The directory of this machine's mirror of a bucket, in LAYOVER_CACHE or ~/.cache/layover."""
    cache = Path(os.environ.get("LAYOVER_CACHE") or Path.home() / ".cache" / "layover")
    name = re.sub(r"[^A-Za-z0-9]+", "-", url.partition("://")[2]).strip("-")[-40:]
    return cache / "stores" / f"{name}-{sha256(url.encode('utf-8')).hexdigest()[:12]}"


class Source(NamedTuple):
    """Where a file of the mirror comes from: an object, and what the manifest says about it."""

    object: str
    about: dict[str, Any]


@dataclass(frozen=True)
class Mirror:
    """A directory, and the bucket that it mirrors."""

    objects: Objects
    root: Path

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
        if keys is None:
            for kind in KINDS:
                self._refresh(kind)
            return copy_claims(self.objects, self.root / "claims")
        found = list(keys)
        for end in (RESULTS, OF_WEIGHTS):
            names = [f"{key}{end}" for key in found]
            for name, data in zip(names, self.read("manifests", names), strict=True):
                self.take_in("manifests", name, data)
            found = [key for key in found if (self.root / "steps" / key).is_dir()]
        return None

    def _refresh(self, kind: str) -> None:
        """Take in the objects of a kind that are new or have changed, and forget those that are gone."""
        entries = self.objects.listed(kind).items()
        tokens = {name.partition("/")[2]: entry.token for name, entry in entries}
        listed = {name: token for name, token in tokens.items() if NAMES[kind].fullmatch(name)}
        known = self.known(kind)
        new = [name for name, token in listed.items() if known.get(name) != token]
        new.sort(key=lambda name: (name.endswith(OF_DAMAGE), name))  # a step, its weights, and what is noted of it
        gone = sorted(known.keys() - listed.keys(), reverse=True)
        for name, data in zip(new, self.read(kind, new), strict=True):
            self.take_in(kind, name, data)
            self.saw(kind, name, listed[name], known.get(name))
        # once more, one by one: this process or another may have published it since the listing
        for name, data in zip(gone, self.read(kind, gone), strict=True):
            if data is None:
                self.take_in(kind, name, None)

    def read(self, kind: str, names: Iterable[str]) -> list[bytes | None]:
        """The objects of a kind with these names, None for those that are not there."""
        return self.objects.each(lambda name: self.objects.read(f"{kind}/{name}"), names)

    def known(self, kind: str) -> dict[str, str]:
        """The objects of a kind that the mirror has something of, with what their content was known by."""
        steps = os.scandir(self.root / "steps") if kind == "manifests" else ()
        known = {f"{step.name}{RESULTS}": "" for step in steps}
        seen = (entry.name.rpartition("@") for entry in os.scandir(self.root / "listed" / kind))
        return known | {name: token for name, _, token in seen}

    def saw(self, kind: str, name: str, token: str = "", before: str | None = None) -> None:
        """Remember what an object's content is known by, "" for whatever it is, and no longer what it was before."""
        folder = self.root / "listed" / kind
        (folder / f"{name}@{token}").touch()
        if before not in (None, token):
            (folder / f"{name}@{before}").unlink(missing_ok=True)

    def forget(self, kind: str, name: str) -> None:
        """Remember nothing of an object."""
        for seen in (self.root / "listed" / kind).glob(f"{name}@*"):
            seen.unlink(missing_ok=True)

    def take_in(self, kind: str, name: str, data: bytes | None) -> None:
        """Have an object's content where a store has it; None where there is no such object."""
        found = NAMES[kind].fullmatch(name)
        if found is None:
            return
        if data is None:
            self.forget(kind, name)
        if kind == "errors":
            aside = self.root / "work" / f"{found[1]}.elsewhere" / "error.txt"
            return place(aside, data) if data is not None else shutil.rmtree(aside.parent, ignore_errors=True)
        if kind == "studies":
            return place(self.root / "studies" / name, data)
        folder = self.root / "steps" / found[1]
        if found[2] == OF_DAMAGE:
            return place(folder / NOTE, data) if folder.is_dir() else None
        return self.have(folder / WEIGHTS if found[2] == OF_WEIGHTS else folder, data)

    def have(self, part: Path, data: bytes | None) -> None:
        """Have a part, a step's folder or its weights, with this manifest alone, unless it is of that attempt."""
        if (
            data is not None
            and (part / MANIFEST).is_file()
            and attempt_of(part / MANIFEST) == attempt_of(data) is not None
        ):
            return
        aside, made = (self.root / "incoming" / uuid.uuid4().hex for _ in range(2))
        made.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            part.rename(aside)
            (self.root / CATALOG).unlink(missing_ok=True)
            if part.name != WEIGHTS:
                self.forget("manifests", f"{part.name}{OF_WEIGHTS}")
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
        files, before = self.files(part), attempt_of(part / MANIFEST)
        wanted = [name for name in (files if names is None else names) if name in files]
        missing = [name for name in wanted if not (part / name).is_file()]
        found = self.objects.each(lambda name: self._bring(part, name, files[name]), missing)
        wrong = [(name, what) for name, what in zip(missing, found, strict=True) if what]
        if not wrong:
            return
        key = (part.parent if part.name == WEIGHTS else part).name
        self.refresh([key])  # another machine may have put the step aside meanwhile, and done it again
        if tries > 1 and attempt_of(part / MANIFEST) != before:
            return self._fetch(part, names, tries - 1)
        name, what = wrong[0]
        with suppress(StoreError):  # who may only read is told all the same
            self.note(key, {f"{WEIGHTS}/{name}" if part.name == WEIGHTS else name: what})
        hint = f"{AGAIN}; see `layover store verify --store {self.objects.url}`"
        raise StoreError(Problem(self.address(part / name), what, hint))

    def _bring(self, part: Path, name: str, source: Source, keep: bool = True) -> str:
        """Have one file in the mirror, or look at it alone; what is wrong with its object, "" where nothing is."""
        incoming = self.root / "incoming" / uuid.uuid4().hex
        incoming.parent.mkdir(parents=True, exist_ok=True)
        try:
            if not self.objects.download(source.object, incoming):
                return "is missing"
            if (wrong := integrity.wrong(incoming, source.about)) or not keep:
                return wrong
            if source == self.files(part).get(name):  # else another process has put the part aside meanwhile
                (part / name).parent.mkdir(parents=True, exist_ok=True)
                incoming.replace(part / name)
            return ""
        finally:
            incoming.unlink(missing_ok=True)
            pulse.beat()

    def note(self, key: str, note: Mapping[str, str] | None) -> None:
        """Say in mirror and bucket what is damaged in a step; None where nothing is."""
        folder, name = self.root / "steps" / key, f"manifests/{key}{OF_DAMAGE}"
        if note is None:
            return self.objects.remove([name])
        place(folder / NOTE, as_json(note))
        return self.objects.put(name, as_json(note))

    def damage(self, part: Path, anew: bool) -> list[tuple[Path, str]]:
        """What is wrong with a part in the bucket; without `anew` a file that is sound in the mirror is believed."""
        if not (part / MANIFEST).is_file():
            return []
        if attempt_of(part / MANIFEST) is None:
            return [(part / MANIFEST, "cannot be read")]

        def look(item: tuple[str, Source]) -> tuple[Path, str]:
            name, source = item
            if not anew and not integrity.wrong(part / name, source.about):
                return part / name, ""
            # who looks at every object of a large bucket has no room for all weights
            keep = not anew or part.name != WEIGHTS or (part / name).is_file()
            return part / name, self._bring(part, name, source, keep)

        return [found for found in self.objects.each(look, self.files(part).items()) if found[1]]

    def suspect(self, folder: Path) -> bool:
        """Whether damage was noted, or the manifest itself cannot be read."""
        return (folder / NOTE).exists() or attempt_of(folder / MANIFEST) is None

    def size(self, part: Path) -> int:
        """The bytes of a part in the bucket, of a step's folder those of its weights too."""
        own = sum(source.about["bytes"] for source in self.files(part).values())
        return own + (self.size(part / WEIGHTS) if part.name != WEIGHTS else 0)

    def _manifest(self, part: Path) -> dict[str, Any]:
        """The manifest of a part in the mirror, empty where it has none that can be read."""
        with suppress(OSError, ValueError):
            found = read_json(part / MANIFEST)
            return found if isinstance(found, dict) else {}
        return {}

    def files(self, part: Path) -> dict[str, Source]:
        """The files of a part and where they come from; a name that would lead out of it is none of them."""
        manifest = self._manifest(part)
        files, attempt = manifest.get("files"), manifest.get("attempt")
        listed = files.items() if isinstance(files, Mapping) else ()
        folder, weights = (part.parent, f"{WEIGHTS}/") if part.name == WEIGHTS else (part, "")
        return {
            name: Source(f"files/{folder.name}/{attempt}/{weights}{name}", dict(about))
            for name, about in listed
            if inside(name) and isinstance(about, Mapping) and type(about.get("bytes")) is int
        }


def attempt_of(manifest: Path | bytes) -> str | None:
    """The attempt that a manifest names; None where it cannot be read."""
    try:
        found = content_of(manifest if isinstance(manifest, bytes) else manifest.read_bytes())
    except OSError:
        return None
    attempt, files = found.get("attempt"), found.get("files")
    return attempt if isinstance(files, dict) and isinstance(attempt, str) and ATTEMPT.fullmatch(attempt) else None


def content_of(data: bytes) -> dict[str, Any]:
    """The JSON object that these bytes are; an empty one where they are none."""
    with suppress(ValueError):
        found = json.loads(data)
        return found if isinstance(found, dict) else {}
    return {}


def as_json(value: Any) -> bytes:
    """A value as the content of an object."""
    return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8")


def place(path: Path, data: bytes | None) -> None:
    """Have this content in a file; None for no file."""
    if data is None:
        path.unlink(missing_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, data, durable=False)
