"""Places: where a step finds things and what it may use. Never part of any key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class Places:
    """Where a step finds things and what it may use.

    `data`: directories of task data. `files`: a user's own files by task and split. `encoders`: the directory or Hub
    id of each encoder identity. `micro_tokens`: padded tokens per forward pass at most, 0 = what suits the device;
    gradients accumulate over the effective batch. `checkpoint_seconds`: the work that a killed step loses at most.
    `threads`: of a CPU process, 0 = torch's choice (OMP_NUM_THREADS, or all cores). `gradient_checkpointing`: compute
    what lies inside the encoder's layers twice instead of keeping it. On a GPU, `graphs` are "on" where steps that look
    alike are captured as CUDA graphs, "compiled" where the encoder is compiled for them, and `sharing` processes share
    its memory. A process whose step gives no sign of life for `timeout` seconds is ended, 0 = never.
    A training is spread over `devices_per_step` processes, each with a device of its own.
    Code that comes with an encoder is run only where a person said so: `trust_remote_code` is no word of a study.
    """

    data: tuple[Path, ...] = ()
    files: Mapping[str, Mapping[str, Path]] = field(default_factory=dict)
    encoders: Mapping[str, str] = field(default_factory=dict)
    device: str = "auto"
    threads: int = 0
    micro_tokens: int = 0
    checkpoint_seconds: float = 60.0
    gradient_checkpointing: bool = False
    graphs: Literal["off", "on", "compiled"] = "off"
    sharing: int = 1
    timeout: float = 0.0
    devices_per_step: int = 1
    trust_remote_code: bool = False
