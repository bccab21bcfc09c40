"""How fast is virtual time?

Callbacks a second of the simulator's event loop, in turns with those of plain asyncio in one run: alone, and with what
a simulation adds: timers, hosts that are shuffled, a network, production code. Then what the simulator is for: a
thousand nodes without gradients, and what one node that does nothing takes of memory.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
from collections.abc import Callable
from itertools import cycle
from time import perf_counter  # by name: inside of a simulation, time.perf_counter raises
from typing import Any

import numpy as np
import psutil

import hogpour as hp
from bench.harness import ROOT, Report, Table, alternate, times
from hogpour.sim.simulation import Simulation
from hogpour.sim.world.host import Host
from hogpour.sim.world.loop import BEGIN_S, Loop
from hogpour.sim.world.network import Conditions, SimulatedNetwork
from hogpour.sim.world.workload import model_only_workload, workload_of

__all__ = ["add_arguments", "idle", "measure"]

READY = 1000
"""Callbacks that are ready, or timers that are set, at any time: plain asyncio looks at its sockets once for each such
round, and with one callback alone that would be all it does."""

HOSTS = 100
"""Between which the shuffled ones are dealt out."""

ECHO_BYTES = 64
EVENTS_AN_ECHO = 4
"""A message arrives in the network and is taken by its host, both ways."""

CLUSTER = 8
"""Nodes of the small cluster."""

GOAL = 0.2
GOAL_KB = 200

LEASE_S = 6.0
"""Six heartbeats a lease: one a second."""

JOINING_S, IDLE_S = 3.0, 20.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this bench's own options."""
    parser.add_argument("--events", type=int, default=200_000, help="callbacks of a sample")
    parser.add_argument("--epochs", type=int, default=4, help="of the small cluster")
    parser.add_argument("--nodes", type=int, default=1000, help="of the large cluster")
    parser.add_argument("--seconds", type=float, default=60.0, help="virtual seconds of the large cluster")
    parser.add_argument("--idle", type=int, nargs=2, default=(100, 1100), help="nodes whose memory is compared")


def measure(options: argparse.Namespace) -> Report:
    """Measure all three."""
    data = hp.load("digits")
    tables = [
        callbacks(data, options.events, options.epochs, options.rounds or 7),
        large(data, options.nodes, options.seconds),
        memory(*options.idle),
    ]
    few, many = options.idle
    notes = [
        f"an event is one callback that the loop runs. call_soon, shuffled, timers: it does nothing but to ask for the "
        f"next one, and {READY:,} are always ready or set",
        f"echo: {EVENTS_AN_ECHO} events for {ECHO_BYTES} bytes there and back; each runs the simulated network",
        f"clusters: {CLUSTER} nodes of one replica; their events run production code; with gradients, one in 40 or so "
        "computes one of 32 examples, 64-16-10",
        "the large cluster: Downpour, n_push = n_fetch = 1, one replica a node, a log-normal step of 1 s in the mean, "
        "a heartbeat a second; one run, after its data were read",
        f"memory: what is resident after {IDLE_S:g} virtual seconds, each number of nodes in a process of its own; all "
        f"have joined and beat, one computes, a warm start holds the others; kB a node are those of the {many - few:,} "
        "nodes more",
    ]
    us, *others = (tuple(row[key] for key in ("us", "p10_us", "p90_us")) for row in tables[0].rows)
    figures = {f"asyncio: {row['event']}": times(us[0], *one) for row, one in zip(tables[0].rows[1:], others)}
    return Report(tables, notes, figures)


# -- events a second


