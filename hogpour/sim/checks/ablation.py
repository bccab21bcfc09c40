"""A safeguard that can be switched off."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
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
    beside: tuple[Ablation, ...] = ()
    """Others that would make up for it, and are off as well."""

    @contextmanager
    def off(self) -> Iterator[None]:
        """Switch it off while this lasts."""
        with ExitStack() as stack:
            for other in self.beside:
                stack.enter_context(other.off())
            stack.enter_context(replaced(self.owner, self.name, self.make(self.owner.__dict__[self.name])))
            yield
