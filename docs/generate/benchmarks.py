"""What the results kept in ``bench/results`` say: the table of the README, and the page of benchmarks.

A result names its bench, the machine, the versions of the packages and the commit; nothing here is typed by hand. A bench
that was never run has no section.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from bench import harness

__all__ = ["MARK", "marked", "numbers", "page", "read", "where"]

RESULTS = Path(__file__).parents[2] / "bench" / "results"
OLD = 50
MARK = f" (more than {OLD} commits ago)"
"""Behind the commit of a result that is none of HEAD and the ``OLD`` before it. It says nothing of what a page was made
from, and comes by itself as commits are made: a page is not stale for it."""

_OPTIMISERS = {"sgd": "SGD", "adagrad": "Adagrad", "synchronous": "synchronous SGD"}


def page() -> str:
    """Return the sections of the page, one for each bench that has results."""
    sections = []
    for name, (title, told) in _SECTIONS.items():
        if (RESULTS / f"{name}.json").is_file():
            result = read(name)
            lines = [f"## {title}", "", f"`python -m bench {name}`, {where(result)}.", "", *told(result)]
            notes = [f"- {note}" for note in result["notes"]]
            sections.append("\n".join([*lines, "", *notes] if notes else lines) + "\n")
    return "\n".join(sections)


def numbers() -> str:
    """Return the README's table: the machine, and a row or two of each bench."""
    machine = read("hogwild")["machine"]
    lines = [
        f"{machine['cpu']}, {machine['cores']} cores.",
        "",
        "| what | hogpour | beside it | bench, commit |",
        "|---|--:|---|---|",
    ]
    for name, told in _ROWS.items():
        result = read(name)
        commit = marked(result["machine"]["commit"], 8)
        lines += (f"| {what} | {ours} | {other} | `{name}`, {commit} |" for what, ours, other in told(result))
    return "\n".join(lines) + "\n"


def read(name: str) -> dict[str, Any]:
    """Return the kept result of a bench."""
    found: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text("utf-8"))
    return found


def where(result: dict[str, Any]) -> str:
    """Return on what a result was measured."""
    machine = result["machine"]
    versions = machine["versions"]
    named = ", ".join(f"{package} {versions[package]}" for package in ("numba", "torch") if versions.get(package))
    return f"{machine['cpu']} with {machine['cores']} cores, Python {machine['python']}, {named}, commit {marked(machine['commit'])}"


def marked(commit: str, digits: int = 12) -> str:
    """Return a commit as pages name it, with the mark of age where history tells it.

    Where less history is there, as in a shallow clone, there are no marks.
    """
    last = _last()
    return commit[:digits] + (MARK if len(last) > OLD and commit not in last else "")


@cache
def _last() -> list[str]:
    """Return HEAD and the ``OLD`` commits before it, as far as they are there."""
    return (harness.git("rev-list", f"--max-count={OLD + 1}", "HEAD") or "").split()


# -- the page -----------------------------------------------------------------------------------------------------------


def _hogwild(result: dict[str, Any]) -> list[str]:
    rates, races = (table["rows"] for table in result["tables"])
    lines = [
        "MNIST on two cores, each contender as its users write it, in turns, medians. Ours are replicas of one thread; "
        "PyTorch's Hogwild has two processes of one thread (`torch.multiprocessing`, a model in shared memory); the others "
        "are one process that may use both cores. JAX runs an epoch (`lax.scan`) or a step in one jitted call.",
        "",
        "| network | batch | contender | images/s | ours is times | accuracy | seconds to an accuracy |",
        "|---|--:|---|--:|--:|--:|--:|",
    ]
    for row in rates:
        when = f"{row['s to']:.2f} ({row['accuracy of']})" if "s to" in row else "–"
        lines.append(
            f"| {row['network']} | {row['batch']} | {row['contender']} | {row['images/s']:,.0f} | "
            f"{row['ours is times']:.2f} | {row['accuracy']:.4f} | {when} |"
        )
    lost = [f"{row['lost (%)']:.1f} % ({row['network']}, {row['batch']})" for row in races]
    return [*lines, "", f"Of the updates of two replicas the race loses {', '.join(lost)}."]


