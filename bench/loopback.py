"""How fast do fetch and push move, from 1 KiB to 256 MiB, beside plain sockets, PyTorch's RPC and a Ray actor?

Each contender is a server process and a client process on this machine. They are all alive while a size is measured
and are asked in turns; whoever is not asked does nothing. Only Ray is never quite idle: it has its turns when the
others of a size are done. A sample is many calls, one at a time.

Small sizes are judged by the time of a call, percentiles over all calls; beside them is a bare echo of as many bytes in
either direction. Large ones are judged by the rate of their payload, median over rounds; beside them are plain blocking
sockets, with NumPy applying the gradient (``push``) and without (``push_bare``). Our pushes are always applied.

At the end of a size the parameters of every server must be what all pushes make of them. The memory of a server is the
peak of its process, less what it had before it made its parameters.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from importlib import metadata
from importlib.util import find_spec
from statistics import median
from typing import Any

import numpy as np

from bench import harness
from bench._peers.contender import Contender, ContenderFailed, peak_bytes
from bench.record import Figures

__all__ = ["SIZES", "add_arguments", "measure"]

SIZES = (1 << 10, 1 << 14, 1 << 18, 4 << 20, 64 << 20, 256 << 20)
SMALL = 1 << 18
"""Up to here, percentiles of a call; from here on, rates."""
SHARD_BYTES = 4 << 20
MOST_CALLS = 5000
"""Of one sample."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A contender, at any size."""

    name: str
    module: str
    arguments: tuple[str, ...] = ()
    operations: tuple[str, ...] = ("fetch", "push")
    package: str = ""
    """Which it needs; it is left out with a note where that is not installed or does not work."""
    quiet: bool = True
    """Whether it does nothing while it is not asked."""
    holds: bool = True
    """Whether its server has parameters."""

    def start(self, n_bytes: int) -> Contender:
        return Contender(self.module, "measure", *self.arguments, str(n_bytes))


@dataclass(slots=True)
class Measured:
    """What one contender did at one size."""

    seconds: dict[str, list[list[float]]]
    """operation → for each round, those of each call."""
    grew: int | None
    """Bytes that its server's process took, at its peak."""

    def rate(self, operation: str, n_bytes: int) -> harness.Spread | None:
        """GB/s over rounds."""
        moved = n_bytes * (2 if operation == "both" else 1)
        rounds = self.seconds.get(operation)
        return harness.spread([1e-9 * moved * len(calls) / sum(calls) for calls in rounds]) if rounds else None

    def microseconds(self, operation: str) -> list[float] | None:
        """p50, p90, p99 over all calls."""
        rounds = self.seconds.get(operation)
        return [float(v) for v in np.percentile(1e6 * np.concatenate(rounds), (50, 90, 99))] if rounds else None


