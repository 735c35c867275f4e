"""The measures' own test: on a small encoder that knows a little language, remedies forget less than plain stilts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from tests.kit import HERE

from layover import Study, run
from layover.tasks import micro
from layover.train.pretrain import Piece, Settings, Texts, pretrain

pytestmark = pytest.mark.slow
SMALL = Settings(layers=2, width=64, heads=2, vocabulary=400, max_length=32, steps=150, batch_size=32,
                 learning_rate=2e-3, evaluate_every=150)  # fmt: skip
RECIPE = {"learning_rate": 1e-3, "epochs": 5, "batch_size": 16, "max_length": 32, "checkpoint": "last", "patience": 0}


@pytest.fixture(scope="module")
def forgotten(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The measures of every checkpoint by name; it is named by strategy and source."""
    folder = tmp_path_factory.mktemp("known")
    encoder = small_encoder(folder)

    def stilts(**recipe: Any) -> dict[str, Any]:
        way = {"chains": [["wiki", "micro_teacher"]]} if "ewc" in recipe else {"sources": ["micro_teacher"]}
        return {"kind": "stilts", **way, "recipe": {"task": {"micro_teacher": recipe}}}

    study = Study(
        name="known",
        encoders=[str(encoder)],
        seeds=[1],
        tasks={"target": ["micro_target"]},
        strategies={
            "stilts": {"kind": "stilts", "sources": ["micro_teacher"], "chains": [["wiki", "micro_teacher"]]},
            "weak": stilts(l2sp=0.05),
            "strong": stilts(l2sp=0.5),
            "ewc": stilts(ewc=300.0, ewc_examples=64),
            "mixed": {"kind": "stilts", "sources": ["micro_teacher"], "text": "wiki"},
        },
        recipe={**RECIPE, "task": {"wiki": {"epochs": 1}}},
        task={"wiki": {"format": "text", "train": str(folder / "wiki.txt")}},
        forgetting={"text": "wiki", "examples": 200, "max_length": 32},
        placement=HERE,
    )
    table: pd.DataFrame = run(study, store=folder / "store").observations()
    table = table.loc[table["role"] == "forgetting"]
    assert set(table["status"]) == {"ok"}
    found: dict[tuple[str, str], dict[str, float]] = {}
    for row in table.to_dict("records"):
        found.setdefault((row["strategy"], row["source"]), {})[row["metric"]] = row["value"]
    return found


def small_encoder(folder: Path) -> Path:
    """An encoder with a masked-LM head, trained on the sentences of the generated tasks."""
    made = [row for name in micro.NAMES for split in micro.generate(name).values() for row in split]
    sentences = [text for row in made for field, text in row.items() if field.startswith("sentence")]
    (folder / "wiki.txt").write_text("\n\n".join(sentences), encoding="utf-8")
    pretrain(SMALL, Texts((folder / "wiki.txt",)), folder / "small", Piece(device="cpu", threads=1), {})
    return folder / "small"


def less(one: dict[str, float], other: dict[str, float]) -> None:
    """All three measures say that `one` forgot less than `other`."""
    assert one["mlm_loss_rise"] < other["mlm_loss_rise"] - 0.02
    assert one["cka_2"] > other["cka_2"] + 1
    assert one["l2"] < other["l2"] - 0.5


def test_plain_stilts_forgets(forgotten: Any) -> None:
    stilts = forgotten["stilts", "micro_teacher"]
    assert stilts["mlm_loss_rise"] > 0.1
    assert stilts["cka_0"] > stilts["cka_2"]


def test_l2sp_forgets_less_the_stronger_it_is(forgotten: Any) -> None:
    stilts, weak, strong = (forgotten[name, "micro_teacher"] for name in ("stilts", "weak", "strong"))
    less(weak, stilts)
    less(strong, weak)


def test_ewc_keeps_what_the_text_before_taught(forgotten: Any) -> None:
    way = "wiki → micro_teacher"
    less(forgotten["ewc", way], forgotten["stilts", way])


def test_what_goes_on_learning_the_language_forgets_nothing_of_it(forgotten: Any) -> None:
    assert forgotten["stilts", "wiki"]["mlm_loss_rise"] < 0


def test_a_stage_mixed_with_text_forgets_less_of_the_language(forgotten: Any) -> None:
    mixed, stilts = forgotten["mixed", "micro_teacher + wiki"], forgotten["stilts", "micro_teacher"]
    assert mixed["mlm_loss_rise"] < stilts["mlm_loss_rise"] - 0.02
