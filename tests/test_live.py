"""A run on a terminal: bars while it goes, and Ctrl-C, which loses nothing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.kit import study_words, write_study

pty = pytest.importorskip("pty", reason="this system has no pseudo-terminals")

WAIT = 120  # seconds: imports on a busy machine


class Terminal:
    """The layover command on a terminal of 120 columns, and what it has shown so far."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.master, slave = pty.openpty()
        environment = {**os.environ, "COLUMNS": "120", "TERM": "xterm-256color", "OMP_NUM_THREADS": "1"}
        line = [sys.executable, "-m", "layover.cli", *arguments]
        self.process = subprocess.Popen(
            line, cwd=folder, env=environment, stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
            preexec_fn=_controlled_by_its_terminal,
        )  # fmt: skip
        os.close(slave)
        self.shown = ""

    def read(self, until: str | None = None) -> str:
        """Everything shown up to `until`, or to the end."""
        deadline = time.monotonic() + WAIT
        while until is None or until not in self.shown:
            assert time.monotonic() < deadline, self.shown
            try:
                self.shown += re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", os.read(self.master, 4096).decode(errors="replace"))
            except OSError:  # how Linux says that the other side has gone
                assert until is None, self.shown
                break
        return self.shown

    def end(self) -> int:
        self.read()
        os.close(self.master)
        return self.process.wait(WAIT)


def _controlled_by_its_terminal() -> None:
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # so that Ctrl-C reaches the command as the signal that it is


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
    os.write(terminal.master, b"\x03")
    assert terminal.end() == 130, terminal.shown
    assert "Traceback" not in terminal.shown
    again = Terminal(tmp_path, "run", str(study))
    assert again.end() == 0, again.shown
    assert re.search(r"[12] steps run, [12] reused, 0 failed", again.shown)
