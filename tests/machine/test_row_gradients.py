"""Windows of accrual by row: each begins with zeros, whoever wrote the buffer before."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import hogpour as hp
from hogpour.algos.exchange.accrue import Accrue
from hogpour.algos.exchange.base import ReplicaView
from hogpour.core.spec import Spec
from hogpour.machine.row_gradients import RowGradients

SPEC = Spec.pack([("bias", (1,)), ("weight", (5, 2))], by_row={"weight"})
(WEIGHT,) = SPEC.by_row


class Windows:
    """A replica's two buffers and what it accrues in them."""

    def __init__(self) -> None:
        self.buffers = list(np.full((2, SPEC.n), 9, np.float32))
        self.view = ReplicaView(SPEC.zeros(), (), hp.Sgd(0.1))
        self.begin_replica()

    def begin_replica(self) -> None:
        self.rows = RowGradients(Accrue(), self.view, SPEC)

    def step(self, buffer: int, n_accrued: int, *touched: int) -> list[float]:
        """A gradient of 1 in these rows; return what has accrued, by row."""
        self.view.accrued, self.view.n_accrued = self.buffers[buffer], n_accrued
        ones = np.ones((len(touched), 2), np.float32)
        sparse: Any = SimpleNamespace(touched=(np.array(touched, np.uint32), ones))
        self.rows.on_gradient(SPEC.zeros(), [(WEIGHT, sparse)])
        return WEIGHT.view(self.buffers[buffer])[:, 0].tolist()


def test_a_window_begins_with_zeros_where_the_one_before_touched_rows() -> None:
    windows = Windows()
    assert windows.step(0, 0, 1, 2) == [0, 1, 1, 0, 0]
    assert windows.step(0, 1, 2) == [0, 1, 2, 0, 0]
    assert windows.step(1, 0, 4) == [0, 0, 0, 0, 1]
    assert windows.step(0, 0, 3) == [0, 0, 0, 1, 0]
    assert windows.view.params[WEIGHT.offset :].reshape(-1, 2)[:5, 0].tolist() == pytest.approx([0, -0.1, -0.2, -0.1, -0.1])


def test_a_successor_goes_on_with_a_window_and_then_clears_all_of_its_buffer() -> None:
    windows = Windows()
    windows.step(0, 0, 1, 2)
    windows.begin_replica()
    assert windows.step(0, 1, 3) == [0, 1, 1, 1, 0]
    assert windows.step(0, 0, 4) == [0, 0, 0, 0, 1]
