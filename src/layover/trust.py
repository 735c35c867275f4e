"""Trust: whether this process may run the code that comes with an encoder. No file can say so, a person must."""

from __future__ import annotations

_allowed = False


def allow(trusted: bool) -> None:
    """Say whether the code of encoders may be run from now on: `--trust-remote-code` was given, or was not."""
    global _allowed
    _allowed = trusted


def allowed() -> bool:
    """Whether the code that comes with an encoder may be run; never, until somebody has said so."""
    return _allowed
