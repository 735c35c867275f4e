"""Asked: which study a command is about, from the options that every such command takes."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from layover.errors import Problem, StudyError, UserError, raise_all

if TYPE_CHECKING:
    from layover.session import Session
    from layover.study import Study

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

SMALL = "minilm"  # what a smoke run takes where an encoder is not found
Tables = dict[str, Any]


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
    switch: Annotated[
        list[str] | None, typer.Option("--switch", metavar="NAME", help="Put this switch of the study on; repeatable.")
    ] = None
    skip_missing: Annotated[
        bool, typer.Option("--skip-missing", help="Leave out tasks whose data is not found, and name them.")
    ] = False

    def session(self, placement: Tables | None = None, create: bool = True, stand_in: bool = False) -> Session:
        """The compiled study and its store, with some words of its `[placement]` replaced.

        Without `create` the store has to be there; with `stand_in`, what is not found is planned all the same. Raises
        UserError with everything that is wrong.
        """
        from layover.session import Session
        from layover.store import Store
        from layover.study import load_study

        study, base = load_study(self.study, self.switch or ())
        words = study.words()
        changes = self._changes(words)
        if placement:
            changes["placement"] = _replaced(words.get("placement", {}), placement)
        changed = study.changed(**changes) if changes else study
        place, data = store_place(self.store), data_directories(self.data)
        if self.smoke or self.skip_missing:
            recorded = None if data else Store.open(place, create=create).study(changed.name)
            data = [Path(directory) for directory in recorded.data] if recorded else data
            changed = self._found_only(changed, base, data)
        trusted = self.trust_remote_code
        return Session.open(changed, place, data, base, create=create, trust_remote_code=trusted, stand_in=stand_in)

    def _found_only(self, study: Study, base: Path, data: list[Path]) -> Study:
        """The study without what is not found here, in a smoke run with few tasks; says what is left out and why."""
        from layover import console
        from layover.lacking import lacking
        from layover.plan import compile_plan
        from layover.smoke import FEWER, MOST_TRAININGS, fewer
        from layover.study import Study
        from layover.switches import without_tasks

        lost, words = lacking(study, base, data), study.words()
        if self.smoke and lost.encoders:
            kept = [name for name in words["encoders"] if name not in lost.encoders]
            words["encoders"] = kept or [SMALL]
            console.remark(f"not found here: {', '.join(lost.encoders)}; {', '.join(words['encoders'])} stands in")
        if lost.tasks:
            words = without_tasks(words, list(lost.tasks))
            console.remark(f"left out, since no data was found: {', '.join(lost.tasks)}")
            if not words["tasks"]["target"] or not words["strategies"]:
                hint = "name a directory with --data that has more of them"
                raise UserError(*lost.tasks.values(), Problem("", "nothing is left of the study without them", hint))
        found = Study(**words)
        if not self.smoke:
            return found
        for n in (0, *FEWER):
            found = Study(**fewer(words, n)) if n else found
            if compile_plan(found, base, data).trainings <= MOST_TRAININGS:
                break
        if found.words() != words:
            said = [*found.tasks.target, *found.tasks.probing]
            console.remark(f"a smoke run of few tasks, and of two conditions of each strategy: {', '.join(said)}")
        return found

    def options(self) -> str:
        """The options but --data as they were written, so that a suggested command means the same study."""
        words = [f" --store {self.store}"] if self.store else []
        words += [" --smoke"] if self.smoke else []
        words += [f" --limit-train {self.limit_train}"] if self.limit_train else []
        words += [f" --limit-validation {self.limit_validation}"] if self.limit_validation else []
        words += [f" --encoder {name}" for name in self.encoder or []]
        words += [f" --switch {name}" for name in self.switch or []]
        words += [" --skip-missing"] if self.skip_missing else []
        words += [" --trust-remote-code"] if self.trust_remote_code else []
        return "".join(words + ([f" --seeds {self.seeds}"] if self.seeds else []))

    def _changes(self, words: Tables) -> Tables:
        """The top-level words of the study that the options replace."""
        from layover.smoke import SMOKE_ROWS, lowered, tiny

        changes: Tables = {"encoders": self.encoder} if self.encoder else {}
        caps = {"train": self.limit_train, "validation": self.limit_validation}
        count = self.seeds
        if self.smoke:
            count = 1
            caps = dict.fromkeys(caps, SMOKE_ROWS) | {name: cap for name, cap in caps.items() if cap}
            changes = {**tiny(words), **changes}
        if count:
            changes["seeds"] = words["seeds"][:count] if count <= len(words["seeds"]) else list(range(1, count + 1))
            own = {role: seeds[:count] for role, seeds in words.get("role_seeds", {}).items()}
            changes |= {"role_seeds": own} if own else {}
        if any(caps.values()):
            changes["limit"] = lowered(words.get("limit", {}), caps)
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


def _replaced(table: Tables, words: Tables) -> Tables:
    """A placement table with some words replaced; the options of another executor are none of this one's."""
    other = words.get("executor", table.get("executor", "local")) != table.get("executor", "local")
    return {**{name: value for name, value in table.items() if not (other and name == "options")}, **words}


@contextmanager
def writing_to(path: Path) -> Iterator[None]:
    """Says of a file of --out that cannot be written that it is the user's to choose another."""
    try:
        yield
    except OSError as error:
        raise StudyError(
            Problem(str(path), f"cannot be written: {error.strerror}", "name another file with --out")
        ) from error
