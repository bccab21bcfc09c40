"""A loop in virtual time, and what passes in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from hogpour.sim.world.loop import BEGIN_S, Loop

__all__ = ["go", "loop_of", "noted"]

def loop_of(seed: int = 0, **settings: Any) -> Loop:
    return Loop(np.random.default_rng(seed), **settings)


def go(loop: Loop, seconds: float) -> None:
    """Let so much virtual time pass."""
    over: list[bool] = []
    loop.call_on(loop.outside, loop.time() + seconds, over.append, True)
    loop.run(lambda: bool(over))


def noted(loop: Loop, said: list[Any], word: Any) -> Callable[[], None]:
    """What notes a word and the time at which it is called."""
    return lambda: said.append((word, round(loop.time() - BEGIN_S, 9)))
