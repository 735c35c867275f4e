"""Batches: every example once an epoch, in an order of the seed alone, split to fit without changing the batch."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from layover.train.batching import collate, epoch_order, micro_batches, rung
from layover.train.determinism import derive
from layover.train.encode import Encoded
from layover.train.layout import Layout


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


@given(lengths=LENGTHS, limit=st.integers(1, 200), packed=st.booleans())
def test_micro_batches_hold_every_example_once_and_fit(lengths: list[list[int]], limit: int, packed: bool) -> None:
    data = encoded(lengths)
    parts = micro_batches(data, np.arange(len(data)), limit, packed)
    assert sorted(int(i) for part in parts for i in part) == list(range(len(data)))
    for part in parts:
        inputs = [n for i in part for n in lengths[i]]
        assert len(part) == 1 or (sum(inputs) if packed else len(inputs) * max(inputs)) <= limit
    longest = [max(lengths[i]) for part in parts for i in part]
    assert longest == sorted(longest)


@given(lengths=LENGTHS, packed=st.booleans(), draw=st.integers(0, 2**32))
def test_a_batch_holds_exactly_its_tokens(lengths: list[list[int]], packed: bool, draw: int) -> None:
    data = encoded(lengths)
    some = np.random.default_rng(draw).permutation(len(data))[: 1 + len(data) // 2]
    batch = collate(data, some, -7, torch.device("cpu"), packed)
    assert batch.sizes == [len(lengths[i]) for i in some]
    assert batch.labels.tolist() == some.tolist()
    inputs = [which for i in some for which in range(data.groups[i], data.groups[i + 1])]
    wanted = [data.ids[slice(*data.offsets[which])].tolist() for which in inputs]
    rows = {name: tensor.flatten() for name, tensor in batch.tokens.items()}
    filled = torch.zeros(batch.layout.rows, dtype=torch.bool)
    for ids, begin, end in zip(wanted, batch.inputs.begins.tolist(), batch.inputs.ends.tolist(), strict=True):
        assert rows["input_ids"][begin:end].tolist() == ids
        assert rows["token_type_ids"][begin:end].tolist() == [i % 2 for i in ids]
        if packed:
            assert rows["position_ids"][begin:end].tolist() == list(range(len(ids)))
        filled[begin:end] = True
    width = max(map(len, wanted))
    assert batch.tokens["input_ids"].shape == ((1, sum(map(len, wanted))) if packed else (len(wanted), width))
    assert set(rows["input_ids"][~filled].tolist()) <= {-7}
    if not packed:
        assert torch.equal(rows["attention_mask"].bool(), filled)


@given(lengths=st.lists(st.integers(1, 40), min_size=1, max_size=12), packed=st.booleans())
def test_groups_of_inputs_hold_every_token_once(lengths: list[int], packed: bool) -> None:
    layout = Layout.of(np.array(lengths), np.zeros((len(lengths), 2), np.int64), 0 if packed else max(lengths) + 2)
    rows = torch.arange(layout.rows)[:, None, None].expand(-1, 2, 3).contiguous()
    copied = torch.full_like(rows, -1)
    for group in layout.groups:
        assert [lengths[number] for number in group.numbers] == group.lengths == sorted(group.lengths)
        part = group.cut(rows)
        assert part.shape == (len(group.numbers), 2, max(group.lengths), 3)
        for values, number, length in zip(part[:, 0, :, 0].tolist(), group.numbers, group.lengths, strict=True):
            begin = int(layout.begins[number])
            assert values[:length] == list(range(begin, begin + length))
        group.put(copied, part)
    assert sorted(number for group in layout.groups for number in group.numbers) == list(range(len(lengths)))
    real = torch.from_numpy(layout.tokens())
    assert torch.equal(copied[real], rows[real])
    assert int((copied[:, 0, 0] == -1).sum()) == layout.rows - sum(lengths)  # padding is left alone
    assert layout.positions().tolist() == [place for length in lengths for place in range(length)]


def test_a_length_is_padded_to_the_next_rung_of_the_ladder() -> None:
    assert [rung(n) for n in (1, 16, 17, 255, 256, 257, 512, 513)] == [16, 16, 32, 256, 256, 512, 512, 768]


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
