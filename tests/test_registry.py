"""Registries: what counts as a declaration."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from layover.errors import UserError
from layover.registry import Registry


def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, modules: dict[str, str]) -> Registry[complex]:
    """A registry of complex numbers, named by their real part, of a package with these modules."""
    folder = tmp_path / name
    folder.mkdir()
    (folder / "__init__.py").touch()
    for module, text in modules.items():
        (folder / f"{module}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    for module in [m for m in sys.modules if m.split(".")[0] == name]:
        monkeypatch.delitem(sys.modules, module)
    return Registry(name, "number", lambda o: isinstance(o, complex), lambda n: f"n{n.real:g}")


def test_objects_count_alone_and_in_tuples_and_once_where_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modules = {
        "one": "a = complex(1)\nmany = (a, complex(2), 'no number')\nlisted = [complex(9)]",
        "two": "from layover_numbers.one import many\nb = complex(3)",
    }
    numbers = registry(tmp_path, monkeypatch, "layover_numbers", modules)
    assert numbers.names() == ["n1", "n2", "n3"]
    assert numbers.get("n2") == 2
    with pytest.raises(UserError, match="there is no number called 'n9'"):
        numbers.get("n9")


def test_two_of_one_name_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = registry(tmp_path, monkeypatch, "layover_twice", {"one": "both = (complex(1), complex(1, 5))"})
    with pytest.raises(UserError, match="two numbers are called 'n1'"):
        numbers.names()
