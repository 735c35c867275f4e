"""The documentation is true: its commands run, its studies parse, its links lead somewhere, and nothing is left out.

A fenced block whose info string names a file (```toml study.toml) writes that file. ```console blocks are run in order,
per page, in a directory of their own; what they show must be printed, `...` standing for anything. In a block called
```console fails every command must end with exit code 2. ```python blocks are run.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer.main

from layover.cli import app
from layover.strategies import STRATEGIES
from layover.study import Study, load_study
from layover.tasks import TASKS

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("LAYOVER_TEST_DATA") or ROOT.parent / "shared" / "data")
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
DOCS = ROOT / "docs"
RUN = [ROOT / "README.md", DOCS / "tutorial.md", DOCS / "select.md", *sorted((DOCS / "how-to").glob("*.md"))]
NEEDS_DATA = {ROOT / "README.md"}  # its study is about published tasks
SKIP = {
    "make quickstart": "it is the set-up itself, and takes minutes",
    "make test": "it is what runs this",
    "layover run does-mnli-help.toml": "about an hour; its --smoke is run",
}


@dataclass(frozen=True)
class Block:
    """A fenced block of a page: its language, the word after it, its text and its line."""

    language: str
    word: str
    text: str
    line: int


def blocks(page: Path) -> Iterator[Block]:
    content = page.read_text(encoding="utf-8")
    for found in re.finditer(r"^```(\w+)?[ ]?([^\n]*)\n(.*?)^```$", content, re.S | re.M):
        yield Block(found[1] or "", found[2].strip(), found[3], content.count("\n", 0, found.start()) + 1)


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def write_files(page: Path, folder: Path) -> None:
    for block in blocks(page):
        if "." in block.word:
            (folder / block.word).write_text(block.text, encoding="utf-8")


def commands(block: Block) -> Iterator[tuple[str, list[str]]]:
    """Each command of a console block with the lines that it shows."""
    for part in re.split(r"^\$ ", block.text, flags=re.M)[1:]:
        command, *shown = part.rstrip("\n").split("\n")
        yield command, shown


def squeezed(line: str) -> str:
    return " ".join(line.split())


def is_shown(expected: list[str], printed: str) -> bool:
    """Whether the lines are printed in this order; `...` is any text in a line, and alone any number of lines."""
    pattern = "".join(
        r"(?:.*\n)*?" if line.strip() == "..." else re.escape(squeezed(line)).replace(r"\.\.\.", ".*") + r"\n"
        for line in expected
        if line.strip()
    )
    lines = "".join(f"{squeezed(line)}\n" for line in printed.splitlines() if line.strip())
    return re.search(rf"^{pattern}", lines, re.M) is not None


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run a shell command in a directory of its own, with this layover as `layover`; the process that ended."""
    here, tools = tmp_path / "here", tmp_path / "bin"
    here.mkdir()
    tools.mkdir()
    command = tools / "layover"
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m layover.cli "$@"\n', encoding="utf-8")
    command.chmod(0o755)
    source = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]).strip(os.pathsep)
    settings = {"PATH": f"{tools}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": source, "OMP_NUM_THREADS": "1",
                "HF_HUB_OFFLINE": "1", "COLUMNS": "200", "LAYOVER_CACHE": str(tmp_path / "cache")}  # fmt: skip
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("LAYOVER_STORE", raising=False)
    monkeypatch.delenv("LAYOVER_DATA", raising=False)
    monkeypatch.chdir(here)

    def run(command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, shell=True, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
        )

    return run


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN, ids=name_of)
def test_what_a_page_shows_can_be_done(page: Path, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    if page in NEEDS_DATA:
        if not DATA.is_dir():
            pytest.skip("no real data: set LAYOVER_TEST_DATA to a data directory")
        monkeypatch.setenv("LAYOVER_DATA", str(DATA))
    write_files(page, Path())
    for block in blocks(page):
        if block.language == "python" and page not in NEEDS_DATA:
            done = run(f"{shlex.quote(sys.executable)} -c {shlex.quote(block.text)}")
            assert done.returncode == 0, f"{name_of(page)}:{block.line}\n{done.stderr}"
        elif block.language == "console":
            for command, shown in commands(block):
                if command in SKIP:
                    continue
                done = run(command)
                printed = done.stdout + done.stderr
                at = f"{name_of(page)}:{block.line} $ {command}"
                assert done.returncode == (2 if block.word == "fails" else 0), f"{at}\n{printed}"
                assert is_shown(shown, printed), f"{at}\n--- shown\n" + "\n".join(shown) + f"\n--- printed\n{printed}"


def test_the_readme_says_the_same_in_python_and_in_toml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_files(ROOT / "README.md", tmp_path)
    code = next(b for b in blocks(ROOT / "README.md") if b.language == "python").text
    names: dict[str, Any] = {}
    exec(code.split("\nsession =")[0], names)
    assert names["study"].words() == load_study("does-mnli-help.toml")[0].words()


def test_every_skipped_command_is_still_written_somewhere() -> None:
    written = {c for page in PAGES for b in blocks(page) if b.language == "console" for c, _ in commands(b)}
    assert set(SKIP) <= written


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_studies_parse(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_files(page, tmp_path)
    fails = "".join(b.text for b in blocks(page) if b.word == "fails")
    for block in blocks(page):
        if block.language == "toml" and not (block.word and block.word in fails):
            words = tomllib.loads(block.text)
            if "name" not in words:  # a part of a study: the rest is filled in
                tasks = {"target": list(words.get("task", ["rte"]))}
                whole = {"name": "part", "encoders": ["minilm"], "seeds": [1], "tasks": tasks}
                words = {**whole, "strategies": {"direct": {"kind": "direct"}}, **words}
            Study(**words)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.S | re.M)
    links = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'(?:src|href)="([^"]+)"', text)
    local = [link.split("#")[0] for link in links if not link.startswith(("http://", "https://", "#", "mailto:"))]
    assert [link for link in local if not (page.parent / link).exists()] == []


