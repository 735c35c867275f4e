"""Secrets: tokens, keys and passwords are taken out of whatever is written or shown about a run."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

HIDDEN = "***"
SHORTEST = 8  # what is shorter is a word that stands in texts for other reasons
NAMED = re.compile(r"TOKEN|SECRET|PASSW|CREDENTIAL|PRIVATE|API_?KEY|ACCESS_?KEY|AUTH", re.IGNORECASE)
NOT_SECRET = re.compile(r"_PATH$|_FILE$|_SOCK$|PARALLELISM", re.IGNORECASE)  # TOKENIZERS_PARALLELISM, SSH_AUTH_SOCK
# as the Hub, AWS, Google, GitHub and W&B write them, and wherever an address or a header says that one follows
SHAPES = re.compile(
    r"\bhf_[A-Za-z0-9]{16,}|\b(?:AKIA|ASIA)[A-Z0-9]{16}\b|\bya29\.[\w-]{20,}|\bgh[pousr]_[A-Za-z0-9]{20,}"
    r"|(?<=://)[^/\s:@]+:[^/\s@]+(?=@)|(?<=[Bb]earer )[\w.~+/-]{8,}=*"
    r"|(?<=[?&])(?:X-Amz-(?:Signature|Credential|Security-Token)|sig|signature|token|key)=[^&\s'\"]+"
)


def redacted(text: str) -> str:
    """A text without the secrets of this process's environment, and without what looks like one.

    >>> redacted("cannot open s3://me:hunter22@bucket/store")
    'cannot open s3://***@bucket/store'
    """
    return _without(_known(), text)


def redacted_words(value: Any) -> Any:
    """Words of a study, or any such nested value, with every text redacted."""
    return _without(_known(), value)


def _without(known: set[str], value: Any) -> Any:
    if isinstance(value, str):
        for secret in sorted(known, key=len, reverse=True):
            value = value.replace(secret, HIDDEN)
        return SHAPES.sub(HIDDEN, value)
    if isinstance(value, Mapping):
        return {name: _without(known, item) for name, item in value.items()}
    return [_without(known, item) for item in value] if isinstance(value, list | tuple) else value


def _known() -> set[str]:
    """The secrets that this process has: variables called so, the Hub's token from its file, settings of fsspec."""
    named = {value for name, value in os.environ.items() if NAMED.search(name) and not NOT_SECRET.search(name)}
    return {value.strip() for value in named | {_hub_token(), *_settings()} if len(value.strip()) >= SHORTEST}


def _settings() -> Iterator[str]:
    """What fsspec has read from its files and its variables for buckets, as far as it is called a secret or a key."""
    services = getattr(sys.modules.get("fsspec.config"), "conf", {})
    for options in services.values():
        for name, value in options.items() if isinstance(options, Mapping) else ():
            if isinstance(value, str) and (name == "key" or NAMED.search(name)):
                yield value


def _hub_token() -> str:
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    try:
        return Path(os.environ.get("HF_TOKEN_PATH") or home / "token").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
