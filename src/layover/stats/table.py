"""Table: check a table of observations and give it one shape.

A table made elsewhere needs `strategy, source, target, seed, value`; the other columns get neutral values.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layover.errors import ObservationsError, Problem, did_you_mean, raise_all

if TYPE_CHECKING:
    from pandas import DataFrame

REQUIRED = ("strategy", "source", "target", "seed", "value")
ROLES = ("target", "probing", "source", "forgetting")
DEGENERATE = "degenerate"
FAILED = "failed"
DEFAULTS: dict[str, Any] = {
    "encoder": "", "role": "target", "size": 0, "source_size": 0, "metric": "", "status": "ok", "primary": True,
    "key": "", "split": "", "condition": "", "rows": 0,
}  # fmt: skip
IDENTITY = (
    "encoder", "strategy", "source", "condition", "target", "rows", "role", "seed", "size", "source_size", "metric",
    "split",
)  # fmt: skip
SHOWN = 50  # problems of one kind that are spelled out; a column of words would give thousands


@dataclass(frozen=True)
class Place:
    """Where rows come from, so that a problem can name the line."""

    name: str
    first: int = 0
    unit: str = "row"

    def row(self, index: int, column: str) -> str:
        """The place of one value; `index` counts rows from 0."""
        return f"{self.name}, {self.unit} {index + self.first}, column {column}"


def read_table(path: Path, against: str | None = None) -> DataFrame:
    """The observations in a CSV or Parquet file; raises ObservationsError with every problem, by line and column."""
    import pandas as pd

    path = Path(path)
    if not path.is_file():
        raise ObservationsError(Problem(str(path), "there is no such file"))
    try:
        if path.suffix == ".parquet":
            return check(pd.read_parquet(path), against, Place(path.name))
        frame = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (ValueError, OSError) as error:  # what pandas and pyarrow raise for files that they cannot parse
        hint = "layover reads .csv (commas, a header line) and .parquet"
        raise ObservationsError(Problem(str(path), f"cannot be read as a table: {error}", hint)) from error
    return check(frame, against, Place(path.name, first=2, unit="line"))


def check(
    observations: DataFrame | Iterable[Mapping[str, Any]], against: str | None = None, place: Place | None = None
) -> DataFrame:
    """The table with every column of the contract, typed; `against` names a strategy that must be there.

    `value` is NaN where a run failed or is missing. Rows keep their order. Raises ObservationsError with all problems.
    """
    import pandas as pd

    place = place or Place("observations")
    rows = observations if isinstance(observations, pd.DataFrame) else pd.DataFrame([dict(row) for row in observations])
    columns = [str(name) for name in rows.columns]
    missing = [name for name in REQUIRED if name not in columns]
    if missing:
        raise ObservationsError(*(_no_column(name, columns, place) for name in missing))
    if rows.empty:
        raise ObservationsError(Problem(place.name, "the table has no rows"))
    problems: list[Problem] = []
    data = {name: rows[name].tolist() if name in columns else [DEFAULTS[name]] * len(rows) for name in _all()}
    clean = {name: _column(name, values, place, problems) for name, values in data.items()}
    _check_values(clean, data["value"], place, problems)
    problems += _duplicates(clean, place)
    if against is not None and against not in clean["strategy"]:
        hint = did_you_mean(against, clean["strategy"])
        problems.append(Problem(f"{place.name}, column strategy", f"no row has strategy {against!r}", hint))
    raise_all(ObservationsError, problems)
    frame = pd.DataFrame(clean)
    _check_metrics(frame, "primary" in columns, place)
    return frame.astype({"value": float, "seed": int, "size": int, "source_size": int, "rows": int, "primary": bool})


def labelled(frame: DataFrame) -> DataFrame:
    """The table with a strategy's conditions as columns of their own, and a target's sizes as targets of their own.

    Conditions join the source ("mnli · 1250 rows"), the rows asked for join the target ("rte @ 500").
    """
    if not (any(frame["condition"]) or any(frame["rows"])):
        return frame
    sources = [" · ".join(filter(None, pair)) for pair in zip(frame["source"], frame["condition"], strict=True)]
    targets = [f"{name} @ {n}" if n else name for name, n in zip(frame["target"], frame["rows"], strict=True)]
    return frame.assign(source=sources, target=targets)


def is_degenerate(status: str) -> bool:
    """Whether a status marks a run that collapsed."""
    return status.startswith(DEGENERATE)


def is_failed(status: str) -> bool:
    """Whether a status marks a run that ended in an error."""
    return status.startswith(FAILED)


def _all() -> tuple[str, ...]:
    return (*REQUIRED, *DEFAULTS)


def _no_column(name: str, columns: list[str], place: Place) -> Problem:
    known = [column for column in columns if column not in _all()]
    hint = did_you_mean(name, known or columns)
    return Problem(place.name, f"there is no column {name!r}", hint.replace("choices:", "columns:"))


def _text(value: Any) -> str:
    text = "" if value is None or (isinstance(value, float) and math.isnan(value)) else str(value).strip()
    return "" if text == "<NA>" else text


def _integer(value: Any) -> int:
    number = float(value)
    if number != int(number):
        raise ValueError
    return int(number)


def _size(value: Any) -> int:
    return _integer(value) if _text(value) else 0


def _number(value: Any) -> float:
    return math.nan if _text(value).lower() in ("", "nan", "none", "null") else float(value)


def _boolean(value: Any) -> bool:
    words = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}
    return words[_text(value).lower()]


def _status(value: Any) -> str:
    text = _text(value) or "ok"
    if text not in ("ok", "missing") and not is_degenerate(text) and not is_failed(text):
        raise ValueError
    return text


def _role(value: Any) -> str:
    text = _text(value) or "target"
    if text not in ROLES:
        raise ValueError
    return text


def _filled(value: Any) -> str:
    text = _text(value)
    if not text:
        raise ValueError
    return text


PARSERS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "strategy": (_filled, "a name is expected"),
    "target": (_filled, "a name is expected"),
    "seed": (_integer, "a whole number is expected"),
    "size": (_size, "a whole number is expected"),
    "source_size": (_size, "a whole number is expected"),
    "rows": (_size, "a whole number is expected"),
    "value": (_number, "a number of points (0-100) is expected"),
    "primary": (_boolean, "true or false is expected"),
    "status": (_status, "choices: ok, missing, failed: <error>, degenerate: <reason>"),
    "role": (_role, f"choices: {', '.join(ROLES)}"),
}


def _column(name: str, values: list[Any], place: Place, problems: list[Problem]) -> list[Any]:
    """The values of one column, typed; what cannot be parsed becomes a problem and stays as it is."""
    parse, wanted = PARSERS.get(name, (_text, ""))
    clean, wrong = [], 0
    for index, value in enumerate(values):
        try:
            clean.append(parse(value))
        except (ValueError, TypeError, KeyError, OverflowError):
            clean.append(value)
            wrong += 1
            if wrong <= SHOWN:
                problems.append(Problem(place.row(index, name), f"{_text(value)!r} cannot be used", wanted))
    if wrong > SHOWN:
        problems.append(Problem(f"{place.name}, column {name}", f"{wrong - SHOWN} more values cannot be used", wanted))
    return clean


def _check_values(clean: dict[str, list[Any]], raw: list[Any], place: Place, problems: list[Problem]) -> None:
    """A value is a finite number of points wherever the run did not fail."""
    numbers = []
    for index, (value, status) in enumerate(zip(clean["value"], clean["status"], strict=True)):
        if not isinstance(value, float):
            continue
        if status == "missing" or is_failed(str(status)):
            clean["value"][index] = math.nan
        elif math.isnan(value):
            hint = "give a number, or say status = failed or missing"
            problems.append(Problem(place.row(index, "value"), f"{_text(raw[index])!r}: there is no value", hint))
        elif not -100 <= value <= 100 and clean["role"][index] != "forgetting":  # per cent of a norm have no bound
            hint = "values are points: 0-100, correlations -100 to 100"
            problems.append(Problem(place.row(index, "value"), f"{value:g} is out of range", hint))
        else:
            numbers.append(value)
    made_elsewhere = not any(clean["key"])
    if made_elsewhere and len(numbers) > 1 and 0 < max(map(abs, numbers)) <= 1:
        hint = "values are points (0-100): multiply shares by 100"
        problems.append(Problem(f"{place.name}, column value", "all values lie between -1 and 1", hint))


def _duplicates(clean: dict[str, list[Any]], place: Place) -> list[Problem]:
    seen: dict[tuple[Hashable, ...], int] = {}
    problems = []
    for index, identity in enumerate(zip(*(clean[name] for name in IDENTITY), strict=True)):
        first = seen.setdefault(identity, index)
        if first != index:
            named = dict(zip(IDENTITY, identity, strict=True))
            words = ", ".join(f"{name} {named[name]!r}" for name in REQUIRED[:-1])
            message = f"a second value for {words} (the first is {place.unit} {first + place.first})"
            problems.append(Problem(place.row(index, "value"), message, "keep one row for each"))
    left_out = len(problems) - SHOWN
    more = [Problem(place.name, f"{left_out} more duplicates")] if left_out > 0 else []
    return problems[:SHOWN] + more


def _check_metrics(frame: DataFrame, has_primary: bool, place: Place) -> None:
    """Without a column that says which metric is primary, a task may have one only."""
    if has_primary:
        return
    several = frame.groupby("target")["metric"].agg(lambda names: sorted(set(names)))
    hint = "add a column primary (true or false), or keep the rows of one metric"
    raise_all(
        ObservationsError,
        [
            Problem(f"{place.name}, column metric", f"target {target!r} has several metrics: {', '.join(names)}", hint)
            for target, names in several.items()
            if len(names) > 1
        ],
    )
