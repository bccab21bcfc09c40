"""Real clusters of two nodes on loopback, of which a part is stopped for 2 to 30 s, and goes on, again and again.

    python tests/support/pauses.py                                   # every scheme and part, 20 pauses each: hours
    python tests/support/pauses.py ssgd ssp --parts node --pauses 5  # so many of these
    python tests/support/pauses.py easgd --parts first --pauses 1 --from 7    # one pause again, alone

A part is a replica, the joined node, the first node, or the terminal of one of them (Ctrl+S, or nobody reads it). Within
five seconds of the end of a pause everybody computes again, nobody has ended, and meanwhile nobody has stood still for
longer than ``STATED_S``, nor without a word on who is waited for. A layer that sleeps leaves the cores to other clusters:
what is measured is how long they wait.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from random import Random

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

import psutil
from support.schemes import SCHEMES
from support.terminals import TOKEN, Lost, Node

from hogpour.cli.status_client import StatusClient
from hogpour.core.errors import HogpourError

JOB = """
[data]
train = "digits"
[model]
layers = [{{layer = "linear", units = 16}}, {{layer = "support.user_parts:Slow"}}, {{layer = "linear", units = 10}}]
[algorithm]
name = "{scheme}"
{settings}
[run]
epochs = 1_000_000
batch = 16
replicas = {replicas}
model = ""
[cluster]
wait_for = {nodes}
give_up_s = {give_up_s}
"""
SETTINGS = {"diloco": "steps = 10", "async_diloco": "steps = 10", "sandblaster": "gradient = 0.0\ndecrease = 0.0"}
ALONE = {"hogwild": 2, "sgd": 1, "sync_sgd": 1}
"""Schemes of one machine, and with how many replicas."""

PARTS = ("replica", "node", "first", "terminal")
SHORTEST_S, LONGEST_S, BACK_S = 2.0, 30.0, 5.0
STATED_S = {"replica": 10.0, "node": 3.0, "first": LONGEST_S, "terminal": 0.0}
"""After which others go on: ``stall_s``, ``lease_s``; without the first node nobody does, and a terminal holds nobody."""

SILENT_S = {"replica": 1.0, "node": 1.0, "first": 3.0, "terminal": 1.0}
"""After which it is said who is waited for: by the first node, or of it after ``lease_s``; alone, after ``STATED_S``."""

LOOK_S, SLACK_S = 0.25, 3.0
"""Between two looks; and what a beat of half a second, a look, and a machine that is busy add to what is seen."""

PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class Look:
    """What everybody has done until a moment, and whether it is said who is waited for."""

    at: float
    done: dict[int, int]
    total: int
    waits: bool


class Cluster:
    """One run, which is looked at all the time.

    Args:
        give_up_s: patience of its joined node.
    """

    def __init__(self, scheme: str, give_up_s: float) -> None:
        self._folder, self.everybody, self.alone = tempfile.TemporaryDirectory(), ALONE.get(scheme, 2), scheme in ALONE
        job = JOB.format(scheme=scheme, settings=SETTINGS.get(scheme, ""), replicas=ALONE.get(scheme, 1),
                         nodes=2 - self.alone, give_up_s=give_up_s)  # fmt: skip
        (Path(self._folder.name) / "job.toml").write_text(job)
        listen = [] if self.alone else ["--listen", "127.0.0.1:0"]
        self.nodes, self.looks = [Node(self._folder.name, "job.toml", *listen)], list[Look]()
        self._looking = asyncio.ensure_future(self._look())

    async def _look(self) -> None:
        client, first = None, self.nodes[0]
        while client is None and not self.alone:
            await asyncio.sleep(LOOK_S)
            if (found := re.search(r"listening on (127[\d.:]+)", first.said)) is not None:
                client = StatusClient(found[1], TOKEN.encode())
                self.nodes.append(Node(self._folder.name, "--join", found[1], "--allow-modules", "support", "--json"))
        while True:
            with suppress(HogpourError, psutil.NoSuchProcess):
                if client is None:
                    done = {one.pid: one.num_ctx_switches().voluntary for one in first.replicas}  # a step waits
                    self.looks.append(Look(time.monotonic(), done, sum(done.values()), False))
                else:
                    state = (await client.look()).cluster
                    done = {one.node: one.examples for one in state.members if one.phase == "ready" and one.replicas}
                    self.looks.append(Look(time.monotonic(), done, state.examples, bool(state.waits_for)))
            await asyncio.sleep(LOOK_S)

    async def back(self, since: float) -> float:
        """Return after how many seconds everybody has moved twice, since once may be news of before, and says something."""
        said = [len(node.said) for node in self.nodes]
        while time.monotonic() < since + PATIENCE_S:
            looks = [look for look in self.looks if look.at > since]
            moves = dict.fromkeys(looks[-1].done if looks else (), 0)
            for before, after in pairwise(looks):
                for one in moves:
                    moves[one] += before.done.get(one, 1 << 62) < after.done.get(one, 0)
            silent = any(len(node.said) == n for node, n in zip(self.nodes, said))
            if len(moves) == self.everybody and min(moves.values()) >= 2 and not silent:
                return time.monotonic() - since
            for node in self.nodes:
                node.check()
            await asyncio.sleep(LOOK_S / 2)
        raise Lost(f"not back after {PATIENCE_S:g} s: {[node.said[-300:] for node in self.nodes]}")

    def stood(self, began: float, ended: float) -> tuple[float, float]:
        """Return the longest time for which all stood still, and stood still without a word."""
        moved = spoke = began
        longest, silent, total = 0.0, 0.0, -1
        for look in [look for look in self.looks if began <= look.at <= ended]:
            longest, silent = max(longest, look.at - moved), max(silent, look.at - max(moved, spoke))
            if look.total > total:
                total, moved = look.total, look.at
            if look.waits:
                spoke = look.at
        return longest, silent

    def choose(self, part: str, rng: Random) -> tuple[str, Callable[[], object], Callable[[], object]]:
        """Return what is stopped, what stops it, and what lets it go on."""
        k = {"first": 0, "node": 1}.get(part, rng.randrange(len(self.nodes)))
        node, name = self.nodes[k], ("first node", "joined node")[k]
        if part == "terminal" and rng.random() < 0.5:
            return f"{name} is not read", node.do_not_read, node.read
        if part == "terminal":
            return f"{name} has Ctrl+S", lambda: os.write(node.terminal, b"\x13"), lambda: os.write(node.terminal, b"\x11")
        replicas, process = node.replicas, psutil.Process(node.process.pid)
        whole = rng.random() < 0.5
        stopped = [rng.choice(replicas)] if part == "replica" else [process, *replicas] if whole else [process]
        what = f"replica of the {name}" if part == "replica" else f"{name} {'and its replicas' if whole else 'alone'}"
        return what, lambda: signal_all(stopped, signal.SIGSTOP), lambda: signal_all(stopped, signal.SIGCONT)

    async def pause(self, part: str, rng: Random) -> tuple[str, float, str]:
        """Pause a part once; return what happened, when all were back, and what was wrong."""
        seconds = SHORTEST_S * (LONGEST_S / SHORTEST_S) ** rng.random()
        what, stop, go_on = self.choose(part, rng)
        await asyncio.sleep(2 * rng.random())
        said, began = len(self.nodes[-1].said), time.monotonic()
        stop()
        try:
            await asyncio.sleep(seconds)
        finally:
            go_on()
        ended = time.monotonic()
        told = ("has made no step for " if self.alone else "the first node, ") in self.nodes[-1].said[said:]
        back_s = await self.back(ended)
        longest, silent = self.stood(began, ended + back_s)
        if part == "first" or self.alone:
            silent = 0.0 if told else longest
        limit, found = STATED_S[part] if self.everybody > 1 else LONGEST_S, list[str]()
        if back_s > BACK_S:
            found.append(f"back after {back_s:.1f} s")
        if longest > limit + SLACK_S:
            found.append(f"all stood still for {longest:.1f} s")
        if silent > (STATED_S if self.alone else SILENT_S)[part] + SLACK_S:
            found.append(f"nobody said for {silent:.1f} s who is waited for")
        if any(" died" in node.said or " was killed by " in node.said for node in self.nodes):
            found.append("a replica died")
        return f"{what:34} {seconds:5.1f} s: stood {longest:4.1f} s, back after {back_s:4.1f} s", back_s, "; ".join(found)

    def close(self) -> None:
        """Leave nothing of it."""
        self._looking.cancel()
        for node in self.nodes:
            node.close()
        self._folder.cleanup()


def signal_all(processes: list[psutil.Process], number: int) -> None:
    """Send a signal to those that are there; whoever has ended is found out by ``Node.check``."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)


