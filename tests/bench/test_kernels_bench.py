"""The rows of the kernels bench, with and without PyTorch."""

from __future__ import annotations

import json

import pytest

from bench import kernels
from bench.__main__ import main
from bench.harness import Spread
from hogpour.core import registry


def took(seconds):
    return Spread(seconds, seconds, seconds, 1)


def test_a_row_compares_with_the_best_limit_and_the_best_peer():
    found = {
        "ours": took(2e-6),
        "limit:batch first": took(1.6e-6),
        "limit:batch last": took(1e-6),
        "torch:einsum": took(9e-6),
        "torch:bmm": took(6e-6),
    }
    row = kernels._row("linear", "forward", found, 4000.0, "GF/s", "same products")
    assert (row["us"], row["rate"], row["limit_rate"], row["of_limit"]) == pytest.approx((2.0, 2.0, 4.0, 0.5))
    assert (row["torch_us"], row["times_torch"], row["torch_best"]) == (pytest.approx(6.0), pytest.approx(3.0), "bmm")


def test_a_limit_may_do_another_amount_of_work_than_we_do():
    found = {"ours": took(1e-6), "limit:8000 copy": took(1e-6)}
    row = kernels._row("sgd", "step", found, 4000.0, "GB/s", "plain loops")
    assert (row["limit_rate"], row["of_limit"]) == pytest.approx((8.0, 0.5))
    assert "torch_us" not in row


@pytest.mark.long
@pytest.mark.parametrize("torch_is_there", [False, pytest.param(True, marks=pytest.mark.torch)])
def test_every_layer_loss_and_optimiser_has_a_row(torch_is_there, monkeypatch, capsys):
    """With PyTorch this also finds peers that compute something else than we do."""
    if torch_is_there:
        pytest.importorskip("torch")
    else:
        monkeypatch.setattr(kernels, "torch_or_none", lambda: None)
    quickly = kernels.alternate
    monkeypatch.setattr(kernels, "alternate", lambda calls, rounds: quickly(calls, rounds=rounds, sample_s=0.0))
    assert main(["kernels", "--json", "--rounds", "1", "--elements", "4096"]) == 0
    result = json.loads(capsys.readouterr().out)
    layers, losses, optimisers, corrections = (table["rows"] for table in result["tables"])
    assert {"linear", "conv2d", "relu", "max_pool2d"} <= {row["what"].partition(" ")[0] for row in layers}
    assert {row["pass"] for row in layers} == {"forward", "backward"}
    assert "softmax_xent 10 outputs, batch 64" in [row["what"] for row in losses]
    assert "adagrad" in [row["what"] for row in optimisers]
    assert [row["what"].partition(",")[0] for row in corrections[::2]] == list(registry.available("correction"))
    assert all(row["times_sgd"] > 0 for row in corrections)
    rows = [*layers, *losses, *optimisers]
    assert all(row["of_limit"] > 0 for row in rows)
    alone = {"delayed_nesterov", "ftrl"}  # which PyTorch has not
    assert all(("times_torch" in row) == (torch_is_there and row["what"] not in alone) for row in rows)
