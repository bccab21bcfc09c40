"""Nothing leaves the simulation: what is real raises while the walls stand, and works again when they are down."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import numpy as np
import pytest
from support.virtual_time import loop_of

from hogpour.sim.world import sandbox
from hogpour.sim.world.loop import Loop
from hogpour.sim.world.sandbox import LeftSimulation, sealed

MADE_UP = {
    "add_reader", "call_at", "call_exception_handler", "call_later", "call_soon", "call_soon_threadsafe", "close",
    "create_connection", "create_future", "create_server", "create_task", "default_exception_handler", "get_debug",
    "is_closed", "is_running", "remove_reader", "run_in_executor", "run_until_complete", "set_debug",
    "set_default_executor", "shutdown_asyncgens", "shutdown_default_executor", "time",
}  # fmt: skip
"""What the simulated loop has of an event loop. ``set_default_executor`` raises with a text of its own."""

REAL = sorted(name for name in vars(asyncio.AbstractEventLoop) if not name.startswith("_") and name not in MADE_UP)

CLOCK = "{} was called inside a simulation, where time and chance are made up"
MADE = "{} was made inside a simulation ({})"

def _thread() -> None:
    thread = threading.Thread(target=lambda: None)
    thread.start()
    thread.join()


def _process() -> None:
    assert subprocess.run([sys.executable, "-S", "-c", ""], check=True).returncode == 0


# Names are looked up when they are called: what was bound before the walls stood is not seen.
LEAVING: dict[str, tuple[Callable[[], object], str]] = {
    "time": (lambda: time.time(), CLOCK.format("time.time")),
    "time_ns": (lambda: time.time_ns(), CLOCK.format("time.time_ns")),
    "monotonic": (lambda: time.monotonic(), CLOCK.format("time.monotonic")),
    "perf_counter": (lambda: time.perf_counter(), CLOCK.format("time.perf_counter")),
    "process_time": (lambda: time.process_time(), CLOCK.format("time.process_time")),
    "sleep": (lambda: time.sleep(0), CLOCK.format("time.sleep")),
    "urandom": (lambda: os.urandom(4), CLOCK.format("os.urandom")),
    "socket": (lambda: socket.socket().close(), MADE.format("a socket", "socket.__new__")),
    "thread": (_thread, "a thread was made inside a simulation"),
    "process": (_process, MADE.format("a process", "subprocess.Popen")),
    "shell": (lambda: os.system("true"), MADE.format("a process", "os.system")),
}

names = pytest.mark.parametrize(("leave", "text"), LEAVING.values(), ids=LEAVING)


@names
def test_what_is_real_raises_inside(leave: Callable[[], object], text: str) -> None:
    with sealed(), pytest.raises(LeftSimulation) as caught:
        leave()
    assert str(caught.value) == text


@pytest.mark.real
@names
def test_what_is_real_works_again_outside(leave: Callable[[], object], text: str) -> None:
    with sealed():
        pass
    leave()
    assert sandbox.breaches == []


@names
def test_the_loop_raises_what_a_task_kept_to_itself(leave: Callable[[], object], text: str) -> None:
    loop, said = loop_of(), []

    async def sly() -> None:
        try:
            leave()
        except Exception:
            said.append("kept")
        await asyncio.sleep(1.0)
        said.append("went on")

    with pytest.raises(LeftSimulation) as caught:
        loop.run_until_complete(sly())
    assert str(caught.value) == text
    assert said == ["kept"]
    loop.close()


def test_what_leaves_from_a_callback_or_a_job_is_raised_as_it_is() -> None:
    async def job() -> None:
        await asyncio.to_thread(lambda: time.time())

    for work in (lambda loop: loop.call_soon(lambda: time.time()), lambda loop: loop.create_task(job())):
        loop = loop_of()
        work(loop)
        with pytest.raises(LeftSimulation, match=r"^time\.time was called inside a simulation"):
            loop.run(lambda: False)
        assert loop.errors == []
        loop.close()


def test_the_walls_fall_with_the_outermost() -> None:
    with sealed():
        with sealed(), pytest.raises(LeftSimulation):
            time.time()
        with pytest.raises(LeftSimulation):
            time.time()
        with pytest.raises(LeftSimulation):
            socket.socket()
    assert time.time() > 0
    socket.socket().close()


def test_the_walls_fall_when_something_fails_inside() -> None:
    real = time.monotonic
    with suppress(ValueError), sealed():
        assert time.monotonic is not real
        raise ValueError
    assert time.monotonic is real


def test_what_left_is_remembered_as_long_as_the_walls_stand() -> None:
    """An inner loop that forgot what its surroundings had done would let it pass."""
    with sealed():
        with pytest.raises(LeftSimulation):
            time.time()
        with sealed():
            assert [str(breach) for breach in sandbox.breaches] == [CLOCK.format("time.time")]
    with sealed():
        assert sandbox.breaches == []


def test_files_and_seeded_chance_stay_inside(tmp_path: object) -> None:
    with sealed():
        np.random.default_rng(0).random()
        with open(f"{tmp_path}/a", "w") as file:
            file.write("a")
    assert sandbox.breaches == []


# -- what the loop does not have -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("ask", "text"), [
    (lambda loop: loop.run_in_executor(object(), print), "an executor of somebody's own is real; give None"),
    (lambda loop: loop.set_default_executor(object()), "an executor is real; jobs are run inline"),
    (lambda loop: loop.add_reader(3, print), "a real descriptor, 3, was read in a simulation"),
    (lambda loop: loop.remove_reader(3), "a real descriptor, 3, was read in a simulation"),
])  # fmt: skip
def test_an_executor_or_a_descriptor_of_somebodys_own_is_real(ask: Callable[[Loop], object], text: str) -> None:
    with pytest.raises(LeftSimulation) as caught:
        ask(loop_of())
    assert str(caught.value) == text


@pytest.mark.parametrize("name", REAL)
def test_what_would_be_real_raises(name: str) -> None:
    with pytest.raises(LeftSimulation) as caught:
        getattr(loop_of(), name)()
    assert str(caught.value) == f"loop.{name} would leave the simulation"


def test_sockets_processes_and_signals_are_among_what_would_be_real() -> None:
    assert {"sock_recv", "subprocess_exec", "add_signal_handler", "create_datagram_endpoint", "getaddrinfo"} <= set(REAL)


def test_what_is_not_asyncios_own_is_there_and_harmless() -> None:
    loop = loop_of()
    loop.set_debug(True)
    assert loop.get_debug() is False
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.run_until_complete(loop.shutdown_default_executor())


def test_another_thread_of_the_process_goes_on_as_it_is() -> None:
    """It got LeftSimulation from its clock, and the simulation was given up for it."""
    heard: list[float] = []
    begin, end = threading.Event(), threading.Event()

    def other() -> None:
        begin.wait(10)
        heard.append(time.monotonic())
        end.set()

    thread = threading.Thread(target=other)
    thread.start()
    with sealed():
        begin.set()
        assert end.wait(10)
        assert sandbox.breaches == []
    thread.join(10)
    assert heard
