"""``hogpour doctor``: is this machine ready, and if not, what to do. Each check looks, none changes anything."""

from __future__ import annotations

import argparse
import importlib
import os
import resource
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

from hogpour.cli.options import add_json
from hogpour.cli.streams import spelled
from hogpour.core import host
from hogpour.core.errors import HogpourError, ResourceError

__all__ = ["Diagnosis", "add_arguments", "examine", "run"]

Verdict = Literal["ok", "warn", "bad"]
_MARKS: dict[Verdict, str] = {"ok": "ok  ", "warn": "warn", "bad": "BAD "}


_MANY = 64
"""Nodes of a cluster that is large."""


class Diagnosis(NamedTuple):
    """One thing that was looked at."""

    check: str
    verdict: Verdict
    """ok; warn: training works, but not as well as it could; bad: training will fail."""
    text: str
    """What was found."""
    advice: str = ""
    """What to do; empty where all is well."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what ``doctor`` takes."""
    parser.description = "Check cores, limits, shared memory, kernels, places and output, and say what to do."
    parser.epilog = "example: python -m hogpour doctor"
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Print every finding and return the exit code: 1 where something is bad."""
    from hogpour.cli.tables import print_json

    worst = 0
    for finding in examine():
        worst = max(worst, finding.verdict == "bad")
        if options.json:
            print_json(**finding._asdict())
            continue
        line = f"{_MARKS[finding.verdict]}  {finding.check:<15} {finding.text}"
        line += f"\n      {'':<15} {spelled('→', '->')} {finding.advice}" if finding.advice else ""
        print(line, flush=True)  # noqa: T201
    return worst


def examine() -> Iterator[Diagnosis]:
    """Yield the findings one after the other; what the machine refuses to a check is a finding of its own."""
    for check in _CHECKS:
        try:
            yield check()
        except (HogpourError, OSError) as error:
            text = host.explain(error) if isinstance(error, OSError) else None
            yield Diagnosis(check.__name__.strip("_").replace("_", " "), "bad", text or str(error))


def _cores() -> Diagnosis:
    usable, all_of_them = host.cores(), os.cpu_count() or 1
    text = f"{usable} of {all_of_them} usable: {usable} replicas by default"
    if usable < all_of_them:
        return Diagnosis("cores", "warn", text, "affinity or a container's CPU quota hides the others")
    return Diagnosis("cores", "ok", text)


def _load() -> Diagnosis:
    busy = os.getloadavg()[0]
    text = f"{busy:.1f} processes want a core"
    if busy > host.cores() * 0.75:
        return Diagnosis("load", "warn", text, "other programs compete; set run.replicas to the cores that are free")
    return Diagnosis("load", "ok", text)


def _blas() -> Diagnosis:
    threads = host.threads_in_force()
    if not threads:
        return Diagnosis("blas", "bad", "no BLAS library was loaded with NumPy", "reinstall numpy from a wheel")
    text = ", ".join(f"{name}: {n} thread{'s' if n > 1 else ''}" for name, n in threads.items())
    return Diagnosis("blas", "ok", f"{text} here; a replica sets its own")


def _threading_layer() -> Diagnosis:
    """numba falls back to a layer that aborts the process when two threads enter a parallel kernel."""
    try:
        importlib.import_module("numba.np.ufunc.omppool")
    except ImportError as error:
        return Diagnosis("threading", "warn", f"numba's OpenMP layer does not load: {error}",
                       "install libgomp; it is needed when a replica uses several threads")  # fmt: skip
    return Diagnosis("threading", "ok", "numba's OpenMP layer loads")


def _shared_memory() -> Diagnosis:
    from hogpour.shm.layout import Layout
    from hogpour.shm.segment import Segment

    size = 64 << 20
    try:
        segment = Segment.create(Layout.pack([("probe", (size,), "uint8")]), "a probe of 64 MB")
    except ResourceError as error:
        return Diagnosis("shared memory", "bad", str(error), "give this machine or container more memory")
    segment.arrays["probe"][-1] = 1
    segment.close()
    free = host.available_memory() / 1e9
    return Diagnosis("shared memory", "ok", f"a segment of 64 MB works; {free:.1f} GB of memory are available")


def _descriptors() -> Diagnosis:
    most, alone = host.most_descriptors(), host.descriptors(host.cores())
    if most < alone:
        return Diagnosis("open files", "bad", f"{most} allowed, {alone} needed", f"ulimit -n {max(1024, alone)}")
    members = 1 + (most - alone) // (host.descriptors(0, 2) - host.descriptors(0, 1))
    text = f"{most} allowed: enough for a cluster of {members:,} nodes"
    if members < _MANY:
        wanted = host.descriptors(host.cores(), _MANY)
        return Diagnosis("open files", "warn", text, f"for more: ulimit -n {wanted}, which is enough for {_MANY}")
    return Diagnosis("open files", "ok", text)


def _processes() -> Diagnosis:
    soft, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    wanted = 16 * host.cores()
    if 0 <= soft < wanted:
        return Diagnosis("processes", "warn", f"{soft} allowed for this user", f"ulimit -u {wanted} or more")
    return Diagnosis("processes", "ok", "unlimited" if soft < 0 else f"{soft} allowed for this user")


def _kernel_cache() -> Diagnosis:
    import numba

    from hogpour.layers.kernels import linear

    config: Any = numba.config
    kernel: Any = linear.add_bias
    folder = Path(kernel.stats.cache_path)
    if config.CACHE_DIR and not folder.is_relative_to(config.CACHE_DIR):
        return Diagnosis("kernel cache", "warn", f"{folder} is used, not {config.CACHE_DIR}",
                       "set NUMBA_CACHE_DIR, before numba is imported, to a folder that can be written")  # fmt: skip
    if not os.access(folder, os.W_OK):
        return Diagnosis("kernel cache", "warn", f"{folder} is not writable: every start compiles again",
                       "set NUMBA_CACHE_DIR to a folder of your own")  # fmt: skip
    return Diagnosis("kernel cache", "ok", f"{folder} is writable")


def _ports() -> Diagnosis:
    """A node alone opens no port; one that listens must get one, and be reached through loopback."""
    import asyncio

    async def listen() -> int:
        server = await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", 0)
        port: int = server.sockets[0].getsockname()[1]
        server.close()
        await server.wait_closed()  # no connection was taken: ends at once
        return port

    try:
        return Diagnosis("ports", "ok", f"a free port on loopback was found ({asyncio.run(listen())})")
    except OSError as error:
        return Diagnosis("ports", "warn", f"loopback gives no port: {error.strerror}",
                       "a node alone needs none; a cluster does: look at the firewall of this container")  # fmt: skip


def _disk() -> Diagnosis:
    stat = os.statvfs(".")
    free = stat.f_bavail * stat.f_frsize / 1e9
    verdict: Verdict = "ok" if free > 1 else "warn"
    advice = "" if free > 1 else "a model file of n parameters needs 4n bytes and again for each optimiser row, twice"
    return Diagnosis("disk", verdict, f"{free:.1f} GB free in this folder", advice)


def _places() -> Diagnosis:
    """Where a run writes: its model, what it rescues, and the token of a cluster."""
    places = {
        "this folder": ([Path.cwd()], "models: set run.model to a place that can be written"),
        "temporary files": (_temporary(), "models that their place does not take: set TMPDIR"),
        "this user's state": (host.state_places(), "the token of a cluster: set XDG_STATE_HOME, or give --token-file"),
    }
    closed = {name: what for name, (folders, what) in places.items() if not _takes_files(folders)}
    if closed:
        text = f"{', '.join(closed)}: cannot be written"
        return Diagnosis("places", "warn", text, "; ".join(closed.values()))
    return Diagnosis("places", "ok", f"{', '.join(places)} can be written")


def _temporary() -> list[Path]:
    import tempfile

    try:
        return [Path(tempfile.gettempdir())]
    except FileNotFoundError:
        return []


def _takes_files(folders: list[Path]) -> bool:
    """Whether files can be made in one of these folders, which may have to be made first."""
    for folder in folders:
        there = next(place for place in (folder, *folder.parents) if place.exists())
        if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
            return True
    return False


def _container() -> Diagnosis:
    """What a control group allows; the machine's own numbers do not show it."""
    limits = host.container_limits()
    if not limits:
        return Diagnosis("container", "ok", "no limits are set")
    units = {"memory": (1e9, ".1f", "GB of memory"), "processes": (1, ".0f", "processes"), "cores": (1, ".2g", "cores")}
    text = ", ".join(f"{value / units[name][0]:{units[name][1]}} {units[name][2]}" for name, value in limits.items())
    wanted = 16 * host.cores()  # with the threads of libraries
    if limits.get("processes", wanted) < wanted:
        return Diagnosis("container", "warn", text, f"allow {wanted} processes: threads count, and replicas have some")
    return Diagnosis("container", "ok", text)


def _output() -> Diagnosis:
    encoding = sys.stdout.encoding or "unknown"
    if spelled("━é", "") == "":
        return Diagnosis("output", "warn", f"standard output is {encoding}: what it lacks is shown as escapes",
                         "set PYTHONIOENCODING=utf-8, or a locale of UTF-8")  # fmt: skip
    return Diagnosis("output", "ok", f"standard output is {encoding}")


_CHECKS: tuple[Callable[[], Diagnosis], ...] = (
    _cores,
    _container,
    _load,
    _blas,
    _threading_layer,
    _shared_memory,
    _descriptors,
    _processes,
    _ports,
    _kernel_cache,
    _disk,
    _places,
    _output,
)
