"""Signals at every phase of a run: it ends in order, or at once, and its model file is the old one or a whole new one.

The process sends them to itself, see ``support.sends``.
"""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from support.robustness import Case, hold_process
from support.sends import SENDS
from support.trained import DATA, MODEL, model

pytestmark = [pytest.mark.robustness, pytest.mark.real]

JOB = f"""
[data]
train = "a.csv"
[model]
layers = [{{layer = "linear", units = 3}}]
[algorithm]
optimiser = {{name = "momentum", lr = 0.05}}
[run]
epochs = 50
batch = 4
replicas = 1
model = "{MODEL}"
"""

PHASES = {
    "before anything": ("hogpour.cli.streams", "prepare_streams"),
    "reading arguments": ("hogpour.cli.main", "_parser"),
    "looking at the machine": ("hogpour.core.host", "set_kernel_cache"),
    "before the loop": ("hogpour.cli.node", "run"),
    "reading the job": ("hogpour.core.job", "read_job"),
    "starting replicas": ("hogpour.machine.supervisor", "Supervisor.start"),
    "reading data": ("hogpour.node.local_machine", "prepare"),
    "compiling": ("hogpour.node.local_machine", "rehearse"),
    "giving orders": ("hogpour.machine.supervisor", "Supervisor.run"),
    "training": ("hogpour.node.training", "Training._rang"),
    "evaluating": ("hogpour.model.model", "Model.evaluate"),
    "judging the end": ("hogpour.node.evaluator", "Evaluator.take_final"),
    "writing the model": ("hogpour.model.model_file", "save"),
    "syncing the model": ("os", "fsync"),
    "naming the model": ("os", "replace"),
    "closing": ("hogpour.node.local_machine", "LocalMachine.close"),
    "reporting": ("hogpour.cli.report", "TableReporter.finished"),
}
FIRST_NODE = {
    "listening": ("hogpour.net.listener", "Listener.start"),
    "beginning": ("hogpour.node.first_node", "FirstNode.train"),
    "coordinating": ("hogpour.cluster.coordinator", "Coordinator.tick"),
    "concluding": ("hogpour.node.first_node", "FirstNode.conclude"),
    "closing the cluster": ("hogpour.node.joining", "Endpoint.close"),
}
EARLY = {"before anything", "reading arguments", "looking at the machine", "before the loop", "reading the job"}
"""Nothing was begun: the system's own way to end a program is one."""

SIGNALS = (("SIGINT", "SIGTERM,SIGINT,SIGHUP", "SIGUSR1"), ("SIGTERM", "SIGINT,SIGTERM", "SIGQUIT"))
"""Of every other phase: one, several at once, and one of those that killed once."""


def cases() -> list[Case]:
    made = []
    for place, phase in enumerate(PHASES):
        for k, numbers in enumerate(SIGNALS[place % 2]):
            codes = {0, 130} if "," in numbers or phase in EARLY or phase == "reporting" else {0}
            if not numbers.startswith("SIGINT"):
                codes |= {75}  # where the run had not finished
            if phase in EARLY:
                codes |= {-2, -15, 130, 143, *(-getattr(signal, number) for number in numbers.split(","))}
            files = {"job.toml": JOB.encode(), "a.csv": DATA["a.csv"], "sends.py": SENDS, **({MODEL: model()} if k % 2 else {})}
            made.append(
                Case(name=f"{phase}-{numbers}", files=files, run=(*PHASES[phase], numbers), says=("",), codes=frozenset(codes), writes=frozenset({MODEL}))
            )
    return made


@pytest.mark.long
@pytest.mark.parametrize(("phase", "numbers"), list(zip(FIRST_NODE, ["SIGINT", "SIGTERM,SIGINT"] * len(FIRST_NODE))))
def test_a_signal_ends_a_first_node_in_order_whenever_it_comes(phase: str, numbers: str, tmp_path: Path) -> None:
    job = JOB.replace("[algorithm]", '[algorithm]\nname = "downpour"')
    files = {"job.toml": job.encode(), "a.csv": DATA["a.csv"], "sends.py": SENDS}
    codes = frozenset({0, 130} if "," in numbers or phase == "listening" else {0})
    case = Case(name=phase, files=files, run=(), says=("",), codes=codes, writes=frozenset({MODEL}))
    line = f"$PYTHON sends.py '{' '.join(FIRST_NODE[phase])} {numbers}' node job.toml --listen=127.0.0.1:0"
    hold_process(case, tmp_path / "run", f"{line}; code=$?; rm -rf *.snapshot; exit $code")


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=case.name, marks=[] if case.name == "writing the model-SIGINT" else pytest.mark.long) for case in cases()]
)
def test_a_signal_ends_a_run_in_order_whenever_it_comes(case: Case, tmp_path: Path) -> None:
    assert isinstance(case.run, tuple)
    hold_process(case, tmp_path / "run", f"exec $PYTHON sends.py '{' '.join(case.run)}' node job.toml")
