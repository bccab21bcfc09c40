"""What does the README's section of numbers say, made from the results that are kept?

    python -m bench readme        prints it; tests hold the README to it
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from bench import harness

__all__ = ["measure", "section"]

RESULTS = Path(__file__).parent / "results"


def section() -> str:
    """Return the lines between the README's two marks."""
    hogwild, kernels, startup = (_read(name) for name in ("hogwild", "kernels", "startup"))
    where, packages = hogwild["machine"], hogwild["machine"]["versions"]
    lines = [
        f"{where['cpu']}, {where['cores']} cores; Python {where['python']}, numba {packages['numba']}, "
        f"PyTorch {packages['torch']}; commit {where['commit'][:12]}.",
        "",
        "`python -m bench hogwild`: MNIST, two processes with one thread each, against PyTorch's Hogwild "
        "(`torch.multiprocessing`, a model in shared memory), medians of three seeds.",
        "",
        "| network | batch | images/s | PyTorch | ratio | 2 replicas against 1 | accuracy − PyTorch's (points) | updates lost |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row, lost in zip(hogwild["tables"][0]["rows"], hogwild["tables"][2]["rows"], strict=True):
        lines.append(
            f"| {row['network']} | {row['batch']} | {row['ours']:,.0f} | {row['pytorch']:,.0f} | {row['ratio']:.1f} | "
            f"{row['2 against 1']:.2f} | {row['difference (points)']:+.2f} | {lost['lost (%)']:.1f} % |"
        )
    limits = {(row["what"].split(",")[0], row["pass"]): row for table in kernels["tables"] for row in table["rows"]}
    local = [row["times_torch"] for (what, _), row in limits.items() if what.startswith("locally_connected2d")]
    steps = [row["of_limit"] for (_, side), row in limits.items() if side == "step"]
    wide = [limits[("linear 1024 units 1024", side)]["of_limit"] for side in ("forward", "backward")]
    conv = [row["times_torch"] for (what, _), row in limits.items() if what.startswith("conv2d")]
    warm, cold, job, cold_job = startup["tables"][0]["rows"]
    lines += [
        "",
        f"`python -m bench kernels`, one thread: a linear layer of 1024 units at batch 128 reaches {min(wide):.2f} of the "
        f"rate of the same BLAS products; convolutions are {min(conv):.1f} to {max(conv):.1f} times as fast as PyTorch's, "
        f"locally connected layers {min(local):.1f} to {max(local):.1f} times its best formulation; optimisers on 64 MB "
        f"vectors reach {min(steps):.2f} or more of the memory bandwidth of plain loops.",
        "",
        f"`python -m bench startup`: from the command to the first finished step {warm['ours']:.1f} s, importing PyTorch and "
        f"doing one step {warm['pytorch']:.1f} s; with an empty kernel cache {cold['ours']:.1f} s. The default job takes "
        f"{job['ours']:.1f} s, with an empty cache {cold_job['ours']:.1f} s.",
    ]
    return "\n".join(lines) + "\n"


def measure(options: argparse.Namespace) -> harness.Report:
    """Print the section."""
    print(section())
    return harness.Report([], ["copied between the marks of README.md"])


def _read(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text("utf-8"))
    return found
