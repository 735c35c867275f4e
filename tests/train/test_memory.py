"""Memory: as many tokens as fit, whatever fits."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

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
