"""Nodes of a cluster as processes: how a joined one goes, what a first one goes on from, and disks that take nothing."""

from __future__ import annotations

import os
import shlex
import shutil
import socket
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.processes import Node, nodes
from support.robustness import REFUSED, Case, Files, as_process, faults, hold_process, is_whole_model, tell
from support.sends import SENDS
from support.trained import DATA, MODEL, snapshots

from hogpour.model import snapshot

pytestmark = [pytest.mark.robustness, pytest.mark.real]

TOKEN = "of these tests, 24 b"
FOR_EVER = 1_000_000
WORKS = frozenset({0})

JOB = f"""
[data]
train = "a.csv"
scale = "standard"
validation = 0.0
[model]
layers = [{{layer = "linear", units = 3}}]
[algorithm]
name = "downpour"
optimiser = {{name = "adagrad", lr = 0.05}}
[run]
epochs = 4
batch = 4
replicas = 1
model = "{MODEL}"
[cluster]
lease_s = 1.0
give_up_s = 2.0
shard_bytes = 64
"""

# -- who leaves -----------------------------------------------------------------------------------------------------------

CLIENT, HOST, MACHINE = "hogpour.client.coordinator_client", "hogpour.server.handover", "hogpour.node.local_machine"

STAGES = {
    "joining": f"{CLIENT} CoordinatorClient.join",
    "reading data": f"{MACHINE} prepare",
    "compiling": f"{MACHINE} rehearse",
    "training": "hogpour.node.training Training._rang",
    "leaving": f"hogpour.node.training Training._rang SIGINT;{CLIENT} CoordinatorClient.leave",
    "taking a shard": f"{HOST} ShardHost._bring",
}
ENDS = {"SIGINT": 0, "SIGTERM": 75, "SIGKILL": -9}
SECOND = 130
"""A second signal kills."""
LEAVES = (
    ("joining", "SIGINT"), ("reading data", "SIGKILL"), ("compiling", "SIGTERM"), ("training", "SIGINT"), ("training", "SIGKILL"),
    ("leaving", "SIGTERM"), ("leaving", "SIGKILL"), ("taking a shard", "SIGTERM"),
)  # fmt: skip


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A first node that goes on whoever leaves, and leaves its processors to others."""
    folder = tmp_path_factory.mktemp("first")
    (folder / "job.toml").write_text(JOB.replace("epochs = 4", f"epochs = {FOR_EVER}").replace('units = 3', 'units = 40}, {layer = "linear", units = 3'))
    (folder / "a.csv").write_bytes(DATA["a.csv"])
    with nodes(folder) as start:
        node = start("job.toml", "--listen", "127.0.0.1:0", token=TOKEN)
        node.until_training()
        node.pause()
        yield node
        node.go_on()
        node.interrupt()
        assert node.end()["outcome"] == "stopped"
        assert node.errors == ""


@pytest.mark.long
@pytest.mark.parametrize(("stage", "end"), LEAVES)
def test_a_joined_node_goes_in_order_whenever_it_is_ended(
    stage: str, end: str, first: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the first node goes on, and knows that it is gone."""
    monkeypatch.setenv("HOGPOUR_TOKEN", TOKEN)
    place = STAGES[stage]
    more = "--listen 127.0.0.1:0" if stage == "taking a shard" else ""
    code = SECOND if "SIGINT;" in place and end == "SIGTERM" else ENDS[end]
    case = Case(name=stage, files={"a.csv": DATA["a.csv"], "sends.py": SENDS}, run=(), says=("",), codes=frozenset({code}))
    hold_process(case, tmp_path / "run", f"exec $PYTHON sends.py '{place} {end}' node --join {first.address} --data . {more} --replicas 1")
    assert first.process.poll() is None
    if stage != "joining":
        first.until("member", lambda fields: " is gone: " in fields["text"] or " left" in fields["text"])


# -- several nodes in a line of a shell --------------------------------------------------------------------------------------

LISTENS = "node job.toml --listen 127.0.0.1:$PORT"
JOINS = "$PYTHON -m hogpour node --join 127.0.0.1:$PORT --join-s 30 --data . --replicas 1"


def pair(first: str, joined: str) -> str:
    """Return a line that runs two nodes and ends with the worse of their codes."""
    return f"$PYTHON {first} & {joined}; a=$?; wait $!; b=$?; (exit $((a > b ? a : b)))"


def widowed(inside: str) -> str:
    """Return a line that runs a joined node whose first node is killed when training begins."""
    first = f"$PYTHON sends.py 'hogpour.node.training Training._rang SIGKILL' {LISTENS} --wait-for 2"
    return f"mkdir ../first; cp * ../first; (cd ../first; {first} > /dev/null 2>&1 &); unshare -m bash -c '{inside}{JOINS}'"


