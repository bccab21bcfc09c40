"""A request without an answer yet, as an error names it."""

from __future__ import annotations

import asyncio

import pytest

from hogpour.net.asked import Asked
from hogpour.net.wire.fetch import Fetch


@pytest.mark.parametrize(("sent", "awaited", "text"), [(0, 999_999, "Fetch"), (0, 1_000_000, "Fetch of 1.0 MB"), (6_000_000, 500_000, "Fetch of 6.5 MB")])
async def test_a_large_one_is_named_with_its_size(sent: int, awaited: int, text: str) -> None:
    future = asyncio.get_running_loop().create_future()
    asked = Asked(Fetch(0, 1), [memoryview(bytes(sent))], memoryview(bytearray(awaited)), 0.0, 7.0, True, future)
    assert str(asked) == text
