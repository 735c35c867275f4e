"""Causal: a small generator learns a text, is the same after a kill, and its perplexity is that worked by hand."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from tests.kit import WORDS, write_text

from layover.errors import UserError
from layover.train import causal
from layover.train.causal import Sizes, Trained, perplexity, train

TINY = Sizes(layers=1, width=32, vocabulary=300, length=16, steps=40, batch_size=4, learning_rate=1e-2)


@pytest.fixture(scope="module")
def paragraphs(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    text = write_text(tmp_path_factory.mktemp("text") / "t.txt", 120).read_text(encoding="utf-8")
    return text.splitlines()


def trained(paragraphs: list[str], work: Path, sizes: Sizes = TINY, tell: object = lambda *_: None) -> Trained:
    work.mkdir(exist_ok=True)
    return train(paragraphs, sizes, work, tell)  # type: ignore[arg-type]


def test_it_learns_and_goes_on_after_a_kill(
    paragraphs: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = trained(paragraphs, tmp_path / "whole")
    untrained = trained(paragraphs, tmp_path / "short", Sizes(**{**TINY.__dict__, "steps": 1}))
    assert whole.facts["perplexity"] < 0.5 * untrained.facts["perplexity"]
    assert whole.facts["perplexity"] == pytest.approx(math.exp(whole.facts["loss"]), rel=0.3)

    monkeypatch.setattr(causal, "CHECKPOINT_SECONDS", 0.0)

    def die(step: int, _: int) -> None:
        if step == 25:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(paragraphs, tmp_path / "killed", TINY, die)
    told: list[int] = []
    again = trained(paragraphs, tmp_path / "killed", TINY, lambda step, _: told.append(step))
    assert told[0] == 25
    assert again.facts == whole.facts
    for name, weights in whole.model.state_dict().items():
        assert torch.equal(weights, again.model.state_dict()[name]), name


def test_perplexity_is_of_every_token_but_the_first_of_a_block(paragraphs: list[str], tmp_path: Path) -> None:
    found = trained(paragraphs, tmp_path / "w", Sizes(**{**TINY.__dict__, "steps": 2}))
    texts = paragraphs[:3]
    end = found.tokenizer.convert_tokens_to_ids(causal.END)
    flat = [token for text in texts for token in [*found.tokenizer(text)["input_ids"], end]]
    total, n = 0.0, 0
    for at in range(0, len(flat) - 15, 16):
        ids = torch.tensor([flat[at : at + 16]])
        logs = found.model(input_ids=ids).logits[0, :-1].log_softmax(-1)
        total -= float(logs[torch.arange(15), ids[0, 1:]].detach().sum())
        n += 15
    words = sum(len(text.split()) for text in texts) * n / len(flat)
    facts = perplexity(found.model, found.tokenizer, texts, 16)
    assert facts["perplexity"] == pytest.approx(math.exp(total / n), rel=1e-4)
    assert facts["perplexity per word"] == pytest.approx(math.exp(total / words), rel=1e-4)


def test_the_tokenizer_reads_any_text_and_gives_it_back(paragraphs: list[str], tmp_path: Path) -> None:
    tokenizer = trained(paragraphs, tmp_path / "w", Sizes(**{**TINY.__dict__, "steps": 1})).tokenizer
    for text in ("naïve — 東京 <|x|>  two", " ".join(WORDS)):
        assert tokenizer.decode(tokenizer(text)["input_ids"], clean_up_tokenization_spaces=False) == text
    assert len(tokenizer) == 300


def test_blocks_of_a_pass_are_read_once_each() -> None:
    sizes = Sizes(batch_size=4)
    drawn = [causal._drawn(step, 18, sizes).tolist() for step in range(8)]
    first, second = ([block for step in drawn[at : at + 4] for block in step] for at in (0, 4))
    assert len(set(first)) == len(set(second)) == 16
    assert first != second


def test_a_text_too_short_for_a_batch_is_refused(paragraphs: list[str], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds \d blocks of 16 tokens, a batch has 4"):
        trained(paragraphs[:2], tmp_path / "w")


def test_heads_are_as_wide_as_those_of_gpt2() -> None:
    assert [Sizes(width=width).heads for width in (32, 64, 192, 200, 768)] == [1, 1, 3, 1, 12]


def test_a_damaged_checkpoint_costs_its_work_only(paragraphs: list[str], tmp_path: Path) -> None:
    sizes = Sizes(**{**TINY.__dict__, "steps": 3})
    first = trained(paragraphs, tmp_path / "w", sizes)
    (tmp_path / "w" / "checkpoint.safetensors").write_bytes(b"broken")
    assert trained(paragraphs, tmp_path / "w", sizes).facts == first.facts
