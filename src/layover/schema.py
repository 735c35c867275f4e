"""Schema of a study file: strict models, and pydantic's errors in our words."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated, Any, TypeVar, get_type_hints

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, create_model

from layover.errors import Problem, UserError, did_you_mean
from layover.recipe import Recipe

Made = TypeVar("Made")
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$"
NAME_RULE = "a name has letters, digits, '.', '_' and '-', the first a letter or digit, 80 at most"
# files are called after studies, and these names are devices on Windows, with any ending
DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)


class Table(BaseModel):
    """A table of a study file: strict types, no unknown keys, never changed."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, populate_by_name=True)

    def words(self) -> dict[str, Any]:
        """The keys that were written, with their values."""
        return self.model_dump(exclude_unset=True, by_alias=True)


def _recipe_fields(wrap: bool) -> dict[str, Any]:
    """Recipe's fields as optional pydantic fields with their bounds; each a non-empty list of values if `wrap`."""
    hints, fields = get_type_hints(Recipe), {}
    for field in dataclasses.fields(Recipe):
        bounds = field.metadata.get("bounds")
        kind = Annotated[hints[field.name], Field(**bounds)] if bounds else hints[field.name]
        if check := field.metadata.get("check"):
            kind = Annotated[kind, AfterValidator(partial(_checked, check))]
        fields[field.name] = (Annotated[list[kind], Field(min_length=1)], []) if wrap else (kind, field.default)
    return fields


def _checked(check: Callable[[Any], Any], value: Any) -> Any:
    check(value)
    return value


RecipeWords = create_model("RecipeWords", __base__=Table, **_recipe_fields(wrap=False))
SweepWords = create_model("SweepWords", __base__=Table, **_recipe_fields(wrap=True))


class RoleRecipe(RecipeWords):  # type: ignore[valid-type, misc]
    """A recipe of a role, with tables for tasks in that role alone."""

    task: dict[str, RecipeWords] = Field(default_factory=dict)  # type: ignore[valid-type]


class OfStrategy(Table):
    """What every strategy's table may say besides its own settings: where the study asks for less of it.

    `rows` are the numbers of training questions of each target, in place of the study's `[sizes]`; `trials` is how many
    of its seeds, the first ones; `conditions` how many of its conditions of each source, evenly from first to last.
    """

    rows: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)] | None = None
    trials: Annotated[int, Field(ge=1)] | None = None
    conditions: Annotated[int, Field(ge=1)] | None = None


class RecipeTable(RecipeWords):  # type: ignore[valid-type, misc]
    """A `recipe` table, with tables per role and per task that override it."""

    role: dict[str, RoleRecipe] = Field(default_factory=dict)
    task: dict[str, RecipeWords] = Field(default_factory=dict)  # type: ignore[valid-type]


def portable(name: str) -> str:
    """A name that can be a file's on every system; raises ValueError where it cannot."""
    if DEVICES.fullmatch(name) or name.endswith("."):
        raise ValueError(f"no file can be called {name} on Windows, and files are called after studies: take another")
    return name


def problem_of(item: Any, model: type[Table], prefix: tuple[str, ...] = ()) -> Problem:
    """One of pydantic's errors about a table of `model`, which stands at `prefix`, in our words."""
    location = prefix + tuple(item["loc"])
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".")
    if item["type"] == "extra_forbidden":
        known = keys_at(model, tuple(item["loc"])[:-1])
        return Problem(place, "is not a key of a study", did_you_mean(str(location[-1]), known))
    if item["type"] == "missing":
        return Problem(place, "is missing")
    if item["type"] == "string_pattern_mismatch":
        return Problem(place, f"is {item['input']!r:.80}, not a name", NAME_RULE)
    message = item["msg"].removeprefix("Value error, ")
    return Problem(place, f"{item['input']!r:.80}: {message[0].lower()}{message[1:]}")


def made_of(cls: type[Made], words: Mapping[str, Any], place: str) -> tuple[Made | None, list[Problem]]:
    """A frozen dataclass made of the words of a table at `place`, and what is wrong with them."""
    model = create_model(cls.__name__, __base__=Table, **_dataclass_fields(cls))
    try:
        # a TOML array becomes the tuple that a frozen dataclass holds
        values = model(**{k: _tuples(v) for k, v in words.items()})
        return cls(**{field: getattr(values, field) for field in model.model_fields}), []
    except ValidationError as error:
        return None, [problem_of(item, model, tuple(place.split("."))) for item in error.errors()]
    except UserError as error:
        found = [dataclasses.replace(p, place=f"{place}.{p.place}".rstrip(".")) for p in error.problems]
        return None, found


def _dataclass_fields(cls: Any) -> dict[str, Any]:
    hints, missing = get_type_hints(cls), dataclasses.MISSING
    return {
        f.name: (hints[f.name], ... if f.default is missing else f.default)
        if f.default_factory is missing
        else (hints[f.name], f.default_factory())
        for f in dataclasses.fields(cls)
    }


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def keys_at(table: type[Table], location: tuple[Any, ...]) -> list[str]:
    """The keys that a table may have at a location in it."""
    model: Any = table
    for part in location:
        if isinstance(part, int) or not isinstance(model, type) or part not in _aliased(model):
            continue  # an index, or a free name such as a task's
        kind = _aliased(model)[part].annotation
        inner = [a for a in getattr(kind, "__args__", (kind,)) if isinstance(a, type) and issubclass(a, Table)]
        model = inner[0] if inner else model
    return list(_aliased(model))


def _aliased(model: Any) -> dict[str, Any]:
    return {field.alias or name: field for name, field in model.model_fields.items()}
