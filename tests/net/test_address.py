"""host:port, both ways."""

from __future__ import annotations

import pytest

from hogpour.core.errors import ConfigError
from hogpour.net import address


@pytest.mark.parametrize(
    ("text", "parts"),
    [("10.0.0.2:7000", ("10.0.0.2", 7000)), ("[::1]:0", ("::1", 0)), ("a.example:65535", ("a.example", 65535)), ("*:7000", ("*", 7000))],
)
def test_an_address_splits_and_joins(text: str, parts: tuple[str, int]) -> None:
    assert address.split(text) == parts
    assert address.join(*parts) == text


@pytest.mark.parametrize(
    "text", ["", "7000", ":7000", "a", "a:", "a:b", "a:-1", "::1", "::1:7000", "[]:1", "a:٣", "a:65536"]
)
def test_what_is_no_address_is_refused_by_name(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^address "):
        address.split(text)


@pytest.mark.parametrize("host", ["a" * 64, "a..b", ".", "é" * 70, "a b", "a\0b", "\ud800", ".".join(["a" * 60] * 5)])
def test_a_host_that_no_resolver_takes_is_refused_before_it_is_asked(host: str) -> None:
    """asyncio raised UnicodeError, which was a traceback; of a member's address, on every node."""
    with pytest.raises(ConfigError, match=r"^address .* is not the name of a host$"):
        address.split(f"{host}:7000")


def test_an_error_shows_the_beginning_of_a_long_address() -> None:
    for text in ("x" * 5000, f"a:{'9' * 5000}", f"{'x' * 5000}:1"):
        with pytest.raises(ConfigError) as error:
            address.split(text)
        assert len(str(error.value)) < 300
