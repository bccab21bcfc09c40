"""What did the last commit do to our rates?

This build and that of a folder with the commit before, measured in turns: some layers, a training of two replicas, a
fetch and a push over loopback. Each build has processes and a kernel cache of its own, and is measured by its own
``bench``. It is for ``.ci/run``: it takes a minute, and fails on no ratio.
"""

from __future__ import annotations

import argparse
from contextlib import ExitStack, closing
from pathlib import Path
from statistics import median

from bench import harness
from bench._peers.contender import Contender, ContenderFailed

__all__ = ["add_arguments", "measure"]

PARTS = {
    ("bench._ours.build",): (),
    ("bench._ours.parameter_server", "measure", "uvloop", "sgd", "65536", "1024"): ("fetch", "push"),
}
"""What is run in either folder → what it is asked; nothing: all that it can do."""
SAMPLE_S = 0.1
START_S = 120.0
"""With compilation, on a machine that is busy with something else."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what only this bench asks."""
    parser.add_argument("--before", type=Path, required=True, metavar="FOLDER", help="a clone at the commit before")


def measure(options: argparse.Namespace) -> harness.Report:
    """Measure what both builds can do."""
    table = harness.Table("times as fast as before", ("what", "us", "us_before", "times", "p10", "p90"))
    notes = ["times: of each round, this build's seconds in those of the one before"]
    for (module, *arguments), asked in PARTS.items():
        try:
            with ExitStack() as stack:
                now, before = (
                    stack.enter_context(closing(Contender(module, *arguments, start_s=START_S, folder=folder)))
                    for folder in (harness.ROOT, options.before.absolute())
                )
                for what in asked or now.ready["can"]:
                    table.add(what=what, **_compared(now, before, what, options.rounds or 4))
        except ContenderFailed as error:
            notes.append(f"not measured: {error}")
    return harness.Report([table], notes)


def _compared(now: Contender, before: Contender, what: str, rounds: int) -> dict[str, float]:
    """Time an operation of both in turns; a round's sample is the median of its calls."""
    calls = max(1, int(SAMPLE_S / max(one.seconds(what, 2)[-1] for one in (now, before))))
    seconds: dict[Contender, list[float]] = {now: [], before: []}
    for turn in range(rounds):
        for one in (now, before)[:: 1 if turn % 2 == 0 else -1]:
            seconds[one].append(median(one.seconds(what, calls)))
    times, p10, p90 = harness.paired(seconds[before], seconds[now])
    us, us_before = (1e6 * median(seconds[one]) for one in (now, before))
    return {"us": us, "us_before": us_before, "times": times, "p10": p10, "p90": p90}
