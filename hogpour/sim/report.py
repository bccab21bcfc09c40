"""What a simulation found, as plain data: points over virtual time, staleness, bytes, waits, deaths. Pure."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Happening", "NodeReport", "Point", "SimulationReport"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """The cluster at one moment."""

    seconds: float
    """Virtual, since the beginning."""
    examples: int
    """Used so far by the whole cluster."""
    epoch: float
    loss: float | None
    """Mean loss of a test example with the parameters of the shards; None where there is no test set."""
    accuracy: float | None
    nodes: int
    """Nodes that live."""
    pushes: int
    """Applied so far, counted once for all shards."""
    staleness: float | None
    """Mean staleness of these pushes, in updates."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeReport:
    """One node, all its lives together."""

    node: int
    lives: int
    outcome: str
    """Of the last life: finished, stopped, diverged, failed (see ``error``), died."""
    error: str
    examples: int
    """Gradients' examples that its replicas computed."""
    computing_s: float
    """Seconds that its replicas computed, all together."""
    waiting_s: float
    """Seconds that they waited for parameters, for their buffers, or for blocks."""
    bytes_in: int
    bytes_out: int
    replica_restarts: int
    second_run: bool
    """It was another run, in the folder of the first node."""


@dataclass(frozen=True, slots=True)
class Happening:
    """Something that happened once."""

    seconds: float
    node: int
    """-1: to the network."""
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulationReport:
    """All of it."""

    outcome: str
    """Of the first node's last life."""
    error: str
    seconds: float
    """Virtual, until everybody had ended."""
    examples: int
    repeated: int
    """Examples that were given out again, because their holder had died or left."""
    loss: float | None
    accuracy: float | None
    points: tuple[Point, ...]
    staleness: tuple[int, ...]
    """Element k: pushes applied with staleness k, of all shards; the last one: with that or more."""
    mean_staleness: float | None
    dropped: int
    """Gradients that came too late for their step, each counted once for all shards."""
    wait_s: float | None
    """Mean seconds that a push waited at a gate for others; None: there was none."""
    nodes: tuple[NodeReport, ...]
    happenings: tuple[Happening, ...]
    deaths: int
    resets: int
    connections: int
    events: int
    """Callbacks that were run."""
    trace: str
    """Equal for equal seeds."""

    @property
    def bytes(self) -> int:
        """Bytes that left all interfaces."""
        return sum(node.bytes_out for node in self.nodes)

    @property
    def waiting(self) -> float | None:
        """Fraction of the replicas' time in which they waited."""
        waiting, computing = (sum(getattr(node, name) for node in self.nodes) for name in ("waiting_s", "computing_s"))
        return waiting / (waiting + computing) if waiting + computing else None

    def time_to(self, accuracy: float) -> float | None:
        """Return when an accuracy was seen first; None: never."""
        return next((p.seconds for p in self.points if p.accuracy is not None and p.accuracy >= accuracy), None)

    def to_dict(self) -> dict[str, Any]:
        """Return it as what JSON can say."""
        return asdict(self) | {"bytes": self.bytes, "waiting": self.waiting}

    def to_json(self) -> str:
        """Return it as one JSON object."""
        return json.dumps(self.to_dict(), ensure_ascii=False, allow_nan=False)
