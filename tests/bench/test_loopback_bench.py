"""The loopback bench: what its rows compare, contenders that fail, and every contender at small sizes."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from bench import loopback
from bench.__main__ import main
from bench._peers.contender import Contender, ContenderFailed, resident_bytes
from bench.loopback import Kind, Measured

MIB = 1 << 20
ROOT = Path(__file__).parents[2]


def took(**seconds):
    """One call a round, as long as given."""
    return Measured({name: [[each] for each in rounds] for name, rounds in seconds.items()}, None)


def test_a_call_is_compared_with_the_echo_on_the_same_loop_and_others_with_that_on_uvloop():
    found = {
        "ours, uvloop": took(fetch=[30e-6]),
        "ours, asyncio": took(fetch=[60e-6]),
        "torch RPC": took(fetch=[600e-6]),
        "torch RPC, TCP": took(fetch=[800e-6]),
        "echo, uvloop": took(fetch=[20e-6]),
        "echo, asyncio": took(fetch=[40e-6]),
    }
    rows = {row["contender"]: row for row in loopback._calls(1024, found)}
    assert {name: row["times_echo"] for name, row in rows.items()} == pytest.approx(
        {"ours, uvloop": 1.5, "ours, asyncio": 1.5, "torch RPC": 30, "torch RPC, TCP": 40, "echo, uvloop": 1, "echo, asyncio": 1}
    )
    assert [name for name, row in rows.items() if "goal" in row] == ["ours, uvloop"]
    assert rows["ours, uvloop"]["bytes"] == "1 KiB"


def test_percentiles_are_over_the_calls_of_all_rounds():
    one = Measured({"fetch": [[1e-6] * 50, [1e-6] * 39 + [2e-6] * 11]}, None)
    assert one.microseconds("fetch") == pytest.approx([1.0, 2.0, 2.0])


def test_a_push_is_compared_with_the_sockets_that_apply_nothing():
    sockets = took(fetch=[0.01, 0.01, 0.01], push=[0.04, 0.04, 0.04], push_bare=[0.02, 0.02, 0.02])
    ours = took(fetch=[0.02, 9.0, 0.02], push=[0.04, 0.04, 0.04], both=[0.05, 0.05, 0.05])
    rows = list(loopback._rates(64 * MIB, {"ours, uvloop": ours, "sockets": sockets}))
    got = {(row["contender"], row["what"]): (row.get("of_sockets"), row.get("goal")) for row in rows}
    assert got == {
        ("ours, uvloop", "fetch"): (pytest.approx(0.5), "at least 0.7 x sockets"),
        ("ours, uvloop", "push"): (pytest.approx(0.5), "at least 0.5 x sockets"),
        ("ours, uvloop", "both"): (None, None),
        ("sockets", "fetch"): (1.0, None),
        ("sockets", "push"): (0.5, None),
        ("sockets", "push_bare"): (1.0, None),
    }
    rates = {(row["contender"], row["what"]): row["GB/s"] for row in rows}
    assert rates["ours, uvloop", "fetch"] == pytest.approx(64 * MIB / 0.02 / 1e9)
    assert rates["ours, uvloop", "both"] == pytest.approx(2 * 64 * MIB / 0.05 / 1e9), "both moves twice the payload"


def test_memory_is_what_goes_beyond_parameters_and_optimiser_state():
    row = loopback._memory("ours, uvloop", "Adagrad", 128 * MIB, 140 * MIB)
    assert (row["state"], row["grew"], row["beyond"], row["goal"]) == (128, 140, 12, "beyond at most 96")
    assert "grew" not in loopback._memory("sockets", "SGD", MIB, None)


class Server:
    """Says how many pushes are in its parameters."""

    def __init__(self, *value):
        self.value = lambda: list(value)


def test_a_server_that_lost_a_push_fails_the_bench():
    kind, seconds = Kind("ours, uvloop", "module"), {"fetch": [[1.0]], "push": [[1.0, 1.0]], "both": [[1.0]]}
    loopback._check(kind, Server(9.0, 9.0), seconds)  # 3 calls of each before anything counts
    with pytest.raises(AssertionError, match=r"^ours, uvloop: \[8.0, 9.0\] pushes are in the parameters, expected 9"):
        loopback._check(kind, Server(8.0, 9.0), seconds)


def test_what_is_sent_has_been_written_even_zeros():
    """The kernel keeps one page for all zeros that were never written, and reading it is faster than reading memory;
    some contenders sent such pages and others did not."""
    if resident_bytes() is None:
        pytest.skip("this system does not tell how much memory is resident")
    # A process of its own: what this one gives back meanwhile would be taken for memory that was not written.
    code = (
        "from bench._peers.contender import resident_bytes, written\n"
        "before = resident_bytes()\n"
        f"params = written({64 * MIB}, 0)\n"
        "print(resident_bytes() - before, params.nbytes, params.any())\n"
    )
    told = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    grown, n_bytes, anything = told.split()
    assert int(grown) > 60 * MIB
    assert (int(n_bytes), anything) == (64 * MIB, "False")


@pytest.mark.parametrize("sizes", ["", "1000", "64,", "-64", "1e6"])
def test_sizes_are_whole_lines_of_float32(sizes):
    with pytest.raises(argparse.ArgumentTypeError, match="expected multiples of 64"):
        loopback._sizes(sizes)


@pytest.mark.slow
@pytest.mark.real
def test_a_contender_that_cannot_start_says_why():
    with pytest.raises(ContenderFailed, match=r"^bench\._peers\.sockets nonsense 64: ended with code 1: KeyError: 'nonsense'$"):
        Contender("bench._peers.sockets", "nonsense", "64")


@pytest.mark.slow
@pytest.mark.real
def test_a_contender_that_does_not_answer_is_killed():
    """A server without its client reads no questions."""
    contender = Contender("bench._peers.sockets", "serve", "64")
    with pytest.raises(ContenderFailed, match=r"sockets serve 64: silent for 0\.05 s: no error$"):
        contender.seconds("fetch", 1, deadline_s=0.05)
    contender.close()


def bench(capsys, *options):
    """Run the bench quickly; return its tables' rows and its notes."""
    assert main(["loopback", "--json", "--rounds", "2", "--sample-s", "0.0001", *options]) == 0
    result = json.loads(capsys.readouterr().out)
    return [table["rows"] for table in result["tables"]], result["notes"]


