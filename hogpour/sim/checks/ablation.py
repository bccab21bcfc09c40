"""A safeguard that can be switched off."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from hogpour.sim.checks.probes import replaced

__all__ = ["Ablation"]


@dataclass(frozen=True, slots=True)
class Ablation:
    """A safeguard."""

    why: str
    """What it is there for."""
    owner: Any
    """Class or module."""
    name: str
    """Of what is replaced there."""
    make: Callable[[Any], Any]
    """Returns what stands for it, given what was there."""
    seed: int
    """Fails without it, and passes with it."""
    shows: str
    """How: what the violation begins with."""

    @contextmanager
    def off(self) -> Iterator[None]:
        """Switch it off while this lasts."""
        with replaced(self.owner, self.name, self.make(self.owner.__dict__[self.name])):
            yield
