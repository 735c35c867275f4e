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
KEY_LENGTH = 16  # 64 bits: a collision among 100,000 steps has probability 3e-10
REMEMBERED = 4096  # frozen dataclasses whose form is kept, with the object itself, so that no other has its id

_json = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode
_plain: dict[type, Callable[[Any], str]] = {
    str: json.encoder.encode_basestring_ascii,
    int: int.__repr__,
    bool: {False: "false", True: "true"}.__getitem__,
    type(None): lambda _: "null",
}
_written: dict[int, tuple[Any, str]] = {}
_keys: dict[int, tuple[Any, str, str]] = {}


def key(kind: str, value: object) -> str:
    """The key of `value`: sha256 over its kind, the scheme and its canonical form, 16 hex digits.

    Raises TypeError, naming the path, where `value` holds anything but known types.
    """
    known = _keys.get(id(value))
    if known is not None and known[0] is value and known[1] == kind:
        return known[2]
    try:
        written = f"[{SCHEME},{_json(kind)},{text(value)}]"
    except TypeError:
        canonical(value)  # says where
        raise
    found = hashlib.sha256(written.encode("ascii")).hexdigest()[:KEY_LENGTH]
    _remember(_keys, value, (value, kind, found))
    return found


def _remember(kept: dict[int, Any], value: Any, what: Any) -> None:
    if not getattr(getattr(value, "__dataclass_params__", None), "frozen", False):
        return  # it may change
    if len(kept) >= REMEMBERED:
        kept.clear()
    kept[id(value)] = what


def text(value: Any) -> str:
    """The canonical form of a value as JSON, with sorted keys. Parts that steps share are written once."""
    if (plain := _plain.get(type(value))) is not None:
        return plain(value)
    known = _written.get(id(value))
    if known is not None and known[0] is value:
        return known[1]
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return _json(canonical(value))
    items = ((spelt, getattr(value, name), default) for name, spelt, default in _in_order(type(value)))
    found = f"{{{','.join([spelt + text(item) for spelt, item, default in items if not _left_out(item, default)])}}}"
    _remember(_written, value, (value, found))
    return found


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


_NOTHING = object()  # that no field holds


def _canonical_fields(value: Any, path: str) -> dict[str, Any]:
    items = ((name, getattr(value, name), default) for name, default in _declared(type(value)))
    written = [(name, item) for name, item, default in items if not _left_out(item, default)]
    return {name: canonical(item, f"{path}.{name}".lstrip(".")) for name, item in written}


def _left_out(item: Any, neutral_value: Any) -> bool:
    """Whether a field is not written: it holds its neutral value. False == 0, but is written otherwise."""
    return neutral_value is not _NOTHING and type(item) is type(neutral_value) and item == neutral_value


@functools.cache
def _declared(cls: type) -> list[tuple[str, Any]]:
    """The fields of a dataclass as declared, each with its neutral value if it has one; classes take their time."""
    return [(field.name, field.metadata.get("neutral", _NOTHING)) for field in dataclasses.fields(cls)]


@functools.cache
def _in_order(cls: type) -> list[tuple[str, str, Any]]:
    """The fields of a dataclass by name, with the beginning of its JSON and its neutral value."""
    return sorted((name, f"{_json(name)}:", default) for name, default in _declared(cls))