def callbacks(data: Any, events: int, epochs: int, rounds: int) -> Table:
    """Time every kind of event in turns with plain asyncio."""
    job = job_of(data, epochs=epochs)
    full = workload_of(job)
    workload = model_only_workload(job, hp.Scenario(model_only=True))
    cluster = hp.Scenario(nodes=CLUSTER, look_every_s=1e6, compute=hp.Compute(distribution="exponential"))
    kinds: dict[str, tuple[Callable[[], int], float | None]] = {
        "plain asyncio, call_soon": (lambda: plain(events), None),
        "call_soon": (lambda: soon(events), GOAL),
        "call_soon, hosts shuffled": (lambda: shuffled(events), GOAL),
        "timers": (lambda: timers(events), GOAL),
        "echo on a connection": (lambda: echo(events), None),
        "cluster, model only": (
            lambda: Simulation(job, cluster, workload=workload, model_only=True).run().events, None,
        ),
        "cluster with gradients": (lambda: Simulation(job, cluster, workload=full).run().events, None),
    }  # fmt: skip
    counted: dict[str, int] = {}

    def counting(name: str, call: Callable[[], int]) -> Callable[[], None]:
        def counted_call() -> None:
            counted[name] = call()  # the same each time: everything follows from a seed

        return counted_call

    found = alternate({name: counting(name, call) for name, (call, _) in kinds.items()}, rounds=rounds)
    rates = {name: counted[name] / seconds.median for name, seconds in found.items()}
    asyncios = next(iter(rates.values()))
    columns = ("event", "events", "us", "p10_us", "p90_us", "events_per_s", "of_asyncio", "goal")
    table = Table("events a second", columns)
    for name, (_, goal) in kinds.items():
        scale, seconds = 1e6 / counted[name], found[name]
        table.add(
            event=name, events=counted[name], us=seconds.median * scale, p10_us=seconds.p10 * scale,
            p90_us=seconds.p90 * scale, events_per_s=round(rates[name]), of_asyncio=rates[name] / asyncios,
            goal=f"at least {goal}" if goal else None,
        )  # fmt: skip
    return table


class Steps:
    """Callbacks each of which asks for another one, until there were enough.

    Args:
        events: in all, at least ``READY``.
        ask: asks for a call of its argument.
        ended: called by the last one.
    """

    def __init__(self, events: int, ask: Callable[[Callable[[], None]], object], ended: Callable[[], object]) -> None:
        self.left, self._unasked, self._ask, self._ended = events, events - READY, ask, ended

    def step(self) -> None:
        """Be called."""
        self.left -= 1
        if self._unasked > 0:
            self._unasked -= 1
            self._ask(self.step)
        elif not self.left:
            self._ended()


def plain(events: int) -> int:
    """Run callbacks on asyncio's own event loop."""
    loop = asyncio.new_event_loop()
    try:
        steps = Steps(events, loop.call_soon, loop.stop)
        for _ in range(READY):
            loop.call_soon(steps.step)
        loop.run_forever()
    finally:
        loop.close()
    return events


def soon(events: int) -> int:
    """Run callbacks on the simulated one."""
    loop = Loop(np.random.default_rng(0))
    steps = Steps(events, loop.call_soon, lambda: None)
    for _ in range(READY):
        loop.call_soon(steps.step)
    return run(loop, steps)


def shuffled(events: int) -> int:
    """Run callbacks of many hosts, which take turns in a random order."""
    loop = Loop(np.random.default_rng(0), shuffle=True)
    steps = Steps(events, loop.call_soon, lambda: None)
    hosts = [Host(number, f"10.0.0.{number}") for number in range(1, HOSTS + 1)]
    for k in range(READY):
        loop.call_on(hosts[k % HOSTS], BEGIN_S, steps.step)
    return run(loop, steps)


def timers(events: int) -> int:
    """Run callbacks at times of their own."""
    loop = Loop(np.random.default_rng(0))
    delays = cycle(np.random.default_rng(0).exponential(size=997).tolist())
    steps = Steps(events, lambda step: loop.call_later(next(delays), step), lambda: None)
    for _ in range(READY):
        loop.call_later(next(delays), steps.step)
    return run(loop, steps)


def run(loop: Loop, steps: Steps) -> int:
    """Run a simulated loop until it has made all steps; return its events."""
    loop.run(lambda: not steps.left)
    loop.close()
    assert loop.events >= READY
    return loop.events


class End(asyncio.BufferedProtocol):
    """One end of a connection, which sends back what arrives."""

    def __init__(self, echoes: int = 0) -> None:
        self.left = echoes
        self._begins = echoes > 0
        self._got = bytearray(ECHO_BYTES)
        self._transport: Any = None

    def connection_made(self, transport: Any) -> None:
        """Begin, at one of the two ends."""
        self._transport = transport
        if self._begins:
            transport.write(bytes(ECHO_BYTES))

    def get_buffer(self, hint: int) -> memoryview:
        """Say where to."""
        return memoryview(self._got)

    def buffer_updated(self, n_bytes: int) -> None:
        """Send it back."""
        self.left -= 1
        self._transport.write(self._got)

    def connection_lost(self, error: Exception | None) -> None:
        """It is over."""


