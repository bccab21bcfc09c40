"""The checks of all tests: each kind of leak fails the test that made it, and none hangs."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress

import pytest

pytest_plugins = ("pytester",)

LEAKS = {
    "descriptor": "import os\ndef test_it(): os.dup(1)",
    "process": "import subprocess, sys\ndef test_it():\n"
    "    global p\n    p = subprocess.Popen([sys.executable, '-c', 'input()'], stdin=subprocess.PIPE)",
    "/dev/shm": "def test_it(tmp_path): open('/dev/shm/hogpour-leak-test', 'w').close()",
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", LEAKS)
def test_a_leak_fails_the_test_that_leaked(kind: str, pytester: pytest.Pytester, request: pytest.FixtureRequest) -> None:
    tests = request.config.rootpath / "tests"
    pytester.makeconftest((tests / "conftest.py").read_text())
    pytester.makepyfile(LEAKS[kind] + "\n")
    try:
        result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-W", "ignore", "-o", f"pythonpath={tests}")
    finally:
        with suppress(FileNotFoundError):
            os.unlink("/dev/shm/hogpour-leak-test")
    assert f"left behind: {kind}" in result.stdout.str()
    result.assert_outcomes(passed=1, errors=1)


OTHER = """
import multiprocessing, sys
open("go").read()
lock = multiprocessing.get_context("spawn").Lock()
open("made", "w").close()
sys.stdin.read()
"""
MEANWHILE = """
def test_it():
    open("go", "w").close()
    open("made").close()
"""


@pytest.mark.slow
@pytest.mark.real
def test_a_semaphore_of_another_run_is_no_leak(pytester: pytest.Pytester, request: pytest.FixtureRequest) -> None:
    """glibc maps a new semaphore before it has its name: the process that made it names another file."""
    tests = request.config.rootpath / "tests"
    pytester.makeconftest((tests / "conftest.py").read_text())
    inner = pytester.makepyfile(MEANWHILE)
    for name in ("go", "made"):
        os.mkfifo(pytester.path / name)
    other = subprocess.Popen([sys.executable, "-c", OTHER], cwd=pytester.path, stdin=subprocess.PIPE)
    try:
        options = ("-p", "no:cacheprovider", "-W", "ignore", "-o", f"pythonpath={tests}")
        pytester.runpytest_subprocess(*options, inner).assert_outcomes(passed=1)
    finally:
        other.communicate()
    assert other.returncode == 0


def test_a_test_that_hangs_fails_in_minutes(request: pytest.FixtureRequest) -> None:
    assert request.config.pluginmanager.hasplugin("timeout")
    assert 0 < float(request.config.getini("timeout")) <= 600