def _sparse(result: dict[str, Any]) -> list[str]:
    """Return every contender, what was wanted, and how fast files are read."""
    rates, goals, reading = (table["rows"] for table in result["tables"])
    lines = [
        "Logistic regression on sparse data, an example at a time, on two cores, in turns, medians; ratios are medians of those "
        "of rounds. The peer is scikit-learn's `SGDClassifier` for SGD, Vowpal Wabbit's adaptive updates from its cache for "
        "Adagrad. a9a without values: all are 1, and ours leaves them out. Without a head two replicas write the frequent "
        "features' weights at each example, as Hogwild!'s paper has it.",
        "",
        "| case | contender | M non-zeros/s | times the peer | times 1 replica | log loss | accuracy |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    for row in rates:
        cells = [row["case"], row["contender"], _number(row["M nnz/s"], 0), _number(row.get("times the peer"), 2),
                 _number(row.get("times 1 replica"), 2), f"{row['log loss']:.4f}", f"{row['accuracy']:.4f}"]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "| goal | wanted | is | reached |", "|---|--:|--:|---|"]
    lines += [f"| {row['what']} | {row['goal']} | {_number(row['times'], 2)} | {row['reached']} |" for row in goals]
    lines += ["", "| svmlight file, unpacked | MB/s, 1 core | all cores | scikit-learn |", "|---|--:|--:|--:|"]
    for row in reading:
        speeds = [_number(row.get(name), 0) for name in ("ours, 1 core", "ours, all cores", "scikit-learn")]
        lines.append(f"| {row['file']} | {' | '.join(speeds)} |")
    return lines


def _kernels(result: dict[str, Any]) -> list[str]:
    limits = {(row["what"].split(",")[0], row["pass"]): row for table in result["tables"] for row in table["rows"]}
    local = [row["times_torch"] for (what, _), row in limits.items() if what.startswith("locally_connected2d")]
    steps = [row["of_limit"] for (_, side), row in limits.items() if side == "step"]
    wide = [limits[("linear 1024 units 1024", side)]["of_limit"] for side in ("forward", "backward")]
    conv = [row["times_torch"] for (what, _), row in limits.items() if what.startswith("conv2d")]
    lines = [
        f"One thread: a linear layer of 1024 units at batch 128 reaches {min(wide):.2f} of the rate of the same BLAS products; "
        f"convolutions are {min(conv):.1f} to {max(conv):.1f} times as fast as PyTorch's, locally connected layers "
        f"{min(local):.1f} to {max(local):.1f} times its best formulation; optimisers on 64 MB vectors reach {min(steps):.2f} "
        "or more of the memory bandwidth of plain loops.",
        "",
        "| what | pass | µs | of the limit | limit | times PyTorch's rate |",
        "|---|---|--:|--:|---|--:|",
    ]
    for table in result["tables"]:
        for row in table["rows"]:
            cells = [row["what"], row["pass"], _number(row["us"], 1), _number(row.get("of_limit"), 2), row.get("limit") or "–",
                     _number(row.get("times_torch"), 2)]  # fmt: skip
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def _startup(result: dict[str, Any]) -> list[str]:
    warm, cold, job, cold_job = result["tables"][0]["rows"]
    return [
        f"From the command to the first finished step {warm['ours']:.1f} s, importing PyTorch and doing one step "
        f"{warm['pytorch']:.1f} s; with an empty kernel cache {cold['ours']:.1f} s. The default job takes {job['ours']:.1f} s, "
        f"with an empty cache {cold_job['ours']:.1f} s."
    ]


