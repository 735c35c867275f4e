"""Errors raised on purpose: what they say, and that they survive the way from one process to another."""

from __future__ import annotations

import copy

import pytest

from layover import errors
from layover.errors import MissingExtra, Problem, TaskError, UserError, raise_all

PROBLEMS = (Problem("rte", "is missing", "name it"), Problem("", "two"))
KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, UserError)]
ERRORS = [MissingExtra("ray", "ray", "running on Ray"), *(k(*PROBLEMS) for k in KINDS if k is not MissingExtra)]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_is_the_same_in_another_process(error: UserError) -> None:
    other = copy.copy(error)  # goes the way that pickle goes, through __reduce_ex__
    assert other is not error
    assert (type(other), other.problems, str(other)) == (type(error), error.problems, str(error))


def test_all_problems_are_raised_at_once_and_none_raises_nothing() -> None:
    raise_all(TaskError, [])
    with pytest.raises(TaskError) as caught:
        raise_all(TaskError, PROBLEMS)
    assert caught.value.problems == PROBLEMS
    assert str(caught.value) == "rte: is missing\n    name it\ntwo"