def kinds(shard_bytes: int) -> tuple[Kind, ...]:
    """Return every contender."""
    ours, echo, torch = "bench._ours.parameter_server", "bench._peers.echo", "bench._peers.torch_rpc"
    everything = ("fetch", "push", "both")
    return (
        Kind("ours, uvloop", ours, ("uvloop", "sgd", str(shard_bytes)), everything),
        Kind("ours, asyncio", ours, ("asyncio", "sgd", str(shard_bytes)), everything),
        Kind("sockets", "bench._peers.sockets", operations=("fetch", "push", "push_bare")),
        Kind("echo, uvloop", echo, ("uvloop",), holds=False),
        Kind("echo, asyncio", echo, ("asyncio",), holds=False),
        Kind("torch RPC", torch, ("auto",), package="torch"),
        Kind("torch RPC, TCP", torch, ("tcp",), package="torch"),
        Kind("Ray actor", "bench._peers.ray_actor", operations=("fetch", "push", "fetch_view"), package="ray",
             quiet=False),
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what only this bench asks."""
    parser.add_argument("--only", default="", help="contenders whose name contains one of these, separated by |")
    parser.add_argument("--sizes", type=_sizes, default=SIZES, metavar="BYTES,…", help="multiples of 64")
    parser.add_argument("--shard-bytes", type=int, default=SHARD_BYTES, help="largest shard of ours")
    parser.add_argument("--sample-s", type=float, default=0.3, help="seconds that a sample takes at least")


def _sizes(text: str) -> tuple[int, ...]:
    sizes = tuple(int(word) if word.isdigit() else 0 for word in text.split(","))
    if not all(size > 0 and size % 64 == 0 for size in sizes):
        raise argparse.ArgumentTypeError(f"got {text!r}, expected multiples of 64 such as 1024,65536")
    return sizes


def measure(options: argparse.Namespace) -> harness.Report:
    """Measure every size."""
    wanted = [k for k in kinds(options.shard_bytes) if any(word in k.name for word in options.only.split("|"))]
    notes = [f"{k.name}: {k.package} is not installed" for k in wanted if k.package and find_spec(k.package) is None]
    wanted = [k for k in wanted if not k.package or find_spec(k.package) is not None]
    found = {n_bytes: _measure(wanted, n_bytes, options, notes) for n_bytes in options.sizes}
    calls = harness.Table("µs of a call, over all calls",
                          ("bytes", "what", "contender", "p50", "p90", "p99", "times_echo", "goal"))  # fmt: skip
    rates = harness.Table("GB/s of payload, medians over rounds",
                          ("bytes", "what", "contender", "GB/s", "p10", "p90", "of_sockets", "goal"))  # fmt: skip
    memory = harness.Table("MiB that the server's process grew, at its peak",
                           ("contender", "optimiser", "state", "grew", "beyond", "goal"))  # fmt: skip
    for n_bytes, contenders in found.items():
        for row in _calls(n_bytes, contenders) if n_bytes <= SMALL else ():
            calls.add(**row)
        for row in _rates(n_bytes, contenders) if n_bytes >= SMALL else ():
            rates.add(**row)
    largest = max(options.sizes)
    for kind in wanted:
        if kind.holds and kind.name in found[largest]:
            memory.add(**_memory(kind.name, "SGD", largest, found[largest][kind.name].grew))
        if kind.name == "ours, uvloop":
            memory.add(**_memory(kind.name, "Adagrad", 2 * largest, _grown_with_state(kind, largest)))
    notes += [
        f"our vector is cut into shards of at most {_size(options.shard_bytes)}, all in flight together",
        "fetch_view: Ray's read-only view of shared memory; a fetch ends in the caller's own array",
        "both: fetch and push everything at once; twice the payload",
        "of sockets: their fetch; for pushes their push that is not applied, though ours, torch's and Ray's are",
        "torch RPC and Ray move large arrays through shared memory on one machine; torch RPC, TCP is told not to",
        "in use: " + ", ".join(f"{name} {metadata.version(name)}" for name in ("uvloop", "ray") if find_spec(name)),
    ]
    return harness.Report([calls, rates, memory], notes, _figures(found))


def _figures(found: dict[int, dict[str, Measured]]) -> Figures:
    """Return our rate in those of echo and sockets, a call of 1 KiB and a push of 64 MiB."""
    beside = [("echo, uvloop", "fetch", "fetch", 1 << 10), ("echo, uvloop", "push", "push", 1 << 10),
              ("sockets", "fetch", "fetch", 64 << 20), ("sockets", "push", "push_bare", 64 << 20)]  # fmt: skip
    figures: Figures = {}
    for name, what, its, n_bytes in beside:
        there = found.get(n_bytes, {})
        if name in there and "ours, uvloop" in there:
            pair = (there[name].seconds[its], there["ours, uvloop"].seconds[what])
            figures[f"{name}: {what} {_size(n_bytes)}"] = harness.paired(*([median(c) for c in one] for one in pair))
    return figures


def _measure(
    wanted: Sequence[Kind], n_bytes: int, options: argparse.Namespace, notes: list[str]
) -> dict[str, Measured]:
    """Measure one size: first those that are quiet, in turns, then the others, each alone."""
    found: dict[str, Measured] = {}
    for together in ([k for k in wanted if k.quiet], *([k] for k in wanted if not k.quiet)):
        with ExitStack() as stack:
            alive: dict[Kind, Contender] = {}
            calls: dict[tuple[Kind, str], int] = {}
            for kind in together:
                with _a_peer_may_fail(kind, alive, notes):
                    alive[kind] = stack.enter_context(closing(kind.start(n_bytes)))
                    for operation in kind.operations:  # the first call connects and touches memory
                        once = min(alive[kind].seconds(operation, 3))
                        calls[kind, operation] = min(MOST_CALLS, max(1, -int(-options.sample_s // once)))
            seconds = {kind: {operation: [] for operation in kind.operations} for kind in alive}
            for turn in range(options.rounds or 5):
                for kind in list(alive)[:: 1 if turn % 2 == 0 else -1]:
                    with _a_peer_may_fail(kind, alive, notes):
                        for operation, rounds in seconds[kind].items():
                            rounds.append(alive[kind].seconds(operation, calls[kind, operation]))
            for kind in list(alive):
                with _a_peer_may_fail(kind, alive, notes):
                    _check(kind, alive[kind], seconds[kind])
                    found[kind.name] = Measured(seconds[kind], _grew(alive[kind]))
    return {kind.name: found[kind.name] for kind in wanted if kind.name in found}


@contextmanager
def _a_peer_may_fail(kind: Kind, alive: dict[Kind, Contender], notes: list[str]) -> Iterator[None]:
    """Go on without a package that does not work here, and say so."""
    try:
        yield
    except ContenderFailed as error:
        if not kind.package:
            raise
        alive.pop(kind, None)
        notes.append(f"{kind.name} is left out: {error}")


def _check(kind: Kind, contender: Contender, seconds: dict[str, list[list[float]]]) -> None:
    """Compare the parameters with the pushes that were answered."""
    if kind.holds:
        applied = [name for name in ("push", "both") if name in seconds]
        pushes = sum(3 + sum(len(calls) for calls in seconds[name]) for name in applied)
        value = contender.value()
        assert value == [pushes, pushes], f"{kind.name}: {value} pushes are in the parameters, expected {pushes}"


def _grew(contender: Contender) -> int | None:
    peak, before = peak_bytes(contender.ready["server"]), contender.ready["before"]
    return None if peak is None or before is None else peak - before


def _grown_with_state(kind: Kind, n_bytes: int) -> int | None:
    """Return what our server takes when its optimiser keeps as much again as the parameters are."""
    arguments = tuple("adagrad" if word == "sgd" else word for word in kind.arguments)
    with closing(replace(kind, arguments=arguments).start(n_bytes)) as contender:
        contender.seconds("both", 5)
        return _grew(contender)


def _calls(n_bytes: int, found: dict[str, Measured]) -> Iterator[dict[str, Any]]:
    for what in ("fetch", "push"):
        for name, one in found.items():
            taken = one.microseconds(what)
            if taken is None:
                continue
            loop = name.partition(", ")[2]
            echo = found.get(f"echo, {loop if loop in ('uvloop', 'asyncio') else 'uvloop'}")
            beside = echo.microseconds(what) if echo else None
            row = {"bytes": _size(n_bytes), "what": what, "contender": name}
            row |= dict(zip(("p50", "p90", "p99"), taken))
            if beside:
                row["times_echo"] = taken[0] / beside[0]
            if name == "ours, uvloop" and n_bytes == 1 << 10:
                row["goal"] = "at most 1.5 x echo"
            yield row


def _rates(n_bytes: int, found: dict[str, Measured]) -> Iterator[dict[str, Any]]:
    goals = {"fetch": "at least 0.7 x sockets", "push": "at least 0.5 x sockets"}
    for what in ("fetch", "push", "push_bare", "both", "fetch_view"):
        beside = "fetch" if what == "fetch" else "push_bare"
        sockets = found["sockets"].rate(beside, n_bytes) if "sockets" in found else None
        for name, one in found.items():
            rate = one.rate(what, n_bytes)
            if rate is None:
                continue
            row = {"bytes": _size(n_bytes), "what": what, "contender": name}
            row |= {"GB/s": rate.median, "p10": rate.p10, "p90": rate.p90}
            if sockets and what not in ("both", "fetch_view"):
                row["of_sockets"] = rate.median / sockets.median
            if name == "ours, uvloop" and n_bytes == 64 << 20 and what in goals:
                row["goal"] = goals[what]
            yield row


def _memory(name: str, optimiser: str, state: int, grew: int | None) -> dict[str, Any]:
    row: dict[str, Any] = {"contender": name, "optimiser": optimiser, "state": state / 2**20}
    if grew is not None:
        row |= {"grew": grew / 2**20, "beyond": (grew - state) / 2**20}
    if name.startswith("ours"):
        row["goal"] = f"beyond at most {state / 2**22 + 64:.0f}"
    return row


def _size(n_bytes: int) -> str:
    for unit, name in ((1 << 20, "MiB"), (1 << 10, "KiB")):
        if n_bytes % unit == 0:
            return f"{n_bytes // unit} {name}"
    return f"{n_bytes} B"
