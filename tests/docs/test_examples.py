"""Example jobs build, and train on what they name where it is there; the README says what is so, and its code runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest

import hogpour as hp
from hogpour.core import job as config
from hogpour.core import registry
from hogpour.core.job import ClusterConfig, DataConfig, RunConfig, key_of
from hogpour.data.dataset import Data, Dataset
from hogpour.layers.sequential import network_of

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
SCENARIOS = {"spot"}
"""Of simulations; ``tests/sim/test_scenario.py`` reads them."""

EXAMPLES = sorted(path for path in (ROOT / "examples").glob("*.toml") if path.stem not in SCENARIOS)

OUTPUTS = {"fashion_mnist": ((28, 28), 10), "mnist_conv": ((28, 28), 10), "a9a": ((123,), 2), "imdb": ((89527,), 2),
           "imdb_text": ((2**22,), 2)}  # fmt: skip
"""Shape of an example and number of labels in the data that each job names."""


def job_of(path: Path) -> hp.Job:
    return config.read_job(str(path))


# -- example jobs -------------------------------------------------------------------------------------------------------


def test_every_example_is_known_here() -> None:
    assert [path.stem for path in EXAMPLES] == sorted(OUTPUTS)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_builds_its_network(path: Path) -> None:
    job, (shape, n_labels) = job_of(path), OUTPUTS[path.stem]
    network = network_of(job, shape)
    assert network.output_shape[0] in job.loss.n_outputs(n_labels)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_says_what_it_trains_and_what_it_reached(path: Path) -> None:
    first, second = path.read_text("utf-8").splitlines()[:2]
    assert first.startswith("# ")
    assert re.match(r"# Reached \d\.\d{3} test accuracy", second)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_writes_its_model_into_the_current_folder(path: Path) -> None:
    assert job_of(path).save == f"{path.stem}.safetensors"


def test_the_network_of_pytorchs_example_has_its_parameters() -> None:
    """10 · 25 + 10, 20 · 10 · 25 + 20, 320 · 50 + 50, 50 · 10 + 10."""
    assert network_of(job_of(ROOT / "examples" / "mnist_conv.toml"), (28, 28)).spec.n_parameters == 21840


@pytest.mark.long
@pytest.mark.real
@pytest.mark.parametrize(("name", "examples", "least"), [("fashion_mnist", 2000, 0.65), ("a9a", 4000, 0.78)])
async def test_an_example_trains_on_a_part_of_its_data(name: str, examples: int, least: float, shared_data: Path) -> None:
    job = job_of(ROOT / "examples" / f"{name}.toml")
    c = job.data
    data = hp.load(c.train, c.test, base=Path(job.base), format=c.format, seed=1)
    assert data.train.n > examples

    def some(dataset: Dataset) -> Dataset:
        return replace(dataset, x=dataset.x[:examples].copy(), y=dataset.y[:examples])

    assert data.test is not None
    job = replace(job, data=Data(some(data.train), some(data.test), data.encoding), epochs=3, replicas=2, save="")
    async with hp.Node(job) as node:
        summary = await node.wait()
    assert summary.outcome == "finished"
    assert summary.examples == 3 * examples
    assert summary.accuracy is not None
    assert summary.accuracy >= least


# -- the README ---------------------------------------------------------------------------------------------------------


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", README, re.DOTALL)
    assert found is not None
    return found[1]


@pytest.mark.real
@pytest.mark.slow
def test_the_readmes_program_runs_as_it_stands(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(block("python"))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}
    end = subprocess.run([sys.executable, "program.py"], cwd=tmp_path, env=environment, capture_output=True, text=True,
                         timeout=120)  # fmt: skip
    assert end.returncode == 0, end.stderr
    assert "epoch 200.0, accuracy 0.9" in end.stdout
    assert os.listdir(tmp_path) == ["program.py"]


def test_the_readme_shows_the_output_of_the_default_job() -> None:
    epochs = config.default_job().epochs
    assert re.findall(r"^trained (\d+) epochs", README, re.MULTILINE) == [str(epochs)]
    assert re.findall(r"^ +([\d.]+) .* 0\.0 s$", README, re.MULTILINE) == [f"{epochs}.00"]


def test_the_readmes_job_file_is_one(tmp_path: Path) -> None:
    (tmp_path / "job.toml").write_text(block("toml"))
    assert network_of(job_of(tmp_path / "job.toml"), (8, 8)).output_shape == (10,)


def test_the_reference_names_every_key_of_a_job_file() -> None:
    """Also what is left to prose: the reference is made from the classes, and a table could be forgotten."""
    reference, schemes = ((ROOT / "docs" / f"{name}.md").read_text("utf-8") for name in ("job-reference", "schemes"))
    tables = {"data": DataConfig, "run": RunConfig, "cluster": ClusterConfig}
    for table, cls in tables.items():
        section = reference[reference.index(f"## [{table}]") :].partition("\n## ")[0]
        assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == [key_of(field) for field in fields(cls)]
    model = reference[reference.index("## [model]") :].partition("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", model, re.MULTILINE) == ["layers", "loss", "input"]
    for name, scheme in registry.available("scheme").items():
        section = schemes[schemes.index(f"### {name}\n") :].partition("\n### ")[0]
        own = {field.name for field in fields(scheme)} - {"optimiser", "schedule"}
        assert own <= set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE))


def test_the_readmes_map_is_the_house() -> None:
    tree = README[README.index("```\nhogpour/\n") :].partition("<!-- /generated -->")[0]
    rooms = re.findall(r"^  (\w+) ", tree, re.MULTILINE)
    assert sorted(rooms) == sorted(path.parent.name for path in (ROOT / "hogpour").glob("*/__init__.py"))


def test_the_quick_start_is_two_commands() -> None:
    lines = block("sh").splitlines()
    assert len(lines) == 2
    assert lines[0].endswith(" && .venv/bin/python -m hogpour node")
    assert lines[1].endswith(" && .venv/bin/python -m pytest")


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 150