def _loopback(result: dict[str, Any]) -> list[str]:
    """Return a table of those that fetch and push, at 1 KiB and at 64 MiB."""
    calls, rates, _ = (table["rows"] for table in result["tables"])
    cells = {(row["contender"], row["bytes"], row["what"]): f"{row['p50']:,.0f}" for row in calls}
    cells |= {(row["contender"], row["bytes"], row["what"]): f"{row['GB/s']:.2f}" for row in rates}
    columns = [(size, what) for size in ("1 KiB", "64 MiB") for what in ("fetch", "push")]
    lines = [
        "A parameter server and its client on this machine, beside plain blocking sockets, a bare echo of as many bytes, "
        "PyTorch's RPC and a Ray actor. 1 KiB: median of a call; 64 MiB: rate of the payload. Pushes are applied, but not by "
        "the echo.",
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
        f"MNIST, 784-256-10, batches of 32. On one node, with n_push = n_fetch = 16, Downpour runs at {ratios} of Hogwild's "
        "rate (1 and 2 replicas). Two nodes with a replica each share this machine's cores with their server and speak over "
        "loopback; beside them one node with two replicas.",
        "",
        "| nodes | optimiser | n_push | n_fetch | images/s | mean staleness | s to 0.96 | accuracy |",
        "|--:|---|--:|--:|--:|--:|--:|--:|",
    ]
    for row in two:
        cells = [
            str(row["nodes"]), _OPTIMISERS[row["optimiser"]],
            *(str(row.get(key) or "–") for key in ("n_push", "n_fetch")), f"{row['rate']:,.0f}",
            _number(row.get("staleness"), 1), _number(row.get("s to 0.96"), 2), f"{row['accuracy']:.4f}",
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        "The same two nodes, and two processes of PyTorch's DDP over gloo, which average gradients at every step or parameters "
        "every 16 steps: all alike, and with one of the two five times slower.",
        "",
        "| | steps to an exchange | images/s | ours is times | s to 0.96 | one slow: images/s | of alike | s to 0.96 |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    alike, slow = ([row for row in slowed if (row["slow"] > 1) == wanted] for wanted in (False, True))
    for quick, late in zip(alike, slow, strict=True):
        times = [_number(row.get("s to 0.96"), 2) for row in (quick, late)]
        lines.append(f"| {quick['contender']} | {quick['every']} | {quick['rate']:,.0f} | {_number(quick.get('times_ddp'), 1)} | "
                     f"{times[0]} | {late['rate']:,.0f} | {late['of_alike']:.2f} | {times[1]} |")  # fmt: skip
    return lines


def _deaths(result: dict[str, Any]) -> list[str]:
    """Return what deaths cost, in virtual time."""
    lines = [
        "In virtual time: MNIST, 784-128-10, 20 replicas on 20 nodes, of which a random tenth is killed every virtual minute "
        "and comes back after half of one. Medians of three seeds; [the picture](../bench/results/deaths.png) is of the first.",
        "",
        "| optimiser | | deaths | accuracy | points | virtual s | times | s to 0.95 |",
        "|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    for row in result["tables"][0]["rows"]:
        points = f"{row['points']:+.2f}" if "points" in row else "–"
        cells = [
            _OPTIMISERS[row["optimiser"]], row["misfortune"], f"{row['deaths']:.0f}", f"{row['accuracy']:.4f}", points,
            f"{row['virtual_s']:.0f}", _number(row.get("times"), 2), _number(row.get("s_to_0.95"), 0),
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
        "Softmax regression on Fashion-MNIST's 60,000 images: an iteration of SciPy's L-BFGS-B with the same kernels takes "
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
        f"The simulator's loop runs {ratio['call_soon']:.2f} (callbacks) and {ratio['timers']:.2f} (timers) times as many "
        "events a second as plain asyncio runs callbacks; with all that production code does in them, "
        f"{rate['cluster with gradients']:,.0f} events a second. A thousand nodes without gradients, a push and a fetch "
        f"about every second and a heartbeat each second: {train['virtual_s']:.0f} virtual seconds in "
        f"{train['wall_s']:.0f} s. A node that does nothing takes {kb:.0f} kB."
    ]


_SECTIONS: dict[str, tuple[str, Callable[[dict[str, Any]], list[str]]]] = {
    "hogwild": ("Hogwild on one machine", _hogwild),
    "kernels": ("Kernels", _kernels),
    "startup": ("Start", _startup),
    "sparse": ("Linear models on sparse data", _sparse),
    "loopback": ("Pushes and fetches over loopback", _loopback),
    "downpour": ("Downpour on one node and on two", _downpour),
    "deaths": ("What deaths cost", _deaths),
    "sandblaster": ("Sandblaster L-BFGS", _sandblaster),
    "sim": ("The simulator", _sim),
}
"""Bench → title of its section, and what makes it of the result."""


# -- the README's table -------------------------------------------------------------------------------------------------

Row = tuple[str, str, str]
"""What was measured, ours, and what stands beside it."""


def _hogwild_rows(result: dict[str, Any]) -> list[Row]:
    """Each network with the fastest of the peers and with the one that is most like ours."""
    networks: dict[str, list[dict[str, Any]]] = {}
    for row in result["tables"][0]["rows"]:
        networks.setdefault(row["network"], []).append(row)
    found = []
    for name, (ours, _, *peers) in networks.items():
        fastest, like = max(peers, key=lambda row: row["images/s"]), peers[0]
        beside = [f"{row['contender']} {row['images/s']:,.0f}" for row in ([like] if like is fastest else [fastest, like])]
        found.append((f"MNIST, {name}, batches of {ours['batch']}, 2 replicas", f"{ours['images/s']:,.0f} images/s", ", ".join(beside)))
    return found


def _startup_rows(result: dict[str, Any]) -> list[Row]:
    warm = result["tables"][0]["rows"][0]
    return [("from the command to the first step", f"{warm['ours']:.1f} s", f"importing PyTorch, one step {warm['pytorch']:.1f} s")]


def _loopback_rows(result: dict[str, Any]) -> list[Row]:
    calls = {(row["bytes"], row["what"], row["contender"]): row for row in result["tables"][0]["rows"]}
    rates = {(row["bytes"], row["what"], row["contender"]): row for row in result["tables"][1]["rows"]}
    small = [calls["1 KiB", "push", name]["p50"] for name in ("ours, uvloop", "sockets", "torch RPC")]
    large = [rates["64 MiB", "push", name]["GB/s"] for name in ("ours, uvloop", "sockets", "torch RPC")]
    return [
        ("a push of 1 KiB over loopback", f"{small[0]:.0f} µs", f"plain sockets {small[1]:.0f}, PyTorch's RPC {small[2]:.0f}"),
        ("a push of 64 MiB over loopback", f"{large[0]:.2f} GB/s", f"plain sockets {large[1]:.2f}, PyTorch's RPC {large[2]:.2f}"),
    ]


def _downpour_rows(result: dict[str, Any]) -> list[Row]:
    found = {(row["contender"].partition(",")[0], row["every"], row["slow"] > 1): row["s to 0.96"]
             for row in result["tables"][2]["rows"]}  # fmt: skip
    return [
        (f"2 nodes, an exchange every 16 steps, MNIST to 0.96{', one 5 times slower' if slow else ''}",
         f"{found['ours', 16, slow]:.2f} s",
         f"PyTorch, parameters averaged over gloo {_number(found['PyTorch DDP', 16, slow], 2)}")
        for slow in (False, True)
    ]  # fmt: skip


def _sandblaster_rows(result: dict[str, Any]) -> list[Row]:
    rows = {row["contender"]: row["ms_an_iteration"] for row in result["tables"][0]["rows"]}
    return [("an iteration of L-BFGS, Fashion-MNIST, 1 and 2 replicas",
             f"{rows['ours, 1 replica']:.0f} and {rows['ours, 2 replicas']:.0f} ms",
             f"SciPy with the same kernels {rows['SciPy']:.0f}")]  # fmt: skip


def _deaths_rows(result: dict[str, Any]) -> list[Row]:
    killed = next(row for row in result["tables"][0]["rows"] if "points" in row)
    return [(f"20 simulated nodes, {killed['deaths']:.0f} deaths: accuracy", f"{killed['points']:+.2f} points",
             f"undisturbed; {killed['times']:.2f} times its time")]  # fmt: skip


_ROWS: dict[str, Callable[[dict[str, Any]], list[Row]]] = {
    "hogwild": _hogwild_rows,
    "startup": _startup_rows,
    "loopback": _loopback_rows,
    "downpour": _downpour_rows,
    "sandblaster": _sandblaster_rows,
    "deaths": _deaths_rows,
}


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"
