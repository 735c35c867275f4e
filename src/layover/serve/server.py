"""Server: the page of a study on an address of this machine, until Ctrl-C or SIGTERM."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from layover.errors import MissingExtra, Problem, UserError
from layover.plan import Plan
from layover.store import Store

LEAVE_SECONDS = 3  # that readers have to take their leave


class Asked(BaseException):
    """Somebody pressed Ctrl-C or sent SIGTERM."""


def serve(plan: Plan, store: Store, host: str, port: int, tell: Callable[[str], Any]) -> None:
    """Show a study at `http://host:port/` until this process is asked to stop; port 0 is any that is free.

    `tell` is told the address once somebody can connect. Reads the store, and never writes to it. Raises MissingExtra
    without starlette or uvicorn (`check_extra`), and UserError where the address cannot be had.
    """
    check_extra()
    import uvicorn

    from layover.serve.app import application
    from layover.serve.watch import Watch

    with listening(host, port) as taken, stopped():
        app = application(Watch(plan, store), host, lambda: server.should_exit)
        quiet = {"log_level": "warning", "access_log": False, "server_header": False}
        server = uvicorn.Server(uvicorn.Config(app, lifespan="off", timeout_graceful_shutdown=LEAVE_SECONDS, **quiet))
        tell(address(host, taken.getsockname()[1]))
        server.run(sockets=[taken])


def check_extra() -> None:
    """Raise MissingExtra where the packages are missing that a server needs."""
    for package in ("starlette", "uvicorn"):
        if find_spec(package) is None:
            raise MissingExtra(package, "serve", "showing a running study")


def address(host: str, port: int) -> str:
    """The URL of a host and a port.

    >>> address("::1", 80)
    'http://[::1]:80/'
    """
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def listening(host: str, port: int) -> socket.socket:
    """A socket to which browsers can connect from now on; raises UserError where it cannot be had."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except OSError as error:
        hint = "say another --port (0: any that is free)" if port else "say another --host"
        raise UserError(Problem(f"{host}:{port}", f"cannot be listened on: {error.strerror or error}", hint)) from None


@contextmanager
def stopped() -> Iterator[None]:
    """End quietly what a signal ends: to be stopped is how a server ends well."""

    def ask(*_: object) -> None:
        raise Asked

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except Asked:
        pass
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
