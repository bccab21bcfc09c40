"""The golden master: what the traces of the simulator and the command line were, to compare a changed tree with.

    python tests/support/golden.py traces CHECKOUT [0-199] > traces.txt    # hashes of a sweep and of simulations
    python tests/support/golden.py commands CHECKOUT > commands.txt        # exit codes and words of some forty commands

Run it on the old checkout and on the new one and compare with ``diff``. Nothing is stored in the repository: the bits
of a trace belong to processors of one kind. Of commands, numbers and repeated lines are left out.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

MODEL = '[data]\ntrain = "digits"\n[model]\nlayers = [{layer = "linear", units = 10}]\nloss = "softmax_xent"\n'
SCHEMES = ("ssgd", "ssp", "easgd", "dc_asgd", "diloco", "softsync", "staleness_aware", "sandblaster")
JOBS = {scheme: f'{MODEL}[algorithm]\nname = "{scheme}"\n[run]\nepochs = 12\n' for scheme in SCHEMES} | {
    "typo": MODEL + '[algorithm]\nnam = "ssgd"\n',
    "layer": '[data]\ntrain = "digits"\n[model]\nlayers = [{layer = "liner", units = 3}]\n',
    "range": MODEL + "[run]\nbatch = 0\n",
    "nofile": MODEL.replace("digits", "missing.npz"),
    "nottoml": "[data\n",
}

SIMULATIONS = [
    "sim --nodes 4 --epochs 2 --log",
    "sim --nodes 5 --replicas 2 --serving 2 --epochs 3 --compute exponential:0.1 --log",
    "sim --scenario {examples}/spot.toml --epochs 2 --log",
    "sim --nodes 30 --model-only --parameters 100000 --compute log_normal:1 --until 60 --log",
    *(f"sim {job}.toml --nodes 4 --serving 1 --compute pareto:0.05 --seed 3 --log"
      for job in SCHEMES),
]  # fmt: skip

COMMANDS = [
    "", "--help", "node --help", "status --help", "sim --help", "sweep --help", "compare --help", "predict --help",
    "doctor --help", "nonsense", "node --nonsense",
    "node --epochs 20 --replicas 1", "node --epochs 20 --replicas 1 --json --model json.safetensors",
    "predict model.safetensors digits", "predict model.safetensors digits --json",
    "node --resume --epochs 30 --replicas 1", "node missing.toml", "node typo.toml", "node layer.toml",
    "node range.toml", "node nofile.toml", "node nottoml.toml", "node --replicas 0", "node --epochs 0",
    "node --data folder", "node --join 127.0.0.1:1 --epochs 3", "node --listen nonsense", "node --listen 192.0.2.1:0",
    "node --listen 127.0.0.1:0 --epochs 20 --replicas 1", "node sandblaster.toml --replicas 1 --model sb.safetensors",
    "node sandblaster.toml --replicas 1 --model sb.safetensors --resume --epochs 13",
    "status 127.0.0.1:1", "status nonsense", "sim --nodes 2 --epochs 1", "sim --nodes 2 --epochs 1 --json",
    "sim sandblaster.toml --nodes 2", "sim --nodes 0", "sim --scenario missing.toml", "sim --compute nonsense:1",
    "sim --model-only --nodes 5 --until 2", "sim --plot /nonexistent/x.png --nodes 2 --epochs 1",
    "sweep --seeds 0-3", "sweep --seeds 0-3 --json", "sweep --seeds x", "sweep --without list",
    "sweep --without nonsense", "sweep --seeds 20 --without share",
    "compare --schemes hogwild,sync_sgd --epochs 2 --replicas 1",
    "compare --schemes downpour,ssgd --sim --nodes 2 --epochs 1 --json", "compare --schemes nonsense",
    "compare --schemes downpour --nodes 2", "compare --schemes downpour --sim --plot /nonexistent/x.png",
    "predict missing.safetensors digits", "predict model.safetensors missing.npz", "doctor", "doctor --json",
]  # fmt: skip

_NUMBER = re.compile(r"(?<![A-Za-z_])[+-]?\d[\d,]*(\.\d+)?(e[+-]?\d+)?%?")


def main() -> None:
    """Print one part of the golden master of a checkout."""
    kind, checkout = sys.argv[1], Path(sys.argv[2]).resolve()
    with tempfile.TemporaryDirectory() as folder:
        for name, text in JOBS.items():
            Path(folder, f"{name}.toml").write_text(text)
        if kind == "traces":
            _traces(checkout, folder, sys.argv[3] if len(sys.argv) > 3 else "0-199")
        else:
            for command in COMMANDS:
                code, out, err = _run(checkout, folder, command)
                print(f"$ {command}\n[{code}]\n{_words(out, folder)}--\n{_words(err, folder)}")


def _traces(checkout: Path, folder: str, seeds: str) -> None:
    code, out, err = _run(checkout, folder, f"sweep --seeds {seeds} --json")
    assert code == 0, err
    for line in out.splitlines():
        event = json.loads(line)
        if event["event"] == "seed":
            print(event["seed"], event["outcome"], event["trace"])
    for command in SIMULATIONS:
        code, out, err = _run(checkout, folder, command)
        table, _, last = out.rpartition("simulated in ")  # in so many seconds of this machine
        said = hashlib.sha256(table.encode()).hexdigest()[:32]
        print(command, code, said, last.partition(", ")[2].strip(), err.strip())


def _run(checkout: Path, folder: str, command: str) -> tuple[int, str, str]:
    words = [word.format(examples=checkout / "examples") for word in command.split()]
    environment = {**os.environ, "PYTHONPATH": str(checkout), "COLUMNS": "100", "XDG_STATE_HOME": folder}
    done = subprocess.run(
        [sys.executable, "-m", "hogpour", *words], cwd=folder, env=environment, capture_output=True, text=True
    )
    return done.returncode, done.stdout, done.stderr


def _words(text: str, folder: str) -> str:
    """Leave numbers out, and lines that are like the one before them without."""
    lines: list[str] = []
    for line in text.replace(folder, "FOLDER").splitlines():
        plain = re.sub(r" +", " ", _NUMBER.sub("#", line)).strip()
        if not lines or lines[-1] != plain:
            lines.append(plain)
    return "".join(f"{line}\n" for line in lines)


if __name__ == "__main__":
    main()
