"""What every test is held to: it leaves no child process, file descriptor or shared-memory name behind."""

from __future__ import annotations

import asyncio
import gc
import os
from collections import Counter
from collections.abc import Coroutine, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from hypothesis import settings
from support.ends import Run
from support.real_data import SHARED

from hogpour.core import host

host.set_kernel_cache()  # before any test imports a kernel: those of another state of the sources would be stale

settings.register_profile("hogpour", derandomize=True, deadline=None, database=None)
settings.load_profile("hogpour")

with suppress(ImportError):
    import uvloop

    uvloop.new_event_loop().close()  # libuv opens a pipe for signals with its first loop and keeps it


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Say how large the robustness suite is. Here, as only this file is loaded where others run the tests (xdist)."""
    if "robustness" in config.option.markexpr:
        reports = [one for end in ("passed", "failed") for one in terminalreporter.stats.get(end, ()) if "robustness" in one.keywords]
        files = Counter(Path(report.nodeid.partition("::")[0]) for report in reports if report.when == "call")
        kinds = Counter({path: n for path, n in files.items() if path.parent.name == "robustness"})
        sizes = [f"{n} {path.stem.removeprefix('test_').replace('_', ' ')}" for path, n in kinds.most_common()]
        rooms = files.total() - kinds.total()
        terminalreporter.line(f"robustness: {files.total()} cases: {', '.join([*sizes, f'{rooms} in the rooms'])}")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets beside the repository; tests that need it skip on a machine without it."""
    if not SHARED.is_dir():
        pytest.skip("the real data sets are not beside this repository")
    return SHARED


def _descriptors() -> dict[int, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue  # the descriptor of the listing itself
    return found


def _may_have_children() -> bool:
    """Asked of the threads of this process: psutil reads through all processes of the machine, 3 ms for each test."""
    children = []
    try:
        for task in os.listdir("/proc/self/task"):
            with open(f"/proc/self/task/{task}/children", "rb") as file:
                children.append(file.read())
    except OSError:
        return True  # a thread that has just ended, or a kernel that does not tell
    return any(children)


def _is_of_others(path: str) -> bool:
    """Whether a process that is neither this one nor a child of it has mapped the file: another worker, or another run.

    By its number: a semaphore is mapped under a name that it had before the one that is listed.
    """
    try:
        file = os.stat(path)
    except FileNotFoundError:
        return False
    mapped = f" {os.major(file.st_dev):02x}:{os.minor(file.st_dev):02x} {file.st_ino} "
    ours = {os.getpid(), *(child.pid for child in psutil.Process().children(recursive=True))}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if int(process.name) not in ours and mapped in (process / "maps").read_text():
                return True
        except OSError:
            continue  # it has ended, or is another user's
    return False


def _leftovers(before: dict[int, str], names: set[str], known: list[psutil.Process]) -> list[str]:
    processes = psutil.Process().children(recursive=True) if _may_have_children() else []
    theirs = {one for node in known for one in (node, *node.children(recursive=True))}
    children = [f"process {p.pid} ({p.name()})" for p in processes if p not in theirs]
    opened = {fd: what for fd, what in _descriptors().items() if before.get(fd) != what}
    # Libraries open files once and keep them (random numbers, clocks, the kernel's CPU description).
    opened = {fd: what for fd, what in opened.items() if not what.startswith(("/dev/urandom", "/proc", "/sys", "/dev/null"))}
    shared = [f"/dev/shm/{name}" for name in set(os.listdir("/dev/shm")) - names]
    shared = [name for name in shared if not _is_of_others(name) and os.path.exists(name)]
    return children + [f"descriptor {fd} ({what})" for fd, what in sorted(opened.items())] + shared


@pytest.fixture(autouse=True)
def _leaves_nothing_behind() -> Iterator[None]:
    """Fail the test that leaked. Only where /proc tells (Linux)."""
    if not os.path.isdir("/proc/self/fd"):
        yield
        return
    before, names, known = _descriptors(), set(os.listdir("/dev/shm")), list[psutil.Process]()
    if _may_have_children():  # a node that tests share
        known = psutil.Process().children()
    yield
    left = _leftovers(before, names, known)
    if left:
        gc.collect()  # what only a cycle keeps alive is not leaked
        left = _leftovers(before, names, known)
    if left:
        pytest.fail(f"left behind: {', '.join(left)}")


@pytest.fixture
def rng() -> np.random.Generator:
    """A generator of its own for each test."""
    return np.random.default_rng(0)


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
