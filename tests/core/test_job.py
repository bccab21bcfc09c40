"""Job files: what they mean, and the one line that says what is wrong with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import hogpour as hp
from hogpour.core.errors import ConfigError
from hogpour.core.job import DataConfig, default_job, job_from, job_to_dict, read_job

JOB = """
[data]
train = "train.npz"
test  = "test.npz"
[model]
layers = [{layer = "linear", units = 128}, {layer = "relu"}, {layer = "linear", units = 10}]
loss = "softmax_xent"
[algorithm]
name = "hogwild"
optimiser = {name = "adagrad", lr = 0.05}
[run]
epochs = 5
batch = 32
replicas = 2
seed = 0
model = "model.safetensors"
"""

LINEAR = {"layers": [{"layer": "linear", "units": 2}]}


def test_a_job_file_says_what_the_api_says(tmp_path: Path) -> None:
    (tmp_path / "job.toml").write_text(JOB)
    assert read_job(str(tmp_path / "job.toml")) == hp.Job(
        data=DataConfig(train="train.npz", test="test.npz"),
        model=hp.Sequential(hp.Linear(128), hp.Relu(), hp.Linear(10)),
        loss="softmax_xent",
        algorithm=hp.Hogwild(optimiser=hp.Adagrad(0.05)),
        epochs=5,
        batch=32,
        replicas=2,
        save="model.safetensors",
        base=str(tmp_path),
    )


def test_a_job_survives_the_way_to_another_process() -> None:
    import json

    job = default_job()
    assert job_from(json.loads(json.dumps(job_to_dict(job))), "x") == job


@pytest.mark.parametrize(
    ("tables", "text"),
    [
        ({"dta": {}}, "dta: no such table; did you mean 'data'?"),
        ({"run": {"epoch": 3}}, "run.epoch: no such key; did you mean 'epochs'?"),
        ({"run": {"epochs": "x"}}, "run.epochs = 'x': expected int, got str"),
        ({"run": {"epochs": 0}}, "run.epochs = 0, expected at least 1"),
        ({"run": {"batch": 0}}, "run.batch = 0, expected at least 1"),
        ({"run": {"seed": -1}}, "run.seed = -1, expected 0 to 2^63 - 1"),
        ({"run": {"save_every_s": 0}}, "run.save_every_s = 0.0, expected above 0"),
        ({"run": {"replicas": 0}}, "run.replicas = 0, expected at least 1, or no such key for all cores"),
        ({"run": {"replicas": -2}}, "run.replicas = -2, expected at least 1, or no such key for all cores"),
        ({"run": 3}, "run: expected a table [run], got 3"),
        ({"run": {"e\n" * 99: 3}}, r"run." + r"e\n" * 30 + " ...: no such key; known: batch, epochs, model, replicas, save_every_s, seed"),
        (
            {"model": LINEAR, "algorithm": {"schedule": 3}},
            "algorithm.schedule = 3: expected the name of a schedule, or {schedule = ...}",
        ),
        ({"data": {"scale": "foo"}}, "data.scale = 'foo': expected one of 'none', 'unit', 'standard'"),
        ({"data": {"validation": 1}}, "data.validation = 1.0, expected 0 to 0.9"),
        ({"data": {"train": ""}}, 'data.train is empty, expected a path or "digits"'),
        ({"model": {"layers": []}}, "model.layers is empty, expected at least one layer"),
        ({"model": {}}, "model.layers is empty, expected at least one layer"),
        ({"model": {"layers": {"layer": "relu"}}}, "model.layers = {'layer': 'relu'}: expected array, got object"),
        ({"model": {**LINEAR, "lose": "hinge"}}, "model.lose: no such key; did you mean 'loss'?"),
        ({"model": {**LINEAR, "loss": "hing"}}, "model.loss: loss \"hing\" is not known; did you mean 'hinge'?"),
        ({"model": {**LINEAR, "input": [0.5]}}, "model.input = [0.5]: expected int, got float at model.input[0]"),
        ({"model": {**LINEAR, "input": [-1]}}, "model.input = (-1,), expected numbers of at least 1"),
        (
            {"model": LINEAR, "algorithm": {"name": "hogwld"}},
            "algorithm: scheme \"hogwld\" is not known; did you mean 'hogwild'?",
        ),
        (
            {"model": LINEAR, "algorithm": {"name": "hogwild", "optimiser": {"name": "sgd", "lr": -1}}},
            "algorithm.optimiser: optimiser sgd: lr = -1.0, expected 1e-30 to 1e+30",
        ),
    ],
)
def test_what_is_wrong_is_named_with_what_was_expected(tables: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError) as error:
        job_from(tables, "job.toml")
    assert str(error.value) == f"job.toml: {text}"


def test_a_missing_job_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing\.toml: no such job file$"):
        read_job(str(tmp_path / "nothing.toml"))


def test_a_file_that_is_not_toml_is_told_where(tmp_path: Path) -> None:
    (tmp_path / "job.toml").write_text("[run]\nepochs = = 3\n")
    with pytest.raises(ConfigError, match=r"job\.toml: not TOML: .*line 2"):
        read_job(str(tmp_path / "job.toml"))


def test_a_byte_order_mark_is_read_over(tmp_path: Path) -> None:
    """Editors on Windows begin a file with one; the answer was "not TOML: Invalid statement (at line 1, column 1)"."""
    (tmp_path / "job.toml").write_text(JOB, encoding="utf-8-sig")
    assert read_job(str(tmp_path / "job.toml")).batch == 32


def test_values_that_are_nested_too_deeply_are_refused(tmp_path: Path) -> None:
    (tmp_path / "job.toml").write_text(f"a = {'[' * 20_000}")
    with pytest.raises(ConfigError, match=r"job\.toml: not TOML that can be read: its values are nested too deeply$"):
        read_job(str(tmp_path / "job.toml"))
    (tmp_path / "job.toml").write_text(f"[run]\nepochs{'.a' * 3_000} = 1\n")
    with pytest.raises(ConfigError, match=r"job\.toml: run\.epochs = something too large \(dict\): expected int"):
        read_job(str(tmp_path / "job.toml"))


def test_a_folder_is_no_job_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_job(str(tmp_path))


def test_short_forms_in_python_mean_what_the_long_ones_do() -> None:
    short = hp.Job(data="digits", model=hp.Linear(10), input=[64], save=Path("m.safetensors"))  # type: ignore[arg-type]
    assert short == hp.Job(data=DataConfig(), model=[hp.Linear(10)], input=(64,), save="m.safetensors")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"data": 3}, "data: expected a DataConfig, a path or loaded Data, got 3"),
        ({"data": hp.Linear(3)}, "data: expected a DataConfig, a path or loaded Data, got Linear(units=3, bias=True)"),
        ({"model": 7}, "model: expected layers, got 7"),
        ({"model": hp.Hinge()}, "model: expected layers, got Hinge()"),
        ({"model": [hp.Linear(3), "relu"]}, "model.layers[1]: expected a layer object, got 'relu'"),
        ({"model": [hp.Relu]}, "model.layers[0]: expected a layer object, got the class Relu"),
        ({"loss": hp.Relu()}, "loss: expected a loss object, got the layer Relu()"),
        ({"algorithm": hp.Sgd(0.1)}, "algorithm: expected a scheme object, got the optimiser Sgd("),
        ({"input": (64.0,)}, "model.input = (64.0,): expected int, got float"),
        ({"input": 64}, "model.input = 64: expected array, got int"),
        ({"input": (1, 0, 28)}, "model.input = (1, 0, 28), expected numbers of at least 1"),
        ({"epochs": "3"}, "run.epochs = '3': expected int, got str"),
        ({"replicas": 1.5}, "run.replicas = 1.5: expected int, got float"),
    ],
)
def test_an_object_of_the_wrong_kind_is_named(changes: dict[str, Any], text: str) -> None:
    """What was given went unchecked into processes and kernels and came back as an AttributeError, or never."""
    with pytest.raises(ConfigError) as error:
        hp.Job(**{"model": [hp.Linear(3)], **changes})
    assert str(error.value).startswith(text)


def test_every_field_has_a_docstring() -> None:
    import ast
    import inspect

    from hogpour.core import job as config

    for cls in (config.DataConfig, config.RunConfig):
        body = ast.parse(inspect.getsource(cls)).body[0].body  # type: ignore[attr-defined]
        for node, after in zip(body, [*body[1:], None], strict=True):
            if isinstance(node, ast.AnnAssign):
                assert isinstance(after, ast.Expr), f"{cls.__name__}.{ast.unparse(node.target)} says nothing"


@pytest.mark.parametrize(
    ("words", "scheme"),
    [({"optimiser": {"name": "sgd", "lr": 0.2}}, hp.Hogwild), ({}, hp.Hogwild), ({"scheme": "downpour"}, hp.Downpour)],
)
def test_an_algorithm_without_a_name_is_hogwild(words: dict[str, Any], scheme: type) -> None:
    """A user's own first job says its optimiser only; "the name of the scheme is missing" was the answer."""
    job = job_from({"model": LINEAR, "algorithm": words}, "job.toml")
    assert type(job.algorithm) is scheme
    assert job.algorithm.optimiser == (hp.Sgd(0.2) if "optimiser" in words else hp.Sgd(0.1))


def test_a_path_of_bytes_that_are_no_text_travels_as_text() -> None:
    """It ended the run with a UnicodeEncodeError when replicas were given their orders."""
    job = hp.Job(data="d\udce9.csv", model=hp.Linear(2), save="caf\udce9.safetensors")  # type: ignore[arg-type]
    words = job_to_dict(job)
    assert words["run"]["model"] == "caf\\udce9.safetensors"
    str(words).encode()


@pytest.mark.parametrize(
    ("path", "text"),
    [(3, "job file = 3: expected str, got int"), ("a\0", r"a\x00: cannot be read: embedded null byte"), ({}, "job file = {}: expected str, ")],
)
def test_what_is_no_path_of_a_job_file_is_refused(path: Any, text: str) -> None:
    with pytest.raises(ConfigError) as error:
        hp.read_job(path)
    assert str(error.value).startswith(text)


def test_a_simulation_takes_a_job_and_says_what_makes_one() -> None:
    with pytest.raises(ConfigError, match=r"^a simulation takes a Job, got 'job.toml'; hogpour\.read_job makes one of a file$"):
        hp.Simulation("job.toml")  # type: ignore[arg-type]
