"""A simulated cluster: a job and a scenario in, a report out. The composition root of the laboratory.

The machines and what lies between them are made here, actions of the scenario are carried out from outside of all
hosts, and an ``observer`` looks now and then. The nodes themselves are ``node_life.NodeLife``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import inf
from typing import Any

from hogpour.core.errors import ConfigError, HogpourError, LayoutError
from hogpour.core.job import Job, check_job
from hogpour.core.progress import Notice
from hogpour.core.spec import ALIGNMENT
from hogpour.data.blocks import generator
from hogpour.model import snapshot
from hogpour.server.shard import Shard
from hogpour.sim.observer import Observer
from hogpour.sim.report import Happening, Point, SimulationReport
from hogpour.sim.scenario import Scenario
from hogpour.sim.world.actions import Action, actions
from hogpour.sim.world.disk import Platter, SimulatedDisk
from hogpour.sim.world.host import Host
from hogpour.sim.world.loop import BEGIN_S, Loop, Stuck
from hogpour.sim.world.model_only import ModelOnlyNetwork, weigh
from hogpour.sim.world.network import Conditions, SimulatedNetwork
from hogpour.sim.world.node_life import PORT, NodeLife
from hogpour.sim.world.site import Site
from hogpour.sim.world.workload import Workload, model_only_workload, workload_of

__all__ = ["Bug", "Simulation"]

_POINTS = 50
_SHUFFLE, _NETWORK, _CHANCE, _ENTROPY, _COMPUTE, _DISK = range(100, 106)
"""Streams of the scenario's seed."""


class Bug(HogpourError):
    """An exception that nobody took; asyncio would have logged it."""


