"""The command line as its users meet it: processes, exit codes, one-line errors, signals, what is left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest
from support.processes import ROOT, hear_signals

from hogpour.cli import main as cli
from hogpour.core.errors import DataWarning

LONG = """
[model]
layers = [{layer = "linear", units = 32}, {layer = "relu"}, {layer = "linear", units = 10}]
[algorithm]
name = "hogwild"
optimiser = {name = "sgd", lr = 0.1}
[run]
epochs = 1000000
replicas = 2
"""


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "hogpour", *arguments]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "default"}


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), cwd=folder, env=environment(), capture_output=True, text=True, timeout=120)


@contextmanager
def started(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A command that runs; killed, with its children, when the block ends."""
    process = subprocess.Popen(command(*arguments), cwd=folder, env=environment(), stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True, preexec_fn=hear_signals)  # fmt: skip
    children: list[psutil.Process] = []
    try:
        children = psutil.Process(process.pid).children(recursive=True)
        yield process
    finally:
        for child in children:
            if child.is_running():
                child.kill()
        process.kill()
        process.communicate()


def until_training(process: subprocess.Popen[str]) -> dict[str, object]:
    """Read JSON lines until the first that says progress."""
    assert process.stdout is not None
    for line in process.stdout:
        fields = json.loads(line)
        if fields["event"] == "progress":
            return fields
    raise AssertionError("the run ended before it made progress")


def job_file(folder: Path, text: str = LONG) -> str:
    (folder / "job.toml").write_text(text)
    return "job.toml"


# -- in this process --------------------------------------------------------------------------------------------------


@pytest.mark.real
@pytest.mark.parametrize(("options", "light"), [(["--json"], True), ([], False)])
def test_a_probe_of_the_status_waits_for_no_library_of_arrays(options: list[str], light: bool) -> None:
    """It took longer than the second that a Kubernetes probe has, mostly for numpy and for drawing."""
    script = f"import sys\nfrom hogpour.cli.main import main\nassert main(['status', '127.0.0.1:1', '--insecure', *{options}]) == 1\n"
    script += f"heavy = {{'numpy', 'numba', 'scipy', 'sklearn', *(['rich'] if {light} else [])}} & set(sys.modules)\n"
    script += "assert not heavy, heavy"
    subprocess.run([sys.executable, "-c", script], env=environment(), check=True, capture_output=True)


def test_help_names_every_command_and_gives_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--help"], ["node", "--help"], ["predict", "--help"], ["doctor", "--help"]):
        with pytest.raises(SystemExit) as end:
            cli.main(arguments)
        assert end.value.code == 0
        assert "example: python -m hogpour" in capsys.readouterr().out


def test_help_imports_nothing_heavy() -> None:
    """``--help`` answers within 0.2 s because it waits for no library."""
    script = "import sys\nfrom hogpour.cli import main\nmain._parser().format_help()\n"
    script += "heavy = {'numpy', 'numba', 'scipy', 'rich', 'uvloop', 'sklearn', 'msgspec', 'asyncio'} & set(sys.modules)\n"
    script += "assert not heavy, heavy"
    subprocess.run([sys.executable, "-c", script], env=environment(), check=True)


@pytest.mark.parametrize("arguments", [["nod"], ["node", "--epoch"], ["predict"], ["node", "--epochs", "x"]])
def test_bad_use_ends_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    assert end.value.code == 2
    assert "error:" in capsys.readouterr().err


def test_no_command_prints_help_and_ends_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2
    assert "COMMAND" in capsys.readouterr().out


# -- bad input: one line, exit code 2, nothing written ------------------------------------------------------------------

MODEL = '[model]\nlayers = [{layer = "linear", units = 10}]\n'

