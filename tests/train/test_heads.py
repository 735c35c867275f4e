"""Heads: scores in the task's own terms."""

from __future__ import annotations

import pytest
import torch

from layover.tasks.task import Choice, Output, Single, Task
from layover.train.heads import Head


def head(output: Output, bounds: tuple[float, float] | None = None, labels: tuple[str, ...] = ()) -> Head:
    form = Choice("a", ("b",)) if output == "choice" else Single("a", output)
    return Head(4, Task("t", 1, form, ("accuracy",), labels, bounds=bounds), dropout=0.0, seed=1)


def test_a_real_number_is_scaled_by_the_tasks_bounds() -> None:
    value = head("value", (1.0, 5.0))
    scores = torch.tensor([0.0, 0.5, 1.0, -3.0, 7.0, float("nan")])
    assert value.predict(scores).tolist() == [1.0, 3.0, 5.0, 1.0, 5.0, 1.0]
    assert float(value.loss(torch.tensor([0.5, 0.5]), torch.tensor([3.0, 5.0]))) == pytest.approx(0.25)


def test_choices_of_varying_number_are_padded_with_what_is_never_chosen() -> None:
    choice = head("choice")
    with torch.no_grad():
        choice.linear.weight.fill_(1.0)
    pooled = torch.tensor([[1.0], [3.0], [2.0], [-5.0], [-4.0]]).expand(5, 4)
    scores = choice(pooled, [3, 2])
    assert scores.tolist() == [[4.0, 12.0, 8.0], [-20.0, -16.0, float("-inf")]]
    assert choice.predict(scores).tolist() == [1, 1]


def test_the_loss_is_the_sum_over_examples() -> None:
    classes = head("classes", labels=("no", "yes"))
    loss = classes.loss(torch.zeros(3, 2), torch.tensor([0.0, 1.0, 1.0]))
    assert float(loss) == pytest.approx(3 * 0.6931472)


def test_the_same_seed_is_the_same_head_and_the_scores_of_chance_have_equal_size() -> None:
    one, two, other = (Head(4, Task("t", 1, Single("a"), ("accuracy",), ("n", "y")), 0.0, seed) for seed in (1, 1, 2))
    assert torch.equal(one.linear.weight, two.linear.weight)
    assert not torch.equal(one.linear.weight, other.linear.weight)
    assert one.linear.bias is not None
    assert one.linear.bias.tolist() == [0.0, 0.0]
