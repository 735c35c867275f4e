"""The server: read-only, for this machine's names alone, with a stream that whoever comes back goes on with."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.kit import Command, study_words, write_study

from layover import Session
from layover.errors import StoreError

pytest.importorskip("starlette", reason="starlette is not installed")
pytest.importorskip("httpx", reason="httpx is not installed")
from starlette.testclient import TestClient

from layover.serve import app as served
from layover.serve.app import HEADERS, application

DEADLINE = 180
PATHS = ("/", "/page.css", "/page.js", "/state", "/events")


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream waits for a look for as long as it takes: its first turn has all parts on any machine."""
    monkeypatch.setattr(served, "PAUSE_SECONDS", float(DEADLINE))


class Shown:
    """Parts that a test sets; an error is raised."""

    def __init__(self, **parts: Any) -> None:
        self.parts: Any = parts

    def look(self) -> dict[str, Any]:
        if isinstance(self.parts, Exception):
            raise self.parts
        return self.parts


def turns(n: int) -> Callable[[], bool]:
    """A server that is asked to stop after so many turns of a stream."""
    left = [n]

    def stopping() -> bool:
        left[0] -= 1
        return left[0] < 0

    return stopping


def client(watch: Any, n: int = 1, host: str = "127.0.0.1") -> TestClient:
    return TestClient(application(watch, host, turns(n)), base_url="http://127.0.0.1:7007")


def events(text: str) -> list[tuple[str, str, str]]:
    """The (event, data, id) of every event of a stream."""
    found = [
        dict(line.split(": ", 1) for line in block.split("\n")) for block in text.split("\n\n") if "event" in block
    ]
    return [(event["event"], event["data"], event["id"]) for event in found]


@pytest.mark.parametrize("path", [*PATHS, "/nothing"])
def test_every_answer_has_the_headers_that_guard_it(path: str) -> None:
    answer = client(Shown(progress={"total": 1})).get(path)
    assert answer.status_code == (404 if path == "/nothing" else 200)
    for name, value in HEADERS.items():
        assert answer.headers[name] == value
    assert "access-control-allow-origin" not in answer.headers
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD"])
@pytest.mark.parametrize("path", PATHS)
def test_nothing_but_reading(method: str, path: str) -> None:
    answer = client(Shown()).request(method, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET")


@pytest.mark.parametrize(
    ("host", "status"),
    [("localhost", 200), ("LOCALHOST:99", 200), ("127.0.0.1:7007", 200), ("[::1]:7007", 200), ("192.168.1.7", 200),
     ("lab.example:7007", 200), ("evil.example", 400), ("localhost.evil.example:7007", 400), ("", 400),
     ("127.0.0.1.evil.example", 400), ("localhost@evil.example", 400)],
)  # fmt: skip
def test_only_the_names_of_this_machine(host: str, status: int) -> None:
    answer = client(Shown(), host="lab.example").get("/", headers={"Host": host})
    assert answer.status_code == status


def test_the_page_asks_nobody_else_for_anything() -> None:
    with_all = client(Shown())
    texts = [with_all.get(path).text for path in ("/", "/page.css", "/page.js")]
    addresses = [found for text in texts for found in re.findall(r"(?:https?:)?//[a-z][^\s\"'`)]*\.[^\s\"'`)]*", text)]
    assert [found for found in addresses if "www.w3.org" not in found] == []  # the name of SVG is no address
    assert not any(" style=" in text or "onclick=" in text or "<script>" in text for text in texts)


def test_a_stream_has_every_part_and_then_what_changes() -> None:
    shown = Shown(progress={"total": 2}, running={"steps": []})
    first = events(client(shown).get("/events").text)
    assert [(name, data) for name, data, _ in first] == [
        ("progress", '{"total": 2}'), ("running", '{"steps": []}'), ("notice", '{"text": ""}')
    ]  # fmt: skip
    last = first[-1][2]
    # whoever comes back, to this server or to one started since, is sent nothing again
    assert events(client(shown).get("/events", headers={"Last-Event-ID": last}).text) == []
    assert events(client(shown).get("/events", params={"after": last}).text) == []
    shown.parts = {**shown.parts, "progress": {"total": 3}}
    again = events(client(shown).get("/events", headers={"Last-Event-ID": last}).text)
    assert [(name, data) for name, data, _ in again] == [("progress", '{"total": 3}')]


def test_one_who_lost_the_connection_half_way_gets_the_rest() -> None:
    shown = Shown(progress={"total": 2}, running={"steps": []})
    all_of_them = events(client(shown).get("/events").text)
    for seen in range(len(all_of_them)):
        last = all_of_them[seen][2]
        rest = events(client(shown).get("/events", headers={"Last-Event-ID": last}).text)
        assert [event[:2] for event in rest] == [event[:2] for event in all_of_them[seen + 1 :]]


@pytest.mark.parametrize("last", ["nonsense", "a=b,,=", "progress=wrong", "é", "x" * 5000])
def test_an_id_of_somebody_else_gives_everything(last: str) -> None:
    found = events(client(Shown(progress={})).get("/events", params={"after": last}).text)
    assert [name for name, _, _ in found] == ["progress", "notice"]


def test_a_store_that_cannot_be_read_leaves_what_was_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(served, "REST", 0)
    shown = Shown(progress={"total": 2})
    asked = client(shown)
    assert asked.get("/state").json() == {"progress": {"total": 2}, "notice": {"text": ""}}
    shown.parts = StoreError("/home/somebody/store: is gone")
    state = asked.get("/state").json()
    assert state["progress"] == {"total": 2}
    assert "cannot be read" in state["notice"]["text"]
    assert "somebody" not in str(state)
    shown.parts = {"progress": {"total": 3}}
    assert asked.get("/state").json() == {"progress": {"total": 3}, "notice": {"text": ""}}


def test_many_readers_cost_one_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served, "LOOK_SECONDS", 1e9)
    looks = []

    class Counting(Shown):
        def look(self) -> dict[str, Any]:
            with pytest.raises(RuntimeError):  # it never holds the server's loop up: it runs in another thread
                asyncio.get_running_loop()
            looks.append(threading.current_thread())
            return {}

    with client(Counting()) as asked:
        for _ in range(5):
            asked.get("/state")
    assert len(looks) == 1
    assert looks[0] is not threading.main_thread()


