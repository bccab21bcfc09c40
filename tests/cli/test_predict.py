"""Predictions as people and programs read them."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import numpy as np
import pytest

import hogpour as hp
from hogpour.cli.predict import run
from hogpour.core.errors import DataError


def predict(path: str, data: str, as_json: bool) -> int:
    return run(argparse.Namespace(model=path, data=data, format="", json=as_json))


def model_file(folder: Path, loss: str, label: str, labels: tuple[str, ...] = ("cold", "warm")) -> str:
    """A model of y = 2 · x0 - x1, saved."""
    from hogpour.data.load import Encoding, Scaling
    from hogpour.layers.sequential import network_of

    job = hp.Job(data=None, model=[hp.Linear(1)], loss=loss)
    network = network_of(job, (2,))
    params = network.spec.zeros()
    network.spec.views(params)["0.linear.weight"][:, 0] = [2, -1]
    names = labels if job.loss.targets == "labels" else ()
    encoding = Encoding((2,), job.loss.targets, names, Scaling.none(), label, ("a", "b"), numeric_labels=False)
    hp.Model(job, network, params, encoding).save(str(folder / "m.safetensors"))
    return str(folder / "m.safetensors")


def test_labels_are_printed_by_name_and_the_accuracy_goes_to_standard_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.csv").write_text("a,b,kind\n3,1,warm\n0,1,cold\n1,5,warm\n")
    path, data = model_file(tmp_path, "logistic", "kind"), str(tmp_path / "x.csv")
    assert predict(path, data, False) == 0
    out, err = capsys.readouterr()
    assert out == "warm\ncold\ncold\n"
    losses = [math.log1p(math.exp(-5)), math.log1p(math.exp(-1)), math.log1p(math.exp(3))]
    assert err == f"3 examples: loss {np.mean(losses):.4f}, accuracy 0.6667\n"
    assert predict(path, data, True) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines == [{"example": k, "prediction": name} for k, name in enumerate(["warm", "cold", "cold"])]


def test_without_labels_there_is_no_accuracy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.csv").write_text("b,a\n1,3\n")
    assert predict(model_file(tmp_path, "logistic", "kind"), str(tmp_path / "x.csv"), False) == 0
    assert capsys.readouterr() == ("warm\n", "")


@pytest.mark.parametrize(("loss", "what"), [("logistic", "accuracy"), ("squared_error", "loss")])
def test_answers_that_cannot_be_used_cost_the_accuracy_and_not_the_predictions(
    loss: str, what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.csv").write_text("a,b,kind\n3,1,?\n0,1,?\n")
    data = str(tmp_path / "x.csv")
    assert predict(model_file(tmp_path, loss, "kind"), data, False) == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 2
    assert err.startswith(f"2 examples: no {what}: {data}: line 2, column 'kind': ")
    assert "'?'" in err or "the label ? is not known to the model; known: cold, warm" in err


def test_a_label_takes_one_line_whatever_it_holds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.csv").write_text("a,b\n3,1\n0,1\n")
    path, data = model_file(tmp_path, "logistic", "kind", ("cold\n", "\x1b[2Jwarm")), str(tmp_path / "x.csv")
    assert predict(path, data, False) == 0
    assert capsys.readouterr().out == "�[2Jwarm\ncold�\n"
    assert predict(path, data, True) == 0
    assert [json.loads(line)["prediction"] for line in capsys.readouterr().out.splitlines()] == ["\x1b[2Jwarm", "cold\n"]


def test_values_are_printed_with_six_digits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.csv").write_text("a,b,y\n0.5,0.25,1\n1000000,0,2000000\n")
    path, data = model_file(tmp_path, "squared_error", "y"), str(tmp_path / "x.csv")
    assert predict(path, data, False) == 0
    out, err = capsys.readouterr()
    assert out == "0.75\n2e+06\n"
    assert err.startswith("2 examples: loss ")
    assert "accuracy" not in err
    assert predict(path, data, True) == 0
    assert [json.loads(line)["prediction"] for line in capsys.readouterr().out.splitlines()] == [[0.75], [2e6]]


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize("loss", ["squared_error", "logistic"])
def test_predictions_that_are_not_finite_are_an_error(loss: str, as_json: bool, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("a,b\n1,2\n3e38,-3e38\n")
    with pytest.raises(DataError, match=r"x\.csv: row 1, counted from 0: the scores are not finite, as"):
        predict(model_file(tmp_path, loss, "y"), str(tmp_path / "x.csv"), as_json)
