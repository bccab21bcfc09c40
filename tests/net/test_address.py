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
