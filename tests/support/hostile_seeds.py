"""Small clusters by seed, to each of which ten hostile members come: what they say, in good form or not, is their own
matter.

    python tests/support/hostile_seeds.py 0-999            # ten thousand members; print the seeds in which it was not
    python tests/support/hostile_seeds.py 0-99 --memory    # look at memory as well, which takes longer

The same cluster without them is what it is held against: everybody finishes with every example, within so many seconds,
nobody else is spoken of, and each thing that one of them does is told in one line.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
import tracemalloc
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from random import Random
from typing import Any

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

import numpy as np
from support.hostile import Hostile, invade
from support.mutated_frames import Mutator, corpus
from support.strangers import Stranger

import hogpour as hp
from hogpour.core.errors import HogpourError
from hogpour.core.job import ClusterConfig
from hogpour.net.wire.join import Leave
from hogpour.sim.report import SimulationReport
from hogpour.sim.scenario import Scenario
from hogpour.sim.simulation import Simulation
from hogpour.sim.world.node_life import _TOKEN
from hogpour.sim.world.workload import Workload, workload_of

__all__ = ["SCHEMES", "run_seed"]

SCHEMES: dict[str, Any] = {
    "downpour": hp.Downpour(n_push=4, n_fetch=4),
    "ssgd": hp.Ssgd(),
    "ssp": hp.Ssp(),
    "softsync": hp.Softsync(),
    "dc_asgd": hp.DcAsgd(),
    "easgd": hp.Easgd(),
    "sandblaster": hp.Sandblaster(),
}

NODES, EXAMPLES, EPOCHS = 3, 512, 2
MEMBERS = 10
"""Hostile ones of a cluster."""

LATER_S, LAST_S = 15.0, 30.0
"""So much later than without them others may end, whom gates and leases hold up that wait for whoever stands still; and
the first node, which also gives members ten seconds to leave, and a connection as long to go on inside a frame."""

MEMORY = MEMBERS << 19
"""Bytes that the cluster may take more at its peak, the hostile members themselves included: of each half a megabyte."""

_NAMES = re.compile(r"node (\d+)|10\.0\.0\.(\d+)")
_FIRST = 200
"""Number of the first hostile member's machine."""


def run_seed(seed: int, memory: bool = False) -> tuple[list[str], Counter[str]]:
    """Return what was wrong in the cluster of a seed, and what the hostile members said and sent."""
    name, serving = [*SCHEMES][seed % len(SCHEMES)], seed // len(SCHEMES) % NODES
    simulation = cluster(name, serving, seed)
    calm, calm_peak, calm_done = calm_run(name, serving, memory)
    said, hostiles = Counter[str](), []
    for k in range(seed * MEMBERS, (seed + 1) * MEMBERS):
        rng = Random(k)
        at_s, for_s = rng.uniform(0.1, 0.8 * calm.seconds), rng.choice([0.3, 1.0, 3.0, 60.0])
        work = partial(harm, rng=rng, said=said)
        hostiles.append(invade(simulation, at_s, for_s, work, k, _FIRST + (NODES + 1) * (k % MEMBERS)))
    report, peak = measured(simulation, memory)
    found = [f"node {node.node} {node.outcome} after {node.lives} lives: {node.error}" for node in report.nodes
             if (node.outcome, node.error, node.lives) != ("finished", "", 1)]  # fmt: skip
    done = simulation._observer._coordinator().ledger.done
    if done != calm_done:
        found.append(f"{done} blocks were done instead of {calm_done}")
    if report.loss is None:
        found.append("the model is not finite")
    if report.seconds > calm.seconds + LAST_S:
        found.append(f"took {report.seconds:.1f} s instead of {calm.seconds:.1f}")
    ends = [entry.seconds for entry in report.happenings if entry.node and entry.text.startswith("ends: ")]
    if max(ends, default=0.0) > calm.seconds + LATER_S:
        found.append(f"others end after {max(ends):.1f} s instead of {calm.seconds:.1f}")
    if peak > calm_peak + MEMORY:
        found.append(f"took {peak - calm_peak:,} bytes more")
    for hostile in hostiles:
        said.update(hostile.said)
    return found + told(calm, report), said


def told(calm: SimulationReport, report: SimulationReport) -> list[str]:
    """Return the lines that should not be there: said twice, of another, or of nobody."""
    usual = {_numberless(happening.text) for happening in calm.happenings}
    wrong, seen = [], Counter[str]()
    for happening in report.happenings:
        text = happening.text
        if _numberless(text) in usual or re.fullmatch(r"… and \d+ more", text):
            continue
        seen[f"{happening.node}: {text}"] += 1
        of = [int(node or 0) > NODES or int(host or 0) >= _FIRST for node, host in _NAMES.findall(text)]
        if "a handler failed" in text or not any(of) or not (of[0] or "its shards go to others" in text):
            wrong.append(f"said of others: {text}")
    return wrong + [f"said {count} times: {text}" for text, count in seen.items() if count > 1]


