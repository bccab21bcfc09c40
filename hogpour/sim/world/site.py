"""One machine of a simulation with all that it has had: its network interface, its disk, and the lives of its node."""

from __future__ import annotations

from collections.abc import Callable

from hogpour.sim.world.disk import Platter, SimulatedDisk
from hogpour.sim.world.network import Machine
from hogpour.sim.world.node_life import NodeLife

__all__ = ["Site"]


class Site:
    """One machine and what became of it.

    Attributes:
        machine: in the network.
        platter: of its disk; it stays when the machine dies.
        disk: as the newest life sees it.
        serving: its node serves shards.
        second: it is another run, in the folder of the first node.
        lives: the newest one last.
        times: that computing takes longer now.
        samplers: how long the next gradient of each replica takes.
        returns: somebody is going to start it again.
    """

    def __init__(self, machine: Machine, platter: Platter, serving: bool, second: bool) -> None:
        self.machine, self.platter, self.serving, self.second = machine, platter, serving, second
        self.lives: list[NodeLife] = []
        self.disk: SimulatedDisk | None = None
        self.times = 1.0
        self.samplers: list[Callable[[], float]] = []
        self.returns = False

    @property
    def number(self) -> int:
        """0 is the first node."""
        return self.machine.number - 1

    @property
    def life(self) -> NodeLife | None:
        """The node that lives there now."""
        return self.lives[-1] if self.lives and self.lives[-1].host.alive else None