BAD_JOBS = {
    "a key that is not known": ("[run]\nepoch = 3\n", "job.toml: run.epoch: no such key; did you mean 'epochs'?"),
    "a layer that is not known": (
        '[model]\nlayers = [{layer = "lineer", units = 3}]\n',
        "job.toml: model.layers[0]: layer \"lineer\" is not known; did you mean 'linear'?",
    ),
    "a wrong type": ("[run]\nepochs = 'many'\n", "job.toml: run.epochs = 'many': expected int, got str"),
    "not TOML": ("epochs: 3\n", "job.toml: not TOML: Expected '=' after a key in a key/value pair (at line 1, column 7)"),
    "a missing data file": (MODEL + '[data]\ntrain = "x.npz"\n', "x.npz: no such file"),
    "a truncated data file": (MODEL + '[data]\ntrain = "short.npz"\n', "short.npz: truncated or corrupt"),
    "NaN in the data": (MODEL + '[data]\ntrain = "nan.npz"\n', "nan.npz: "),
    "a label out of range": (MODEL + '[data]\ntrain = "good.npz"\ntest = "label.npz"\n', "label.npz: "),
    "shapes that do not fit": (
        '[model]\nlayers = [{layer = "conv2d", channels = 2, kernel = 5}, {layer = "linear", units = 3}]\n'
        '[data]\ntrain = "good.npz"\n',
        "model: layer 0.conv2d: expected an input of (channels, rows, columns), got (4,); set model.input in the job",
    ),
    "an unwritable output": (MODEL + "[run]\nmodel = 'no/where.safetensors'\n", "there is no folder"),
    "0 replicas": (MODEL + "[run]\nreplicas = 0\n", "job.toml: run.replicas = 0, expected at least 1"),
    "too many scores": ('[model]\nlayers = [{layer = "linear", units = 3}]\n', "gives 3 scores, SoftmaxXent needs 10"),
}


@pytest.fixture
def data_folder(tmp_path: Path) -> Path:
    x, y = np.random.default_rng(0).random((40, 4), np.float32), np.arange(40) % 3
    np.savez(tmp_path / "good.npz", x=x, y=y)
    np.savez(tmp_path / "label.npz", x=x, y=np.full(40, 7))
    (tmp_path / "short.npz").write_bytes((tmp_path / "good.npz").read_bytes()[:300])
    x[3, 2] = np.nan
    np.savez(tmp_path / "nan.npz", x=x, y=y)
    return tmp_path


@pytest.mark.robustness
@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize("case", BAD_JOBS)
def test_bad_input_is_one_line_and_writes_nothing(
    case: str, data_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(data_folder)
    text, expected = BAD_JOBS[case]
    job_file(data_folder, text)
    before = set(os.listdir(data_folder))
    assert cli.main(["node", "job.toml"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("hogpour: ")
    assert expected in err
    assert err.count("\n") == 1
    assert "Traceback" not in err
    assert set(os.listdir(data_folder)) == before


def test_a_model_file_that_is_none_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "m.safetensors").write_bytes(b"hello")
    assert cli.main(["predict", str(tmp_path / "m.safetensors"), "digits"]) == 2
    assert "not a whole safetensors file" in capsys.readouterr().err
    assert cli.main(["predict", str(tmp_path / "none.safetensors"), "digits"]) == 2
    assert "no such file" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["node", "no.toml"], ["status", "nowhere"], ["predict", "no", "digits"], ["sim", "no.toml"], ["compare", "no.toml", "--schemes", "downpour"]])
def test_the_last_json_line_of_a_command_that_fails_has_the_error(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """It was on standard error only."""
    code, told = cli.main([*words, "--json"]), capsys.readouterr()
    assert json.loads(told.out) == {"event": "failed", "text": told.err.strip().removeprefix("hogpour: "), "exit_code": code}
    assert code == 2


def test_a_word_about_the_data_is_a_line_like_those_of_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)  # and back, afterwards
    assert cli.main(["predict", str(tmp_path / "none"), "digits"]) == 2
    assert warnings.formatwarning(DataWarning("is odd"), DataWarning, "load.py", 1) == "hogpour: is odd\n"
    assert warnings.formatwarning(UserWarning("is odd"), UserWarning, "x.py", 1) == "x.py:1: UserWarning: is odd\n"


# -- processes ----------------------------------------------------------------------------------------------------------



