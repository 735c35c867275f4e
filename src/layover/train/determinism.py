"""Determinism: the settings under which a run on a CPU repeats bit for bit."""

from __future__ import annotations

import random

import numpy as np
import torch

from layover.train.seeds import derive

__all__ = ["CPU", "OWN_THREADS", "derive", "pick_device", "prepare_process", "quiet"]

CPU = torch.device("cpu")


OWN_THREADS = torch.get_num_threads()  # torch's choice: OMP_NUM_THREADS, or all cores


def prepare_process(threads: int, device: torch.device = CPU) -> None:
    """Settings of a process that trains, whatever ran in it before. On a GPU, results repeat up to rounding of sums.

    A GPU's deterministic kernels are slower, and there are none for attention: they would not make results repeat.

    The streams of a run have seeds of their own (`derive`); those of the process are reset, so that what draws from
    them unasked draws the same in every process.
    """
    torch.set_num_threads(threads or OWN_THREADS)
    torch.use_deterministic_algorithms(device.type == "cpu", warn_only=True)
    # filling memory before it is used costs time, and only shows what reads it too early
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.set_grad_enabled(True)
    torch.set_default_dtype(torch.float32)
    torch.set_default_device(None)
    torch.set_float32_matmul_precision("highest")
    for kind in ("cpu", "cuda"):
        torch.set_autocast_enabled(kind, False)
    for reset in (torch.manual_seed, np.random.seed, random.seed):
        reset(0)
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