def _numberless(text: str) -> str:
    return re.sub(r"[\d.]+", "#", text)


def cluster(name: str, serving: int, seed: int) -> Simulation:
    """Return the cluster before it begins."""
    scenario = Scenario(
        nodes=NODES, serving=serving, join_spread_s=0.0, compute=hp.Compute(distribution="constant", mean_s=0.4),
        seed=seed, shuffle=bool(seed % 2), until_s=200.0, look_every_s=1e9,
    )  # fmt: skip
    workload = workload_of_scheme(name)
    return Simulation(workload.job, scenario, workload=workload)


@cache
def workload_of_scheme(name: str) -> Workload:
    rng = np.random.default_rng(0)
    x = rng.random((EXAMPLES, 8)).astype(np.float32)
    data = hp.arrays(x, x.argmax(axis=1), validation=1 / 8)
    job = hp.Job(data=data, model=[hp.Linear(8)], epochs=EPOCHS, batch=32, algorithm=SCHEMES[name],
                 cluster=ClusterConfig(shard_bytes=128, lease_s=2.0, give_up_s=5.0, stall_s=2.0))  # fmt: skip
    return replace(workload_of(job), job=replace(job, base="/", save="model.safetensors"))


@cache
def calm_run(name: str, serving: int, memory: bool) -> tuple[SimulationReport, int, int]:
    """Return what comes of a cluster that is left alone: its report, peak of memory, and blocks that were done."""
    if memory:
        cluster(name, serving, 0).run()  # what is made once for all runs
    simulation = cluster(name, serving, 0)
    return *measured(simulation, memory), simulation._observer._coordinator().ledger.done


def measured(simulation: Simulation, memory: bool) -> tuple[SimulationReport, int]:
    """Run a cluster; return its report and, where it is measured, the peak of what Python holds for it in bytes."""
    if memory:
        tracemalloc.start()
    try:
        report = simulation.run()
        return report, tracemalloc.get_traced_memory()[1] if memory else 0
    finally:
        tracemalloc.stop()


async def harm(hostile: Hostile, rng: Random, said: Counter[str]) -> None:
    """Take part, and say messages in good form, or send frames that are changed, until it is enough."""
    pause_s = rng.choice([0.005, 0.02, 0.1])
    left = [rng.randrange(20, 80)]

    def enough() -> bool:
        left[0] -= 1
        return left[0] < 0

    with suppress(HogpourError):  # it has come too late
        await hostile.join()
    if hostile.joined is None:
        return
    beating = asyncio.ensure_future(hostile.beat())
    if rng.random() < 0.5:
        await hostile.rage(enough, pause_s)
    else:
        await mangle(hostile, rng, left[0], pause_s, said)
    if rng.random() < 0.3:
        await hostile.say(0, Leave(hostile.joined.node))
    if rng.random() < 0.5:
        beating.cancel()


async def mangle(hostile: Hostile, rng: Random, n: int, pause_s: float, said: Counter[str]) -> None:
    """Send changed frames by connections that have proven the token, and mostly show who speaks."""
    assert hostile.joined is not None
    frames = Mutator(rng, corpus(rng.randrange(1 << 30), 40, [hostile.joined.node, *hostile.others], moving=False), n)
    while frames.left:
        await asyncio.sleep(pause_s)
        port = rng.randrange(len(hostile.addresses))
        with suppress(ConnectionError):
            stranger = await Stranger.prove(hostile.addresses[port], token=_TOKEN)
            if (identity := hostile.identity(port)) is not None and rng.random() < 0.8:
                stranger.writer.write(stranger.end.connection.send(identity, 1))
            while not stranger.writer.is_closing() and (data := frames()) is not None:
                stranger.writer.write(data)
                await asyncio.sleep(pause_s * rng.random())
            await stranger.close()
    said.update({f"frames {change}": count for change, count in frames.changes.items()})


def main() -> None:
    """Print what was found, and what was said."""
    first, last = map(int, sys.argv[1].split("-"))
    said, failed, began = Counter[str](), 0, time.perf_counter()
    for seed in range(first, last + 1):
        try:
            found, words = run_seed(seed, "--memory" in sys.argv)
        except HogpourError as error:
            found, words = [f"{type(error).__name__}: {error}"], Counter[str]()
        said += words
        failed += bool(found)
        for text in found:
            print(f"seed {seed}: {text}", flush=True)
        if seed % 50 == 49 or seed == last:
            sent = sum(count for word, count in said.items() if word.startswith("frames "))
            print(f"{(seed + 1 - first) * MEMBERS:,} members, {said.total() - sent:,} messages, {sent:,} frames; {failed} failed; "
                  f"{time.perf_counter() - began:.0f} s", flush=True)  # fmt: skip
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
