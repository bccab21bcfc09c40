"""Which files a node reads when another one says which: those below the folder that its user gave, and no other."""

from __future__ import annotations

from pathlib import Path

import pytest

import hogpour as hp
from hogpour.core.errors import ConfigError
from hogpour.core.job import DataConfig
from hogpour.node.job_files import files_of, kept_below


@pytest.mark.parametrize(
    ("named", "read"),
    [
        ("d.npz", "d.npz"),
        ("sets/d.npz", "sets/d.npz"),
        ("/first/data/d.npz", "d.npz"),
        ("../../shared/data/d.npz", "d.npz"),
        ("sets/../../d.npz", "d.npz"),
        ("/etc/passwd", "passwd"),
        ("C:\\data\\d.npz", "d.npz"),
        ("digits", "digits"),
    ],
)
def test_a_name_is_taken_below_the_folder(tmp_path: Path, named: str, read: str) -> None:
    kept = kept_below(str(tmp_path), DataConfig(train=named, test=named, format="csv"))
    assert (kept.train, kept.test, kept.format) == (read, read, "csv")


def test_a_link_leads_nowhere_else(tmp_path: Path) -> None:
    folder, secret = tmp_path / "data", tmp_path / "secret.csv"
    folder.mkdir()
    secret.write_text("a,b\n")
    (folder / "d.csv").symlink_to(secret)
    (folder / "up").symlink_to(tmp_path)
    for name in ("d.csv", "up/secret.csv"):
        with pytest.raises(ConfigError, match=f"^--data {folder}: {name} leads to {secret}, which lies outside"):
            kept_below(str(folder), DataConfig(train=name))
    (tmp_path / "linked").symlink_to(folder)  # the folder itself may be one
    assert kept_below(str(tmp_path / "linked"), DataConfig(train="e.csv")).train == "e.csv"


def test_the_files_of_a_job_are_named() -> None:
    def job(data: object) -> hp.Job:
        return hp.Job(data=data, model=hp.Linear(3), base="/ours")  # type: ignore[arg-type]

    assert files_of(job(DataConfig(train="d.npz", test="/t.csv"))) == [Path("/ours/d.npz"), Path("/t.csv")]
    assert files_of(job("digits")) == []
    assert files_of(job(hp.arrays([[1.0]] * 4, [0, 1, 0, 1], validation=0))) == []
