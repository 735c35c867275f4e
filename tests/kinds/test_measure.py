"""A study that measures forgetting, from its file to the report, with and without a head of the release."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file
from tests.kit import Command, study_words, text_table, write_study

from layover.metrics import get_metric
from layover.session import Session
from layover.stats.paired import select
from layover.stats.table import check

METRICS = {"mlm_loss", "mlm_loss_rise", "cka", "cka_0", "cka_1", "cka_2", "l2", "l2_0", "l2_1", "l2_2"}


@pytest.fixture
def study(bert: Path, tmp_path: Path) -> Callable[..., Path]:
    """The small study, which measures forgetting too, of an encoder with or without a masked-LM head."""

    def write(has_head: bool = True, **words: Any) -> Path:
        if has_head:
            torch.manual_seed(3)
            config = transformers.AutoConfig.from_pretrained(bert)
            transformers.AutoModelForMaskedLM.from_config(config).save_pretrained(tmp_path / "bert")
            transformers.AutoTokenizer.from_pretrained(bert).save_pretrained(tmp_path / "bert")
        else:
            (tmp_path / "bert").symlink_to(bert)
        own = study_words(bert, tmp_path)["task"]
        words = {"forgetting": {"text": "wiki", "examples": 8}, "task": {**own, "wiki": text_table(tmp_path)}, **words}
        return write_study(tmp_path / "study.toml", study_words(bert, tmp_path, encoders=["bert"], **words))

    return write


def forgotten(session: Session) -> Any:
    table = session.observations()
    return table.loc[table.role == "forgetting"]


def test_a_study_that_measures_forgetting(study: Callable[..., Path], command: Command) -> None:
    file = study()
    before = Session.open(file, create=True, store="layover-store").observations()
    assert set(before[before.role == "forgetting"].status) == {"missing"}
    assert not before[before.role == "forgetting"].primary.any()
    ran = command("run", file)
    assert ran.code == 0, ran.err
    assert "5 steps run" in ran.out
    assert "bert · stop · forgetting on wiki · s1  mlm_loss_rise" in ran.out

    session = Session.open(file)
    table = forgotten(session)
    plain, stilts = (table[table.strategy == name].set_index("metric") for name in ("plain", "stilts"))
    assert set(plain.index) == set(stilts.index) == METRICS
    assert plain.value["mlm_loss_rise"] == 0
    assert stilts.value["mlm_loss"] == pytest.approx(plain.value["mlm_loss"] + stilts.value["mlm_loss_rise"])
    assert 0 < stilts.value["l2"] < 100
    assert -100 < stilts.value["cka_2"] < 100
    assert set(stilts.source) == {"stop"}
    assert (set(stilts.seed), set(plain.seed)) == ({1}, {0})
    assert set(stilts.split) == {"validation"}

    # distances are those of the weights, as the store has them
    key = session.plan.find("bert · stop · s1")
    folder, measure = session.store.weights(key), session.plan.find("bert · stop · forgetting on wiki · s1")
    assert folder is not None
    after, whole = (
        load_file(folder / "encoder.safetensors"),
        load_file(Path(session.plan.encoders["bert"].location) / "model.safetensors"),
    )
    plain_weights = {name: whole[f"bert.{name}"].double() for name in after}
    away = sum(float((after[n].double() - p).square().sum()) for n, p in plain_weights.items()) ** 0.5
    length = sum(float(p.square().sum()) for p in plain_weights.values()) ** 0.5
    assert stilts.value["l2"] == pytest.approx(100 * away / length, rel=1e-6)
    facts = session.store.read(measure, "provenance.json")
    assert sum(one**2 for one in facts["distances"]) ** 0.5 == pytest.approx(away, rel=1e-6)
    assert facts["examples"] == {"train": 0, "validation": 8}

    # other conclusions leave it alone
    kept = select(check(session.observations()))
    assert set(kept.role) == {"target"}
    command("observations", file, "--out", "o.csv")
    assert command("analyze", "transfer", "--observations", "o.csv").code == 0

    # what looks at stores and studies knows it
    assert "5 reused" in command("run", file).out
    assert "reuse: finished" in command("explain", file, measure).out
    assert command("store", "verify").code == 0
    assert {row["kind"] for row in command("store", "ls", "--json").json} >= {"measure"}
    assert command("run", file, "--keep-weights", measure).code == 2
    assert command("report", file, "--out", "r.html", "--tables", "t").code == 0
    page = Path("r.html").read_text(encoding="utf-8")
    assert "bert → stop → forgetting · seed 1" in page
    assert 'id="forgetting"' in page
    assert "stop" in Path("t/forgetting.csv").read_text(encoding="utf-8")
    asked = command("query", "select count(*) as n from observations where role = 'forgetting'", "--json")
    assert asked.json == [{"n": 2 * len(METRICS)}]

    # weights that a measure needs are kept until it is finished
    assert command("store", "gc").code == 0
    assert session.store.weights(key) is None
    assert "5 reused" in command("run", file).out


def test_without_a_released_head_one_is_trained_and_the_encoder_stays(
    study: Callable[..., Path], command: Command
) -> None:
    file = study(has_head=False, forgetting={"text": "wiki", "examples": 500, "max_length": 32})
    ran = command("run", file)
    assert ran.code == 0, ran.err
    assert "6 steps run" in ran.out
    assert "bert · wiki masked-LM head · s0  masked_accuracy" in ran.out
    session = Session.open(file)
    table = forgotten(session)
    assert set(table.metric) == METRICS
    key = session.plan.find("masked-LM head")
    folder = session.store.weights(key)
    assert folder is not None
    trained, plain = (
        load_file(folder / "encoder.safetensors"),
        load_file(Path(session.plan.encoders["bert"].location) / "model.safetensors"),
    )
    assert all(torch.equal(tensor, plain[name]) for name, tensor in trained.items())
    # the plain encoder is measured through that head: on the same text it has the loss that the head was scored with
    predictions = session.store.predictions(key)
    assert predictions is not None
    plain_rows = table[(table.strategy == "plain") & (table.metric == "mlm_loss")]
    assert list(plain_rows.value) == [pytest.approx(get_metric("masked_loss").score(predictions), rel=1e-5)]
