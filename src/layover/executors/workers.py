"""Workers: warm processes on this machine, each of which runs one function at a time.

The standard library's `ProcessPoolExecutor` and loky give up the whole pool where one process dies, do not say how it
died, and import the user's script into each process. Here a process that dies is replaced, and what it ran is tried
once more.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from multiprocessing.connection import Connection, Pipe
from queue import LifoQueue
from typing import Any

from layover import pulse
from layover.errors import StepError
from layover.executors.executor import Needs
from layover.stopping import OF_CLUSTERS

TRIES = 2  # a second death says more about the step than about the moment
START = "import sys; sys.path[:] = sys.argv[2:]; from layover.executors.workers import serve; serve(int(sys.argv[1]))"


class Workers:
    """`slots` processes that begin at once, call `prepare()`, and then run what is submitted.

    Each uses `threads` threads (0: OMP_NUM_THREADS, or one) and sees the GPUs that `devices` names for it, "" for those
    that are visible here. Functions, arguments and results cross process borders, so
    a function must be one that can be imported. Its future holds StepError where the process died twice. Processes end
    with `close`, and by themselves when this process is gone.
    """

    def __init__(
        self, slots: int, threads: int = 0, prepare: Callable[[], Any] | None = None, devices: Sequence[str] = ()
    ) -> None:
        devices = devices or [""] * slots
        self.slots, self.sharing = slots, max(Counter(devices).values())
        self._threads, self._prepare = threads, prepare
        self._lock, self._closed, self._stopping = threading.Lock(), False, False
        self._all: set[_Process] = set()
        self._idle: LifoQueue[_Process] = LifoQueue()  # the last one used has most of what the next step needs
        for visible in devices:
            self._idle.put(self._started(visible))
        self._callers = ThreadPoolExecutor(slots, thread_name_prefix="worker")

    def submit(self, fn: Callable[..., Any], /, *args: Any, needs: Needs | None = None) -> Future[Any]:
        """Run `fn(*args)` in the next process that is free."""
        return self._callers.submit(self._run, fn, args)

    def stop(self) -> None:
        """Ask all processes to end what they run soon, with its checkpoint."""
        self._stopping = True
        for process in list(self._all):
            process.ask_to_stop()

    def close(self) -> None:
        """End all processes at once, also those at work."""
        with self._lock:
            self._closed = True
            for process in self._all:
                process.end()
            self._all.clear()
        self._callers.shutdown(cancel_futures=True)

    def _started(self, devices: str, instead_of: _Process | None = None) -> _Process:
        with self._lock:
            if self._closed:
                raise StepError("the run was stopped")
            self._all.discard(instead_of)  # type: ignore[arg-type]
            process = _Process(self._threads, self._prepare, devices)
            self._all.add(process)
            return process

    def _run(self, fn: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        process = self._idle.get()
        try:
            for _ in range(TRIES):
                if process.ended:  # also while nothing was asked of it
                    process = self._started(process.devices, process)
                with suppress(EOFError):
                    return process.call(fn, args)
                if self._stopping:  # it died of that: it had not yet learnt how to stop
                    raise pulse.Stopped("was asked to stop")
            raise StepError(
                f"its process {process.end()}, as did the one before: with fewer workers each has more memory"
            )
        finally:
            self._idle.put(process)


class _Process:
    """One process, and the pipe to it. It has no terminal, so that Ctrl-C reaches this process alone."""

    def __init__(self, threads: int, prepare: Callable[[], Any] | None, devices: str) -> None:
        self.devices = devices
        self._pipe, theirs = Pipe()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", START, str(theirs.fileno()), *sys.path],
                pass_fds=[theirs.fileno()],
                env=_environment(threads, devices),
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        with suppress(OSError):  # one that died already is found out when it is called
            self._pipe.send(prepare)

    @property
    def ended(self) -> bool:
        """Whether the process is gone."""
        return self._process.poll() is not None

    def ask_to_stop(self) -> None:
        """Ask the process to end what it runs soon."""
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)

    def call(self, fn: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        """What `fn(*args)` returns or raises there; EOFError where the process dies before it says so."""
        try:
            self._pipe.send((fn, args))
            done, value = self._pipe.recv()
        except (EOFError, ConnectionError):
            self.end()
            raise EOFError from None
        if done:
            return value
        raise value

    def end(self) -> str:
        """End the process, unless it has ended already; how it did, in words."""
        self._process.kill()
        code = self._process.wait()
        return f"was killed ({signal.Signals(-code).name})" if code < 0 else f"ended with exit code {code}"


def _environment(threads: int, devices: str) -> dict[str, str]:
    """The environment of a process: torch reads the number of threads and the GPUs when it is loaded."""
    asked = {"OMP_NUM_THREADS": str(threads)} if threads else {}
    asked |= {"CUDA_VISIBLE_DEVICES": devices} if devices else {}
    return {"OMP_NUM_THREADS": "1", **os.environ, **asked}


def serve(handle: int) -> None:
    """Be a worker: run what comes through the pipe with this handle until the other side is gone."""
    pipe = Connection(handle)
    for number in OF_CLUSTERS:
        signal.signal(number, lambda *_: pulse.ask())
    threading.Thread(target=_end_with, args=(handle,), daemon=True).start()
    prepare = pipe.recv()
    if prepare is not None:
        prepare()
    while True:
        try:
            fn, args = pipe.recv()
            answer = (True, fn(*args))
        except Exception as error:
            answer = (False, error)
        try:
            pipe.send(answer)
        except Exception:  # what cannot be pickled is told in words
            pipe.send((False, StepError(f"cannot be handed over: {answer[1]!r}")))


def _end_with(handle: int) -> None:
    """End this process, whatever it is doing, as soon as nobody holds the other side of the pipe."""
    watch = select.poll()
    watch.register(handle, 0)  # no events but the end of the connection
    watch.poll()
    os._exit(1)
