"""Secrets: what a machine's environment holds, or what looks like a key, is in nothing that is written or shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.kit import Command, study_words, write_study

from layover.cli import main
from layover.run import WORK
from layover.secrets import redacted, redacted_words
from layover.step import Train

TOKEN = "hf_" + "aBcDeFgHiJkLmNoPqRsT"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (f"denied for {TOKEN}.", "denied for ***."),
        ("s3://AKIA" + "ABCDEFGHIJKLMNOP/x", "s3://***/x"),
        ("ray://user:correct-horse@head:10001", "ray://***@head:10001"),
        ("Authorization: Bearer abc.def-ghi", "Authorization: Bearer ***"),
        ("https://b.s3/x?X-Amz-Signature=0123abcd&part=2", "https://b.s3/x?***&part=2"),
        ("accuracy 81.5 after 12 steps of mnli", "accuracy 81.5 after 12 steps of mnli"),
        ("https://huggingface.co/org/name@main", "https://huggingface.co/org/name@main"),
    ],
)
def test_what_looks_like_a_secret_is_hidden(text: str, left: str) -> None:
    assert redacted(text) == left


@pytest.mark.parametrize("name", ["HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "WANDB_API_KEY", "DB_PASSWORD", "my_auth_token"])
def test_what_the_environment_calls_a_secret_is_hidden(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "winter-in-lisbon")
    assert redacted("opened with winter-in-lisbon today") == "opened with *** today"


def test_what_is_short_or_no_secret_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "short")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "trueish-value")
    monkeypatch.setenv("SSH_AUTH_SOCK", "/tmp/agent.1234")
    text = "a short text, a trueish-value and /tmp/agent.1234"
    assert redacted(text) == text


def test_the_hubs_token_is_known_from_its_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("a-token-of-no-known-shape\n")
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "token"))
    assert redacted("denied: a-token-of-no-known-shape") == "denied: ***"


def test_words_of_any_depth_are_hidden() -> None:
    words = {"a": [1, {"b": f"x {TOKEN}"}], "c": ("ok", 2.5), "d": None}
    assert redacted_words(words) == {"a": [1, {"b": "x ***"}], "c": ["ok", 2.5], "d": None}


def test_a_failing_study_leaves_no_secret_behind(
    bert: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither in the store, nor in the report, nor on the screen, although the error has it in its words and code."""
    secret = "a-password-for-the-cluster"
    monkeypatch.setenv("CLUSTER_PASSWORD", secret)

    def fails(*_: Any) -> Any:
        raise RuntimeError(f"cannot log in as me with {secret} or {TOKEN}")

    study = write_study(tmp_path / "study.toml", study_words(bert, tmp_path))
    monkeypatch.setitem(WORK, Train, fails)
    shown = [command("run", study, "--store", tmp_path / "s")]
    shown.append(command("status", study, "--store", tmp_path / "s"))
    shown.append(command("report", study, "--store", tmp_path / "s", "--out", tmp_path / "r.html"))
    shown.append(command("observations", study, "--store", tmp_path / "s", "--out", tmp_path / "o.csv"))
    assert shown[0].code == 1
    assert "cannot log in as me with *** or ***" in shown[0].err
    written = [path for path in [*tmp_path.glob("s/**/*"), tmp_path / "r.html", tmp_path / "o.csv"] if path.is_file()]
    assert any(path.name == "error.txt" for path in written)
    for path in written:
        content = path.read_bytes()
        assert secret.encode() not in content, path
        assert TOKEN.encode() not in content, path
    for ran in shown:
        assert secret not in ran.out + ran.err
        assert TOKEN not in ran.out + ran.err


def test_a_bug_keeps_its_traceback_and_no_secret(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_TOKEN", "a-token-of-no-known-shape")

    def breaks() -> Any:
        raise ZeroDivisionError("with a-token-of-no-known-shape")

    monkeypatch.setattr("layover.listing.list_strategies", breaks)
    monkeypatch.setattr("sys.argv", ["layover", "strategies"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    shown = capsys.readouterr().err
    assert "Traceback" in shown
    assert "ZeroDivisionError: with ***" in shown
    assert "a-token" not in shown
