"""What nodes say to each other: requests of members, jobs, maps and states of first nodes, and damaged handshakes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console
from support.cluster import Cluster
from support.cluster_views import CLUSTER, VIEW
from support.linked import TOKEN, End
from support.robustness import Case, cuts, flips, hold, params

import hogpour as hp
from hogpour.algos.gate.barrier import Barrier
from hogpour.cli.status_client import StatusClient
from hogpour.cli.status_json import JsonOutput
from hogpour.cli.status_view import drawn
from hogpour.client.coordinator_client import CoordinatorClient
from hogpour.core.job import job_to_dict
from hogpour.net import frame
from hogpour.net.loopback import Loopback
from hogpour.net.requests import Reply
from hogpour.net.wire.base import Message
from hogpour.net.wire.gate import Arrive, Attend
from hogpour.net.wire.heartbeat import Heartbeat
from hogpour.net.wire.join import Join, Joined, Leave, Ready
from hogpour.net.wire.lease import Lease
from hogpour.net.wire.status import Described, Report, Reported, Status
from hogpour.net.wire.where import Map, Where
from hogpour.node.joining import JoinedNode

pytestmark = pytest.mark.robustness

FAILED = frozenset({0, 1, 2})
NODES = (0, 1, 2, 3, -1, 1 << 53, 1 << 64)
NUMBERS = (0, -1, 1, 1 << 31, (1 << 53) - 1, 1 << 64)
FLOATS = (-1.0, float("nan"), float("inf"), 1e300)
TEXTS = ("", "\x1b]0;x\x07", "a\nb", "\u202e", "x" * 900, "x" * 9000, "\ud800", "é" * 300, "a..b:1", "[::1]:1", "a:99999", "a:1")


def requests() -> Iterator[Message]:
    """Requests as a member with the token may send them, one number or text of each out of order."""
    beat = {"node": 2, "replicas": 1, "examples": 0, "right": 0, "loss": 0.0, "pushes": 0, "staleness": 0.0}
    for node in NODES:
        yield from (Heartbeat(**{**beat, "node": node}), Lease(node, [], [], 1), Ready(node, "s", "d"), Leave(node), Attend(node, 0, True),
                    Arrive(node, 0, 1, 0))  # fmt: skip
    for number in NUMBERS:
        yield from (Heartbeat(**{**beat, name: number}) for name in ("replicas", "examples", "right", "pushes"))
        yield from (Heartbeat(**beat, dropped=number), Heartbeat(**beat, bytes=number), Lease(2, [number], [], 1), Lease(2, [], [number], 1),
                    Lease(2, [], [], number), Lease(2, [], [], 1, [], number), Lease(2, [number] * 2, [number] * 2, 0), Attend(2, number, True),
                    Arrive(2, number, 1, 0), Arrive(2, 0, number, 0), Arrive(2, 0, 1, number))  # fmt: skip
    for value in FLOATS:
        yield from (Heartbeat(**{**beat, name: value}) for name in ("loss", "staleness"))
        yield from (Heartbeat(**beat, waited_s=value), Lease(2, [], [1], 1, [value]))
    for text in TEXTS:
        yield from (Join(text, ""), Join("a", text), Join("a", "", text), Leave(2, text), Ready(2, text, "data-a"), Ready(2, "s", "d", text, text))


def asked(message: Message) -> Any:
    async def main() -> None:
        cluster = Cluster(gate=Barrier())
        await cluster.begin()
        assert await cluster.join() == 2
        sent = frame.decode(type(message), frame.encode(message, 1)[frame.HEADER_BYTES :])
        try:
            async with asyncio.timeout(0.05):
                await cluster.remote.request(sent, deadline_s=0.01)
        finally:
            cluster.clock.now += 0.25
            await cluster.tick()
            state = json.loads((await cluster.ask(Status())).state)
            assert [member["node"] for member in state["members"]][:1] == [1]
            assert all(line.isprintable() for line in cluster.lines), cluster.lines
            await cluster.coordinator.close()

    return lambda: asyncio.run(main())


JOB = job_to_dict(hp.Job(data="their.npz", model=[hp.Linear(3)], algorithm="downpour", save="their.safetensors"))
WRONG = (None, "x", -1, 1e999, [[]], {"a": {}})


def places(value: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    for key, one in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield (*way, key)
        yield from places(one, (*way, key))


def changed(tables: Any, way: tuple[Any, ...], value: Any) -> bytes:
    """Return JSON of tables with the value at the end of a way another one."""
    other = at = json.loads(json.dumps(tables))
    for step in way[:-1]:
        at = at[step]
    at[way[-1]] = value
    return json.dumps(other).encode()


def texts(tables: Any, every: int) -> Iterator[tuple[str, bytes]]:
    """Return damaged forms of a JSON text, by name: a place in ``every`` of the wrong values, and others."""
    whole = json.dumps(tables).encode()
    made = [(f"{'.'.join(map(str, way))}={value!r:.20}", changed(tables, way, value)) for way in places(tables) for value in WRONG]
    yield from made[::every]
    yield from ((f"cut {len(one)}", one) for one in cuts(whole, 6, 1))
    yield from ((f"flip {k}", one) for k, one in enumerate(flips(whole, 12, 2)))
    yield from {"a list": b"[]", "a number": b"3", "null": b"null", "brackets": b"[" * 100_000, "no utf-8": b'{"a": "\xff"}', "nothing": b"",
                      "twice": b"{}{}", "escapes": b'{"\\u001b[2J": 1}', "surrogate": b'{"data": {"train": "\\ud800"}}'}.items()  # fmt: skip


def joined(job: bytes) -> Any:
    def main() -> None:
        member: Any = SimpleNamespace(beaten=None, node=2)
        JoinedNode(member, Joined(2, job, "/theirs", 1, 3.0, 7.0), "first:7000", print).job({})

    return main


def maps() -> Iterator[tuple[str, Map]]:
    good = {"epoch": 1, "bounds": [0, 16, 32], "owners": [1, 1], "addresses": ["", ""]}
    for name, values in {"epoch": (0, (1 << 53) - 1), "bounds": ([], [0], [0, 16], [16, 0, 32], [0, 0, 0], [0, 16, 1 << 52], [0, 1, 2], [32, 16, 0]),
                         "owners": ([], [1], [0, 0], [1, 1, 1], [(1 << 53) - 1] * 2),
                         "addresses": ([], [""], ["a", "b"], ["a..b:1", ""], ["\x1b:1", ""], ["x" * 500, ""], ["a:99999", ""])}.items():  # fmt: skip
        for value in values:
            yield f"{name}={value!r:.30}", Map(**{**good, name: value})


def mapped(answer: Map) -> Any:
    async def main() -> None:
        first = {Join: lambda message: Reply(Joined(2, b"{}", "/", 1, 3.0, 7.0)), Where: lambda message: Reply(answer)}
        member = CoordinatorClient(Loopback(first), "me", "", "first:7000", lambda *_: None)
        await member.join(1.0)
        body = frame.encode(answer, 1)[frame.HEADER_BYTES :]
        assert frame.decode(Map, body)
        await member.where()

    return lambda: asyncio.run(main())


def shown(state: bytes, shards: bytes) -> Any:
    async def main() -> None:
        client = StatusClient("a:1", TOKEN)
        client._first = Loopback({Status: lambda m: Reply(Described(state)), Report: lambda m: Reply(Reported(shards))})  # type: ignore[assignment]
        client._others = dict.fromkeys(["10.0.0.2:7000"], client._first)
        view = await client.look()
        Console(width=100).print(drawn("a:1", view, 20))
        JsonOutput().view("a:1", view)

    return lambda: asyncio.run(main())


def shaken(role: str, heard: bytes) -> Any:
    def main() -> None:
        end = End(role, TOKEN)
        end.receive(heard)
        end.connection.eof()

    return main


def cases() -> Iterator[Case]:
    for k, message in enumerate(requests()):
        yield Case(name=f"asked-{k}-{type(message).__name__}", run=asked(message), says=("",), codes=FAILED)
    for name, text in texts(JOB, 3):
        yield Case(name=f"job-{name!a}", run=joined(text), says=("first:7000", "--join"), codes=FAILED)
    for name, answer in maps():
        yield Case(name=f"map-{name!a}", run=mapped(answer), says=("first:7000",), codes=FAILED)
    state, shards = json.loads(json.dumps(asdict(CLUSTER))), [asdict(one) for one in VIEW.shards if one is not None]
    for name, text in texts(state, 4):
        yield Case(name=f"state-{name!a}", run=shown(text, json.dumps(shards).encode()), says=("a:1",), codes=FAILED)
    for name, text in texts(shards, 4):
        yield Case(name=f"shards-{name!a}", run=shown(json.dumps(state).encode(), text), says=("a:1",), codes=FAILED)
    connector, acceptor = End("connector", TOKEN), End("acceptor", TOKEN)
    said: dict[str, bytes] = {"acceptor": b"", "connector": b""}  # to whom
    while data := connector.sends():
        said["acceptor"] += data
        acceptor.receive(data)
        connector.receive(data := acceptor.sends())
        said["connector"] += data
    for role, whole in said.items():
        for k, one in enumerate([*cuts(whole, 10, 3), *flips(whole, 20, 4)]):
            yield Case(name=f"{role}-{k}", run=shaken(role, one), says=("",), codes=FAILED)


@pytest.mark.parametrize("case", params(cases(), 80))
def test_what_another_node_says_is_taken_or_refused_in_a_line(case: Case, tmp_path: Path) -> None:
    hold(case, tmp_path)
