"""The coordinator, asked anything in any order."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from support.cluster import Cluster, settle

from hogpour.net.wire.base import Ok
from hogpour.net.wire.join import Leave


class ClusterMachine(RuleBasedStateMachine):
    """Nodes join, compute, leave and fall silent; whoever serves does not die. The run goes on, and can be finished."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.cluster = Cluster(5)
        self.held: dict[int, set[int]] = {}
        self.serving: set[int] = {1}
        self.leaving: dict[int, asyncio.Future[Any]] = {}
        self.run(self.cluster.begin())
        self.held[1] = set()

    def run(self, work: Any) -> Any:
        return self.loop.run_until_complete(work)

    def pick(self, data: st.DataObject) -> int:
        return data.draw(st.sampled_from(sorted(self.held)))

    @rule(serves=st.booleans())
    def join(self, serves: bool) -> None:
        address = f"n{self.cluster.coordinator.members.next}:1" if serves else ""
        node = self.run(self.cluster.join(address))
        self.held[node] = set()
        if serves:
            self.serving.add(node)

    @rule(data=st.data(), want=st.integers(0, 3), lost=st.booleans(), report=st.booleans())
    def lease(self, data: st.DataObject, want: int, lost: bool, report: bool) -> None:
        node = self.pick(data)
        done = sorted(self.held[node])[:2] if report else []
        holds = sorted(self.held[node] - set(done))
        leased = self.run(self.cluster.lease(node, want, holds, done))
        if not lost:
            self.held[node] = set(holds) | set(leased.tickets)

    @rule(seconds=st.sampled_from([0.125, 1.0, 4.0]))
    def time(self, seconds: float) -> None:
        self.run(self.cluster.live(seconds))
        members = {member.node for member in self.cluster.coordinator.state(0.0).members}
        assert set(self.held) - self.cluster.silent <= members | set(self.leaving)
        self.cluster.silent &= members
        self.held = {node: tickets for node, tickets in self.held.items() if node in members}
        self.leaving = {node: leave for node, leave in self.leaving.items() if not leave.done() or leave.result() != Ok()}

    @rule(data=st.data())
    def fall_silent(self, data: st.DataObject) -> None:
        node = self.pick(data)
        if node not in self.serving:
            self.cluster.silent.add(node)

    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        node = self.pick(data)
        if node != 1 and node not in self.leaving and node not in self.cluster.silent:
            self.leaving[node] = self.loop.create_task(self.cluster.ask(Leave(node)))
            self.run(settle())
            self.held[node] = set()
            if self.leaving[node].done():
                del self.held[node], self.leaving[node]

    @invariant()
    def nothing_is_lost(self) -> None:
        coordinator, ledger = self.cluster.coordinator, self.cluster.ledger
        assert coordinator.command == "run" or ledger.finished
        assert ledger.done + ledger.leased + ledger.free == ledger.total
        for shard, owner in enumerate(coordinator.map.owners):
            assert owner in self.serving
            assert shard in self.cluster.world[coordinator.map.addresses[shard]].serves

    def teardown(self) -> None:
        async def finish() -> None:
            await self.cluster.live(4.0)
            members = {member.node for member in self.cluster.coordinator.state(0.0).members}
            for _ in range(20):  # each asks as one who holds nothing: it gets what it lost, and new ones
                for node in members:
                    leased = await self.cluster.lease(node, 10)
                    await self.cluster.lease(node, 0, [], leased.tickets)
            assert self.cluster.ledger.finished
            await self.cluster.live(0.25)
            assert self.cluster.coordinator.command == "finish"

        try:
            self.run(finish())
            assert not any(member.phase == "leaving" for member in self.cluster.coordinator.state(0.0).members)
            assert all(leave.result() == Ok() for leave in self.leaving.values())
        finally:
            self.run(self.cluster.coordinator.close())
            self.loop.close()


TestCluster = ClusterMachine.TestCase
TestCluster.settings = settings(max_examples=30, stateful_step_count=25)
TestCluster.pytestmark = [pytest.mark.slow]
