"""The rows of the wire bench."""

from __future__ import annotations

import json

import pytest

from bench import wire
from bench.__main__ import main
from hogpour.net.wire.fetch import Fetch, Fetched


def test_a_round_trip_moves_headers_bodies_and_payload():
    assert wire.Pair(1000).round_trip(Fetch(3, 1), 0, Fetched(3, 5), 1000) == 2 * (24 + 3) + 1000


@pytest.mark.slow
def test_every_case_has_a_row(monkeypatch, capsys):
    quickly = wire.alternate
    monkeypatch.setattr(wire, "alternate", lambda calls, rounds: quickly(calls, rounds=rounds, sample_s=0.0))
    assert main(["wire", "--json", "--rounds", "1"]) == 0
    (table,) = json.loads(capsys.readouterr().out)["tables"]
    assert [row["what"] for row in table["rows"]] == [case[0] for case in wire.CASES]
    assert all(row["frames_per_s"] > 0 and row["times_copies"] > 0 for row in table["rows"])