@pytest.mark.real
@pytest.mark.slow
def test_the_default_job_ends_with_a_model_and_a_summary(tmp_path: Path) -> None:
    end = run(tmp_path, "node")
    assert end.returncode == 0, end.stderr
    assert end.stderr == ""
    lines = end.stdout.splitlines()
    assert lines[-1] == "model: model.safetensors"
    assert lines[-2].startswith("trained 300 epochs in ")
    assert float(lines[-2].rpartition("accuracy ")[2]) >= 0.96
    assert "\x1b" not in end.stdout
    assert os.listdir(tmp_path) == ["model.safetensors"]


@pytest.mark.long
@pytest.mark.real
def test_json_lines_end_with_the_summary_and_predict_agrees(tmp_path: Path) -> None:
    end = run(tmp_path, "node", "--json", "--epochs", "20")
    assert end.returncode == 0, end.stderr
    lines = [json.loads(line) for line in end.stdout.splitlines()]
    last = lines[-1]
    assert last["event"] == "finished"
    assert last["examples"] == 20 * 1438
    assert {"seconds", "loss", "accuracy", "model", "outcome"} <= set(last)
    predicted = run(tmp_path, "predict", "model.safetensors", "digits")
    assert predicted.returncode == 0
    assert len(predicted.stdout.splitlines()) == 359
    assert f"accuracy {last['accuracy']:.4f}" in predicted.stderr
    as_json = run(tmp_path, "predict", "model.safetensors", "digits", "--json")
    assert [json.loads(line)["prediction"] for line in as_json.stdout.splitlines()] == predicted.stdout.splitlines()


@pytest.mark.robustness
@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize(
    "number", [signal.SIGINT, *(pytest.param(other, marks=pytest.mark.long) for other in (signal.SIGTERM, signal.SIGHUP))]
)
def test_a_signal_stops_and_keeps_the_model(number: signal.Signals, tmp_path: Path) -> None:
    with started(tmp_path, "node", job_file(tmp_path), "--json") as process:
        until_training(process)
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    assert process.returncode == (0 if number == signal.SIGINT else 75), err
    assert json.loads(out.splitlines()[-1])["outcome"] == "stopped"
    assert (tmp_path / "model.safetensors").exists()
    assert sorted(os.listdir(tmp_path)) == ["job.toml", "model.safetensors"]
    assert not [child for child in children if child.is_running()]
    assert run(tmp_path, "predict", "model.safetensors", "digits").returncode == 0


@pytest.mark.robustness
@pytest.mark.long
@pytest.mark.real
def test_a_second_ctrl_c_kills(tmp_path: Path) -> None:
    """A replica that is stopped (SIGSTOP) does not end by itself, so the first Ctrl+C is still waiting."""
    with started(tmp_path, "node", job_file(tmp_path), "--json") as process:
        until_training(process)
        children = psutil.Process(process.pid).children(recursive=True)
        for child in children:
            child.suspend()
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
        _, alive = psutil.wait_procs(children, timeout=10)
    assert process.returncode == 130
    assert not alive
    assert not (tmp_path / "model.safetensors").exists()


@pytest.mark.robustness
@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize("whom", ["node", "all"])
def test_kill_9_leaves_nothing_behind(whom: str, tmp_path: Path) -> None:
    names = set(os.listdir("/dev/shm"))
    with started(tmp_path, "node", job_file(tmp_path), "--json") as process:
        until_training(process)
        children = psutil.Process(process.pid).children(recursive=True)
        assert len(children) == 2
        for child in children if whom == "all" else []:
            child.kill()
        process.kill()
        process.communicate(timeout=30)
        _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive
    assert set(os.listdir("/dev/shm")) == names


@pytest.mark.long
@pytest.mark.real
def test_a_node_that_is_killed_before_it_gave_orders_leaves_no_replica(tmp_path: Path) -> None:
    with started(tmp_path, "node", job_file(tmp_path), "--json") as process:
        node = psutil.Process(process.pid)
        while not (children := node.children(recursive=True)):
            pass
        process.kill()
        process.communicate(timeout=30)
        _, alive = psutil.wait_procs(children, timeout=20)
    assert not alive


