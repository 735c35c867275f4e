"""Heads: scores, losses and predictions in the task's own terms, each against numbers worked out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from layover.tasks.formats import Choice, Single
from layover.tasks.spans import Coreference, EdgeProbing, Span, Tagging, WordInContext
from layover.tasks.task import Task
from layover.train.batching import Batch, Stretches
from layover.train.heads import MOST_SCORES, Attentive, Head
from layover.train.layout import Layout
from layover.train.noise import Noise

CPU = torch.device("cpu")
WIDTH = 4
NO_YES = ("no", "yes")


def head(form: Any, labels: tuple[str, ...] = (), bounds: tuple[float, float] | None = None, seed: int = 1) -> Head:
    task = Task("t", 1, form, ("accuracy",), labels, bounds=bounds)
    return Head(WIDTH, task, dropout=0.0, seed=seed, noise=Noise()).eval()


def batch(
    labels: Any = (), sizes: Any = (), spans: Any = (), example: Any = (), lengths: Any = None, inside: Any = None
) -> Batch:
    """Inputs of these lengths (of one token where none are given), packed in their order; `spans` are rows."""
    n = len(labels) or len(spans)
    lengths = np.array(lengths or [1] * max(sum(sizes), n, 1))
    ends, marks = np.cumsum(lengths), np.array(spans, dtype=np.int64).reshape(n, -1 if len(spans) else 0, 2)
    return Batch(
        tokens={},
        layout=Layout(lengths, ends - lengths, int(ends[-1]), 0, np.zeros((len(lengths), 2), np.int64)),
        inputs=Stretches.of(ends - lengths, ends, CPU),
        sizes=list(sizes),
        targets=np.arange(n),
        labels=torch.tensor(labels),
        spans=[Stretches.of(mark[:, 0], mark[:, 1], CPU) for mark in marks.swapaxes(0, 1)],
        example=torch.tensor(example or list(range(n))),
        counts=np.bincount(example, minlength=len(lengths)).tolist() if len(example) else [1] * n,
        inside=None if inside is None else torch.tensor(inside),
    )


def test_a_real_number_is_scaled_by_the_tasks_bounds() -> None:
    value = head(Single("a", "value"), bounds=(1.0, 5.0))
    scores = torch.tensor([0.0, 0.5, 1.0, -3.0, 7.0, float("nan")])
    assert value.predict(scores, batch()).tolist() == [1.0, 3.0, 5.0, 1.0, 5.0, 1.0]
    assert float(value.loss(torch.tensor([0.5, 0.5]), batch([3.0, 5.0]))) == pytest.approx(0.25)


def test_choices_of_varying_number_are_padded_with_what_is_never_chosen() -> None:
    choice = head(Choice("a", ("b",)))
    with torch.no_grad():
        choice.linear.weight.fill_(1.0)
    pooled = torch.tensor([[1.0], [3.0], [2.0], [-5.0], [-4.0]]).expand(5, 4)
    two = batch([0.0, 1.0], sizes=[3, 2])
    scores = choice(pooled, pooled, two)
    assert scores.tolist() == [[4.0, 12.0, 8.0], [-20.0, -16.0, float("-inf")]]
    assert choice.predict(scores, two).tolist() == [1, 1]


def test_the_loss_is_the_sum_over_examples() -> None:
    loss = head(Single("a"), NO_YES).loss(torch.zeros(3, 2), batch([0.0, 1.0, 1.0]))
    assert float(loss) == pytest.approx(3 * 0.6931472)


def test_of_a_set_of_labels_the_loss_is_the_mean_over_labels_and_the_sum_over_targets() -> None:
    labels = head(EdgeProbing(1), ("a", "b", "c"))
    scores = torch.tensor([[0.0, 2.0, -1.0], [-0.5, 0.0, 3.0]])
    gold = [[0, 1, 0], [1, 0, 1]]
    by_hand = -functional.logsigmoid(torch.tensor([[-0.0, 2.0, 1.0], [-0.5, -0.0, 3.0]])).sum() / 3
    assert float(labels.loss(scores, batch(gold))) == pytest.approx(float(by_hand))
    # at a probability of exactly a half, a label counts as predicted (jiant v1: logit >= 0)
    assert labels.predict(scores, batch(gold)).tolist() == [[1, 1, 0], [0, 1, 1]]
    nothing = torch.full((1, 3), float("nan"))
    assert labels.predict(nothing, batch([[0, 0, 0]])).tolist() == [[0, 0, 0]]


def test_the_place_of_an_answer_is_learnt_over_all_tokens_and_looked_for_in_the_passage() -> None:
    span = head(Span("p", "q", "a"))
    # an input of six tokens; then one of five: special, three of the passage, one of the question
    inside = [[False] * 6, [False, True, True, True, False, False]]
    asked = batch([0.0], spans=[[[8, 10]]], example=[1], lengths=[6, 5], inside=inside)
    hidden = torch.zeros(11, WIDTH)
    scores = span(hidden, hidden[[0, 6]], asked)
    assert scores.shape == (2, 2, 6)
    assert torch.isinf(scores).tolist() == [[[False] * 6] * 2, [[False] * 5 + [True]] * 2]
    assert float(span.loss(scores, asked).detach()) == pytest.approx(float(torch.tensor(5.0).log()))
    begin, end = [9.0, 1.0, 2.0, 0.0, 9.0, 9.0], [9.0, 5.0, 1.0, 2.0, 9.0, 9.0]
    scores = torch.tensor([[end, begin], [begin, end]])
    assert span.predict(scores, asked).tolist() == [[2, 4]]  # the best end, token 1, would be before the begin
    assert span.kept(scores, span.predict(scores, asked), asked).tolist() == [[2.0, 2.0]]
    gold = [-functional.log_softmax(torch.tensor(s), 0)[place] for s, place in ((begin, 2), (end, 3))]
    assert float(span.loss(scores, asked)) == pytest.approx(float(sum(gold)) / 2)


def test_a_stretch_is_its_first_token_for_tags_and_the_mean_of_its_tokens_for_a_word() -> None:
    hidden = torch.arange(2 * 3 * WIDTH, dtype=torch.float).reshape(6, WIDTH)
    two = batch([0.0, 1.0], spans=[[[4, 6]], [[0, 2]]], example=[1, 0], lengths=[3, 3])
    tags = head(Tagging("w"), NO_YES)
    assert torch.equal(tags._vectors(hidden, hidden[[0, 3]], two), torch.stack([hidden[4], hidden[0]]))
    two = batch([0.0, 1.0], spans=[[[4, 6], [5, 6]], [[0, 2], [0, 1]]], example=[1, 0], lengths=[3, 3])
    words = head(WordInContext("a", "b", ("c", "d", "e", "f")), NO_YES)
    expected = [torch.cat([hidden[3], hidden[4:6].mean(0), hidden[5]]),
                torch.cat([hidden[0], hidden[:2].mean(0), hidden[0]])]  # fmt: skip
    assert torch.allclose(words._vectors(hidden, hidden[[0, 3]], two), torch.stack(expected))


def test_attention_pools_each_stretch_by_itself() -> None:
    torch.manual_seed(0)
    pool = Attentive(WIDTH, 3)
    hidden = torch.randn(12, WIDTH)
    begins, ends = np.array([6, 2, 7]), np.array([7, 6, 10])
    span = Stretches.of(begins, ends, CPU)
    found = pool(hidden, span)
    for vector, begin, end in zip(found, begins, ends, strict=True):
        projected = pool.project(hidden[begin:end])
        weights = pool.attend(projected).squeeze(-1).softmax(0)
        torch.testing.assert_close(vector, weights @ projected)
    large = pool(hidden * 1e4, span)  # scores of thousands must not overflow
    assert torch.isfinite(large).all()


def projections(head: Head) -> list[Any]:
    """The layers that project the tokens of each stretch."""
    return [layer for name, layer in head.stretches.named_modules() if name.endswith("project")]


def test_two_stretches_have_parts_of_their_own() -> None:
    edge = head(EdgeProbing(2), ("a", "b", "c"))
    one, two = projections(edge)
    assert (one.out_features, two.out_features) == (256, 256)
    assert not torch.equal(one.weight, two.weight)
    assert (edge.linear.in_features, edge.linear.out_features) == (256, 3)
    wsc = head(Coreference("t", ("a", "b"), ("c", "d")), NO_YES)
    assert [projection.out_features for projection in projections(wsc)] == [512, 512]
    assert (wsc.linear.in_features, wsc.linear.out_features) == (1024, 2)


def test_of_very_many_classes_only_the_score_of_the_predicted_one_is_kept() -> None:
    for classes, kept in ((MOST_SCORES, MOST_SCORES), (MOST_SCORES + 1, 1)):
        tags = head(Tagging("w"), tuple(map(str, range(classes))))
        scores = torch.arange(2.0 * classes).reshape(2, classes)
        found = tags.kept(scores, tags.predict(scores, batch()), batch())
        assert found.shape == (2, kept)
        assert found[:, -1].tolist() == [classes - 1, 2 * classes - 1]


@pytest.mark.parametrize("form", [Single("a"), Tagging("w"), EdgeProbing(2)])
def test_the_same_seed_is_the_same_head_whatever_was_drawn_before(form: Any) -> None:
    one = head(form, NO_YES)
    torch.rand(7)
    two, other = head(form, NO_YES), head(form, NO_YES, seed=2)
    for name, weight in one.state_dict().items():
        assert torch.equal(weight, two.state_dict()[name]), name
        if name.endswith("weight") and weight.ndim > 1:
            assert not torch.equal(weight, other.state_dict()[name]), name
    assert one.linear.bias.tolist() == [0.0, 0.0]
