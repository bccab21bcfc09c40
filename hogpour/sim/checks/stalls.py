"""Replicas that stand still: when the sweep draws them, and the witness's invariant of progress.

    progress        where nothing else is disturbed and some replica could compute, something is applied or done within
                    ``stall_s`` and ten times the longest time that a block took, or ``stall_s`` where that is longer
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from hogpour.cluster.leases import EpochLedger
from hogpour.data.blocks import generator
from hogpour.sim.checks.probes import Look
from hogpour.sim.scenario import ReplicaPause
from hogpour.sim.simulation import Simulation

__all__ = ["STALL_S", "ProgressInvariants", "could_compute", "has_stalls", "stalls"]

STALL_S = 2.0

_STALLS = 107
"""Stream of these choices."""


def has_stalls(seed: int) -> bool:
    """Whether replicas stand still in a seed. Of every 120 eleven, of which three have a gate and one may be of a batch
    method: none that the ablations of other safeguards name, so that those are what they were."""
    return seed % 20 == 5 or seed % 40 == 24 or seed % 60 == 23


def stalls(seed: int, nodes: int, replicas: int, length_s: float) -> dict[str, Any]:
    """Draw which replicas stand still when; some of them for ever, and never all."""
    rng = generator(seed, _STALLS)
    return {"replica_pause": tuple(
        ReplicaPause(
            at_s=round(float(rng.uniform(0.0, max(1.0, length_s))), 3),
            for_s=float(rng.choice([0.5, 2.5, 6.0, 1e6, 1e6])),
            nodes=tuple(sorted(rng.choice(nodes, int(rng.integers(1, nodes)), replace=False).tolist())),
            replica=int(rng.integers(replicas)),
        )
        for _ in range(int(rng.integers(1, 3)))
    ) if has_stalls(seed) else ()}  # fmt: skip


def could_compute(simulation: Simulation) -> bool:
    """Return whether the run goes on and some replica does not stand still."""
    lives = [site.life for site in simulation.sites if site.life is not None]
    first = lives[0].endpoint if lives and lives[0].first else None
    coordinator = first.stats.coordinator if first is not None else None
    if coordinator is None or coordinator.command != "run" or coordinator.muster.waiting:
        return False
    return any(life.replicas is not None and life.replicas.moving for life in lives)


class ProgressInvariants:
    """The invariant of progress of one simulation.

    Args:
        say: writes a violation down.
        time: the virtual time.
        applied: how much was applied so far.
        could: whether anything could be.
    """

    def __init__(
        self,
        say: Callable[[str], None],
        time: Callable[[], float],
        applied: Callable[[], int],
        could: Callable[[], bool],
    ) -> None:
        self._say, self._time, self._applied, self._could = say, time, applied, could
        self._granted: dict[int, float] = {}  # ticket → when
        self._longest_s = STALL_S
        self._done = 0
        self._last, self._seen = time(), (0, 0)

    def on_grant(self, ledger: EpochLedger, *_: Any) -> Look:
        """A member asks for tickets."""
        del ledger
        granted: list[int] = yield
        self._granted |= dict.fromkeys(granted, self._time())

    def on_finish(self, ledger: EpochLedger, node: int, tickets: Iterable[int]) -> None:
        """A member reports tickets."""
        held = ledger.held(node)
        for ticket in tickets:
            if ticket in held and ticket in self._granted:
                self._done += 1
                self._longest_s = max(self._longest_s, self._time() - self._granted.pop(ticket))

    def look(self) -> None:
        """Look at the time; after each step."""
        now, seen = self._time(), (self._applied(), self._done)
        if seen != self._seen:
            self._last, self._seen = now, seen
        elif now - self._last > STALL_S + 10 * self._longest_s:
            if self._could():
                self._say(f"progress: nothing is applied or done for {now - self._last:.1f} s, and some could compute")
            self._last = now