class Simulation:
    """One simulated run. Use once.

    Args:
        job: what is trained, by an algorithm for several machines.
        scenario: what happens; None: the default one.
        workload: what the nodes train, where the job's data were read before; None: read here.
        told: called with each point while the simulation goes on.
        changes: fields of the scenario that are others: ``nodes=20, seed=3``.

    Attributes:
        loop, network: of the simulation.
        sites: one for each node that ever was.

    Raises:
        InputError: the job, its data or the scenario cannot be used.
    """

    def __init__(
        self,
        job: Job,
        scenario: Scenario | None = None,
        *,
        workload: Workload | None = None,
        told: Callable[[Point], None] | None = None,
        **changes: Any,
    ) -> None:
        check_job(job, "a simulation")
        if not job.algorithm.federated:
            raise ConfigError('algorithm: this scheme trains on one machine, and a simulation is of several; set '
                              'algorithm.name = "downpour"')  # fmt: skip
        try:
            self.scenario = replace(scenario or Scenario(), **changes)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"scenario: {error}") from None
        if self.scenario.model_only and job.algorithm.batch_blocks:
            raise ConfigError("model_only: a batch method decides by gradients what it does next, and there would be "
                              "none; leave it out")  # fmt: skip
        if workload is None:
            workload = model_only_workload(job, self.scenario) if self.scenario.model_only else workload_of(job)
        self.workload, self._told = workload, told
        s, seed = self.scenario, self.scenario.seed
        self.loop = Loop(generator(seed, _SHUFFLE), shuffle=s.shuffle)
        network = workload.network
        self.network = SimulatedNetwork(
            self.loop,
            generator(seed, _NETWORK),
            window_bytes=s.link.window_bytes,
            split_reads=s.link.split_reads,
            look_up_s=s.link.look_up_s,
            weigh=weigh(network.stands_for, network.n // ALIGNMENT) if isinstance(network, ModelOnlyNetwork) else None,
        )
        self.sites: list[Site] = []
        self._chance = generator(seed, _CHANCE)
        self._happenings: list[Happening] = []
        self._actions = actions(s)
        self._look_s = s.look_every_s or s.compute.mean_s
        self._deaths = 0
        self._over = False
        self._bug: BaseException | None = None
        self._observer = Observer(workload, self.sites)

    def run(self) -> SimulationReport:
        """Run to the end and return what was found.

        Raises:
            Stuck: it does not end.
            Bug: an exception that nobody took; other exceptions than ours, as they are.
            LeftSimulation: something used a real clock, socket or thread.
        """
        loop, s = self.loop, self.scenario
        if loop.is_closed():
            raise HogpourError("a simulation runs once: make another one of the same job and scenario")
        try:
            for node in range(s.nodes):
                at_s = s.join_spread_s * node / max(1, s.nodes - 1)
                self._at(at_s, self._add, node <= s.serving and node > 0)
            self._next_action()
            if s.link.reset_every_s:
                self._at(self._chance.exponential(s.link.reset_every_s), self._reset)
            if s.stop_s:
                self._at(s.stop_s, self._stop)
            self._at(0.0, self._look)
            try:
                loop.run(self._ended, BEGIN_S + s.until_s)
            except Stuck as error:
                alive = [str(site.number) for site in self.sites if site.life is not None]
                raise Stuck(f"{error}; nodes that still live: {', '.join(alive[:20]) or 'none'}") from None
            if self._bug is not None:
                raise self._bug
            if loop.errors:
                cause = loop.errors[0].get("exception")
                raise Bug(f"{loop.errors[0].get('message')}: {cause!r}") from cause
            self._point()
            return self._observer.report(loop, self.network, self._happenings, self._deaths)
        finally:
            for site in self.sites:
                if site.life is not None:
                    loop.kill(site.life.host)
            loop.close()

    def shard(self, number: int) -> Shard | None:
        """Return a shard where it is served now; None: nowhere."""
        return self._observer.shard(number)

    # -- what happens

    def _at(self, at_s: float, work: Callable[..., object], *arguments: Any) -> None:
        """Do something from outside of all hosts, at a time since the beginning."""
        self.loop.call_on(self.loop.outside, BEGIN_S + at_s, work, *arguments)

    @property
    def _now(self) -> float:
        return self.loop.time() - BEGIN_S

    def _ended(self) -> bool:
        if not self._over:
            first = self.sites[0] if self.sites else None
            self._over = first is not None and bool(first.lives) and first.life is None and not first.returns
        if self._bug is not None or self.loop.errors:
            return True
        return self._over and all(site.life is None for site in self.sites)

    def _next_action(self) -> None:
        action = next(self._actions, None)
        if action is not None:
            self._at(action.at_s, self._act, action)

    def _act(self, action: Action) -> None:
        if action.kind == "die":
            self._die(action)
        elif action.kind == "join":
            for _ in range(int(action.number)):
                self._add(action.serving)
        elif action.kind == "second_run":
            if self.sites[0].life is not None:
                self._add(serving=True, second=True)
        else:
            for number in action.nodes:
                if number < len(self.sites):
                    self._act_on(action, self.sites[number])
            if action.kind == "heal":
                self.network.heal()
        self._next_action()

    def _act_on(self, action: Action, site: Site) -> None:
        machine, life = site.machine, site.life
        if action.kind == "cut":
            self._happen(site, "is cut off from the others")
            self.network.cut([machine], int(action.number))
        elif action.kind == "heal":
            if machine.side == int(action.number):
                self._happen(site, "reaches the others again")
                self.network.cut([machine], 0)
        elif action.kind == "shut":
            self._happen(site, "is behind a firewall")
            machine.firewalls[int(action.number)] = frozenset(number + 1 for number in action.sources)
        elif action.kind == "open":
            self._happen(site, "is behind a firewall no longer")
            machine.firewalls.pop(int(action.number), None)
        elif action.kind == "slow":
            self._happen(site, f"computes {action.number:g} times as long from now on")
            site.times = action.number
        elif action.kind in ("full", "read_only", "disk_well"):
            self._happen(site, f"disk: {action.kind}")
            site.platter.read_only, site.platter.capacity_bytes = action.kind == "read_only", inf
            if action.kind == "full":
                site.platter.fill()
        elif life is None:
            return
        elif action.kind == "pause":
            self._happen(site, "stands still")
            self.loop.pause(life.host)
        elif action.kind == "go_on":
            self._happen(site, "goes on")
            self.loop.go_on(life.host)
        elif life.replicas is not None:
            replicas, number = life.replicas, int(action.number)
            said, work = {
                "kill_replica": ("is killed", replicas.kill),
                "freeze": ("stands still", replicas.freeze),
                "thaw": ("goes on", replicas.thaw),
            }[action.kind]
            self._happen(site, f"replica {number} {said}")
            self.loop.call_on(life.host, self.loop.time(), work, number)

    def _die(self, action: Action) -> None:
        death = action.death
        assert death is not None
        if self._over:
            return
        dying = list(action.nodes)
        if death.fraction:
            alive = [site.number for site in self.sites[1:] if site.life is not None]
            expected = death.fraction * len(alive)
            count = int(expected) + int(self._chance.random() < expected % 1)
            dying = sorted(self._chance.choice(alive, count, replace=False).tolist()) if count else []
        for number in dying:
            site = self.sites[number] if number < len(self.sites) else None
            if site is None or site.life is None:
                continue
            if death.kind == "leave":
                self._happen(site, "is asked to leave")
                site.life.leave()
            else:
                self._kill(site, power=death.kind == "power")
            if death.back_s:
                site.returns = True
                self._at(self._now + death.back_s, self._return, site)

    def _kill(self, site: Site, *, power: bool) -> None:
        life = site.life
        assert life is not None
        self._deaths += 1
        self._happen(site, "loses its power" if power else "is killed")
        life.outcome = "died"
        assert site.disk is not None
        for other in self.sites:  # a second run on the same machine
            if power and other is not site and other.platter is site.platter and other.life is not None:
                self._kill(other, power=False)
        site.disk.crash(self.loop.time(), power=power)
        self.network.die(site.machine, power=power)
        self.loop.kill(life.host)

    def _return(self, site: Site) -> None:
        site.returns = False
        if site.life is not None:  # it still takes its leave
            if not self._over:
                site.returns = True
                self._at(self._now + 1.0, self._return, site)
            return
        if not self._over and (site.number == 0 or self.sites[0].life is not None or self.sites[0].returns):
            self._start(site)

    def _stop(self) -> None:
        if (life := self.sites[0].life) is not None:
            self._happen(self.sites[0], "is asked to stop")
            life.leave()

    def _reset(self) -> None:
        """Break some connection of some machine."""
        if self._over:
            return
        alive = [site.machine for site in self.sites if site.life is not None]
        if alive:
            machine = alive[int(self._chance.integers(len(alive)))]
            self.network.reset(machine, int(self._chance.integers(1 << 16)))
        self._at(self._now + self._chance.exponential(self.scenario.link.reset_every_s), self._reset)

    # -- nodes

    def _add(self, serving: bool, second: bool = False) -> None:
        """Let a further node begin, or another run on the first node's disk."""
        if self._over:
            return
        number, s = len(self.sites), self.scenario
        link = {"delay_s": s.link.delay_s, "jitter_s": s.link.jitter_s, "bandwidth": s.link.bandwidth}
        for slow in s.slow_link:
            if number in slow.nodes:
                given = {"delay_s": slow.delay_s, "jitter_s": slow.jitter_s, "bandwidth": slow.bandwidth}
                link |= {name: value for name, value in given.items() if value is not None}
        name = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
        if s.link.look_up_s:
            name = f"node-{number}"
        link["jitter_s"] /= 2  # of the way from one machine to another, each end adds its half
        machine = self.network.add(number + 1, name, Conditions(**link))
        site = Site(machine, self.sites[0].platter if second else Platter("."), serving, second)
        rng = [generator(s.seed, _COMPUTE, number, replica) for replica in range(s.replicas)]
        site.samplers = [s.compute.sampler(number, own) for own in rng]
        self.sites.append(site)
        self._start(site)

    def _start(self, site: Site) -> None:
        number, s, loop = site.number, self.scenario, self.loop
        n_lives = len(site.lives)
        host = Host(number + 1, site.machine.name)
        self.network.live(site.machine, host)
        rng = generator(s.seed, _DISK, number, n_lives)
        disk = site.disk = site.platter.mount(
            loop.time, loop.spend, rng, delay_s=s.disk.delay_s, bandwidth=s.disk.bandwidth
        )
        address, first = f"{site.machine.name}:{PORT}", number == 0 or site.second
        resume = number == 0 and s.resume and n_lives > 0 and self._has_snapshot(disk)
        self._happen(site, "begins" if not n_lives else "begins again" + (" from its snapshot" if resume else ""))
        site.lives.append(
            NodeLife(
                loop,
                host,
                self.workload,
                listen=address if first or site.serving else "",
                join="" if first else f"{self.sites[0].machine.name}:{PORT}",
                replicas=s.replicas,
                entropy=generator(s.seed, _ENTROPY, number, n_lives).bytes,
                disk=disk,
                compute_s=lambda replica: site.times * site.samplers[replica](),
                read_s=s.read_s,
                resume=resume,
                on_notice=lambda notice: self._hear(site, notice),
            )
        )
        life = site.lives[-1]
        life.task.add_done_callback(lambda task: self._ends(site, life))

    def _has_snapshot(self, disk: SimulatedDisk) -> bool:
        try:
            snapshot.read(snapshot.folder_beside(self.workload.job.save), disk)
        except LayoutError:
            return False
        return True

    def _ends(self, site: Site, life: NodeLife) -> None:
        """A node has ended by itself: the machine goes on without it."""
        if (bug := life.task.exception()) is not None:
            self._bug = bug
            return
        self._happen(site, f"ends: {life.outcome}" + (f": {life.error}" if life.error else ""))
        self._at(self._now, self._clear, site, life)

    def _clear(self, site: Site, life: NodeLife) -> None:
        if site.lives[-1] is life and life.host.alive:
            assert site.disk is not None
            site.disk.crash(self.loop.time())  # of a process that has ended: nothing is under way
            self.network.die(site.machine, power=False)
            self.loop.kill(life.host)

    def _hear(self, site: Site, notice: Notice) -> None:
        self._happen(site, notice.text)

    def _happen(self, site: Site, text: str) -> None:
        self.loop.trace.note(self.loop.time(), site.number, text)
        self._happenings.append(Happening(round(self._now, 6), site.number, text))

    # -- what is seen

    def _look(self) -> None:
        if self._over:
            return
        point = self._point()
        if not self.scenario.look_every_s:
            done = self._observer.done
            self._look_s = point.seconds / done / _POINTS if done > 0 else 2 * self._look_s
        self._at(self._now + self._look_s, self._look)

    def _point(self) -> Point:
        point = self._observer.look(round(self._now, 6))
        if self._told is not None:
            self._told(point)
        return point