async def case(scheme: str, part: str, numbers: range, places: asyncio.Semaphore, starting: asyncio.Lock) -> int:
    """Make all pauses of one part, print each and their sum; return how many failed. Clusters start one at a time."""
    times, failed, cluster = list[float](), 0, None
    async with places:
        for number in numbers:
            rng, text, wrong = Random(f"{scheme} {part} {number}"), "lost", ""
            try:
                if cluster is None:
                    async with starting:
                        cluster = Cluster(scheme, LONGEST_S + 10 if part == "first" else 7.0)
                        await cluster.back(time.monotonic())
                text, back_s, wrong = await cluster.pause(part, rng)
                times.append(back_s)
            except Lost as lost:
                wrong = str(lost)
            finally:  # also where somebody has pressed Ctrl+C
                if cluster is not None and (text == "lost" or number == numbers[-1]):
                    cluster.close()
                    cluster = None
            failed += bool(wrong)
            wrong = wrong and f"  FAILED, load {os.getloadavg()[0]:.1f}: {wrong}"
            print(f"{scheme:16} {part:8} {number:3}  {text}{wrong}", flush=True)
    back = f"{sum(one <= BACK_S for one in times)} back within {BACK_S:g} s, longest {max(times, default=0.0):.1f} s"
    print(f"{scheme:16} {part:8} {len(numbers)} pauses, {back}, {failed} failed", flush=True)
    return failed


async def main() -> None:
    """Print each pause, and a sum for each scheme and part; end with 1 where one has failed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("schemes", nargs="*", default=[*SCHEMES, *ALONE])
    parser.add_argument("--parts", nargs="*", default=PARTS, choices=PARTS)
    parser.add_argument("--pauses", type=int, default=20)
    parser.add_argument("--from", type=int, default=0, dest="start")
    parser.add_argument("--at-once", type=int, default=6)
    options = parser.parse_args()
    numbers, places, starting = range(options.start, options.start + options.pauses), asyncio.Semaphore(options.at_once), asyncio.Lock()
    cases = [case(scheme, part, numbers, places, starting) for part in options.parts for scheme in options.schemes
             if scheme not in ALONE or part != "node"]  # fmt: skip
    sys.exit(bool(sum(await asyncio.gather(*cases))))


if __name__ == "__main__":
    asyncio.run(main())
