"""A run on a terminal: bars while it goes, and Ctrl-C, which loses nothing."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from rich.console import Console
from tests.kit import Terminal, study_words, write_study

from layover.live import Counting


@pytest.fixture
def study(bert: Path, tmp_path: Path) -> Path:
    return write_study(tmp_path / "study.toml", study_words(bert, tmp_path))


def test_bars_show_the_study_and_the_step_in_hand(study: Path, tmp_path: Path) -> None:
    terminal = Terminal(tmp_path, "run", str(study))
    assert terminal.end() == 0, terminal.shown
    assert re.search(r"small +━+ 3/3 0:00:00", terminal.shown)
    assert re.search(r"bert · stop → mine · s1 +━", terminal.shown)
    lines = [line for line in terminal.shown.splitlines() if line.startswith("[3/3] ")]
    assert len(lines) == 1
    assert "accuracy" in lines[0]


def test_ctrl_c_ends_a_run_at_once_and_the_next_one_goes_on(study: Path, tmp_path: Path) -> None:
    terminal = Terminal(tmp_path, "run", str(study))
    terminal.read(until="[1/3] ")
    terminal.interrupt()
    assert terminal.end() == 130, terminal.shown
    assert "Traceback" not in terminal.shown
    again = Terminal(tmp_path, "run", str(study))
    assert again.end() == 0, again.shown
    assert re.search(r"[12] steps run, [12] reused, 0 failed", again.shown)


def test_what_is_counted_is_a_bar_on_a_terminal() -> None:
    shown = io.StringIO()
    with Counting(Console(file=shown, force_terminal=True, width=80), "sentences") as bar:
        bar(0, 20)
        bar(15, 20)
    assert "sentences" in shown.getvalue()
    assert "15/20" in shown.getvalue()