# -- what a first node goes on from -----------------------------------------------------------------------------------------

FIRST, RESUME = "hogpour node job.toml --listen 127.0.0.1:0", "hogpour node job.toml --listen 127.0.0.1:0 --resume"
FILES = {"job.toml": JOB.encode(), "a.csv": DATA["a.csv"]}


def short(*numbers: int) -> Files:
    """Return the files of the snapshots with these, all of their files cut in half."""
    return {name: one[: len(one) // 2] if int(name.split("/")[1]) in numbers else one for name, one in snapshots().items()}


def job(old: str, new: str) -> Files:
    assert old in JOB
    return {**snapshots(), "job.toml": JOB.replace(old, new).encode()}


RESUMES: Mapping[str, tuple[Files, str, frozenset[int], tuple[str, ...]]] = {
    "whole, if there is one": (snapshots(), f"{RESUME}=auto", WORKS, ()),
    "the newest cut": (short(2), RESUME, WORKS, ()),
    "both cut": (short(1, 2), RESUME, REFUSED, ("m.snapshot",)),
    "of other layers": (job("units = 3}", 'units = 4}, {layer = "linear", units = 3}'), RESUME, REFUSED, ("m.snapshot",)),
    "with more nodes": (snapshots(), pair(f"-m hogpour {LISTENS} --resume --wait-for 2", f"{JOINS} --listen 127.0.0.1:0"), WORKS, ()),
    "with fewer nodes": (
        {**job("epochs = 4", "epochs = 1000000"), "sends.py": SENDS},
        pair(f"sends.py 'hogpour.node.training Training._rang SIGTERM' {LISTENS} --wait-for 2", f"{JOINS} --listen 127.0.0.1:0")
        + f"; [ $? = 75 ] && {RESUME} --epochs 2", WORKS, (),
    ),
    "a folder that takes nothing": (snapshots(), f"mount --bind m.snapshot m.snapshot && mount -o remount,ro,bind m.snapshot; {RESUME}", WORKS, ()),
}

# -- disks that take nothing ------------------------------------------------------------------------------------------------

READ_ONLY = 'mount --bind "$PWD" "$PWD" && mount -o remount,ro,bind "$PWD"; cd "$PWD"; '

DISKS: Mapping[str, tuple[Files, str, frozenset[int], tuple[str, ...]]] = {
    "a first node, read-only": ({}, f"{READ_ONLY}{FIRST}", REFUSED, (MODEL,)),
    "a first node, files of 0 bytes": ({}, f"ulimit -f 0; {FIRST}", REFUSED, ("ulimit -f",)),
    "a first node, no file for its token": ({}, f"unset HOGPOUR_TOKEN; export XDG_STATE_HOME=$PWD/none; ulimit -f 0; {FIRST}", REFUSED, ("token",)),
    "alone, read-only": ({"sends.py": SENDS}, widowed(READ_ONLY), frozenset({1}), ("the first node",)),
}
QUICK = {"both cut", "a first node, read-only"}
COMMAND = 'hogpour() { "$PYTHON" -m hogpour "$@"; }; '
"""As in ``as_process``, for a shell of its own."""


@pytest.mark.parametrize(
    ("name", "table"),
    [
        pytest.param(name, table, id=name, marks=[] if name in QUICK else pytest.mark.long)
        for table in (RESUMES, DISKS) for name in table
    ],
)  # fmt: skip
def test_a_cluster_goes_on_from_what_is_whole_and_ends_in_order_where_a_disk_takes_nothing(
    name: str, table: Mapping[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOGPOUR_TOKEN", TOKEN)
    with socket.create_server(("127.0.0.1", 0)) as free:
        monkeypatch.setenv("PORT", str(free.getsockname()[1]))
    files, line, codes, says = table[name]
    if "mount" in line:
        if os.geteuid() or not shutil.which("unshare"):
            pytest.skip("only root may mount")
        line = f"unshare -m bash -c {shlex.quote(f'{COMMAND}{line}')}"
    case = Case(name=name, files={**FILES, **files}, run=(), says=says, codes=codes, writes=frozenset({MODEL, "m.node-2.safetensors"}))
    end = as_process(case, tmp_path / "run", line)
    if end.code != 2 and (tmp_path / "run" / "m.snapshot").is_dir():
        assert snapshot.read(tmp_path / "run" / "m.snapshot").meta.rows == ("history",)
        end = replace(end, **{when: {name: one for name, one in getattr(end, when).items() if name.split("/")[0] != "m.snapshot"} for when in ("before", "after")})
    lines = [line for line in end.out.splitlines(keepends=True) if not line.startswith("listening on ")]  # while it reads
    tell(end, faults(replace(end, out="".join(lines)), case, is_whole_model))
