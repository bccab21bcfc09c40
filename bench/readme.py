"""What do the README's table of schemes and its section of numbers say, made from the code and the results kept?

    python -m bench readme        prints both; tests hold the README to them
"""

from __future__ import annotations

import argparse
import json
from dataclasses import fields
from pathlib import Path
from typing import Any

from bench import harness
from hogpour.core import registry

__all__ = ["measure", "schemes", "section"]

RESULTS = Path(__file__).parent / "results"


def schemes() -> str:
    """Return the table of schemes: each with the choices that it is, from its class."""
    lines = ["| scheme | what it does | exchange | gate | correction | paper |", "|---|---|---|---|---|---|"]
    for name, cls in registry.available("scheme").items():
        choices = cls().choices()
        made_of = (registry.describe(one)["name"] for one in (choices.exchange, choices.gate, choices.correction))
        by_hand = {field.name for field in fields(cls)} >= {"exchange", "gate", "correction"}
        cells = ["any" if by_hand else "–" if one in ("open", "plain") else f"`{one}`" for one in made_of]
        lines.append(f"| {name} | {cls.summary} | {' | '.join(cells)} | {cls.paper} |")
    return "\n".join(lines) + "\n"


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
    parts = (("loopback", _loopback), ("downpour", _downpour), ("deaths", _deaths), ("sandblaster", _sandblaster),
             ("sim", _sim))  # fmt: skip
    for name, told in parts:
        if (RESULTS / f"{name}.json").is_file():
            lines += ["", *told(_read(name))]
    return "\n".join(lines) + "\n"


def _loopback(result: dict[str, Any]) -> list[str]:
    """Return a table of those that fetch and push, at 1 KiB and at 64 MiB."""
    calls, rates, _ = (table["rows"] for table in result["tables"])
    cells = {(row["contender"], row["bytes"], row["what"]): f"{row['p50']:,.0f}" for row in calls}
    cells |= {(row["contender"], row["bytes"], row["what"]): f"{row['GB/s']:.2f}" for row in rates}
    columns = [(size, what) for size in ("1 KiB", "64 MiB") for what in ("fetch", "push")]
    lines = [
        f"`python -m bench loopback` (commit {result['machine']['commit'][:12]}): a parameter server and its client on this "
        "machine, beside plain blocking sockets, a bare echo of as many bytes, PyTorch's RPC and a Ray actor. 1 KiB: median "
        "of a call; 64 MiB: rate of the payload. Pushes are applied, but not by the echo.",
        "",
        "| | fetch 1 KiB (µs) | push 1 KiB (µs) | fetch 64 MiB (GB/s) | push 64 MiB (GB/s) |",
        "|---|--:|--:|--:|--:|",
    ]
    for contender in dict.fromkeys(row["contender"] for row in calls):
        lines.append(f"| {contender} | " + " | ".join(cells.get((contender, *column), "–") for column in columns) + " |")
    return lines


