"""``status``: what it asks whom, what it prints where, how it ends. Nodes are ports of this process; one is a real one."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from rich.console import Console
from support.cluster_views import CLUSTER, FIRST, SECOND, VIEW, of_shards, shard

import hogpour as hp
from hogpour.cli import main as cli
from hogpour.cli import status, status_client, status_view
from hogpour.cli.status_json import View
from hogpour.cli.status_view import drawn
from hogpour.core.cluster_state import ClusterState, ShardState
from hogpour.core.errors import HogpourError, InputError, PeerLost, Refusal, RemoteProtocolError, RequestFailed
from hogpour.core.job import DataConfig
from hogpour.net.listener import Listener
from hogpour.net.peer import Peer
from hogpour.net.requests import Handler, Reply
from hogpour.net.staging import Staging
from hogpour.net.wire.status import Described, Report, Reported, Status

pytestmark = pytest.mark.real

TOKEN = b"of tests, and of nobody else"
Run = Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """Run a coroutine to its end, on a loop of its own; nothing may be said to the loop's exception handler."""
    factory = pytest.importorskip("uvloop").new_event_loop if request.param == "uvloop" else None

    def runs(main: Coroutine[Any, Any, Any]) -> Any:
        complaints: list[dict[str, Any]] = []

        async def limited() -> Any:
            asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context))
            async with asyncio.timeout(20):
                return await main

        with asyncio.Runner(loop_factory=factory) as runner:
            result = runner.run(limited())
        assert complaints == []
        return result

    return runs


@pytest.fixture(autouse=True)
def _hears_signals() -> Iterator[None]:
    """Whatever these tests were started by: a job in the background of a script ignores Ctrl+C, and hands that on."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def nobody() -> Iterator[str]:
    """An address where nobody listens, and nobody will meanwhile."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


@asynccontextmanager
async def node(describe: Handler | None, report: Handler | None = None) -> AsyncIterator[Listener]:
    """A node's port; what is None is not answered there."""
    handlers = {kind: handler for kind, handler in ((Status, describe), (Report, report)) if handler is not None}
    listener = Listener(handlers, TOKEN, staging=Staging(1 << 16), payload_limit=1 << 16, log=lambda line: None)
    await listener.start("127.0.0.1", 0)
    try:
        yield listener
    finally:
        await listener.close()


def describing(cluster: ClusterState) -> Handler:
    return lambda message: Reply(Described(msgspec.json.encode(cluster)))


def reporting(*shards: ShardState) -> Handler:
    return lambda message: Reply(Reported(msgspec.json.encode(shards)))


def served_by(address: str) -> ClusterState:
    """Two shards of the first node, whose own address is another one than that at which it was asked, and one of the
    second node, which is at this address."""
    members = (replace(FIRST, address="0.0.0.0:7000"), replace(SECOND, address=address))
    return replace(CLUSTER, members=members)


async def shown(listener: Listener, **how: bool) -> int:
    return await status.show(listener.address, TOKEN, **{"watch": False, "as_json": False, **how})


