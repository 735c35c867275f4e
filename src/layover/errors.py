"""Every error that layover raises on purpose.

    LayoverError
    ├── UserError            the input is wrong; nothing was run (exit code 2)
    │   ├── StudyError       the study file
    │   ├── TaskError        a task's declaration or its data
    │   │   └── DataMissing  which is nowhere to be found
    │   ├── EncoderError     an encoder that cannot be found or loaded
    │   ├── StoreError       a store that cannot be read or written
    │   ├── HubError         the Hub cannot be reached or lacks what was asked for
    │   ├── ObservationsError  a table of observations that cannot be analysed
    │   ├── EvidenceError    arrays that sources cannot be rated by
    │   └── MissingExtra     an optional dependency that is not installed
    └── StepError            one step failed; the others go on (exit code 1)

A user error is a list of problems. Each says the place, the value, the choices and the next command,
so that one run of a command shows everything there is to mend. Anything else that is raised is a bug
and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: where, what, and what to do about it."""

    place: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        text = f"{self.place}: {self.message}" if self.place else self.message
        return f"{text}\n    {self.hint}" if self.hint else text


class LayoverError(Exception):
    """Base of all errors that layover raises on purpose."""


class UserError(LayoverError):
    """The input is wrong; nothing was run."""

    def __init__(self, *problems: Problem | str) -> None:
        self.problems = tuple(Problem("", p) if isinstance(p, str) else p for p in problems)
        super().__init__("\n".join(str(p) for p in self.problems))

    def __reduce__(self) -> tuple[Any, ...]:  # exceptions cross process borders
        return (_user_error, (type(self), self.problems))


def _user_error(kind: type[UserError], problems: tuple[Problem, ...]) -> UserError:
    """The error of a kind that holds these problems, whatever that kind's own constructor takes."""
    error = kind.__new__(kind)
    UserError.__init__(error, *problems)
    return error


class StudyError(UserError):
    """The study file is wrong."""


class TaskError(UserError):
    """A task's declaration or its data is wrong."""


class DataMissing(TaskError):
    """A task whose data is neither in the data directories nor on the Hub."""


class EncoderError(UserError):
    """An encoder cannot be found or loaded."""


class StoreError(UserError):
    """A store cannot be read or written."""


class HubError(UserError):
    """The Hub cannot be reached, or lacks what was asked for."""


class ObservationsError(UserError):
    """A table of observations cannot be analysed."""


class EvidenceError(UserError):
    """Sources cannot be rated by these arrays."""


class MissingExtra(UserError):
    """An optional dependency is not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            Problem(
                "",
                f"{purpose} needs the package {package!r}, which is not installed.",
                f"install it with: pip install 'layover[{extra}]'",
            )
        )


class StepError(LayoverError):
    """One step failed; its descendants are blocked and the others go on."""


def did_you_mean(value: str, choices: Iterable[str]) -> str:
    """A hint that names the nearest choices, then the first few of all.

    >>> did_you_mean("rtee", ["rte", "mnli"])
    "did you mean 'rte'? choices: mnli, rte"
    """
    names = sorted(set(choices))
    near = difflib.get_close_matches(value, names, n=1, cutoff=0.6)
    listed = ", ".join(names[:40]) + (f", ... ({len(names)} in all)" if len(names) > 40 else "")
    lead = f"did you mean {near[0]!r}? " if near else ""
    return f"{lead}choices: {listed}" if names else lead


def raise_all(kind: type[UserError], problems: Sequence[Problem]) -> None:
    """Raise one error that holds all problems; return when there are none."""
    if problems:
        raise kind(*problems)
