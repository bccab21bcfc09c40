"""What asyncio asks of a loop and a simulation cannot give: every method of asyncio's loops refuses."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from hogpour.sim.world.sandbox import LeftSimulation

__all__ = ["UnsupportedLoop"]


def _refuse(name: str) -> Callable[..., NoReturn]:
    def refuse(*_: object, **__: object) -> NoReturn:
        raise LeftSimulation(f"loop.{name} would leave the simulation")

    return refuse


if TYPE_CHECKING:
    # Type checkers take asyncio's methods for abstract, want each written out, and more general than we need.
    UnsupportedLoop: Any
else:
    names = [name for name in vars(asyncio.AbstractEventLoop) if not name.startswith("_")]
    UnsupportedLoop = type("UnsupportedLoop", (asyncio.AbstractEventLoop,), {name: _refuse(name) for name in names})