def _downpour(result: dict[str, Any]) -> list[str]:
    """Return what one node costs, a table of one node and two, and how a slow one is borne, beside DDP."""
    one, two, slowed = (table["rows"] for table in result["tables"])
    ratios = " and ".join(f"{row['ratio']:.2f}" for row in one)
    lines = [
        f"`python -m bench downpour` (commit {result['machine']['commit'][:12]}): MNIST, 784-256-10, batches of 32. On one "
        f"node, with n_push = n_fetch = 16, Downpour runs at {ratios} of Hogwild's rate (1 and 2 replicas). Two nodes with a "
        "replica each share this machine's cores with their server and speak over loopback; beside them one node with two "
        "replicas.",
        "",
        "| nodes | optimiser | n_push | n_fetch | images/s | mean staleness | s to 0.96 | accuracy |",
        "|--:|---|--:|--:|--:|--:|--:|--:|",
    ]
    for row in two:
        cells = [
            str(row["nodes"]), {"sgd": "SGD", "adagrad": "Adagrad"}[row["optimiser"]],
            *(str(row.get(key) or "–") for key in ("n_push", "n_fetch")), f"{row['rate']:,.0f}",
            _number(row.get("staleness"), 1), _number(row.get("s to 0.96"), 2), f"{row['accuracy']:.4f}",
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        "The same two nodes, and two processes of PyTorch's DDP over gloo: all alike, and with one of the two five times "
        "slower.",
        "",
        "| | images/s | s to 0.96 | one slow: images/s | of alike | s to 0.96 |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    alike, slow = ([row for row in slowed if (row["slow"] > 1) == wanted] for wanted in (False, True))
    for quick, late in zip(alike, slow, strict=True):
        times = [_number(row.get("s to 0.96"), 2) for row in (quick, late)]
        lines.append(f"| {quick['contender']} | {quick['rate']:,.0f} | {times[0]} | {late['rate']:,.0f} | "
                     f"{late['of_alike']:.2f} | {times[1]} |")  # fmt: skip
    return lines


def _deaths(result: dict[str, Any]) -> list[str]:
    """Return what deaths cost, in virtual time."""
    lines = [
        f"`python -m bench deaths` (commit {result['machine']['commit'][:12]}), in virtual time: MNIST, 784-128-10, 20 "
        "replicas on 20 nodes, of which a random tenth is killed every virtual minute and comes back after half of one. "
        "Medians of three seeds; [the picture](bench/results/deaths.png) is of the first.",
        "",
        "| optimiser | | deaths | accuracy | points | virtual s | times | s to 0.95 |",
        "|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    for row in result["tables"][0]["rows"]:
        points = f"{row['points']:+.2f}" if "points" in row else "–"
        cells = [
            {"sgd": "SGD", "adagrad": "Adagrad", "synchronous": "synchronous SGD"}[row["optimiser"]], row["misfortune"], f"{row['deaths']:.0f}",
            f"{row['accuracy']:.4f}", points, f"{row['virtual_s']:.0f}", _number(row.get("times"), 2),
            _number(row.get("s_to_0.95"), 0),
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _sandblaster(result: dict[str, Any]) -> list[str]:
    """Return what an iteration takes beside SciPy's, and the race of the two algorithms."""
    rows = {table["title"].partition(":")[0]: table["rows"] for table in result["tables"]}
    scipy = {row["contender"]: row for row in rows["scipy"]}
    one, two, nodes = (scipy[f"ours, {what}"] for what in ("1 replica", "2 replicas", "2 nodes of 1"))
    small, large = rows["traffic"]
    copied = rows["straggler"][0]
    lines = [
        f"`python -m bench sandblaster` (commit {result['machine']['commit'][:12]}): softmax regression on "
        f"Fashion-MNIST's 60,000 images: an iteration of SciPy's L-BFGS-B with the same kernels takes "
        f"{scipy['SciPy']['ms_an_iteration']:.0f} ms, ours {one['ms_an_iteration']:.0f} with one replica, "
        f"{two['ms_an_iteration']:.0f} with two, {nodes['ms_an_iteration']:.0f} on two nodes of one; after "
        f"{one['iterations']} iterations it is {one['above_optimum']:.1e} above the best objective found. The coordinator "
        f"sends and hears {small['programs_kB']:.1f} kB an iteration at {small['parameters']:,} parameters and "
        f"{large['programs_kB']:.1f} kB at {large['parameters']:,}. With one of eight simulated nodes ten times slower an "
        f"evaluation takes {copied['times_with']:.2f} times as long with copies, {copied['times_without']:.2f} without.",
        "",
        "Virtual seconds to an accuracy of 0.85 on 6,000 of MNIST's images, 784-32-10:",
        "",
        "| machines | Downpour with Adagrad | Sandblaster |",
        "|--:|--:|--:|",
    ]
    for row in rows["machines"]:
        lines.append(f"| {row['machines']} | {row['downpour_adagrad']:.2f} | {row['sandblaster']:.1f} |")
    return lines


def _sim(result: dict[str, Any]) -> list[str]:
    """Return how fast virtual time is."""
    events, large, memory = (table["rows"] for table in result["tables"])
    ratio = {row["event"]: row["of_asyncio"] for row in events}
    rate = {row["event"]: row["events_per_s"] for row in events}
    train = next(row for row in large if row["part"] == "they train")
    kb = next(row["kB_per_node"] for row in memory if row.get("kB_per_node"))
    return [
        f"`python -m bench sim` (commit {result['machine']['commit'][:12]}): the simulator's loop runs "
        f"{ratio['call_soon']:.2f} (callbacks) and {ratio['timers']:.2f} (timers) times as many events a second as plain "
        f"asyncio runs callbacks; with all that production code does in them, "
        f"{rate['cluster with gradients']:,.0f} events a second. A thousand nodes without gradients, a push and a fetch "
        f"about every second and a heartbeat each second: {train['virtual_s']:.0f} virtual seconds in "
        f"{train['wall_s']:.0f} s. A node that does nothing takes {kb:.0f} kB.",
    ]


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"


def measure(options: argparse.Namespace) -> harness.Report:
    """Print the section."""
    print(schemes())
    print(section())
    return harness.Report([], ["copied between the marks of README.md"])


def _read(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text("utf-8"))
    return found
