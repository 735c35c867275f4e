"""What a recipe says, where its words are a little language of their own."""

from __future__ import annotations

import pytest

from layover.errors import StudyError
from layover.recipe import Frozen, Recipe, frozen_parts
from layover.schema import RecipeTable
from layover.study import Study


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("", Frozen()),
        (" ", Frozen()),
        ("embeddings", Frozen(embeddings=True)),
        ("encoder", Frozen(whole=True)),
        ("2", Frozen(ranges=((2, 2),))),
        ("0-3", Frozen(ranges=((0, 3),))),
        (" embeddings ,0 - 3,7", Frozen(embeddings=True, ranges=((0, 3), (7, 7)))),
        ("0-9999999999", Frozen(ranges=((0, 9999999999),))),
    ],
)
def test_what_is_frozen_is_read(words: str, expected: Frozen) -> None:
    assert frozen_parts(words) == expected


def test_frozen_layers_hold_what_they_name() -> None:
    frozen = frozen_parts("1-2, 5")
    assert [layer for layer in range(8) if frozen.holds(layer)] == [1, 2, 5]
    assert (frozen.highest, frozen_parts("embeddings").highest, frozen_parts("encoder").holds(3)) == (5, -1, True)


@pytest.mark.parametrize("words", ["embedding", "0-", "-1", "0--3", "a-b", "0,,1", ",", "1.5", "0-3-5", "head"])
def test_what_cannot_be_frozen_is_refused_with_the_choices(words: str) -> None:
    with pytest.raises(ValueError, match="choices: 'embeddings'"):
        frozen_parts(words)


def test_a_range_that_ends_before_it_begins_is_refused() -> None:
    with pytest.raises(ValueError, match="write '1-3'"):
        frozen_parts("3-1")


def test_a_study_names_the_place_of_what_cannot_be_frozen() -> None:
    words = {"name": "s", "encoders": ["minilm"], "seeds": [1], "tasks": {"target": ["rte"]}}
    tables = {"recipe": {"freeze": "top"}, "sweep": {"freeze": ["0", "bottom"]}}
    own = {"kind": "direct", "recipe": {"task": {"rte": {"freeze": "middle"}}}}
    with pytest.raises(StudyError) as caught:
        Study(**words, **tables, strategies={"direct": own})
    places = {problem.place for problem in caught.value.problems}
    assert {"recipe.freeze", "sweep.freeze[1]", "strategies.direct.recipe.task.rte.freeze"} <= places


def test_a_recipe_with_a_remedy_is_not_plain() -> None:
    assert Recipe().plain
    assert not Recipe(l2sp=0.1).plain
    assert RecipeTable.model_validate({"freeze": "0-1"}).words() == {"freeze": "0-1"}


def test_a_head_by_itself_keeps_what_is_not_about_forgetting() -> None:
    recipe = Recipe(optimizer="amsgrad", max_steps=9, evaluations_per_epoch=2, mixout=0.5, lora=4)
    assert recipe.bare == Recipe(optimizer="amsgrad", max_steps=9, evaluations_per_epoch=2)
    assert Recipe(optimizer="recadam").bare == Recipe()


def test_how_often_examples_are_trained_on() -> None:
    assert Recipe(epochs=3).passes(100) == 3
    assert Recipe(max_steps=50, batch_size=4).passes(100) == 2.0
