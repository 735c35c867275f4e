"""The package's own names, whatever was imported before."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import layover


@pytest.mark.parametrize(
    "before", ["", "import layover.run", "import layover.cli", "layover.run", "from layover.run import run_step"]
)
def test_run_is_the_function_and_not_the_module_of_that_name(before: str) -> None:
    program = f"import layover\n{before}\nassert layover.run is layover.run is layover.session.run, layover.run"
    root = str(Path(layover.__file__).parents[1])
    ran = subprocess.run(
        [sys.executable, "-c", program], env={"PYTHONPATH": root}, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr


def test_every_public_name_is_there_or_says_so() -> None:
    assert set(layover.__all__) <= set(dir(layover))
    assert layover.Study.__name__ == "Study"
    with pytest.raises(AttributeError, match="nothing"):
        layover.nothing  # noqa: B018
