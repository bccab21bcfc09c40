"""What the doctor finds on machines that are not as they should be, and that it dies of none of it."""

from __future__ import annotations

import errno
import os
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from hogpour.cli import doctor
from hogpour.cli.doctor import Diagnosis
from hogpour.core import host
from hogpour.core.errors import ResourceError


@pytest.mark.parametrize(
    ("most", "verdict", "text"),
    [
        (39, "bad", "39 allowed, 40 needed"),
        (100, "warn", "100 allowed: enough for a cluster of 16 nodes"),
        (20000, "ok", "20000 allowed: enough for a cluster of 4,991 nodes"),
    ],
)
def test_open_files_are_held_against_the_members_of_a_cluster(
    most: int, verdict: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "most_descriptors", lambda: most)
    monkeypatch.setattr(host, "cores", lambda: 2)
    assert doctor._descriptors()[:3] == ("open files", verdict, text)


def test_places_that_cannot_be_written_are_named_with_what_to_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    assert doctor._places().verdict == "ok"
    assert list(tmp_path.iterdir()) == [], "it looks, and makes nothing"

    def access(path: Path, mode: int) -> bool:
        return False

    def gettempdir() -> str:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")

    monkeypatch.setattr(os, "access", access)
    monkeypatch.setattr(tempfile, "gettempdir", gettempdir)
    found = doctor._places()
    assert (found.verdict, found.text) == ("warn", "this folder, temporary files, this user's state: cannot be written")
    assert all(word in found.advice for word in ("run.model", "TMPDIR", "XDG_STATE_HOME"))


@pytest.mark.parametrize(
    ("limits", "verdict", "text"),
    [
        ({}, "ok", "no limits are set"),
        ({"memory": 2.5e9, "cores": 1.5}, "ok", "2.5 GB of memory, 1.5 cores"),
        ({"processes": 31}, "warn", "31 processes"),
        ({"processes": 32}, "ok", "32 processes"),
    ],
)
def test_limits_of_a_container_are_told(
    limits: dict[str, float], verdict: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "container_limits", lambda: limits)
    monkeypatch.setattr(host, "cores", lambda: 2)
    assert doctor._container()[:3] == ("container", verdict, text)


@pytest.mark.parametrize(("encoding", "verdict"), [("utf-8", "ok"), ("ascii", "warn"), ("latin-1", "warn")])
def test_an_encoding_that_lacks_characters_is_told(encoding: str, verdict: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(encoding=encoding))
    found = doctor._output()
    assert found.verdict == verdict
    assert encoding in found.text


def test_what_the_machine_refuses_to_a_check_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def _of_memory() -> Diagnosis:
        raise ResourceError("none left")

    def _of_files() -> Diagnosis:
        raise PermissionError(errno.EACCES, "Permission denied", "/secret")

    monkeypatch.setattr(doctor, "_CHECKS", (_of_memory, _of_files))
    assert list(doctor.examine()) == [
        Diagnosis("of memory", "bad", "none left"), Diagnosis("of files", "bad", "/secret: Permission denied"),
    ]  # fmt: skip