# the command


@pytest.fixture
def study(bert: Path, tmp_path: Path) -> Path:
    return write_study(tmp_path / "study.toml", study_words(bert, tmp_path))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_in_good_order(study: Path, tmp_path: Path, number: signal.Signals) -> None:
    Session.open(study, store=tmp_path / "store")
    line = [sys.executable, "-m", "layover.cli", "serve", str(study), "--store", str(tmp_path / "store"), "--port", "0"]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ})
    try:
        assert process.stdout is not None
        told = process.stdout.readline()
        address = re.search(r"http://127\.0\.0\.1:\d+/", told)
        assert address, told + process.communicate()[1]
        with urllib.request.urlopen(f"{address[0]}events", timeout=DEADLINE) as stream:
            assert stream.readline() == b"retry: 1000\n"
            process.send_signal(number)  # while somebody reads
            out, errors = process.communicate(timeout=DEADLINE)
    finally:
        process.kill()
    assert (process.returncode, out, errors) == (0, "stopped\n", "")


def test_who_is_asked_to_stop_does_not_wait_for_a_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served, "PAUSE_SECONDS", 0.01)
    free = threading.Event()

    class Slow(Shown):
        def look(self) -> dict[str, Any]:
            assert free.wait(DEADLINE)
            return {"progress": {}}

    with client(Slow(), n=3) as asked:
        answer = asked.get("/events").text
        assert not free.is_set()  # the look is still going on
        free.set()
    assert events(answer) == []


def test_what_it_refuses(study: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = command("serve", study)
    assert failed.code == 2
    assert "is not a layover store" in failed.err
    assert not Path("layover-store").exists()
    Session.open(study, store="layover-store")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        failed = command("serve", study, "--port", taken.getsockname()[1])
    assert failed.code == 2
    assert "cannot be listened on" in failed.err
    assert "0: any that is free" in failed.err
    monkeypatch.setattr("layover.serve.server.find_spec", lambda _: None)
    failed = command("serve", study)
    assert failed.code == 2
    assert "pip install 'layover[serve]'" in failed.err
