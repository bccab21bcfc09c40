"""The token's file is its user's alone, whole or not there, and no address is open to others by accident."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hogpour.core.errors import ConfigError
from hogpour.net import token


def written(path: Path, content: bytes, mode: int = 0o600) -> Path:
    path.write_bytes(content)
    path.chmod(mode)
    return path


def test_a_token_is_read_without_the_whitespace_around_it(tmp_path: Path) -> None:
    assert token.load(written(tmp_path / "token", b" \t0123456789abcdef\r\n")) == b"0123456789abcdef"


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o602, 0o660])
def test_a_token_that_others_have_access_to_is_refused(mode: int, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"others have access \(-r.*\); chmod 600 it, and make a new token$"):
        token.load(written(tmp_path / "token", b"0123456789abcdef", mode))


def test_a_short_token_is_refused_and_not_shown(tmp_path: Path) -> None:
    path = written(tmp_path / "token", b"0123456789abcde\n")
    with pytest.raises(ConfigError) as raised:
        token.load(path)
    assert str(raised.value) == f"token file {path}: a token of 15 bytes; expected at least 16"


def test_a_token_with_a_nul_is_refused(tmp_path: Path) -> None:
    """Those that differ in NUL bytes at their end are one to HMAC."""
    path = written(tmp_path / "token", b"0123456789abcdef\0\0")
    with pytest.raises(ConfigError, match=f"^token file {path}: a token holds no NUL$"):
        token.load(path)


def test_an_endless_token_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="more than 4096 bytes"):
        token.load(written(tmp_path / "token", b"x" * 5000))


def test_a_token_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        token.load(tmp_path / "token")
    assert str(raised.value) == f"token file {tmp_path / 'token'}: no such file or directory"


def test_a_made_token_is_private_and_found_again(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "token"
    made = token.make(path)
    assert len(made) == 64
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert token.make(path) == token.load(path) == made
    assert os.listdir(path.parent) == ["token"]


def test_of_two_makers_at_once_both_use_the_first_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one links its file between our write and our link."""
    path, link = tmp_path / "token", os.link
    tmp_path.chmod(0o700)

    def late(source: Path, target: Path) -> None:
        written(path, b"the token of the first one")
        link(source, target)

    monkeypatch.setattr(os, "link", late)
    assert token.make(path) == b"the token of the first one"
    assert os.listdir(tmp_path) == ["token"]


def test_no_token_is_made_where_others_may_write(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(ConfigError, match=r"others may write there \(drwxrwxrwx\)"):
        token.make(tmp_path / "token")
    assert os.listdir(tmp_path) == []


def test_a_token_that_cannot_be_made_is_an_error_of_one_line(tmp_path: Path) -> None:
    written(tmp_path / "file", b"")
    with pytest.raises(ConfigError, match="cannot be made: "):
        token.make(tmp_path / "file" / "token")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.3.2.1", "::1", "localhost"])
def test_loopback_needs_no_token_of_ones_own(host: str) -> None:
    token.check_address(host, False, False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "10.0.0.2", "a.example", "localhost.example"])
def test_an_address_open_to_others_needs_a_token_or_a_word(host: str) -> None:
    with pytest.raises(ConfigError, match="other machines can connect"):
        token.check_address(host, False, False)
    token.check_address(host, True, False)
    token.check_address(host, False, True)
