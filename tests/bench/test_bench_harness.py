"""Timing in turns with a fake clock, and the command line of the benches."""

from __future__ import annotations

import argparse
import io
import json
from typing import Any

import pytest

from bench import harness
from bench.__main__ import main, questions


class Bench:
    """A clock that advances only when a contender runs, and a diary of who ran."""

    def __init__(self) -> None:
        self.now = 0.0
        self.diary: list[str] = []

    def contender(self, name, *seconds):
        """Return something that takes each of ``seconds`` in turn, then the last one for ever."""
        left = list(seconds)

        def call():
            self.diary.append(name)
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return call

    def clock(self):
        return self.now


def test_a_spread_is_the_median_and_the_outer_tenths():
    assert harness.spread([float(k) for k in range(11)][::-1]) == harness.Spread(5.0, 1.0, 9.0, 11)
    assert harness.spread([3.0]) == harness.Spread(3.0, 3.0, 3.0, 1)


def test_contenders_take_turns_and_the_order_turns_too():
    bench = Bench()
    contenders = {name: bench.contender(name, 1.0) for name in "abc"}
    harness.alternate(contenders, rounds=3, sample_s=0.5, clock=bench.clock)
    assert "".join(bench.diary) == "aabbcc" + "abc" + "cba" + "abc"


def test_the_first_calls_do_not_count():
    bench = Bench()
    slow_start = bench.contender("a", 90.0, 80.0, 1.0)
    found = harness.alternate({"a": slow_start}, rounds=5, sample_s=0.5, clock=bench.clock)
    assert found["a"] == harness.Spread(1.0, 1.0, 1.0, 5)


def test_a_sample_of_something_short_is_many_calls_and_the_result_is_of_one():
    bench = Bench()
    found = harness.alternate({"a": bench.contender("a", 0.25)}, rounds=2, sample_s=1.0, clock=bench.clock)
    assert len(bench.diary) == 2 + 2 * 4
    assert found["a"].median == 0.25


def test_one_disturbed_round_does_not_move_the_median():
    bench = Bench()
    disturbed = bench.contender("a", 1.0, 1.0, 1.0, 50.0, 1.0)
    assert harness.alternate({"a": disturbed}, rounds=5, sample_s=0.5, clock=bench.clock)["a"].median == 1.0


def test_a_row_with_an_unknown_column_is_refused():
    with pytest.raises(AssertionError, match=r"^T: no column \['c'\]$"):
        harness.Table("T", ("a", "b")).add(a=1, c=2)


def measured(options):
    table = harness.Table("Rates", ("what", "rate", "peer_rate"))
    table.add(what="relu", rate=1234.5678)
    return harness.Report([table], ["PyTorch is not installed"])


def test_json_is_one_object_with_the_machine_and_four_digits(capsys):
    options = argparse.Namespace(json=True, save=False)
    assert harness.answer("kernels", "How fast?", measured, options) == 0
    (line,) = capsys.readouterr().out.splitlines()
    result = json.loads(line)
    assert result["tables"] == [{"title": "Rates", "rows": [{"what": "relu", "rate": 1235.0}]}]
    assert (result["bench"], result["question"]) == ("kernels", "How fast?")
    assert {"cpu", "cores", "python", "versions", "commit", "clean", "time"} <= set(result["machine"])
    assert result["machine"]["cores"] >= 1


def test_a_table_shows_no_column_that_nobody_filled():
    out = io.StringIO()
    result = {"question": "How fast?", "machine": harness.machine(), "seconds": 1.0}
    harness.show(result, measured(None), file=out)
    assert "1235" in out.getvalue()
    assert "peer" not in out.getvalue()
    assert "PyTorch is not installed" in out.getvalue()


def test_save_writes_the_result_beside_the_others(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(harness, "ROOT", tmp_path)
    (tmp_path / "bench").mkdir()
    harness.answer("kernels", "How fast?", measured, argparse.Namespace(json=True, save=True))
    saved = json.loads((tmp_path / "bench" / "results" / "kernels.json").read_text("utf-8"))
    assert saved == json.loads(capsys.readouterr().out)
    assert saved["machine"]["commit"] is None


def test_a_part_that_is_saved_takes_the_place_of_its_own_tables_and_notes(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(harness, "ROOT", tmp_path)
    (tmp_path / "bench").mkdir()
    options = argparse.Namespace(json=True, save=True)

    def ask(names: str, text: str, commit: str, part: bool = True) -> dict[str, Any]:
        tables = [harness.Table(f"{name}: {text}", (), [{"claim": text}]) for name in names]
        notes = [f"{name}: {text}" for name in names] + ["of all"]
        monkeypatch.setattr(harness, "git", lambda *words: commit if "rev-parse" in words else "")
        harness.answer("papers", "True?", lambda options: harness.Report(tables, notes, part=part), options)
        return json.loads((tmp_path / "bench" / "results" / "papers.json").read_text("utf-8"))

    assert [table["title"] for table in ask("b", "new", "first")["tables"]] == ["b: new"]
    ask("abc", "old", "first", part=False)
    ask("b", "new", "second")
    saved = ask("d", "new", "third")
    titles = ["a: old", "b: new", "c: old", "d: new"]
    assert [table["title"] for table in saved["tables"]] == titles
    assert [table["rows"][0]["claim"] for table in saved["tables"]] == ["old", "new", "old", "new"]
    assert [table["commit"] for table in saved["tables"]] == ["first", "second", "first", "third"]
    assert all(table["clean"] for table in saved["tables"])
    assert saved["notes"] == [*titles, "of all"]
    assert [table["title"] for table in ask("a", "whole", "fourth", part=False)["tables"]] == ["a: whole"]
    capsys.readouterr()


def test_one_thread_holds_blas_to_one_thread():
    from threadpoolctl import threadpool_info

    with harness.one_thread():
        assert {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"} == {1}


def test_every_bench_asks_one_question_and_list_shows_them(capsys):
    assert main(["list"]) == 0
    listed = capsys.readouterr().out
    assert questions()
    for name, question in questions().items():
        assert question.endswith("?"), f"bench {name}: its docstring does not begin with a question"
        assert f"{name:12} {question}" in listed


def test_help_names_the_benches(capsys):
    assert main(["--help"]) == 0
    assert "kernels" in capsys.readouterr().out


def test_an_unknown_bench_is_bad_use(capsys):
    assert main(["kernel"]) == 2
    assert capsys.readouterr().err == "bench kernel is not known; did you mean kernels?\n"
    assert main([]) == 2


def test_no_rounds_at_all_is_bad_use(capsys):
    with pytest.raises(SystemExit) as raised:
        main(["kernels", "--rounds", "0"])
    assert raised.value.code == 2
    assert "got '0', expected a number of at least 1" in capsys.readouterr().err


def test_the_help_of_a_bench_shows_its_own_options_and_the_common_ones(capsys):
    assert main(["kernels", "--help"]) == 0
    text = capsys.readouterr().out
    assert "--only" in text
    assert "--json" in text
