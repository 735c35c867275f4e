"""Evidence: what is wrong with it is said, all at once, with the place and what to do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.select.made import evidence

from layover.errors import EvidenceError
from layover.select.estimator import ESTIMATORS, Evidence
from layover.select.logme import LOGME

WHOLE = evidence()
FEATURES = [one for one in WHOLE.features if one is not None]


def spoilt(array: Any, value: float = np.nan) -> Any:
    copy = np.array(array)
    copy.flat[3] = value
    return copy


WRONG: dict[str, tuple[dict[str, Any], str, str]] = {
    "nan in features": ({"features": [FEATURES[0], spoilt(FEATURES[1]), FEATURES[2]]}, "features[1]", "not finite"),
    "inf in features": ({"features": [spoilt(FEATURES[0], np.inf), *FEATURES[1:]]}, "features[0]", "1 of 1440"),
    "nan in plain": ({"plain": spoilt(WHOLE.plain)}, "plain", "not finite"),
    "nan in a part of a text": ({"source_texts": spoilt(WHOLE.source_texts)}, "source_texts", "not finite"),
    "nan in the target's text": ({"target_text": spoilt(WHOLE.target_text)}, "target_text", "not finite"),
    "rows of one source": ({"features": [FEATURES[0][:, :59], *FEATURES[1:]]}, "features[0]", "59 rows"),
    "rows of outputs": ({"outputs": [np.ones((9, 1))] * 3}, "outputs[2]", "9 rows"),
    "number of sources": ({"features": FEATURES[:2]}, "maps", "3 sources, and features of 2"),
    "no layers": ({"features": [FEATURES[0][0], *FEATURES[1:]]}, "features[0]", "(60, 8)"),
    "no rows": ({"features": [FEATURES[0][:, :0], *FEATURES[1:]]}, "features[0]", "(3, 0, 8)"),
    "whole numbers": ({"features": [FEATURES[0].astype(int), *FEATURES[1:]]}, "features[0]", "int64"),
    "a map without its offset": ({"maps": [np.eye(8)] * 3}, "maps[0]", "8 rows"),
    "scores for probabilities": ({"outputs": [np.full((60, 2), 3.0)] * 3}, "outputs[0]", "no probabilities"),
    "negative probabilities": ({"outputs": [np.tile([1.5, -0.5], (60, 1))] * 3}, "outputs[0]", "no probabilities"),
    "texts of another encoder": ({"target_text": np.ones(4)}, "source_texts", "5 wide"),
    "rows without a label": ({"labels": np.r_[np.arange(59) % 3, -1]}, "labels", "1 of 60 are below 0"),
    "values as classes": ({"labels": np.linspace(0, 1, 60)}, "labels", "whole numbers"),
    "words as classes": ({"labels": np.array(["a", "b"] * 30)}, "labels", "whole numbers"),
    "words as values": ({"labels": np.array(["a", "b"] * 30), "kind": "values"}, "labels", "values are numbers"),
    "values that are none": ({"labels": spoilt(np.ones(60)), "kind": "values"}, "labels", "not finite"),
    "labels in a table": ({"labels": np.eye(60)}, "labels", "(60, 60)"),
    "another kind": ({"kind": "class"}, "kind", "no 'class'"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said_with_its_place(case: str) -> None:
    change, place, words = WRONG[case]
    with pytest.raises(EvidenceError) as caught:
        replace(WHOLE, **change)
    assert place in {problem.place for problem in caught.value.problems}
    assert words in str(caught.value)


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(EvidenceError) as caught:
        replace(WHOLE, features=[spoilt(one) for one in FEATURES], plain=spoilt(WHOLE.plain))
    assert [problem.place for problem in caught.value.problems] == [
        "features[0]",
        "features[1]",
        "features[2]",
        "plain",
    ]


def test_half_precision_probabilities_are_probabilities() -> None:
    draw = np.random.default_rng(0).random((60, 7))
    replace(WHOLE, outputs=[(draw / draw.sum(1, keepdims=True)).astype(np.float16)] * 3)


def test_truth_values_are_classes() -> None:
    assert np.isfinite(LOGME.score(replace(WHOLE, labels=np.arange(60) % 2 == 0))).all()


def test_classes_keep_their_rows() -> None:
    gold = replace(WHOLE, labels=np.r_[[9] * 10, [4] * 50]).gold
    assert gold.codes.tolist() == [1] * 10 + [0] * 50
    assert gold.counts.tolist() == [50, 10]


def test_evidence_knows_how_much_it_is() -> None:
    assert (WHOLE.sources, WHOLE.rows) == (3, 60)
    assert (Evidence().sources, Evidence().rows) == (0, None)
    assert Evidence(outputs=[None, np.ones((4, 1))]).rows == 4


def test_a_layer_that_there_is_not_is_named() -> None:
    with pytest.raises(EvidenceError, match="did you mean 'best'"):
        replace(LOGME, layer="bets")  # type: ignore[arg-type]


def test_an_estimator_that_there_is_not_is_named() -> None:
    with pytest.raises(Exception, match="did you mean 'logme'"):
        ESTIMATORS.get("logmee")
