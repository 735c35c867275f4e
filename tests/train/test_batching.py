"""Batches: every example once an epoch, in an order of the seed alone, split to fit without changing the batch."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from layover.train.batching import collate, epoch_order, micro_batches
from layover.train.determinism import derive
from layover.train.encode import Encoded


def encoded(lengths: list[list[int]]) -> Encoded:
    """Examples with inputs of these lengths; the tokens are numbered from 1."""
    flat = [n for inputs in lengths for n in inputs]
    ends = np.cumsum(flat).astype(np.int64)
    offsets = np.stack([ends - flat, ends], axis=1)
    groups = np.concatenate([[0], np.cumsum([len(inputs) for inputs in lengths])]).astype(np.int64)
    ids = np.arange(1, ends[-1] + 1, dtype=np.int32)
    types = (ids % 2).astype(np.uint8)
    n = len(lengths)
    each, none = np.arange(n + 1), np.zeros(n, bool)
    return Encoded(
        ids, types, offsets, groups, bounds=each, labels=np.arange(n, dtype=float), spans=np.zeros((n, 0, 2), np.int32),
        lost=none, rows=np.arange(n), parts=np.zeros(n, np.int64), truncated=none,
    )  # fmt: skip


LENGTHS = st.lists(st.lists(st.integers(1, 30), min_size=1, max_size=4), min_size=1, max_size=25)


@given(lengths=LENGTHS, limit=st.integers(1, 200))
def test_micro_batches_hold_every_example_once_and_fit(lengths: list[list[int]], limit: int) -> None:
    data = encoded(lengths)
    parts = micro_batches(data, np.arange(len(data)), limit)
    assert sorted(int(i) for part in parts for i in part) == list(range(len(data)))
    for part in parts:
        inputs = [n for i in part for n in lengths[i]]
        assert len(part) == 1 or len(inputs) * max(inputs) <= limit
    longest = [max(lengths[i]) for part in parts for i in part]
    assert longest == sorted(longest)


@given(lengths=LENGTHS, draw=st.randoms(use_true_random=False))
def test_a_padded_batch_holds_exactly_its_tokens(lengths: list[list[int]], draw: object) -> None:
    data = encoded(lengths)
    some = np.random.default_rng(draw.randrange(2**32)).permutation(len(data))[: 1 + len(data) // 2]  # type: ignore[attr-defined]
    batch = collate(data, some, SimpleNamespace(pad_token_id=-7), torch.device("cpu"))
    assert batch.sizes == [len(lengths[i]) for i in some]
    assert batch.labels.tolist() == some.tolist()
    rows = iter(range(sum(batch.sizes)))
    width = max(n for i in some for n in lengths[i])
    for example in some:
        for which in range(data.groups[example], data.groups[example + 1]):
            row, ids = next(rows), data.ids[slice(*data.offsets[which])].tolist()
            padding = width - len(ids)
            assert batch.tokens["input_ids"][row].tolist() == ids + [-7] * padding
            assert batch.tokens["attention_mask"][row].tolist() == [1] * len(ids) + [0] * padding
            assert batch.tokens["token_type_ids"][row].tolist() == [i % 2 for i in ids] + [0] * padding


def test_an_epoch_is_a_permutation_that_depends_on_seed_and_epoch_alone() -> None:
    orders = {(seed, epoch): epoch_order(50, 8, seed, epoch) for seed in (1, 2) for epoch in (0, 1)}
    for order in orders.values():
        assert [len(part) for part in order] == [8] * 6 + [2]
        assert sorted(np.concatenate(order).tolist()) == list(range(50))
    assert len({tuple(np.concatenate(order).tolist()) for order in orders.values()}) == 4
    again = epoch_order(50, 8, 1, 0)
    assert all(np.array_equal(a, b) for a, b in zip(again, orders[1, 0], strict=True))
    whole = epoch_order(50, 50, 1, 0)[0]
    assert np.array_equal(np.concatenate(again), whole)  # the batch size cuts the order and does not change it


def test_streams_of_a_seed_are_apart() -> None:
    found = [derive(seed, *names) for seed in (1, 2) for names in (("head",), ("dropout",), ("order", 0), ("order", 1))]
    assert len(set(found)) == 8
    assert derive(1, "head") == 8248887767900026
    assert all(0 <= seed < 2**56 for seed in found)
