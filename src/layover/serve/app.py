"""App: the page and its stream of events over HTTP. Everything is read with GET, and nothing can be written.

    GET /          the page, /page.css and /page.js
    GET /events    server-sent events: the parts of `Watch.look`, each when it has changed
    GET /state     the same parts once, as JSON

An event's id names the state of every part that its reader has by then, so that a reader that comes back, to this
server or to one started since, is sent what it lacks and nothing else.
"""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import json
import time
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from layover.errors import UserError

LOOK_SECONDS = 1.0  # between two looks at the store at least
REST = 4  # times as long as a look takes it rests before the next
PAUSE_SECONDS = 0.25  # between two looks at what is known
PING_SECONDS = 10.0  # between two signs of life where nothing happens
RETRY_MS = 1000  # after which a reader that lost its connection tries again
FOLDER = Path(__file__).parent
FILES = {"/": ("page.html", "text/html"), "/page.css": ("page.css", "text/css"),
         "/page.js": ("page.js", "text/javascript")}  # fmt: skip
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Looks(Protocol):
    """What is shown: `layover.serve.watch.Watch`."""

    def look(self) -> dict[str, Any]:
        """The parts by name, each plain data."""
        ...


@dataclass
class Latest:
    """What was seen last, for all readers: the store is looked at in a thread, by one at a time, and not too often.

    `parts` are JSON by name; "notice" says what is wrong where the store cannot be read.
    """

    watch: Looks
    parts: dict[str, str] = field(default_factory=dict)
    _due: float = 0.0
    _task: asyncio.Task[None] | None = None

    def looking(self) -> asyncio.Task[None] | None:
        """The look that is going on, begun now where it is time; None between two looks."""
        if self._task is None and time.monotonic() >= self._due:
            self._task = asyncio.create_task(self._look())
        return self._task

    async def _look(self) -> None:
        started = time.monotonic()
        try:
            seen = {**await asyncio.to_thread(self.watch.look), "notice": {"text": ""}}
        except (UserError, OSError):  # what is known stays, and its age is told
            seen = {"notice": {"text": "The store cannot be read at the moment; this is what was seen last."}}
        finally:
            took, self._task = time.monotonic() - started, None
            self._due = time.monotonic() + max(LOOK_SECONDS, REST * took)
        self.parts |= {name: json.dumps(part, allow_nan=False) for name, part in seen.items()}


def application(watch: Looks, host: str, stopping: Callable[[], bool]) -> Starlette:
    """The server's application. `host` is what it listens on, and `stopping` says that streams are to end."""
    latest = Latest(watch)
    files = {path: ((FOLDER / name).read_bytes(), kind) for path, (name, kind) in FILES.items()}

    async def page(request: Request) -> Response:
        content, kind = files[request.url.path]
        return Response(content, media_type=f"{kind}; charset=utf-8")

    async def state(_: Request) -> Response:
        if (task := latest.looking()) is not None:
            await asyncio.shield(task)
        return JSONResponse({name: json.loads(part) for name, part in latest.parts.items()})

    async def events(request: Request) -> Response:
        last = request.headers.get("last-event-id") or request.query_params.get("after", "")
        return StreamingResponse(_stream(latest, last, stopping), media_type="text/event-stream")

    routes = [Route(path, page) for path in FILES] + [Route("/state", state), Route("/events", events)]
    return Starlette(routes=routes, middleware=[Middleware(Guard, host=host)])


async def _stream(latest: Latest, last: str, stopping: Callable[[], bool]) -> AsyncIterator[str]:
    """Events for one reader, who has seen what the id `last` names."""
    known = dict(part.split("=", 1) for part in last.split(",") if "=" in part)
    spoke, pause = time.monotonic(), 0.0
    yield f"retry: {RETRY_MS}\n\n"
    while not stopping():
        # a look may take long, and who is asked to stop does not wait for it
        task = latest.looking()
        await (asyncio.wait([task], timeout=PAUSE_SECONDS) if task else asyncio.sleep(pause))
        for name, part in list(latest.parts.items()):
            if known.get(name) != (digest := hashlib.sha256(part.encode()).hexdigest()[:12]):
                known[name], spoke = digest, time.monotonic()
                yield f"id: {','.join(f'{n}={d}' for n, d in known.items())}\nevent: {name}\ndata: {part}\n\n"
        if time.monotonic() - spoke > PING_SECONDS:
            spoke = time.monotonic()
            yield ": here\n\n"
        pause = PAUSE_SECONDS


class Guard:
    """Refuses what is no GET, and what was asked under a name that is none of this machine's (DNS rebinding).

    A page of a stranger can make a browser ask its own name for this server's address, but not an address or a name
    that the stranger does not own.
    """

    def __init__(self, app: ASGIApp, host: str) -> None:
        self._app, self._names = app, {"localhost", host.lower()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer or pass on one request, with the headers that every answer has."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] += [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
            await send(message)

        refused = self._refused(scope["method"], [v.decode("latin-1") for n, v in scope["headers"] if n == b"host"])
        return await (refused or self._app)(scope, receive, sending)

    def _refused(self, method: str, hosts: Iterable[str]) -> Response | None:
        names = [_without_port(host) for host in hosts]
        if len(names) != 1 or not (names[0] in self._names or _is_address(names[0])):
            return PlainTextResponse("This name is none of this server's.\n", 400)
        if method != "GET":
            return PlainTextResponse("This page is read-only.\n", 405, {"Allow": "GET"})
        return None


def _without_port(host: str) -> str:
    """The name or address in a Host header, in lower case; an IPv6 address stands in brackets there."""
    name, colon, port = host.strip().lower().rpartition(":")
    return (name if colon and port.isdecimal() else host.strip().lower()).strip("[]")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