def objects(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


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


# -- watching -----------------------------------------------------------------------------------------------------------


class Script:
    """A first node that serves all shards, and does at each request for its state what comes next."""

    def __init__(self, *acts: Callable[[], Any]) -> None:
        self._acts = list(acts)
        self._state = describing(replace(CLUSTER, owners=(1, 1, 1)))

    async def __call__(self, message: Any) -> Reply:
        done = self._acts.pop(0)()
        if done is not None:
            await done
        reply = self._state(message)
        assert isinstance(reply, Reply)
        return reply

    async def watched(self, **how: bool) -> int:
        async with node(self, reporting(shard(0), shard(1), shard(2))) as first:
            self.listener = first
            return await shown(first, watch=True, **how)


def go_on() -> None:
    pass


def for_ever() -> asyncio.Future[None]:
    return asyncio.get_running_loop().create_future()


def ctrl_c() -> asyncio.Future[None]:
    os.kill(os.getpid(), signal.SIGINT)
    return for_ever()


def busy() -> None:
    raise RequestFailed(Refusal.BUSY, "not now")


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No time passes between two views."""
    monkeypatch.setattr(status, "EVERY_S", 0.0)


@pytest.mark.usefixtures("at_once")
def test_watching_goes_on_until_ctrl_c(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(Script(go_on, go_on, ctrl_c).watched()) == 0
    views = capsys.readouterr().out.split("\n\n127.0.0.1:")
    assert len(views) == 2
    assert all(": running\n25.0% of 528 blocks" in view for view in views)


@pytest.mark.usefixtures("at_once")
def test_ctrl_c_gives_the_cursor_back(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    console = terminal()
    monkeypatch.setattr(status_view, "make_console", lambda: console)
    assert run(Script(go_on, ctrl_c).watched()) == 0
    assert "\x1b[?25l" in written(console)
    assert written(console).endswith("\n\x1b[?25h")


@pytest.mark.usefixtures("at_once")
def test_watching_ends_with_the_run(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    ending: list[asyncio.Task[None]] = []

    def end() -> None:
        ending.append(asyncio.get_running_loop().create_task(script.listener.drain(5.0)))

    script = Script(go_on, go_on, end)

    async def main() -> str:
        assert await script.watched(as_json=True) == 0
        await ending[0]
        return script.listener.address

    address = run(main())
    told = [one for one in objects(capsys) if one["event"] != "warning"]  # the end may come in the midst of a question
    assert [one["event"] for one in told] == ["status"] * (len(told) - 1) + ["ended"]
    assert len(told) in (3, 4)
    assert told[-1] == {"event": "ended", "text": f"{address}: nobody listens there any more, the run has ended"}


def test_that_a_name_with_several_addresses_is_refused_is_known_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    """asyncio says then what every address said, and no number of its own."""
    answers = [VIEW, PeerLost("localhost:1", "no answer to Status: Multiple exceptions: [Errno 111] Connect call failed"
                              " ('::1', 1, 0, 0), [Errno 111] Connect call failed ('127.0.0.1', 1)")]  # fmt: skip

    async def look(self: Any) -> View:
        answer = answers.pop(0)
        if isinstance(answer, View):
            return answer
        raise answer

    monkeypatch.setattr(status, "EVERY_S", 0.0)
    monkeypatch.setattr(status_client.StatusClient, "look", look)
    assert run(status.show("localhost:1", TOKEN, watch=True, as_json=True)) == 0
    assert [one["event"] for one in objects(capsys)] == ["status", "ended"]


@pytest.mark.usefixtures("at_once")
def test_an_answer_that_does_not_come_is_told_and_the_next_one_is_shown(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(Script(go_on, busy, go_on, ctrl_c).watched(as_json=True)) == 0
    told = objects(capsys)
    assert [one["event"] for one in told] == ["status", "warning", "status"]
    assert told[1]["text"].endswith(": not now; it is not the first node of a cluster, or still reads its data")


def test_ctrl_c_before_the_answer_ends_with_130(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    async def main() -> int:
        async with node(Script(ctrl_c)) as first:
            return await shown(first)

    assert run(main()) == 130
    assert capsys.readouterr().out == ""


def test_being_cancelled_is_not_ctrl_c(run: Run) -> None:
    asked = asyncio.Event()

    async def main() -> None:
        def ask() -> asyncio.Future[None]:
            asked.set()
            return for_ever()

        async with node(Script(ask)) as first:
            showing = asyncio.ensure_future(shown(first, watch=True))
            await asked.wait()
            showing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await showing
            assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

    run(main())


# -- terminals and pipes ------------------------------------------------------------------------------------------------


def terminal(height: int = 24) -> Console:
    return Console(
        file=io.StringIO(), force_terminal=True, width=100, height=height, color_system=None, _environ={"TERM": "xterm"}
    )


def written(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_on_a_terminal_a_view_is_drawn_over_the_last_one() -> None:
    console = terminal()
    text = status_view.TextOutput(console, watch=True)
    text.view("a:1", VIEW)
    assert "\x1b[1A" not in written(console)
    text.view("a:1", VIEW)
    assert written(console).count("\x1b[1A") == 14  # a view of 15 lines
    text.trouble("a:1: no answer")
    text.view("a:1", VIEW)
    text.ended("the run has ended")
    assert written(console).endswith("\n\x1b[?25hthe run has ended\n")  # below it, and the cursor is back
    assert written(console).count("a:1: no answer") == 1


def test_a_view_that_is_drawn_over_is_no_higher_than_the_terminal() -> None:
    many = of_shards(50, **{f"shard_{k}": shard(k, clock=k) for k in range(50)})
    for height in (16, 24, 60):
        console = terminal(height)
        text = status_view.TextOutput(console, watch=True)
        text.view("a:1", many)
        lines = written(console).splitlines()
        assert len(lines) < height
        assert "staleness of 250,000 pushes" in lines[-2]
        text.close()


@pytest.mark.parametrize("watch", [False, True])
def test_in_a_pipe_there_are_no_control_characters(watch: bool) -> None:
    console = Console(file=io.StringIO(), width=100)
    text = status_view.TextOutput(console, watch)
    text.view("a:1", VIEW)
    text.view("a:1", VIEW)
    text.trouble("a:1: no answer " + "x" * 200)
    text.close()
    assert all(c.isprintable() or c == "\n" for c in written(console))
    assert written(console).count("a:1: running\n") == 2
    assert written(console).endswith("x" * 200 + "\n")


def test_a_pipe_that_is_no_unicode_gets_question_marks(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(pipe, encoding="ascii"))
    status_view.TextOutput(status_view.make_console(), watch=False).view("a:1", VIEW)
    assert pipe.getvalue().rstrip().endswith(b"\n0 ??? ? 4")


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
