"""``status``: what it asks whom, what it prints where, how it ends. Nodes are ports of this process; one is a real one."""

from __future__ import annotations

import asyncio
import io
import json
import socket
from collections.abc import Coroutine, Iterator
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from rich.console import Console
from support.cluster_views import CLUSTER, FIRST, shard
from support.ends import TOKEN, Run
from support.status import describing, node, objects, reporting, served_by, shown, written

import hogpour as hp
from hogpour.cli import main as cli
from hogpour.cli import status, status_client
from hogpour.cli.status_json import View
from hogpour.cli.status_view import drawn
from hogpour.core.errors import HogpourError, InputError, PeerLost, RemoteProtocolError, RequestFailed
from hogpour.core.job import DataConfig
from hogpour.net.peer import Peer
from hogpour.net.requests import Reply
from hogpour.net.wire.status import Described, Reported

pytestmark = pytest.mark.real


@pytest.fixture
def nobody() -> Iterator[str]:
    """An address where nobody listens, and nobody will meanwhile."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


def test_it_asks_the_first_node_and_all_that_serve_and_prints_tables(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    async def main() -> str:
        async with node(None, reporting(shard(2))) as second:
            cluster = served_by(second.address)
            async with node(describing(cluster), reporting(shard(0), shard(1))) as first:
                assert await shown(first) == 0
                console = Console(file=io.StringIO(), width=100)
                console.print(drawn(first.address, View(cluster, (shard(0), shard(1), shard(2)), ()), 20))
                return written(console)

    expected = run(main())
    assert capsys.readouterr().out == expected


def test_json_is_one_object_a_line_with_all_that_is_known(run: Run, nobody: str, capsys: pytest.CaptureFixture[str]) -> None:
    async def main() -> str:
        describe = describing(served_by(nobody))
        async with node(describe, reporting(shard(0, mean_staleness=1.5), shard(1))) as first:
            assert await shown(first, as_json=True) == 0
            return first.address

    address = run(main())
    (told,) = objects(capsys)
    assert (told["event"], told["address"], told["command"]) == ("status", address, "run")
    assert (told["examples_done"], told["members"][1]["address"]) == (1_299_000, nobody)
    assert [(s["node"], s["shard"], s["clock"], s["mean_staleness"]) for s in told["shards"]] == [
        (1, 0, 5100, 1.5),
        (1, 1, 5100, 0.94),
    ]
    assert told["shards"][0]["staleness"] == [1000, 3500, 400, 0, 100]
    assert told["staleness"] == {"p50": 1, "p90": 1, "max": 4}
    (silent,) = told["silent"]
    assert silent == {
        "node": 2, "address": nobody, "shards": [2], "reason": "no answer to Report: connection refused",
    }  # fmt: skip


def test_a_server_that_does_not_answer_is_shown_and_all_others_too(
    run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status_client, "REPORT_S", 0.05)

    async def never(message: Any) -> Reply:
        return await asyncio.get_running_loop().create_future()

    async def main() -> str:
        async with (
            node(None, never) as second,
            node(describing(served_by(second.address)), reporting(shard(0), shard(1))) as first,
        ):
            assert await shown(first) == 0
            return second.address

    address = run(main())
    out = capsys.readouterr().out
    assert f"node 2 ({address}) serves shard 2 and does not answer: no answer to Report within 0.05 s\n" in out
    assert "    1     1     1,000  5,100   5,000 " in out


@pytest.mark.parametrize(
    ("address", "reports", "reason"),
    [
        ("nowhere", b"[]", "address 'nowhere': expected host:port, for example 10.0.0.2:7000 or [::1]:7000"),
        ("", b"[]", "it is no member any more"),
        (None, b"[", "its state cannot be read: Input data was truncated"),
    ],
)
def test_a_server_of_which_nothing_can_be_made_is_no_failure(
    address: str | None, reports: bytes, reason: str, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    async def main() -> None:
        async with node(None, lambda message: Reply(Reported(reports))) as second:
            cluster = served_by(second.address if address is None else address)
            async with node(describing(cluster), reporting(shard(0), shard(1))) as first:
                assert await shown(first, as_json=True) == 0

    run(main())
    (told,) = objects(capsys)
    assert [silent["reason"] for silent in told["silent"]] == [reason]


def test_a_shard_that_is_somewhere_else_meanwhile_is_told_by_who_has_it(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """The map of the first node may be a moment older than the answers of the others."""

    async def main() -> None:
        async with node(None, reporting()) as second:
            cluster = served_by(second.address)
            async with node(describing(cluster), reporting(shard(0), shard(2), shard(700))) as first:
                assert await shown(first, as_json=True) == 0

    run(main())
    (told,) = objects(capsys)
    assert [s["shard"] for s in told["shards"]] == [0, 2]
    assert told["silent"] == []


def test_the_connection_to_a_server_that_has_left_is_closed(run: Run) -> None:
    async def main() -> None:
        async with node(None, reporting(shard(2))) as second:
            clusters = [served_by(second.address), replace(CLUSTER, members=(FIRST,), owners=(1, 1, 1))]
            async with node(lambda m: describing(clusters.pop(0))(m), reporting(shard(0), shard(1))) as first:
                client = status_client.StatusClient(first.address, TOKEN)
                await client.look()
                (peer,) = client._others.values()
                assert peer._link is not None
                await client.look()
                assert peer._link is None
                await client.close()

    run(main())


def test_nothing_stays_open(run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    peers: list[Peer] = []

    class Kept(Peer):
        def __init__(self, *arguments: Any, **more: Any) -> None:
            super().__init__(*arguments, **more)
            peers.append(self)

    async def main() -> None:
        async with (
            node(None, reporting(shard(2))) as second,
            node(describing(served_by(second.address)), reporting(shard(0), shard(1))) as first,
        ):
            assert await shown(first) == 0
            assert [peer.address for peer in peers] == [first.address, second.address]
            assert [peer._link for peer in peers] == [None, None]

    monkeypatch.setattr(status_client, "Peer", Kept)
    run(main())


# -- nobody there -------------------------------------------------------------------------------------------------------


def refusal(run: Run, main: Coroutine[Any, Any, Any], kind: type[HogpourError]) -> str:
    with pytest.raises(kind) as error:
        run(main)
    return str(error.value)


def test_nobody_there_is_known_at_once(run: Run, nobody: str) -> None:
    for watch in (False, True):
        text = refusal(run, status.show(nobody, TOKEN, watch=watch, as_json=False), PeerLost)
        assert text == f"{nobody}: no answer to Status: connection refused"


def test_whoever_says_nothing_is_waited_for_for_a_while(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status_client, "ANSWER_S", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        address = f"127.0.0.1:{mute.getsockname()[1]}"
        text = refusal(run, status.show(address, TOKEN, watch=False, as_json=False), PeerLost)
    assert text.startswith(f"{address}: no answer to Status")


def test_another_token_is_bad_use(run: Run) -> None:
    async def main() -> None:
        async with node(describing(CLUSTER)) as first:
            await status.show(first.address, b"of somebody else's cluster", watch=True, as_json=False)

    text = refusal(run, main(), InputError)
    assert text.startswith("127.0.0.1:")
    assert text.endswith(": wrong token")
    assert InputError.exit_code == 2


def test_a_node_that_is_not_the_first_says_so(run: Run) -> None:
    async def main() -> None:
        async with node(None, reporting()) as second:
            await shown(second, watch=True)

    text = refusal(run, main(), RequestFailed)
    assert text.endswith(": this node does not answer Status; it is not the first node of a cluster, or still reads its data")


@pytest.mark.parametrize(
    ("state", "text"),
    [
        (b'{"command": 3}', "its state cannot be read: Expected `str`, got `int` - at `$.command`"),
        (msgspec.json.encode(replace(CLUSTER, members=())), "describes 0 members, 3 shards and 4 bounds"),
        (msgspec.json.encode(replace(CLUSTER, bounds=(0, 5))), "describes 3 members, 3 shards and 2 bounds"),
    ],
)
def test_a_state_of_which_nothing_can_be_made_is_refused(state: bytes, text: str, run: Run) -> None:
    async def main() -> None:
        async with node(lambda message: Reply(Described(state))) as first:
            await shown(first)

    assert refusal(run, main(), RemoteProtocolError).endswith(f": {text}")


def test_on_the_command_line_that_is_one_line_and_an_exit_code(
    nobody: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOGPOUR_TOKEN", TOKEN.decode())
    assert cli.main(["status", nobody]) == 1
    assert capsys.readouterr() == ("", f"hogpour: {nobody}: no answer to Status: connection refused\n")
    assert cli.main(["status", "nowhere"]) == 2
    assert capsys.readouterr().err.startswith("hogpour: address 'nowhere': expected host:port")


# -- a real node --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_a_node_that_trains_tells_its_members_shards_and_staleness(capsys: pytest.CaptureFixture[str]) -> None:
    job = hp.Job(
        data=DataConfig(train="digits"),
        model=[hp.Linear(10)],
        algorithm=hp.Downpour(optimiser=hp.Sgd(0.1)),
        epochs=100_000,
        replicas=1,
        cluster=hp.ClusterConfig(shard_bytes=1000),
    )
    async with hp.Node(job, listen="127.0.0.1:0", token=TOKEN, every_s=0.01) as running:
        async for progress in running:
            if progress.cluster is not None and progress.cluster.staleness is not None:
                break
        assert await status.show(running.address, TOKEN, watch=False, as_json=True) == 0
        assert await status.show(running.address, TOKEN, watch=False, as_json=False) == 0
        running.stop()
        assert (await running.wait()).outcome == "stopped"
    first, _, rest = capsys.readouterr().out.partition("\n")
    told = json.loads(first)
    assert (told["command"], told["warming"], len(told["members"])) == ("run", False, 1)
    assert (told["members"][0]["address"], told["members"][0]["phase"]) == (running.address, "ready")
    assert (told["members"][0]["replicas"], told["members"][0]["shards"]) == (1, 3)
    assert [(s["node"], s["shard"]) for s in told["shards"]] == [(1, 0), (1, 1), (1, 2)]
    assert [(s["start"], s["stop"]) for s in told["shards"]] == list(zip(told["bounds"], told["bounds"][1:]))
    assert all(s["pushes"] == s["clock"] == sum(s["staleness"]) > 0 for s in told["shards"])
    assert told["silent"] == []
    assert told["staleness"]["p50"] is not None
    assert rest.startswith(f"{running.address}: running, hogpour {hp.__version__}\n")
    assert "staleness of " in rest
