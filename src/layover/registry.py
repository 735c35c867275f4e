"""Registries: name -> object, filled by importing a folder's modules on the first look-up.

A declaration is registered by existing: every module-level object of the registry's type in the
package's modules counts, alone or in a tuple, and installed packages add theirs through an entry-point
group of the same name. Nothing is registered as a side effect of importing layover.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.metadata import entry_points
from typing import Generic, TypeVar

from layover.errors import Problem, UserError, did_you_mean

T = TypeVar("T")


class Registry(Generic[T]):
    """The objects of one kind that can be named in a study.

    `families` are modules with more of them, by the word before the colon of their names: each has a function
    `find(name, place)`. They are named, and not listed.
    """

    def __init__(
        self,
        package: str,
        noun: str,
        is_member: Callable[[object], bool],
        name_of: Callable[[T], str],
        families: Mapping[str, str] | None = None,
    ) -> None:
        self._package, self._noun = package, noun
        self._families = families or {}
        self._is_member, self._name_of = is_member, name_of
        self._objects: dict[str, T] | None = None

    def names(self) -> list[str]:
        """All names, sorted."""
        return sorted(self._load())

    def __iter__(self) -> Iterator[T]:
        objects = self._load()
        return iter([objects[name] for name in sorted(objects)])

    def __contains__(self, name: object) -> bool:
        return name in self._load()

    def get(self, name: str, place: str = "", error: type[UserError] = UserError, others: Iterable[str] = ()) -> T:
        """The object called `name`; raises `error` with a did-you-mean where there is none.

        `others` are names that would have been right too.
        """
        family, colon, _ = name.partition(":")
        if colon and family in self._families:
            return importlib.import_module(self._families[family]).find(name, place)
        objects = self._load()
        if name not in objects:
            near = did_you_mean(name, [*objects, *others])
            raise error(Problem(place, f"there is no {self._noun} called {name!r}", near))
        return objects[name]

    def _load(self) -> dict[str, T]:
        if self._objects is None:
            found: dict[str, T] = {}
            for member in self._members():
                name = self._name_of(member)
                if found.setdefault(name, member) is not member:
                    raise UserError(f"two {self._noun}s are called {name!r}")
            self._objects = found
        return self._objects

    def _members(self) -> Iterator[T]:
        package = importlib.import_module(self._package)
        seen: set[int] = set()
        for module in pkgutil.iter_modules(package.__path__):
            for value in vars(importlib.import_module(f"{self._package}.{module.name}")).values():
                for member in value if isinstance(value, tuple) else (value,):
                    if self._is_member(member) and id(member) not in seen:
                        seen.add(id(member))
                        yield member
        for entry in entry_points(group=self._package):
            yield entry.load()
