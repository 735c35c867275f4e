"""Warm: what a process keeps from run to run: imports, and encoders and tokenizers as they were loaded.

An encoder that is kept is never trained nor even called. A run gets a copy of it, whose modules, settings and tensors
are all its own: whatever a run does to its encoder (weights, dropout, hooks, modules put in or taken out), the next one
cannot see. Copying takes milliseconds, since the weights that are kept are those of the memory-mapped file.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from layover import trust
from layover.encoders import location_parts
from layover.errors import EncoderError, HubError, Problem, UserError
from layover.files import read_json
from layover.train import surgery, tokens
from layover.train.determinism import quiet

KEPT = 4  # encoders, each with one setting of dropout: a sweep goes back and forth between a few
INITIAL_SEED = 0  # of weights that a file lacks: they are the same for all runs, like those that it has


@dataclass(frozen=True)
class Tokenizer:
    """A tokenizer, and what it was like when it was loaded."""

    tokenizer: Any
    fingerprint: str


def prepare(locations: Iterable[str]) -> None:
    """Import what a training needs, and load the first encoders; one that cannot be loaded is its step's to report."""
    quiet()
    _first_optimizer_step()
    from layover.train import work  # noqa: F401

    for location in islice(locations, KEPT):
        with suppress(UserError):
            encoder(location, None)
            tokenizer(location)


def encoder(location: str, dropout: float | None, start: Path | None = None) -> Any:
    """A new copy of the encoder at `location`, with the weights in `start` if given.

    `dropout` is every rate in its configuration; None leaves its own. Raises EncoderError or HubError.
    """
    kept = _encoder(location, stamp(location), dropout)
    own: dict[int, Any] = {id(p): nn.Parameter(torch.empty_like(p), p.requires_grad) for p in kept.parameters()}
    own |= {id(buffer): buffer.clone() for buffer in kept.buffers()}
    found = copy.deepcopy(kept, own)  # modules and settings are copied, tensors are those of `own`
    if start is not None and (numbers := arranged(start)):
        surgery.arrange(found, numbers)
    found.load_state_dict(kept.state_dict() if start is None else load_file(start / "encoder.safetensors"))
    return found


def arranged(start: Path) -> list[int] | None:
    """The plain encoder's layers that a folder has weights of, in their order; None where it has all as they are."""
    config = start / "config.json"  # which folders of an older layover do not have
    return surgery.arranged(read_json(config)) if config.is_file() else None


def tokenizer(location: str) -> Any:
    """The tokenizer at `location`, as it was loaded. Raises EncoderError or HubError."""
    arguments = location, stamp(location)
    kept = _tokenizer(*arguments)
    if _fingerprint(kept.tokenizer) != kept.fingerprint:  # a run changed it
        _tokenizer.cache_clear()
        kept = _tokenizer(*arguments)
    return kept.tokenizer


def config(location: str) -> Any:
    """The configuration of the encoder at `location`, without its weights. Raises EncoderError or HubError."""
    from transformers import AutoConfig

    return _loaded(location, lambda name, revision: AutoConfig.from_pretrained(name, revision=revision, **trusting()))


def own_dropout(config: Any) -> float:
    """The dropout that the encoder's own classifier would use."""
    for name in ("classifier_dropout", "hidden_dropout_prob", "hidden_dropout", "mlp_dropout"):
        value = getattr(config, name, None)
        if value is not None and _is_rate(value):
            return float(value)
    return 0.0


@lru_cache(maxsize=KEPT)
def _encoder(location: str, stamp: Any, dropout: float | None) -> Any:
    """An encoder without a pooler: heads read the hidden states, so that it would be dead weight."""
    from transformers import AutoConfig, AutoModel

    def load(name: str, revision: str | None) -> Any:
        config = AutoConfig.from_pretrained(name, revision=revision, **trusting())
        for key, value in config.to_dict().items() if dropout is not None else ():
            if "dropout" in key and _is_rate(value):
                setattr(config, key, dropout)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(INITIAL_SEED)
            return AutoModel.from_pretrained(
                name, revision=revision, config=config, dtype=torch.float32, use_safetensors=True, **trusting()
            )

    found = _loaded(location, load)
    if getattr(found, "pooler", None) is not None:
        found.pooler = None
    return found


@lru_cache(maxsize=KEPT)
def _tokenizer(location: str, stamp: Any) -> Tokenizer:
    from transformers import AutoTokenizer

    def load(name: str, revision: str | None) -> Any:
        return AutoTokenizer.from_pretrained(name, revision=revision, **trusting())

    found = _loaded(location, load)
    if found.pad_token_id is None or not found.is_fast:
        raise EncoderError(
            Problem(location, "has no fast tokenizer with a padding token", "convert it with AutoTokenizer")
        )
    return Tokenizer(found, _fingerprint(found))


def _loaded(location: str, load: Any) -> Any:
    """What `load(name, revision)` finds at a location; raises EncoderError or HubError where it cannot."""
    name, revision = location_parts(location)
    try:
        return load(name, revision)
    except (OSError, ValueError, KeyError) as error:
        kind = EncoderError if Path(name).is_dir() else HubError
        if "trust_remote_code" in str(error):
            message = "comes with code of its own, which is not run unless you say so"
            hint = "read that code, and if you trust it: the same command with --trust-remote-code"
            raise kind(Problem(location, message, hint)) from error
        message = f"cannot be loaded: {str(error).splitlines()[0]}"
        raise kind(Problem(location, message, "see `layover doctor`")) from error


def trusting() -> dict[str, bool]:
    """What the Auto classes are told of code that comes with an encoder."""
    return {"trust_remote_code": trust.allowed()}


def stamp(location: str) -> Any:
    """What changes when the files of a directory are written again, or its code is trusted; the Hub's never change."""
    folder = Path(location)
    if not folder.is_dir():
        return trust.allowed()
    stats = sorted((path.name, path.stat()) for path in folder.iterdir())
    return trust.allowed(), *((name, stat.st_ino, stat.st_size, stat.st_mtime_ns) for name, stat in stats)


def _fingerprint(tokenizer: Any) -> str:
    """All of a tokenizer that a run could change: what decides its tokens, and the settings around them."""
    return tokens.digest(tokenizer) + repr(tokenizer)


def _is_rate(value: Any) -> bool:
    return isinstance(value, float | int) and not isinstance(value, bool)


def _first_optimizer_step() -> None:
    """Take the first AdamW step of a process, which imports for 1.7 s."""
    layer = nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(layer.parameters(), fused=True)
    layer(torch.ones(1, 2)).sum().backward()
    optimizer.step()
