"""Identity: the canonical form of a value and the key made from it.

The key scheme is a file format. Changing what this module returns for any value orphans every finished
step of every user, so `SCHEME` then goes up and `tests/golden/keys.json` shows the change.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

SCHEME = 1
KEY_LENGTH = 16  # 64 bits: a collision among 100,000 steps has probability 3e-10


def key(kind: str, value: object) -> str:
    """The key of `value`: sha256 over its kind, the scheme and its canonical form, 16 hex digits.

    Raises TypeError, naming the path, where `value` holds anything but known types.
    """
    text = json.dumps([SCHEME, kind, canonical(value)], sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:KEY_LENGTH]


def canonical(value: Any, path: str = "") -> Any:
    """`value` as JSON-like data: None, bool, int, finite float, str, list and str-keyed dict only.

    A dataclass becomes the dict of its fields. A field declared with `neutral(...)` is left out while it
    holds that value, so that a field added later leaves old keys as they were. Anything that has no
    single obvious JSON form (sets, bytes, functions, NaN, subclasses of known types) is refused: a
    permissive `str()` would silently give equal things different keys.
    """
    if value is None or type(value) in (bool, int, str):
        return value
    if type(value) is float:
        if not math.isfinite(value):
            raise TypeError(f"{path or 'value'}: {value!r} has no canonical form")
        return value
    if type(value) in (list, tuple):
        return [canonical(item, f"{path}[{i}]") for i, item in enumerate(value)]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _canonical_fields(value, path)
    if isinstance(value, Mapping):
        for name in value:
            if type(name) is not str:
                raise TypeError(f"{path or 'value'}: key {name!r} is not a string")
        return {name: canonical(item, f"{path}.{name}".lstrip(".")) for name, item in value.items()}
    raise TypeError(f"{path or 'value'}: {type(value).__name__} {value!r} has no canonical form")


def neutral(value: Any) -> Any:
    """A dataclass field, added after its class was first used, whose default leaves keys unchanged."""
    return dataclasses.field(default=value, metadata={"neutral": value})


def _canonical_fields(value: Any, path: str) -> dict[str, Any]:
    fields = {}
    for field in dataclasses.fields(value):
        item = getattr(value, field.name)
        if "neutral" in field.metadata:
            default = field.metadata["neutral"]
            if type(item) is type(default) and item == default:  # False == 0, but is written otherwise
                continue
        fields[field.name] = canonical(item, f"{path}.{field.name}".lstrip("."))
    return fields