@pytest.mark.robustness
@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_before_training_ends_cleanly_too(number: signal.Signals, tmp_path: Path) -> None:
    """While data is read a signal was once a traceback, or death without a word."""
    with started(tmp_path, "node", job_file(tmp_path)) as process:
        children = children_of(process)
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
        _, alive = psutil.wait_procs(children, timeout=10)
    assert process.returncode == (0 if number == signal.SIGINT else 75), err
    assert "stopped" in out
    assert "Traceback" not in out + err
    assert not alive
    assert os.listdir(tmp_path) == ["job.toml"]


def children_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Wait until replicas have been started; by then the signal handlers stand."""
    node = psutil.Process(process.pid)
    while len(children := node.children(recursive=True)) < 2:
        pass
    return children


@pytest.mark.long
@pytest.mark.real
def test_a_replica_killed_before_it_has_orders_is_restarted(tmp_path: Path) -> None:
    """Under uvloop, writing to a process that has ended is another error than under asyncio: it was a traceback."""
    with started(tmp_path, "node", "--json", "--epochs", "20") as process:
        children_of(process)[0].kill()
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    last = json.loads(out.splitlines()[-1])
    assert (last["outcome"], last["restarts"]) == ("finished", 1)
    assert last["examples"] >= 20 * 1438


@pytest.mark.long
@pytest.mark.real
def test_a_signal_that_is_ignored_stays_ignored(tmp_path: Path) -> None:
    """nohup: the terminal goes, the run stays."""
    script = f"trap '' HUP; exec {' '.join(command('node', job_file(tmp_path), '--json'))}"
    process = subprocess.Popen(["bash", "-c", script], cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, text=True)
    try:
        until_training(process)
        process.send_signal(signal.SIGHUP)
        until_training(process)
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=30)
    finally:
        process.kill()
        process.communicate()
    assert json.loads(out.splitlines()[-1])["outcome"] == "stopped"


@pytest.mark.long
@pytest.mark.real
def test_modules_of_the_current_folder_do_not_replace_pythons(tmp_path: Path) -> None:
    """``python -m`` looks into the current folder first; a console script does not, and neither must its replicas."""
    (tmp_path / "random.py").write_text("raise SystemExit('the wrong module')\n")
    script = "import sys; from hogpour.cli.main import main; sys.exit(main(['node', '--epochs', '2']))"
    end = subprocess.run([sys.executable, "-P", "-c", script], cwd=tmp_path, env=environment(), capture_output=True,
                         text=True, timeout=60)  # fmt: skip
    assert end.returncode == 0, end.stderr


@pytest.mark.robustness
@pytest.mark.long
@pytest.mark.real
def test_a_full_standard_output_is_one_line(tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        end = subprocess.run(command("node", "--json", "--epochs", "2"), cwd=tmp_path, env=environment(), stdout=full,
                             stderr=subprocess.PIPE, text=True, timeout=60)  # fmt: skip
    assert end.returncode == 1
    assert end.stderr == "hogpour: standard output: No space left on device\n"


@pytest.mark.real
@pytest.mark.slow
def test_a_diverged_run_ends_with_1(tmp_path: Path) -> None:
    text = LONG.replace("lr = 0.1", "lr = 1e20")
    end = run(tmp_path, "node", job_file(tmp_path, text))
    assert end.returncode == 1
    assert "the loss is not finite any more" in end.stdout
    assert "Traceback" not in end.stdout + end.stderr


@pytest.mark.robustness
@pytest.mark.long
@pytest.mark.real
def test_output_into_a_closed_pipe_is_no_traceback(tmp_path: Path) -> None:
    run(tmp_path, "node", "--epochs", "1")
    script = f"{sys.executable} -m hogpour predict model.safetensors digits --json | head -1"
    end = subprocess.run(["bash", "-c", script], cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=60)
    assert "Traceback" not in end.stderr
    assert len(end.stdout.splitlines()) == 1


def test_doctor_looks_at_everything_and_changes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor"]) in (0, 1)
    out = capsys.readouterr().out
    for check in ("cores", "blas", "threading", "shared memory", "open files", "ports", "kernel cache", "disk"):
        assert f"  {check} " in out
    cli.main(["doctor", "--json"])
    for line in capsys.readouterr().out.splitlines():
        assert {"check", "verdict", "text", "advice"} == set(json.loads(line))
