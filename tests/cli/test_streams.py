"""Standard streams that are closed, full or of another encoding, and errors of files: one line that blames the right one."""

from __future__ import annotations

import argparse
import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from hogpour.cli import main as cli
from hogpour.cli.streams import spelled
from hogpour.cli.tables import print_json
from hogpour.core import host
from hogpour.core.errors import ResourceError

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}

JOB = '[model]\nlayers = [{layer = "linear", units = 10}]\n[run]\nepochs = 1\nreplicas = 1\n'


def shell(line: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a line in which ``hogpour`` is the command, and ``python`` this one."""
    line = f'python() {{ {sys.executable} "$@"; }}; hogpour() {{ python -m hogpour "$@"; }}; {line}'
    return subprocess.run(["bash", "-c", line], cwd=folder, env={**ENVIRONMENT, **variables}, capture_output=True, text=True, timeout=120)


PREPARED = "import os; from hogpour.cli.streams import prepare_streams as p; p(); "


@pytest.mark.robustness
@pytest.mark.real
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_what_is_closed_of_the_standard_descriptors_is_opened(closed: str, tmp_path: Path) -> None:
    code = f"{PREPARED}print(1, flush=True); assert os.open(os.devnull, os.O_RDONLY) > 2; import sys; sys.stderr.write(sys.stdin.read())"
    end = shell(f'python -c "{code}" {closed} || touch failed', tmp_path)
    assert not (tmp_path / "failed").exists(), end.stderr


@pytest.mark.robustness
@pytest.mark.long
@pytest.mark.real
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_run_without_standard_descriptors_writes_its_model(closed: str, tmp_path: Path) -> None:
    """libuv aborted, since the loop had got one of the three numbers."""
    (tmp_path / "job.toml").write_text(JOB)
    end = shell(f"hogpour node job.toml {closed}", tmp_path)
    assert end.returncode == 0, end.stderr
    assert (tmp_path / "model.safetensors").exists()
    end = shell(f"hogpour predict model.safetensors digits {closed}", tmp_path)
    assert end.returncode == 0, end.stderr


@pytest.mark.long
@pytest.mark.real
def test_a_program_that_embeds_a_node_trains_without_standard_descriptors(tmp_path: Path) -> None:
    """The loop of asyncio takes the three numbers then, so that nothing that replicas inherit has one of them."""
    (tmp_path / "embeds.py").write_text(
        "import asyncio, hogpour as hp\n"
        "async def main():\n"
        "    job = hp.Job(model=hp.Linear(10), epochs=1, replicas=1, save='m.safetensors')\n"
        "    async with hp.Node(job) as node:\n"
        "        summary = await node.wait()\n"
        "    assert (summary.outcome, summary.restarts) == ('finished', 0)\n"
        "asyncio.run(main())\n"
    )
    assert shell("python embeds.py <&- >&- 2>&-", tmp_path).returncode == 0


@pytest.mark.robustness
@pytest.mark.real
@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "ascii:strict", "cp1252", "utf-8"])
def test_any_text_can_be_written_in_any_encoding(encoding: str, tmp_path: Path) -> None:
    code = f"{PREPARED}import sys; print(chr(233), chr(0x2501), chr(0x2192), chr(0xdce9)); print(chr(0x2501), file=sys.stderr)"
    end = shell(f'python -c "{code}" > out 2> err', tmp_path, PYTHONIOENCODING=encoding)
    assert end.returncode == 0
    out = (tmp_path / "out").read_bytes()
    assert out.endswith(b"\\udce9\n")
    assert ("━".encode() in out) == (encoding == "utf-8")
    assert (tmp_path / "err").read_bytes().count(b"\n") == 1


def test_a_bar_is_spelled_as_the_encoding_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    for encoding, expected in (("utf-8", "━"), ("latin-1", "="), ("ascii", "=")):
        monkeypatch.setattr(sys, "stdout", SimpleNamespace(encoding=encoding))
        assert spelled("━", "=") == expected


def test_a_path_that_is_no_text_is_escaped_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    print_json(event="finished", model="caf\udce9")
    assert capsys.readouterr().out == '{"event": "finished", "model": "caf\\\\udce9"}\n'


@pytest.mark.robustness
@pytest.mark.real
@pytest.mark.parametrize("line", ["hogpour --help > /dev/full", "hogpour node --help >/dev/full"])
def test_a_full_standard_output_is_blamed_also_for_help(line: str, tmp_path: Path) -> None:
    end = shell(line, tmp_path)
    assert (end.returncode, end.stderr) == (1, "hogpour: standard output: No space left on device\n")


# -- whose error it is ------------------------------------------------------------------------------------------------


def failing(monkeypatch: pytest.MonkeyPatch, error: OSError) -> Callable[[], int]:
    def run(options: argparse.Namespace) -> int:
        raise error

    monkeypatch.setitem(cli._COMMANDS, "doctor", (SimpleNamespace(add_arguments=lambda parser: None, run=run), ""))  # type: ignore[arg-type]
    return lambda: cli.main(["doctor"])


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "/a/m.safetensors"), "/a/m.safetensors: Permission denied"),
        (OSError(errno.ENAMETOOLONG, "File name too long", b"b"), "b: File name too long"),
        (OSError(errno.EROFS, "Read-only file system", "x"), "x: Read-only file system"),
        (OSError(errno.EMFILE, "Too many open files"), "Too many open files: this process may have 77; raise it, such as by"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "Cannot allocate memory: look at the limits of this user"),
    ],
)
def test_an_error_of_the_system_names_its_file_or_the_limit(
    error: OSError, text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every one of them was called one of standard output."""
    monkeypatch.setattr(host, "most_descriptors", lambda: 77)
    assert failing(monkeypatch, error)() == 2
    err = capsys.readouterr().err
    assert err.startswith(f"hogpour: {text}")
    assert err.count("\n") == 1


def test_an_error_of_the_system_that_nobody_expected_is_a_bug(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(OSError, match="not connected"):
        failing(monkeypatch, OSError(errno.ENOTCONN, "not connected"))()
    cli._tell_of_a_bug(OSError, OSError("not connected"), None)
    assert capsys.readouterr().err == "OSError: not connected\nhogpour: this is a bug of hogpour; please report it with the lines above\n"


def test_too_few_descriptors_are_told_before_a_library_aborts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(host, "most_descriptors", lambda: 16)
    assert cli.main(["doctor"]) == 2
    assert capsys.readouterr().err == (
        "hogpour: open files: this process may have 16, 32 are needed; raise it, such as by ulimit -n 1024\n"
    )
    monkeypatch.setattr(host, "most_descriptors", lambda: 39)
    host.check_descriptors(1)
    with pytest.raises(ResourceError, match="may have 39, 40 are needed for 2 replicas"):
        host.check_descriptors(2)


@pytest.mark.robustness
@pytest.mark.long
@pytest.mark.real
@pytest.mark.parametrize("most", [10, 20, 31, 36])
def test_a_run_with_few_descriptors_trains_or_says_so_in_a_line(most: int, tmp_path: Path) -> None:
    (tmp_path / "job.toml").write_text(JOB)
    end = shell(f"ulimit -n {most}; hogpour node job.toml", tmp_path)
    assert end.returncode == (0 if most >= host.descriptors(1) else 2)
    assert end.stderr.count("\n") == (most < host.descriptors(1))


# -- kernels ----------------------------------------------------------------------------------------------------------


@pytest.mark.robustness
@pytest.mark.slow
@pytest.mark.real
def test_where_no_kernel_can_be_kept_one_line_says_what_to_do(tmp_path: Path) -> None:
    """A machine that is read-only as a whole; numba then says "no locator available", in the midst of an import."""
    code = "import sys, numba.core.caching as c; c.CacheImpl._locator_classes = []; from hogpour.cli.main import main; sys.exit(main())"
    (tmp_path / "job.toml").write_text(JOB)
    end = shell(f'python -c "{code}" sim job.toml', tmp_path)
    assert end.returncode == 2
    assert end.stderr.startswith("hogpour: NUMBA_CACHE_DIR = ")
    assert end.stderr.endswith("cannot be written to keep compiled kernels; set NUMBA_CACHE_DIR to one that can\n")
    assert end.stderr.count("\n") == 1


@pytest.mark.slow
@pytest.mark.real
def test_kernels_that_may_not_be_compiled_are_one_line(tmp_path: Path) -> None:
    end = shell("hogpour sim", tmp_path, NUMBA_DISABLE_JIT="1")
    assert (end.returncode, end.stderr) == (2, "hogpour: NUMBA_DISABLE_JIT is set, and kernels must be compiled; unset it\n")


def test_no_temporary_folder_is_no_reason_to_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    import tempfile

    def gettempdir() -> str:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", gettempdir)
    assert all(folder.name == "hogpour" for folder in host._cache_folders())


@pytest.mark.parametrize("home", ["", None])
def test_a_home_that_is_empty_is_none(home: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user root wrote to /.cache."""
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("HOME", raising=False)
    if home is not None:
        monkeypatch.setenv("HOME", home)
    assert Path("/.cache/hogpour") not in list(host._cache_folders())
