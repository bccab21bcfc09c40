"""Open: every gradient counts as it comes, and nobody waits. The gate of all schemes without one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from hogpour.algos.gate.base import Gate

__all__ = ["Open"]


@dataclass(frozen=True, slots=True)
class Open(Gate):
    """No gate."""

    closes: ClassVar[bool] = False
