"""The checks of all tests: each kind of leak fails the test that made it, and none hangs."""

from __future__ import annotations

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
        import os
        from contextlib import suppress

        with suppress(FileNotFoundError):
            os.unlink("/dev/shm/hogpour-leak-test")
    assert f"left behind: {kind}" in result.stdout.str()
    result.assert_outcomes(passed=1, errors=1)


def test_a_test_that_hangs_fails_in_minutes(request: pytest.FixtureRequest) -> None:
    assert request.config.pluginmanager.hasplugin("timeout")
    assert 0 < float(request.config.getini("timeout")) <= 600
