"""The bench of a change: two builds in turns, and one that cannot be measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import change
from bench.__main__ import main
from bench._peers.contender import Contender, ContenderFailed

ROOT = Path(__file__).parents[2]


class Build:
    """A contender whose calls take what it is told, one after the other."""

    def __init__(self, name, diary, *seconds):
        self.name, self.diary, self.left = name, diary, list(seconds)
        self.ready = {"can": ["relu"]}

    def seconds(self, operation, calls):
        self.diary.append((self.name, operation, calls))
        return [self.left.pop(0) for _ in range(calls)]

    def close(self):
        self.diary.append((self.name, "closed", 0))


def test_builds_take_turns_and_are_compared_round_by_round():
    diary = []
    now = Build("now", diary, 9.0, 0.04, 1.0, 1.0, 2.0, 2.0, 1.0, 8.0)
    before = Build("before", diary, 9.0, 0.05, 3.0, 3.0, 6.0, 6.0, 9.0, 9.0)
    found = change._compared(now, before, "relu", 3)
    assert "".join(name[0] for name, *_ in diary) == "nb" + "nb" + "bn" + "nb"
    assert {calls for *_, calls in diary} == {2}, "a tenth of a second of calls as long as the second one"
    assert (found["times"], found["us"], found["us_before"]) == (3.0, 2e6, 6e6)
    assert (found["p10"], found["p90"]) == pytest.approx((2.2, 3.0))


def test_a_build_that_cannot_be_measured_is_said_and_the_rest_goes_on(tmp_path, monkeypatch, capsys):
    diary = []

    def contender(module, *arguments, start_s, folder):
        if module == "bench._ours.build" and folder == tmp_path:
            raise ContenderFailed("No module named bench._ours.build")
        return Build("now" if folder == ROOT else "before", diary, *[1.0] * 6)

    monkeypatch.setattr(change, "Contender", contender)
    assert main(["change", "--before", str(tmp_path), "--rounds", "1", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert [(row["what"], row["times"]) for row in result["tables"][0]["rows"]] == [("fetch", 1.0), ("push", 1.0)]
    assert "not measured: No module named bench._ours.build" in result["notes"]
    assert [name for name, what, _ in diary if what == "closed"] == ["now", "before", "now"]


@pytest.mark.real
def test_a_contender_of_another_folder_runs_what_is_there_with_kernels_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", "ours")
    (tmp_path / "there.py").write_text(
        "import json, os, sys\n"
        "print(json.dumps([os.getcwd(), os.environ['PYTHONPATH'], os.environ['NUMBA_CACHE_DIR']]), flush=True)\n"
        "sys.stdin.read()\n"
    )
    contender = Contender("there", folder=tmp_path)
    contender.close()
    assert contender.ready == [str(tmp_path), str(tmp_path), str(tmp_path / ".kernels")]


@pytest.mark.long
@pytest.mark.serial
@pytest.mark.real
def test_a_build_is_compared_with_itself(capsys):
    assert main(["change", "--before", str(ROOT), "--rounds", "1", "--json"]) == 0
    (table,) = json.loads(capsys.readouterr().out)["tables"]
    assert [row["what"] for row in table["rows"]][-3:] == ["training of 784-128-10, batch 8, 2 replicas", "fetch", "push"]
    assert all(row["times"] > 0 for row in table["rows"])
