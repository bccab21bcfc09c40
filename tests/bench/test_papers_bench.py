"""The bench of papers: its criteria on made-up errors, its tables on made-up runs, and one real run of a tiny size."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from bench import papers
from bench.__main__ import main
from bench._papers import dc_asgd, runs, staleness_aware


def test_a_fixed_rate_fails_from_five_points_on_and_a_corrected_one_keeps_up_to_one():
    assert [staleness_aware.fails(error, 10.0) for error in (14.9, 15.0)] == [False, True]
    assert [staleness_aware.keeps_up(error, 10.0) for error in (9.0, 11.0, 11.1)] == [True, True, False]


def test_compensation_recovers_half_of_a_gap_and_nothing_of_none():
    assert [dc_asgd.recovers(error, 12.0, 10.0) for error in (11.0, 11.1)] == [True, False]
    assert not dc_asgd.recovers(5.0, 10.0, 10.0)
    assert dc_asgd.share(11.5, 12.0, 10.0) == 25.0
    assert dc_asgd.share(11.5, 10.0, 10.0) is None


def test_a_verdict_is_of_the_medians_and_counts_the_seeds():
    assert runs.verdict(staleness_aware.fails, [20.0, 10.0, 30.0], [10.0, 10.0, 10.0]) == {
        "seeds_agree": "2 of 3",
        "reproduced": "yes",
    }


def test_a_run_that_ended_without_a_model_has_the_error_of_chance():
    assert runs.error(SimpleNamespace(accuracy=float("nan"))) == runs.error(SimpleNamespace(accuracy=None)) == 90.0


@pytest.mark.parametrize("works", [True, False])
def test_the_last_column_follows_what_was_measured(works, monkeypatch, capsys):
    def fake(scheme, *, workers, batch, epochs, seed, size):
        late = workers > 1 and (not works or type(scheme).__name__ == "Asgd")
        return SimpleNamespace(accuracy=0.9 - 0.01 * workers * late, mean_staleness=workers - 1.0)

    for module in (staleness_aware, dc_asgd):
        monkeypatch.setattr(module, "run", fake)
    assert main(["papers", "--json", "--seeds", "2"]) == 0
    tables = json.loads(capsys.readouterr().out)["tables"]
    assert len(tables) == len(papers.PAPERS)
    for table in tables:
        first, *rest = table["rows"]
        assert "reproduced" not in first
        for row in rest:
            assert row["reproduced"] == ("yes" if works or row["scheme"].startswith("asgd") else "no")


def test_a_tiny_run_is_as_late_as_its_workers_are_many(shared_data: Path):
    del shared_data
    import hogpour as hp

    size = runs.Size(examples=320, tests=100, hidden=4)
    report = runs.run(hp.Asgd(optimiser=hp.Sgd(0.1)), workers=3, batch=4, epochs=1, seed=0, size=size)
    assert report.outcome == "finished"
    assert 0.5 < report.mean_staleness <= 2.0
