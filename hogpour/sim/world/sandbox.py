"""What a simulation is sealed by: what would leave it raises ``LeftSimulation``.

A socket, a thread, a process, a real clock or the kernel's random bytes would make a run another one the next time.
The event loop has no method for them; this file catches those that somebody uses past the loop. Sockets and processes
are seen by an audit hook, which Python cannot take back and which sleeps outside of ``sealed``; clocks, random bytes
and the beginning of threads, of which not every Python tells, are replaced while it is ``sealed``. What was imported by
name before (``from time import monotonic``) is not seen: production code does not do that.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from hogpour.core.errors import HogpourError

__all__ = ["LeftSimulation", "breaches", "sealed"]

_EVENTS = {
    "_thread.start_joinable_thread": "a thread",
    "_thread.start_new_thread": "a thread",
    "os.fork": "a process",
    "os.forkpty": "a process",
    "os.posix_spawn": "a process",
    "os.system": "a process",
    "socket.__new__": "a socket",
    "subprocess.Popen": "a process",
    "time.sleep": "a real sleep",
}

_CLOCKS = [
    (time, name)
    for name in ("monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "process_time", "sleep", "thread_time",
                 "time", "time_ns")
]  # fmt: skip
_CHANCE = [(os, "urandom"), (os, "getrandom")]
_THREADS = [(threading, "_start_new_thread"), (threading, "_start_joinable_thread")]
_REPLACED = [*_CLOCKS, *_CHANCE, *_THREADS]

_depth = 0
_owner = 0  # thread that simulates; others go on as they are
_hooked = False


class LeftSimulation(HogpourError):
    """Something in a simulation used what is real. A bug, or a layer of the user's own that reads a clock."""


breaches: list[LeftSimulation] = []
"""Raised since it was sealed: a task keeps what is raised in it to itself, so that the loop looks here."""


@contextmanager
def sealed() -> Iterator[None]:
    """Let nothing out while this lasts; inside one another, until the outermost ends."""
    global _depth, _hooked, _owner
    if not _hooked:
        _hooked = True
        sys.addaudithook(_hear)
    real = {(module, name): getattr(module, name) for module, name in _REPLACED if hasattr(module, name)}
    if not _depth:
        breaches.clear()
        _owner = threading.get_ident()
    elif threading.get_ident() != _owner:
        raise HogpourError("another thread of this process simulates; one simulation at a time")
    _depth += 1
    try:
        for (module, name), function in real.items():
            setattr(module, name, _refusing(module.__name__, name, function))
        yield
    finally:
        _depth -= 1
        for (module, name), function in real.items():
            setattr(module, name, function)


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    del arguments
    if _depth and event in _EVENTS and threading.get_ident() == _owner:
        breaches.append(LeftSimulation(f"{_EVENTS[event]} was made inside a simulation ({event})"))
        raise breaches[-1]


def _refusing(module: str, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
    if module == threading.__name__:
        text = "a thread was made inside a simulation"
    else:
        text = f"{module}.{name} was called inside a simulation, where time and chance are made up"

    def refuse(*arguments: Any, **named: Any) -> Any:
        if threading.get_ident() != _owner:
            return real(*arguments, **named)
        breaches.append(LeftSimulation(text))
        raise breaches[-1]

    return refuse
