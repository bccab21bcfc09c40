"""``hogpour sweep``: which seeds break a promise."""

from __future__ import annotations

import argparse
import re
import time

from hogpour.cli.options import add_json
from hogpour.core.errors import ConfigError

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what ``sweep`` takes."""
    parser.description = (
        "Simulate small clusters to which bad things happen, one for each seed, and check at every step "
        "what must hold: no push applied twice or lost, one owner of each shard, no block held twice, an end."
    )
    parser.epilog = (
        "example: python -m hogpour sweep --seeds 0-199\n"
        "example: python -m hogpour sweep --seeds 17 --without window    (a safeguard switched off)"
    )
    add = parser.add_argument
    add("--seeds", default="0-199", metavar="A-B", help="one seed or a range, both ends included; 0-199")
    add("--without", default="", metavar="NAME", help='switch a safeguard off; "list" names them')
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Run seeds and print those that break a promise; return the exit code: 0 where none does."""
    from hogpour.cli.tables import print_json
    from hogpour.core.registry import nearest
    from hogpour.sim.checks.ablations import ABLATIONS
    from hogpour.sim.checks.sweep import sweep

    seeds, without = options.seeds, options.without
    if without == "list":
        for name, ablation in ABLATIONS.items():
            print(f"{name:14} {ablation.why}; seed {ablation.seed}")  # noqa: T201
        return 0
    if without and without not in ABLATIONS:
        raise ConfigError(f"--without {without}: no such safeguard{nearest(without, ABLATIONS)}")
    found = re.fullmatch(r"(\d{1,15})(?:-(\d{1,15}))?", seeds)
    first = int(found[1]) if found else 1
    last = int(found[2] or found[1]) if found else 0
    if first > last:
        raise ConfigError(f"--seeds {seeds}: expected a number, or a range such as 0-199")
    began, failed = time.perf_counter(), 0
    outcomes: dict[str, int] = {}
    for finding in sweep(range(first, last + 1), without):
        report = finding.report
        outcome = report.outcome if report is not None else "no end"
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
        failed += bool(finding.violations)
        if options.json:
            print_json(event="seed", seed=finding.seed, outcome=outcome, violations=finding.violations,
                       trace=report.trace if report is not None else "")  # fmt: skip
        elif finding.violations:
            print("\n    ".join([f"seed {finding.seed}: {finding.replay(without)}", *finding.violations]), flush=True)  # noqa: T201
    n, seconds = last + 1 - first, time.perf_counter() - began
    if options.json:
        print_json(event="finished", seeds=n, failed=failed, outcomes=outcomes, seconds=round(seconds, 3))
    else:
        told = ", ".join(f"{count:,} {name}" for name, count in sorted(outcomes.items()))
        print(f"{n:,} seeds, {failed:,} broke a promise; runs: {told}; {seconds:.1f} s")  # noqa: T201
    return 1 if failed else 0
