"""A session's analyses are those of the functions, on its own observations and against its own baseline."""

# pyright: reportArgumentType=false
from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from tests.stats.tables import row

from layover.errors import StudyError
from layover.session import Session
from layover.stats.correlate import correlations
from layover.stats.forgetting import forgetting
from layover.stats.grid import grid
from layover.stats.layers import layers
from layover.stats.rivals import rivals
from layover.stats.sizes import sizes

SOURCES = ("mnli", "qqp", "sst2")


def rows() -> list[dict[str, object]]:
    found = []
    for s in (1, 2, 3):
        for target, role in (("rte", "target"), ("edge", "probing")):
            more = {"role": role, "size": 2500, "metric": "accuracy", "primary": True}
            found.append(row("plainly", "", target, s, 60.0 + s, **more))
            found += [row("plainly", "", target, s, 50.0 + n + s, condition=f"keep {n}", **more) for n in (0, 1)]
            for i, source in enumerate(SOURCES):
                value = 61.0 + s * i + (s * s * i if role == "probing" else 0)
                found.append(row("stilts", source, target, s, value, source_size=9000, **more))
                found.append(row("stilts", source, target, s, value - 2, condition="500 rows", source_size=500, **more))
                found.append(row("multitask", source, target, s, value + i - s, **more))
        for i, source in enumerate(SOURCES):
            more = {"role": "forgetting", "metric": "cka", "primary": False}
            found.append(row("stilts", source, "wiki", s, 90.0 - i * s, **more))
    return found


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> Session:
    monkeypatch.setattr(Session, "observations", lambda self: pd.DataFrame(rows()).fillna({"size": 0}))
    return Session(SimpleNamespace(baseline=lambda: "plainly"), SimpleNamespace(predictions=lambda key: None))


def test_each_analysis_is_the_function_on_the_sessions_observations(session: Session) -> None:
    table, base = session.observations(), "plainly"
    assert session.correlations(strategy="stilts") == correlations(table, strategy="stilts", against=base)
    assert session.sizes(strategy="stilts") == sizes(table, "stilts", against=base)
    assert session.layers() == layers(table, against=base)
    assert session.forgetting(strategy="stilts") == forgetting(table, strategy="stilts", against=base)
    assert session.grid(against=base) == grid(table, against=base)
    assert session.rivals() == rivals(table, against=base)


def test_a_study_without_a_direct_strategy_has_nothing_to_measure_against(monkeypatch: pytest.MonkeyPatch) -> None:
    session = Session(SimpleNamespace(baseline=lambda: None), SimpleNamespace(root=Path()))
    monkeypatch.setattr(Session, "observations", lambda self: pd.DataFrame(rows()))
    with pytest.raises(StudyError, match="none is direct"):
        session.correlations()
