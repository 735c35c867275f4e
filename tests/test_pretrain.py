"""`layover pretrain`: an encoder from nothing, in pieces, as a study uses it; and what is refused."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.kit import FAST, HERE, Command, own_table, sentence, text_table, write_study

TINY = ("--layers", 1, "--width", 16, "--heads", 2, "--vocabulary", 300, "--max-length", 16, "--steps", 5,
        "--batch-size", 8, "--evaluate-every", 2, "--device", "cpu", "--threads", 1)  # fmt: skip


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path, draw = tmp_path_factory.mktemp("text") / "text.txt", random.Random(0)
    path.write_text("\n\n".join(sentence(draw, i % 2, 14) for i in range(200)), encoding="utf-8")
    return path


def record(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "pretrain.json").read_text(encoding="utf-8"))


@pytest.fixture
def whole(command: Command, text: Path, tmp_path: Path) -> Path:
    ran = command("pretrain", text, "--out", tmp_path / "whole", *TINY)
    assert ran.code == 0, ran.err
    return tmp_path / "whole"


def test_pieces_are_the_whole_bit_for_bit(command: Command, text: Path, whole: Path, tmp_path: Path) -> None:
    pieces, calls = tmp_path / "pieces", 0
    while not (pieces / "pretrain.json").is_file() or not record(pieces)["finished"]:
        ran = command("pretrain", text, "--out", pieces, *TINY, "--seconds", 0)
        assert ran.code == 0
        calls += 1
        assert f"step {calls} of 5" in ran.out or calls == 5
    assert calls == 5  # a step each
    assert (pieces / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    one, many = record(whole), record(pieces)
    assert [piece["to"] for piece in many.pop("pieces")] == [1, 2, 3, 4, 5]
    assert [piece["to"] for piece in one.pop("pieces")] == [5]
    del one["seconds"], many["seconds"]
    assert one == many
    assert sorted(path.name for path in pieces.iterdir()) == sorted(path.name for path in whole.iterdir())


def test_its_directory_is_a_standard_one_with_its_record(command: Command, text: Path, whole: Path) -> None:
    import torch
    from transformers import AutoModel, AutoModelForMaskedLM, AutoTokenizer

    model, info = AutoModelForMaskedLM.from_pretrained(whole, output_loading_info=True)
    assert not info["missing_keys"]
    assert type(AutoModel.from_pretrained(whole)).__name__ == "RobertaModel"
    tokenizer = AutoTokenizer.from_pretrained(whole)
    line = text.read_text(encoding="utf-8").splitlines()[0]
    ids = tokenizer(line)["input_ids"]
    assert tokenizer.decode(ids, skip_special_tokens=True) == line
    assert tokenizer.decode(tokenizer("Zürich 你好 🚀")["input_ids"], skip_special_tokens=True) == "Zürich 你好 🚀"
    assert (ids[0], ids[-1]) == (tokenizer.bos_token_id, tokenizer.eos_token_id)
    assert len(tokenizer) == model.config.vocab_size == 300
    assert not torch.equal(model.lm_head.dense.weight, torch.zeros_like(model.lm_head.dense.weight))

    found = record(whole)
    assert found["finished"]
    assert found["tokens"] == 5 * 8 * 16
    assert [point["step"] for point in found["curve"]] == [2, 4, 5]
    assert found["curve"][-1]["held_out_loss"] == pytest.approx(found["held_out"]["loss"])
    assert 4 < found["held_out"]["loss"] < np.log(300) + 0.2
    assert found["data"]["digest"].startswith("sha256:")
    card = (whole / "README.md").read_text(encoding="utf-8")
    assert f"{found['held_out']['loss']:.3f} nats" in card
    assert "not finished" not in card
    again = command("pretrain", text, "--out", whole, *TINY)
    assert again.code == 0
    assert record(whole) == found


def test_the_head_that_it_was_trained_with_is_taken_up_again(whole: Path) -> None:
    import torch
    from transformers import AutoModelForMaskedLM

    from layover.train.masked import released_head

    model = AutoModelForMaskedLM.from_pretrained(whole)
    head = released_head(str(whole), model.base_model)
    assert head is not None
    assert torch.equal(head.dense.weight, model.lm_head.dense.weight)  # type: ignore[arg-type]


def test_a_study_uses_it_and_continues_it_on_text(command: Command, whole: Path, tmp_path: Path) -> None:
    words = {
        "schema": 1, "name": "from-nothing", "encoders": [str(whole)], "seeds": [1], "tasks": {"target": ["mine"]},
        "strategies": {"direct": {"kind": "direct"}, "stilts": {"kind": "stilts", "sources": ["wiki"]}},
        "task": {"mine": own_table(tmp_path, "single"), "wiki": text_table(tmp_path)},
        "recipe": {**FAST, "max_length": 16}, "placement": HERE,
    }  # fmt: skip
    study = write_study(tmp_path / "study.toml", words)
    ran = command("run", study, "--store", tmp_path / "store")
    assert ran.code == 0, ran.out + ran.err
    rows = command("observations", study, "--store", tmp_path / "store").out.splitlines()
    named = [dict(zip(rows[0].split(","), row.split(","), strict=True)) for row in rows[1:]]
    asked = [row for row in named if row["target"] == "wiki" and row["split"] == "validation"]
    source = {row["metric"]: float(row["value"]) for row in asked}
    assert set(source) == {"masked_accuracy", "masked_loss"}
    assert 0 < source["masked_loss"] < np.log(300) + 0.2
    assert {row["strategy"] for row in named if row["target"] == "mine"} == {"direct", "stilts"}
    assert command("report", study, "--store", tmp_path / "store", "--out", tmp_path / "report.html").code == 0
    exported = command("store", "export", "wiki · s1", tmp_path / "exported", "--store", tmp_path / "store")
    assert exported.code == 0, exported.err
    assert "RobertaForMaskedLM" in exported.out
    assert "pipeline_tag: fill-mask" in (tmp_path / "exported" / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--heads", 3), "--heads: 3 heads do not divide a width of 16 heads that do: 1, 2, 4, 8, 16"),
        (("--vocabulary", 100), "--vocabulary: is 100 give 261 or more"),
        (("--learning-rate", 2), "--learning-rate: is 2"),
        (("--max-length", 4), "--max-length: is 4 give 8 or more"),
        (("--held", "nowhere.txt"), "--held: the file does not exist: nowhere.txt"),
        (("--max-length", 4000), "does not fill one block of 4000 tokens"),
    ],
)
def test_what_cannot_be_is_refused(
    command: Command, text: Path, tmp_path: Path, options: tuple[Any, ...], message: str
) -> None:
    ran = command("pretrain", text, "--out", tmp_path / "out", *TINY, *options)
    assert ran.code == 2
    assert message in " ".join(ran.err.split())


def test_texts_that_hold_nothing_are_refused(command: Command, tmp_path: Path) -> None:
    (tmp_path / "blank.txt").write_text("\n \n", encoding="utf-8")
    (tmp_path / "one.txt").write_text("a text\n", encoding="utf-8")
    for name, message in (("blank.txt", "the file holds no rows"), ("one.txt", "holds 1 paragraph"),
                          ("none.txt", "the file does not exist")):  # fmt: skip
        ran = command("pretrain", tmp_path / name, "--out", tmp_path / f"{name}.out", *TINY)
        assert ran.code == 2
        assert message in " ".join(ran.err.split())


def test_a_folder_with_anything_else_is_left_alone(command: Command, text: Path, whole: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine", encoding="utf-8")
    ran = command("pretrain", text, "--out", tmp_path / "mine", *TINY)
    assert ran.code == 2
    assert "nothing is overwritten" in ran.err
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]
    other = command("pretrain", text, "--out", whole, *TINY, "--seed", 2)
    assert other.code == 2
    assert "begun with seed 1, not 2" in " ".join(other.err.split())
