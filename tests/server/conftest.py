"""What the tests of the parameter server are given."""

from __future__ import annotations

import asyncio

import pytest
from support.server import Kernels


@pytest.fixture
async def kernels(monkeypatch: pytest.MonkeyPatch) -> Kernels:
    """Every kernel of the test waits here."""
    fake = Kernels()
    monkeypatch.setattr(asyncio.get_running_loop(), "run_in_executor", fake.run_in_executor, raising=False)
    return fake
