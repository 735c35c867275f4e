"""Determinism: seeds, and the settings under which a run on a CPU repeats bit for bit."""

from __future__ import annotations

import hashlib

import torch


def derive(seed: int, *names: str | int) -> int:
    """Make the seed of one named random stream of a run.

    Streams are independent of each other and of how many numbers another stream drew, so that the same seed gives
    the same data order and the same new head to direct and to stilts: restarts are paired.
    """
    text = "/".join(map(str, (seed, *names)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")


def prepare_process(threads: int) -> None:
    """Settings of a process that trains. On a GPU, results repeat up to the rounding of its reductions."""
    if threads:  # else torch's own choice: OMP_NUM_THREADS, or all cores
        torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    # a guard against bugs that costs every step: nothing here reads memory that it has not written
    setattr(torch.utils.deterministic, "fill_uninitialized_memory", False)  # noqa: B010  (torch does not declare it)
    quiet()


def quiet() -> None:
    """Keep transformers' own progress bars and advice about heads out of what layover prints."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def pick_device(name: str) -> torch.device:
    """The device called "auto", "cpu" or "cuda"."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)