def leaves(command: Any, name: str = "layover") -> Iterator[tuple[str, Any]]:
    """The commands below a click command, with their full names."""
    for word, child in getattr(command, "commands", {}).items():
        yield from leaves(child, f"{name} {word}")
    if not hasattr(command, "commands"):
        yield name, command


REFERENCE = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")


def table_rows(first: str) -> dict[str, str]:
    """The rows of the reference's tables whose first cell is code that matches `first`: the name -> the whole row."""
    return {m[1]: m[0] for m in re.finditer(rf"^\| `({first})` \|.*$", REFERENCE, re.M)}


def test_every_command_and_option_is_in_the_reference() -> None:
    shown = {re.sub(r" (\[?[A-Z]+\]?)", "", name): row for name, row in table_rows(r"layover [^`]+").items()}
    expected = dict(leaves(typer.main.get_command(app)))
    assert set(shown) == set(expected)
    for name, command in expected.items():
        options = {word for p in command.params for word in p.opts if word.startswith("--")} - {"--help"}
        assert set(re.findall(r"`(--[a-z-]+)`", shown[name])) == options, name


def test_every_strategy_is_in_the_reference() -> None:
    section = REFERENCE.split("## Strategies")[1].split("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", section, re.M)) == set(STRATEGIES.names())


def test_every_task_is_in_the_reference_as_it_is() -> None:
    section = REFERENCE.split("## Tasks")[1].split("\n## ")[0]
    table = section.split("| task |")[1]
    shown = {row.split("|")[1].strip(" `"): row for row in re.findall(r"^\| `.*$", table, re.M)}
    named = {task.family or task.name: task for task in TASKS}  # of many that differ by a number, one row
    assert set(shown) == set(named)
    for name, task in named.items():
        cells = [cell.strip() for cell in shown[name].split("|")[2:-1]]
        assert cells == [type(task.format).__name__, task.primary, task.about]


def test_every_key_of_a_study_and_a_recipe_is_in_the_reference() -> None:
    from layover.step import Recipe

    section = REFERENCE.split("## A study's keys")[1]
    keys = {field.alias or name for name, field in Study.model_fields.items()} | set(Recipe.__dataclass_fields__)
    assert [key for key in sorted(keys) if not re.search(rf"[`\[]{key}[`\].]", section)] == []


@pytest.mark.parametrize(
    ("expected", "printed", "found"),
    [(["a ... c"], "x\na b c\n", True), (["a", "..."], "a\nb\n", True), (["a", "c"], "a\nb\nc\n", False),
     (["a", "...", "c"], "a\nb\nc\n", True), (["b b"], "b   b\n", True), (["b"], "bb\n", False), ([], "", True)],
)  # fmt: skip
def test_shown_lines_are_matched(expected: list[str], printed: str, found: bool) -> None:
    assert is_shown(expected, printed) is found
