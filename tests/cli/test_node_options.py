"""Options of ``hogpour node`` that make no sense together, or no sense at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from hogpour.cli.main import main


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("--join a:1 --token-file t --wait-for 2", "--join a:1: the first node has the job; --wait-for goes with that one"),
        ("--join a:1 --token-file t --seed 0", "--join a:1: the first node has the job; --seed goes with that one"),
        ("--join a:1 --token-file t --epochs 0", "--join a:1: the first node has the job; --epochs goes with that one"),
        ("--join=", "--join: is empty, expected HOST:PORT"),
        ("--listen= --join a:1", "--listen: is empty, expected HOST:PORT"),
        ("--wait-for 2", "cluster.wait_for = 2: nobody can join a node that does not listen; give --listen, or leave it out"),
        ("--listen 127.0.0.1:0 --wait-for 0", "wait_for = 0, expected 1 to 2048"),
        ("--join-s 5", "--join-s 5: goes with --join, and is above 0, at most 86400"),
        ("--join a:1 --token-file t --join-s 0", "--join-s 0: goes with --join, and is above 0, at most 86400"),
        ("--join a:1 --token-file t --join-s nan", "--join-s nan: goes with --join, and is above 0, at most 86400"),
        ("--allow-modules mine", "--allow-modules: goes with --join; a job file of your own may name any module"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    words: str, text: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    token = tmp_path / "t"
    token.write_text("of this test, 16 bytes")
    token.chmod(0o600)
    assert main(["node", *words.split()]) == 2
    assert capsys.readouterr().err == f"hogpour: {text}\n"
    assert [path.name for path in tmp_path.iterdir()] == ["t"]


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["node", ""], "job file"), (["compare", "", "--schemes", "downpour"], "job file"), (["sim", ""], "job file"),
        (["sim", "--scenario", ""], "scenario file"),
    ],
)  # fmt: skip
def test_an_empty_path_is_no_path_left_out(words: list[str], what: str, capsys: pytest.CaptureFixture[str]) -> None:
    """``node "$JOB"`` trained on digits where the variable was not set."""
    assert main(words) == 2
    assert capsys.readouterr().err == f"hogpour: {what}: the path is empty\n"
