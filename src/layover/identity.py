"""Identity: the canonical form of a value and the key made from it.

The key scheme is a file format. Changing what this module returns for any value orphans every finished
step of every user, so `SCHEME` then goes up and `tests/golden/keys.json` shows the change.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
from collections.abc import Callable, Mapping
from typing import Any

SCHEME = 1
_json = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode
REMEMBERED = 4096  # dataclasses whose form is kept, with the object itself, so that no other has its id
_written: dict[int, tuple[Any, str]] = {}
_keys: dict[int, tuple[Any, str, str]] = {}
KEY_LENGTH = 16  # 64 bits: a collision among 100,000 steps has probability 3e-10


def key(kind: str, value: object) -> str:
    """The key of `value`: sha256 over its kind, the scheme and its canonical form, 16 hex digits.

    Raises TypeError, naming the path, where `value` holds anything but known types.
    """
    known = _keys.get(id(value))
    if known is not None and known[0] is value and known[1] == kind:
        return known[2]
    written = f"[{SCHEME},{_json(kind)},{_text(value)}]"
    found = hashlib.sha256(written.encode("ascii")).hexdigest()[:KEY_LENGTH]
    if dataclasses.is_dataclass(value):  # which does not change
        _remember(_keys, value, (value, kind, found))
    return found


def _remember(kept: dict[int, Any], value: Any, what: Any) -> None:
    if len(kept) >= REMEMBERED:
        kept.clear()
    kept[id(value)] = what


def _text(value: Any, path: str = "") -> str:
    """The canonical form of a value as JSON, with sorted keys. Parts that steps share are written once."""
    if value is None or type(value) in (str, int, bool):
        return _json(value)
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return _json(canonical(value, path))
    known = _written.get(id(value))
    if known is not None and known[0] is value:
        return known[1]
    found = [
        f"{spelt}:{_text(getattr(value, name), _below(path, name))}"
        for name, spelt, is_written in _in_order(type(value))
        if is_written(getattr(value, name))
    ]
    text = f"{{{','.join(found)}}}"
    _remember(_written, value, (value, text))
    return text


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
    declared = ((name, getattr(value, name), is_written) for name, is_written in _declared(type(value)))
    return {name: canonical(item, _below(path, name)) for name, item, is_written in declared if is_written(item)}


@functools.cache
def _declared(cls: type) -> list[tuple[str, Callable[[Any], bool]]]:
    """The fields of a dataclass as declared, and what says whether a value is written; classes take their time."""
    return [(field.name, _written_if(field.metadata)) for field in dataclasses.fields(cls)]


@functools.cache
def _in_order(cls: type) -> list[tuple[str, str, Callable[[Any], bool]]]:
    """The fields of a dataclass by name, the name as JSON, and whether a value is written."""
    return sorted((name, _json(name), is_written) for name, is_written in _declared(cls))


def _written_if(metadata: Mapping[Any, Any]) -> Callable[[Any], bool]:
    if "neutral" not in metadata:
        return lambda item: True
    neutral_value = metadata["neutral"]
    # False == 0, but is written otherwise
    return lambda item: not (type(item) is type(neutral_value) and item == neutral_value)


def _below(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
