"""``status --watch``: until when it goes on, and what it draws on a terminal and in a pipe."""

from __future__ import annotations

import asyncio
import io
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console
from support.cluster_views import CLUSTER, VIEW, of_shards, shard
from support.ends import TOKEN, Run
from support.status import describing, node, objects, reporting, shown, written

from hogpour.cli import status, status_client, status_view
from hogpour.cli.status_json import View
from hogpour.core.errors import PeerLost, Refusal, RequestFailed
from hogpour.net.requests import Reply

pytestmark = pytest.mark.real


@pytest.fixture(autouse=True)
def _hears_signals() -> Iterator[None]:
    """Whatever these tests were started by: a job in the background of a script ignores Ctrl+C, and hands that on."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


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


def terminal(height: int = 24) -> Console:
    return Console(
        file=io.StringIO(), force_terminal=True, width=100, height=height, color_system=None, _environ={"TERM": "xterm"}
    )


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
