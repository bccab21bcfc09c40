"""Do the schemes show what their papers claim, on real data in virtual time?

Each paper is a file of ``_papers``: an experiment that is scaled down, its numbers beside the paper's, and whether the
claim is reproduced, by a criterion that was written down before the reported seeds were run. Every gradient is really
computed; seconds are virtual. The same seeds give the same numbers on processors of one kind.
"""

from __future__ import annotations

import argparse
import importlib

from bench import harness
from bench._papers.runs import RULE

__all__ = ["PAPERS", "add_arguments", "measure"]

PAPERS = ("staleness_aware", "dc_asgd", "backup_workers", "ssp", "mnist_staleness", "downpour_order",
          "warm_start", "easgd", "eamsgd", "diloco")  # fmt: skip
"""Files of ``_papers``, in the order of the tables."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this bench's own options."""
    parser.add_argument("--only", choices=PAPERS, help="one paper's claims only; --save keeps the others'")
    parser.add_argument("--seeds", type=_count, default=5, help="runs of each row: seeds 0, 1, 2 ...")


def measure(options: argparse.Namespace) -> harness.Report:
    """Measure every paper, or the one that was named."""
    report = harness.Report([], part=options.only is not None)
    with harness.one_thread():
        for name in (options.only,) if options.only else PAPERS:
            table, notes = importlib.import_module(f"bench._papers.{name}").measure(range(options.seeds))
            report.tables.append(table)
            report.notes += notes
    report.notes.append(f"errors are medians over the seeds; a row is reproduced where its criterion holds {RULE}")
    return report


def _count(text: str) -> int:
    """Read a number of seeds: 1 to 99, the calibration seed excluded."""
    if not text.isdigit() or not 1 <= int(text) <= 99:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a number from 1 to 99")
    return int(text)