@pytest.mark.slow
@pytest.mark.real
def test_a_peer_that_is_not_installed_or_does_not_work_is_left_out_with_a_note(monkeypatch, capsys):
    broken = Kind("broken", "bench._peers.sockets", ("nonsense",), package="json")
    absent = Kind("absent", "bench._peers.sockets", package="no_such_package")
    there = Kind("sockets", "bench._peers.sockets")
    monkeypatch.setattr(loopback, "kinds", lambda shard_bytes: (broken, absent, there))
    (calls, _, _), notes = bench(capsys, "--sizes", "1024")
    assert {row["contender"] for row in calls} == {"sockets"}
    assert notes[0] == "absent: no_such_package is not installed"
    assert notes[1].startswith("broken is left out: bench._peers.sockets measure nonsense 1024: ended with code 1")


@pytest.mark.long
@pytest.mark.serial
@pytest.mark.real
def test_ours_sockets_and_echoes_have_rows_at_every_size(capsys):
    """At 256 KiB our vector is four shards; the bench itself compares the parameters with the pushes."""
    options = ("--only", "ours|sockets|echo", "--sizes", "1024,262144", "--shard-bytes", "65536")
    (calls, rates, memory), _ = bench(capsys, *options)
    names = ["ours, uvloop", "ours, asyncio", "sockets", "echo, uvloop", "echo, asyncio"]
    assert [(row["bytes"], row["what"], row["contender"]) for row in calls] == [
        (size, what, name) for size in ("1 KiB", "256 KiB") for what in ("fetch", "push") for name in names
    ]
    assert all(0 < row["p50"] <= row["p90"] <= row["p99"] for row in calls)
    assert [(row["what"], row["contender"]) for row in rates] == [
        *[("fetch", name) for name in names], *[("push", name) for name in names],
        ("push_bare", "sockets"), *[("both", name) for name in names[:2]],
    ]  # fmt: skip
    assert all(row["GB/s"] > 0 for row in rates)
    kinds = [(row["contender"], row["optimiser"], row["state"]) for row in memory]
    assert kinds == [("ours, uvloop", "SGD", 0.25), ("ours, uvloop", "Adagrad", 0.5), ("ours, asyncio", "SGD", 0.25), ("sockets", "SGD", 0.25)]


@pytest.mark.slow
@pytest.mark.real
@pytest.mark.parametrize(
    ("package", "names"),
    [
        pytest.param("torch", ["torch RPC", "torch RPC, TCP"], marks=pytest.mark.torch),
        ("ray", ["Ray actor"]),
    ],
)
def test_a_parameter_server_as_users_write_it_today_has_rows(package, names, capsys):
    if find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    (calls, rates, memory), notes = bench(capsys, "--only", "|".join(names), "--sizes", "262144")
    assert [row["contender"] for row in calls] == names * 2, notes
    assert [row["contender"] for row in rates if row["what"] != "fetch_view"] == names * 2
    assert [row["contender"] for row in memory] == names
    views = [row["contender"] for row in rates if row["what"] == "fetch_view"]
    assert views == (names if package == "ray" else [])
