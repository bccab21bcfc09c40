"""Asks a running cluster how it is. Asks nobody to join, lease or stop anything: looking changes nothing.

The first node tells who belongs to the cluster and who serves what; every node that serves shards, how these are. One
that does not answer is a part of the view, not a failure of it; only without the first node there is none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from hogpour.cli.status_json import Silent, View
from hogpour.core.cluster_state import ClusterState, ShardState
from hogpour.core.errors import InputError, PeerLost, ProtocolError, Refusal, RemoteProtocolError, RequestFailed
from hogpour.net.json_text import read_json
from hogpour.net.peer import Peer
from hogpour.net.wire.status import Report, Status

__all__ = ["StatusClient"]

ANSWER_S = 5.0
"""For the first node. Where nobody listens, that is known at once."""

REPORT_S = 1.0
"""For a node that serves shards: less, so that one that hangs does not hold up the view of all others for long."""

class StatusClient:
    """Asks a cluster; keeps its connections from one view to the next."""

    def __init__(self, address: str, token: bytes) -> None:
        self._address, self._token = address, token
        # Whether to try again is the caller's matter; so one try may take as long as all of it.
        self._first = Peer(address, token, connect_s=ANSWER_S)
        self._others: dict[str, Peer] = {}

    async def look(self) -> View:
        """Ask everybody who has something to tell.

        Raises:
            InputError: the first node refuses this one.
            PeerLost, RequestFailed, ProtocolError: the first node does not answer, or not so.
        """
        try:
            answer = await self._first.request(Status(), deadline_s=ANSWER_S, retry=False)
        except RequestFailed as error:
            if error.code == Refusal.REFUSED:
                raise InputError(str(error)) from error
            raise RequestFailed(error.code, f"{self._address}: {error}; it is not the first node of a cluster, or "
                                            "still reads its data") from error  # fmt: skip
        cluster = read_json(answer.state, ClusterState, f"{self._address}: its state")
        if not cluster.members or len(cluster.bounds) != len(cluster.owners) + 1:
            raise RemoteProtocolError(f"{self._address}: describes {len(cluster.members)} members, "
                                      f"{len(cluster.owners)} shards and {len(cluster.bounds)} bounds")  # fmt: skip
        addresses = {member.node: member.address for member in cluster.members}
        addresses[cluster.members[0].node] = self._address  # it may be known to itself by another, or by none
        await self._drop(addresses.values())
        servers = sorted(set(cluster.owners))
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._report(node, addresses.get(node, ""))) for node in servers]
        shards: list[ShardState | None] = [None] * len(cluster.owners)
        silent = []
        for task in tasks:
            told = task.result()
            if isinstance(told, Silent):
                silent.append(told)
                continue
            for state in told:
                if 0 <= state.shard < len(shards):
                    shards[state.shard] = state
        return View(cluster, tuple(shards), tuple(silent))

    async def _report(self, node: int, address: str) -> list[ShardState] | Silent:
        if not address:
            return Silent(node, "", "it is no member any more")
        if address == self._address:
            peer = self._first
        elif address in self._others:
            peer = self._others[address]
        else:
            try:
                peer = self._others[address] = Peer(address, self._token, connect_s=REPORT_S)
            except InputError as error:
                return Silent(node, address, str(error))
        try:
            answer = await peer.request(Report(), deadline_s=REPORT_S, retry=False)
            return read_json(answer.shards, list[ShardState], f"{address}: its state")
        except (PeerLost, RequestFailed, ProtocolError) as error:
            return Silent(node, address, str(error).removeprefix(f"{address}: "))

    async def _drop(self, addresses: Iterable[str]) -> None:
        """Close the connections to those that have left."""
        for address in self._others.keys() - set(addresses):
            await self._others.pop(address).close()

    async def close(self) -> None:
        await self._drop(())
        await self._first.close()
