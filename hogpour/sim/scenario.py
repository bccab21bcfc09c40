"""A scenario: which machines there are, what lies between them, and what happens to them when. From TOML or Python.

    nodes = 50
    [compute]
    distribution = "log_normal"
    mean_s = 0.2
    [[death]]
    every_s = 3600
    fraction = 0.2
    back_s = 120

Node 0 is the first one; it has the job, coordinates and serves. Nodes 1, 2 ... join at the beginning, further ones by
``[[join]]``. Seconds are virtual, counted from the beginning. ``actions`` makes single actions of the schedules.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from math import inf
from typing import Annotated, Any, Literal, get_args, get_type_hints

from hogpour.core.errors import ConfigError
from hogpour.core.job import check_keys, read_tables, section
from hogpour.core.limits import FINITE, TINY, AboveZero, Checked, Count, Fraction, Range
from hogpour.core.node_id import MOST_MEMBERS
from hogpour.core.registry import typed
from hogpour.sim.world.compute import Compute

__all__ = [
    "Death",
    "DiskConditions",
    "DiskFault",
    "Firewall",
    "LinkConditions",
    "NodeJoin",
    "Partition",
    "Pause",
    "ReplicaDeath",
    "ReplicaPause",
    "Scenario",
    "SecondRun",
    "Slow",
    "SlowLink",
    "read_scenario",
    "scenario_from",
]  # fmt: skip

_FINITE = Range(0, FINITE, "0 or more, and finite")
Finite = Annotated[float, _FINITE]


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkConditions(Checked):
    """``[link]``: the network."""

    delay_s: Finite = 0.0002
    """Seconds from one machine to another, one way; a local network's."""
    jitter_s: Finite = 0.0
    """Mean seconds of an exponential addition to the delay of each piece; 0: always the same delay."""
    bandwidth: Finite = 125e6
    """Bytes a second of each machine's interface, in each direction, shared by its connections; 0: no limit."""
    window_bytes: Annotated[int, Range(1024)] = 1 << 18
    """What a connection takes that its reader has not read."""
    reset_every_s: Finite = 0.0
    """Mean seconds until some connection of a machine breaks; 0: none does by itself."""
    split_reads: bool = False
    """Readers get what arrives in random pieces."""
    look_up_s: Finite = 0.0
    """Seconds that a resolver takes; 0: machines are called by their addresses, not by names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlowLink(Checked):
    """``[[slow_link]]``: machines that are reached in another way than the rest."""

    nodes: tuple[int, ...]
    """Numbers of the nodes."""
    delay_s: Annotated[float | None, _FINITE] = None
    """As in ``[link]``; left out: as there."""
    jitter_s: Annotated[float | None, _FINITE] = None
    """As in ``[link]``; left out: as there."""
    bandwidth: Annotated[float | None, _FINITE] = None
    """As in ``[link]``; left out: as there."""

    def __post_init__(self) -> None:
        _distinct(self.nodes)
        Checked.__post_init__(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskConditions(Checked):
    """``[disk]``: of every machine."""

    delay_s: Finite = 0.005
    """Seconds for each operation, besides its bytes."""
    bandwidth: AboveZero = 200e6
    """Bytes a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheduled(Checked):
    """What happens at a time, and perhaps again and again."""

    at_s: Annotated[float | None, _FINITE] = None
    """When, the first time; left out: after ``every_s``."""
    every_s: Finite = 0.0
    """And every so many seconds from then on; 0: once."""
    until_s: float = inf
    """Not after this."""

    def __post_init__(self) -> None:
        Checked.__post_init__(self)
        if self.at_s is None and not self.every_s:
            raise ValueError("at_s is missing, expected a time, or every_s")
        if not self.until_s >= self.first_s:
            raise ValueError(f"until_s = {self.until_s}, expected at least {self.first_s}, when it happens first")

    @property
    def first_s(self) -> float:
        """When it happens first."""
        return self.every_s if self.at_s is None else self.at_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Spell(Scheduled):
    """What begins at a time and ends after a while, for some nodes."""

    for_s: AboveZero
    """Seconds that it lasts, below ``every_s``: the end of one would be that of the next, too."""
    nodes: tuple[int, ...]
    """Numbers of the nodes, at least one."""

    def __post_init__(self) -> None:
        Scheduled.__post_init__(self)
        _distinct(self.nodes)
        if self.every_s and self.for_s >= self.every_s:
            raise ValueError(f"for_s = {self.for_s}, expected below every_s = {self.every_s}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Death(Scheduled):
    """``[[death]]``: nodes die, and may come back."""

    nodes: tuple[int, ...] = ()
    """Which; or ``fraction``."""
    fraction: Fraction = 0.0
    """Of the nodes that are alive, without the first one, drawn anew each time. A fraction of a node dies with
    that probability."""
    back_s: Finite = 0.0
    """Seconds until it is started again; 0: never."""
    kind: Literal["kill", "power", "leave"] = "kill"
    """kill: the process ends at once, and its system closes its connections. power: the machine falls silent, and its
    disk forgets what was not synced. leave: it is asked to stop, as by Ctrl+C."""

    def __post_init__(self) -> None:
        Scheduled.__post_init__(self)
        if bool(self.nodes) == bool(self.fraction):
            raise ValueError(f"nodes = {list(self.nodes)} and fraction = {self.fraction}, expected one of the two")
        if self.nodes:
            _distinct(self.nodes)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaDeath(Scheduled):
    """``[[replica_death]]``: a replica process is killed; its node starts it again."""

    node: int
    """Number of the node."""
    replica: int = 0
    """Which of its replicas, from 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition(Spell):
    """``[[partition]]``: these nodes and all others do not reach each other. A node is in the latest one only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Firewall(Spell):
    """``[[firewall]]``: no connection to these nodes is made. Those that are made stay, and they make others."""

    sources: tuple[int, ...] = ()
    """Numbers of the nodes that cannot connect; left out: all others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause(Spell):
    """``[[pause]]``: these machines stand still. Where two overlap, the first end is that of both."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaPause(Spell):
    """``[[replica_pause]]``: a replica of each of these nodes stands still; its node is heard from."""

    replica: int = 0
    """Which of its replicas, from 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slow(Spell):
    """``[[slow]]``: replicas of these nodes take longer: stragglers on schedule. Where two overlap, the latest holds,
    and the first end is that of both."""

    times: Annotated[float, Range(TINY, FINITE, "above 0")]
    """How many times longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeJoin(Scheduled):
    """``[[join]]``: further nodes join."""

    nodes: Count = 1
    """How many."""
    serving: bool = False
    """They listen and serve shards, too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskFault(Spell):
    """``[[disk_fault]]``: disks of these nodes take nothing. Where two overlap, the first end is that of both."""

    kind: Literal["full", "read_only"] = "full"
    """full: no further byte. read_only: no change at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SecondRun(Scheduled):
    """``[[second_run]]``: somebody begins the same job once more in the first node's folder, while that one lives."""


_MOST = {"nodes": MOST_MEMBERS, "replicas": 1024, "parameters": 10**12}
"""More nodes than that no cluster takes; and a slip of the hand is to be told, not waited for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario(Checked):
    """All of it."""

    nodes: Count = 4
    """Nodes at the beginning, the first one included."""
    replicas: Count = 1
    """Of each node."""
    serving: Annotated[int, Range(0, words="at least 0")] = 0
    """How many of the nodes that join serve shards, too: nodes 1 up to this one."""
    seed: Annotated[int, Range(0, words="at least 0")] = 0
    """Of everything that is made up. The job has its own, of what is trained."""
    until_s: AboveZero = 10 * 86400.0
    """A run that has not ended by then has failed."""
    stop_s: Finite = 0.0
    """When the first node is asked to stop, as by Ctrl+C; 0: never."""
    look_every_s: Finite = 0.0
    """Seconds between two looks at loss and accuracy; 0: often enough for 50 points."""
    join_spread_s: Finite = 0.5
    """The nodes of the beginning join within so many seconds, one after the other."""
    read_s: Finite = 0.0
    """Seconds that a node takes to read its data, when it has joined."""
    resume: bool = True
    """A first node that comes back goes on from its snapshot."""
    model_only: bool = False
    """No gradient is computed: rates, waits and bytes, no loss."""
    parameters: Annotated[int, Range(0, words="at least 0")] = 0
    """With ``model_only``: parameters of the model; 0: the job's."""
    shuffle: bool = False
    """What several machines do at one moment is done in a random order."""
    compute: Compute = field(default_factory=Compute)
    link: LinkConditions = field(default_factory=LinkConditions)
    disk: DiskConditions = field(default_factory=DiskConditions)
    slow_link: tuple[SlowLink, ...] = ()
    death: tuple[Death, ...] = ()
    replica_death: tuple[ReplicaDeath, ...] = ()
    partition: tuple[Partition, ...] = ()
    firewall: tuple[Firewall, ...] = ()
    pause: tuple[Pause, ...] = ()
    replica_pause: tuple[ReplicaPause, ...] = ()
    slow: tuple[Slow, ...] = ()
    join: tuple[NodeJoin, ...] = ()
    disk_fault: tuple[DiskFault, ...] = ()
    second_run: tuple[SecondRun, ...] = ()

    def __post_init__(self) -> None:
        Checked.__post_init__(self)
        for name, most in _MOST.items():
            if getattr(self, name) > most:
                raise ValueError(f"{name} = {getattr(self, name)}, expected at most {most}")
        if self.serving >= self.nodes and self.serving:
            raise ValueError(f"serving = {self.serving}, expected at most the {self.nodes - 1} nodes that join")
        if self.parameters and not self.model_only:
            raise ValueError(f"parameters = {self.parameters}, expected 0 where gradients are computed")
        if not self.stop_s:
            self._check_pace()
        for name in _SCHEDULES:
            for k, entry in enumerate(getattr(self, name)):
                self._check_nodes(f"{name}[{k}]", entry)

    def _check_pace(self) -> None:
        """Refuse a node that computes not one gradient before the run has failed: only heartbeats were simulated."""
        mean_s, slowest = self.compute.mean_s, min(self.compute.speeds)
        slow = max(((entry.times, f" in slow[{k}]") for k, entry in enumerate(self.slow)), default=(1.0, ""))
        for times, where in ((1.0, ""), slow):
            if (takes_s := mean_s / slowest * times) > self.until_s:
                raise ValueError(f"a gradient takes {takes_s:g} s{where} on a node of speed {slowest:g}, expected at "
                                 f"most until_s = {self.until_s:g}")  # fmt: skip

    def _check_nodes(self, at: str, entry: Any) -> None:
        # Those that join later have numbers of their own, in the order of their joining: as many as may ever come.
        later = sum(join.nodes if not join.every_s else 1 << 20 for join in self.join)
        named = (entry.node,) if isinstance(entry, ReplicaDeath) else (*entry.nodes, *getattr(entry, "sources", ()))
        for node in named:
            if not 0 <= node < self.nodes + later:
                raise ValueError(f"{at}: node {node}, expected 0 to {self.nodes + later - 1}")
        if isinstance(entry, ReplicaDeath | ReplicaPause) and not 0 <= entry.replica < self.replicas:
            raise ValueError(f"{at}: replica {entry.replica}, expected 0 to {self.replicas - 1}")


_SCHEDULES = ("slow_link", "death", "replica_death", "partition", "firewall", "pause", "replica_pause", "slow",
              "disk_fault")  # fmt: skip


def read_scenario(path: str) -> Scenario:
    """Read a scenario file.

    Raises:
        ConfigError: missing, not TOML, or anything in it is wrong; the message begins with the path.
    """
    return scenario_from(read_tables(path, "scenario file"), path)


def scenario_from(tables: Mapping[str, Any], source: str) -> Scenario:
    """Make a scenario of the tables of a file.

    Args:
        source: begins every error message.
    """
    hints = get_type_hints(Scenario)
    try:
        check_keys(tables, [f.name for f in fields(Scenario)], "", "key")
        values: dict[str, Any] = {}
        for f in fields(Scenario):
            if f.name not in tables:
                continue
            hint = hints[f.name]
            if isinstance(hint, type) and f.default is MISSING:
                values[f.name] = section(hint, tables, f.name)
            elif get_args(hint):
                values[f.name] = _entries(get_args(hint)[0], tables[f.name], f.name)
            else:
                values[f.name] = typed(tables[f.name], hint, f.name)
        return Scenario(**values)
    except (ConfigError, ValueError) as error:
        raise ConfigError(f"{source}: {error}") from None


def _entries(cls: type, given: Any, name: str) -> tuple[Any, ...]:
    if not isinstance(given, list):
        raise ConfigError(f"{name}: expected tables [[{name}]], got {given!r}")
    return tuple(section(cls, {f"{name}[{k}]": entry}, f"{name}[{k}]") for k, entry in enumerate(given))


def _distinct(nodes: tuple[int, ...]) -> None:
    if not nodes or len(set(nodes)) < len(nodes):
        raise ValueError(f"nodes = {list(nodes)}, expected at least one number, and none twice")