def echo(events: int) -> int:
    """Send a message to and fro on one connection of two machines."""
    loop = Loop(np.random.default_rng(0))
    network = SimulatedNetwork(loop, np.random.default_rng(1))
    hosts = []
    for number in (1, 2):
        machine = network.add(number, f"10.0.0.{number}", Conditions())
        hosts.append(Host(number, machine.name))
        network.live(machine, hosts[-1])
    here = End(events // EVENTS_AN_ECHO)

    async def connect() -> None:
        await loop.create_connection(lambda: here, "10.0.0.2", 7)

    loop.spawn(hosts[1], loop.create_server(End, "10.0.0.2", 7))
    loop.spawn(hosts[0], connect())
    loop.run(lambda: not here.left)
    loop.close()
    return loop.events


# -- a large cluster


def job_of(data: Any, *, epochs: int = 1_000_000, warm_start_examples: int = 0) -> hp.Job:
    """Return the job of all clusters."""
    algorithm = hp.Downpour(optimiser=hp.Sgd(0.1), warm_start_examples=warm_start_examples)
    return hp.Job(
        data=data,
        model=[hp.Linear(16), hp.Relu(), hp.Linear(10)],
        algorithm=algorithm,
        epochs=epochs,
        cluster=hp.ClusterConfig(lease_s=LEASE_S, give_up_s=2 * LEASE_S),
    )


def large(data: Any, nodes: int, seconds: float) -> Table:
    """Simulate many nodes without gradients, and look at the clock between the parts of their run."""
    scenario = hp.Scenario(
        nodes=nodes,
        model_only=True,
        join_spread_s=JOINING_S - 1,
        look_every_s=1e6,
        stop_s=JOINING_S + seconds,
        compute=hp.Compute(distribution="log_normal", mean_s=1.0),
    )
    simulation = Simulation(job_of(data), scenario)
    seen: list[tuple[float, float, int, int, int]] = []

    def look() -> None:
        machines = [site.machine for site in simulation.sites]
        shard, loop = simulation.shard(0), simulation.loop
        pushes = shard.pushes if shard is not None else 0
        sent = sum(machine.bytes_out for machine in machines)
        seen.append((loop.time() - BEGIN_S, perf_counter(), loop.events, pushes, sent))

    for at_s in (0.0, JOINING_S, JOINING_S + seconds):
        simulation.loop.call_on(simulation.loop.outside, BEGIN_S + at_s, look)
    report = simulation.run()
    seen.append((report.seconds, perf_counter(), report.events, sum(report.staleness), report.bytes))
    columns = ("part", "virtual_s", "wall_s", "wall_per_virtual", "events", "events_per_s", "pushes", "MB")
    table = Table(f"{nodes:,} nodes without gradients; the run ends as it should: {report.outcome}", columns)
    names = ("they join", "they train", "they are stopped", "all of it")
    for name, a, b in zip(names, [*seen[:3], seen[0]], [*seen[1:], seen[3]], strict=True):
        virtual_s, wall_s, events, pushes, sent = (after - before for before, after in zip(a, b, strict=True))
        table.add(
            part=name, virtual_s=virtual_s, wall_s=wall_s, wall_per_virtual=wall_s / virtual_s, events=events,
            events_per_s=round(events / wall_s), pushes=pushes, MB=sent / 1e6,
        )  # fmt: skip
    return table


# -- memory


def idle(nodes: int) -> int:
    """Simulate nodes that have joined, beat and do nothing; return the resident bytes of this process at the end."""
    process, found = psutil.Process(), []
    scenario = hp.Scenario(
        nodes=nodes,
        model_only=True,
        join_spread_s=JOINING_S - 1,
        look_every_s=1e6,
        stop_s=IDLE_S + 1,
        compute=hp.Compute(mean_s=1.0),
    )
    simulation = Simulation(job_of(hp.load("digits"), warm_start_examples=10**9), scenario)
    simulation.loop.call_on(simulation.loop.outside, BEGIN_S + IDLE_S, lambda: found.append(process.memory_info().rss))
    report = simulation.run()
    busy = [node.node for node in report.nodes if node.examples]
    assert len(busy) == 1, f"nodes {busy} have computed, expected one"
    return found[0]


def memory(few: int, many: int) -> Table:
    """Compare the memory of processes that simulate few and many nodes."""
    table = Table("memory of idle nodes", ("nodes", "MB", "kB_per_node", "goal"))
    found = {nodes: _elsewhere(nodes) for nodes in (few, many)}
    for nodes, n_bytes in found.items():
        table.add(nodes=nodes, MB=n_bytes / 1e6)
    table.rows[-1] |= {"kB_per_node": (found[many] - found[few]) / (many - few) / 1e3, "goal": f"at most {GOAL_KB}"}
    return table


def _elsewhere(nodes: int) -> int:
    """Return what ``idle`` says in a process of its own: memory that Python has had once, it does not give back."""
    code = f"from bench.sim import idle; print(idle({nodes}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return int(done.stdout)
