"""Memory: as many tokens as fit, whatever fits."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.kit import task_of_kind

from layover.step import Recipe
from layover.train import memory, model


@given(fixed=st.integers(0, 10**9), each=st.integers(1, 10**8), length=st.integers(8, 512), free=st.integers(1, 10**11))
def test_as_many_inputs_as_fit_into_the_share_that_is_free(fixed: int, each: int, length: int, free: int) -> None:
    tokens = memory.fitting(lambda n: fixed + n * each, length, free)
    inputs, room = tokens // length, memory.SHARE * free
    assert tokens % length == 0
    assert inputs == 1 or fixed + inputs * each <= room
    assert fixed + (inputs + 1) * each > room - 1 or tokens + length > memory.MOST


@given(total=st.integers(1, 10**11), sharing=st.integers(1, 16), data=st.data())
def test_processes_that_share_a_gpu_fit_beside_each_other(total: int, sharing: int, data: Any) -> None:
    held = [data.draw(st.integers(0, total // sharing)) for _ in range(sharing)]
    order = data.draw(st.permutations(range(sharing)))
    for one in order:  # each takes all that it may, and then the next one asks
        held[one] += memory.room(total - sum(held), total, held[one], sharing)
    assert sum(held) <= total
    assert min(held) >= total // sharing or sum(held) == total


def test_a_larger_encoder_gets_smaller_parts_and_one_that_is_padded_the_smallest(bert: Path, tmp_path: Path) -> None:
    task, _ = task_of_kind(tmp_path, "single")
    network = model.load(str(bert), None, task, Recipe(), 1).network
    assert memory.micro_tokens(network, "fp32", 64) == memory.PADDED  # not prepared: the stock way
    network.way = "packed"
    found, config = [], cast(Any, network.encoder).config
    for width, layers in ((32, 2), (384, 6), (768, 12), (1024, 24)):
        config.hidden_size, config.num_hidden_layers = width, layers
        found.append(memory.micro_tokens(network, "fp32", 64))
    assert found == [4096, 4096, 1024, 512]


HEAP = """
import numpy as np
from layover.train.memory import give_back, keep_freed

def held():
    (line,) = (line for line in open("/proc/self/status") if line.startswith("RssAnon"))
    return int(line.split()[1]) // 1024

keep_freed()
blocks = [np.ones(2**17) for _ in range(200)]  # of a MB each
last, full = blocks[-1], held()
del blocks
kept = held()
give_back(2**30)
bounded = held()
give_back(2**20)
print(full, kept, bounded, held())
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="another C library than glibc of 2.33 or later")
def test_what_lies_free_between_runs_goes_back_to_the_system_once_it_is_much() -> None:
    told = subprocess.run([sys.executable, "-c", HEAP], check=True, capture_output=True, text=True).stdout
    full, kept, bounded, after = map(int, told.split())
    assert abs(kept - full) < 20
    assert abs(bounded - full) < 20
    assert after < full - 150
