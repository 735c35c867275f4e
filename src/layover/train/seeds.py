"""Seeds: one random stream for each thing that a run draws."""

from __future__ import annotations

import hashlib


def derive(seed: int, *names: str | int) -> int:
    """Make the seed of one named random stream of a run.

    Streams are independent of each other and of how many numbers another stream drew, so that the same seed gives
    the same data order and the same new head to direct and to stilts: restarts are paired.
    """
    text = "/".join(map(str, (seed, *names)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")
