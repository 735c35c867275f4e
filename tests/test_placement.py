"""The `[placement]` table: what each kind of work asks of an executor, and what is no such table."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.kit import Faking, study_words

from layover.errors import StudyError
from layover.execute import execute
from layover.executors import Needs
from layover.executors.local import InProcess
from layover.session import Session
from layover.study import Study

NEEDS = {
    "gpus": 1, "memory_gb": 8.0,
    "kind": {"source": {"gpus": 2, "minutes": 90}, "target": {"gpus": 0.25}, "choose": {"gpus": 0, "memory_gb": 0.5}},
}  # fmt: skip


@dataclass
class Asked(Faking):
    """An executor that keeps what was asked for, by the label of the step."""

    asked: dict[str, Needs] = field(default_factory=dict)

    def submit(self, fn: Any, /, *args: Any, needs: Any = None) -> Any:
        self.asked[needs.name] = needs
        return super().submit(fn, *args, needs=needs)


def test_every_kind_of_work_asks_for_what_its_table_says(bert: Path, tmp_path: Path) -> None:
    words = study_words(
        bert, tmp_path, placement={"threads": 1, "needs": NEEDS}, sweep={"learning_rate": [1e-3, 1e-4]}, seeds=[1]
    )
    session = Session.open(Study(**words), tmp_path / "store", [tmp_path])
    executor = Asked(InProcess(), tmp_path / "ran")
    assert execute(session.plan, session.store, executor, lambda *_: None).complete
    expected = {
        "source": {"gpus": 2, "minutes": 90, "memory_gb": 8.0},
        "target": {"gpus": 0.25, "memory_gb": 8.0},
        "choose": {"gpus": 0, "memory_gb": 0.5},
    }
    kinds = {key: "choose" if step.kind == "choose" else "target" for key, step in session.plan.steps.items()}
    kinds |= dict.fromkeys(session.plan.kept(), "source")
    assert set(kinds.values()) == set(expected)
    assert executor.asked == {
        session.plan.labels[key]: Needs(**expected[kind], name=session.plan.labels[key]) for key, kind in kinds.items()
    }


def test_without_a_word_nothing_is_asked_for(bert: Path, tmp_path: Path) -> None:
    placement = Study(**study_words(bert, tmp_path)).placement
    session = Session.open(Study(**study_words(bert, tmp_path)), tmp_path / "store", [tmp_path])
    for step in session.plan.steps.values():
        assert placement.needs_of(step, True, "a step") == Needs(name="a step")


@pytest.mark.parametrize(
    ("placement", "told"),
    [
        ({"needs": {"gpu": 1}}, r"placement\.needs\.gpu: .*\n.*did you mean 'gpus'"),
        ({"needs": {"kind": {"sources": {"gpus": 1}}}}, r"placement\.needs\.kind\.sources"),
        ({"needs": {"kind": {"probe": {"gpus": -1}}}}, r"placement\.needs\.kind\.probe\.gpus"),
        ({"needs": {"minutes": 0}}, r"placement\.needs\.minutes"),
        ({"workers": "all"}, r"placement\.workers: .*'gpus' for one on each"),
        ({"workers": -1}, r"placement\.workers"),
        ({"cohort": 2, "devices_per_step": 2}, r"placement: .*choose"),
        ({"executor": "slum"}, r"placement\.executor: .*\n.*did you mean 'slurm'"),
    ],
)
def test_what_is_no_placement_is_said_with_its_place(
    bert: Path, tmp_path: Path, placement: dict[str, Any], told: str
) -> None:
    with pytest.raises(StudyError, match=told):
        Study(**study_words(bert, tmp_path, placement=placement))
