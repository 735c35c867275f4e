"""Asked: which study a command is about, from the options that every such command takes."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from layover.errors import Problem, UserError, raise_all

if TYPE_CHECKING:
    from layover.session import Session

StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="PLACE",
        help="The store: a directory, or s3://BUCKET/PREFIX, gs://... Default: LAYOVER_STORE, or layover-store here.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DataOption = Annotated[list[Path] | None, typer.Option("--data", help="A directory of task data; may be repeated.")]

SMOKE_ROWS = 32
Tables = dict[str, Any]
Caps = Mapping[str, int | None]


@dataclass(frozen=True)
class Asked:
    """A study as the options of a command change it. Its fields are those options."""

    study: Annotated[str, typer.Argument(metavar="STUDY", help="A study file, or the name of a preset.")]
    store: StoreOption = None
    data: DataOption = None
    smoke: Annotated[bool, typer.Option("--smoke", help="Everything once and tiny: does the study run at all?")] = False
    limit_train: Annotated[int | None, typer.Option(min=4, help="Training rows per task at most.")] = None
    limit_validation: Annotated[int | None, typer.Option(min=4, help="Validation rows per task at most.")] = None
    encoder: Annotated[list[str] | None, typer.Option(help="Use this encoder instead of the study's.")] = None
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run the code that comes with an encoder.")
    ] = False
    seeds: Annotated[int | None, typer.Option(min=1, help="Use this many of the study's seeds, or 1 to N.")] = None

    def session(self, placement: Tables | None = None, create: bool = True) -> Session:
        """The compiled study and its store, with some words of its `[placement]` replaced.

        Without `create` the store has to be there. Raises UserError with everything that is wrong.
        """
        from layover.session import Session
        from layover.study import load_study

        study, base = load_study(self.study)
        words = study.words()
        changes = self._changes(words)
        if placement:
            changes["placement"] = _replaced(words.get("placement", {}), placement)
        changed = study.changed(**changes) if changes else study
        where = store_place(self.store), data_directories(self.data), base
        return Session.open(changed, *where, create=create, trust_remote_code=self.trust_remote_code)

    def options(self) -> str:
        """The options but --data as they were written, so that a suggested command means the same study."""
        words = [f" --store {self.store}"] if self.store else []
        words += [" --smoke"] if self.smoke else []
        words += [f" --limit-train {self.limit_train}"] if self.limit_train else []
        words += [f" --limit-validation {self.limit_validation}"] if self.limit_validation else []
        words += [f" --encoder {name}" for name in self.encoder or []]
        words += [" --trust-remote-code"] if self.trust_remote_code else []
        return "".join(words + ([f" --seeds {self.seeds}"] if self.seeds else []))

    def _changes(self, words: Tables) -> Tables:
        """The top-level words of the study that the options replace."""
        changes: Tables = {"encoders": self.encoder} if self.encoder else {}
        caps: Caps = {"train": self.limit_train, "validation": self.limit_validation}
        count = self.seeds
        if self.smoke:
            count = 1
            caps = dict.fromkeys(caps, SMOKE_ROWS) | {name: cap for name, cap in caps.items() if cap}
            changes |= {"recipe": _one_epoch(words.get("recipe", {})), "name": f"{words['name']}-smoke"}
        if count:
            changes["seeds"] = words["seeds"][:count] if count <= len(words["seeds"]) else list(range(1, count + 1))
        if any(caps.values()):
            changes["limit"] = _lowered(words.get("limit", {}), caps)
        return changes


def about_a_study(command: Callable[..., None]) -> Callable[..., None]:
    """A typer command out of `command(asked, ...)`: it takes the options of `Asked`, and those of its own."""
    _, *own = inspect.signature(command, eval_str=True).parameters.values()
    shared = list(inspect.signature(Asked, eval_str=True).parameters.values())

    def of_options(**values: Any) -> None:
        asked = Asked(**{parameter.name: values.pop(parameter.name) for parameter in shared})
        command(asked, **values)

    # the study comes first, then what the command itself takes, then the other shared options
    parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in (shared[0], *own, *shared[1:])]
    of_options.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    of_options.__annotations__ = {}
    of_options.__name__, of_options.__doc__ = command.__name__, command.__doc__
    return of_options


def store_place(store: str | None) -> str:
    """The directory or address of --store, else of LAYOVER_STORE, else layover-store here."""
    return store or os.environ.get("LAYOVER_STORE") or "layover-store"


def data_directories(data: list[Path] | None) -> list[Path]:
    """The directories of --data, else of LAYOVER_DATA; raises UserError where one does not exist."""
    named = data or [Path(part) for part in os.environ.get("LAYOVER_DATA", "").split(os.pathsep) if part]
    hint = "a data directory holds <task>/train.jsonl and <task>/validation.jsonl (or .csv, .tsv, .parquet, .jsonl.gz)"
    missing = [
        Problem(str(directory), "there is no such data directory", hint)
        for directory in named
        if not directory.is_dir()
    ]
    raise_all(UserError, missing)
    return named


def _lowered(table: Tables, caps: Caps) -> Tables:
    """A limit table in which nothing is above the caps."""
    nested = {
        kind: {
            name: {word: min(rows, caps[word] or rows) for word, rows in inner.items()}
            for name, inner in tables.items()
        }
        for kind, tables in table.items()
        if kind in ("role", "task")
    }
    own = {word: min(cap, table.get(word, cap)) for word, cap in caps.items() if cap is not None}
    return {**table, **nested, **own}


def _replaced(table: Tables, words: Tables) -> Tables:
    """A placement table with some words replaced; the options of another executor are none of this one's."""
    other = words.get("executor", table.get("executor", "local")) != table.get("executor", "local")
    return {**{name: value for name, value in table.items() if not (other and name == "options")}, **words}


def _one_epoch(recipe: Tables) -> Tables:
    """A recipe table in which everything trains for one epoch."""
    nested = {
        kind: {name: {**inner, "epochs": 1} for name, inner in recipe[kind].items()}
        for kind in ("role", "task")
        if kind in recipe
    }
    return {**recipe, "epochs": 1, **nested}
