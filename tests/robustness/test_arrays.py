"""Arrays from Python: objects of every kind where x, y or examples to predict are expected."""

from __future__ import annotations

import array
import collections
import ctypes
import datetime
import fractions
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse
from support.robustness import TAKEN_OR_REFUSED, Case, hold, lay, params
from support.trained import FLAT, MODEL, Y, model

import hogpour as hp

pytestmark = pytest.mark.robustness


class Raises:
    """An object of some other library, which makes no array and says so in its way."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        raise self.error


class Lies:
    """A sequence that is shorter than it says, or whose items are not there."""

    def __len__(self) -> int:
        return 12

    def __getitem__(self, at: int) -> list[float]:
        if at > 3:
            raise IndexError(at)
        return [1.0, 2.0, 3.0, 4.0]


def strange(shape: tuple[int, ...]) -> dict[str, Any]:
    """Return objects of every kind; arrays have this shape, or a wrong one."""
    good = np.random.default_rng(0).random(shape)
    made: dict[str, Any] = {
        f"{dtype}": np.zeros(shape, dtype)
        for dtype in ("?", "i1", "u8", "f2", ">f8", "g", "c16", "U3", "S3", "V4", "M8[ns]", "m8[s]", "O", "i4,f4")
    }
    made |= {f"shape-{other}": np.ones(other) for other in ((), (0,), (12,), (1, 1), (12, 0), (0, 4), (12, 4, 1), (4, 12), (1,) * 33, (12, 1))}
    made |= {
        f"holds-{value!r:.20}": np.where(np.arange(good.size).reshape(shape) == 3, value, good)
        for value in (np.nan, np.inf, -np.inf, 1e39, 1e308, 5e-324, -0.0, np.longdouble("1e4000"))
    }
    made |= {
        f"raises-{type(error).__name__}": Raises(error)
        for error in (RuntimeError("a\nb"), TypeError(), ValueError("x" * 10**5), KeyError("x"), OSError(5, "no"), MemoryError(), AttributeError("y"))
    }
    made |= {
        "reversed": good[::-1], "fortran": np.asfortranarray(good), "matrix": np.asmatrix(good) if good.ndim == 2 else good[:, None],
        "memoryview": memoryview(good), "bytes": b"abc", "bytearray": bytearray(12), "text": "abc", "path": Path("a.csv"), "file": io.BytesIO(b"1"),
        "range": range(12), "array": array.array("d", range(12)), "ctypes": (ctypes.c_double * 12)(), "set": {1, 2}, "dict": {"a": [1] * 12},
        "deque": collections.deque(good.tolist()), "keys": dict(enumerate(good)).values(), "class": np.ndarray, "function": len, "module": np,
        "ellipsis": ..., "date": datetime.date(2020, 1, 1), "complex": 1j, "huge": [[10**400] * 4] * 12, "fractions": [[fractions.Fraction(1, 3)] * 4] * 12,
        "csr": sparse.csr_matrix(np.atleast_2d(good)), "coo": sparse.coo_array(np.atleast_2d(good)), "masked": np.ma.masked_less(good, 0.5),
        "ragged": [[1.0] * (k % 3) for k in range(12)], "deep": [[[[1.0]]] * 2] * 12, "lies": Lies(), "None": None, "nested": np.array([good, None], object),
        "record": np.rec.array(np.zeros(shape, [("a", float)])), "texts of numbers": good.astype(str), "zeros": iter(()),
    }  # fmt: skip
    return made


def cases() -> Iterator[Case]:
    for name, x in strange((12, 4)).items():
        yield Case(name=f"x-{name}", run=lambda x=x: hp.arrays(x, Y, validation=0.0), says=("arrays",), codes=TAKEN_OR_REFUSED)
        yield Case(name=f"test_x-{name}", run=lambda x=x: hp.arrays(FLAT, Y, x, Y), says=("arrays",), codes=TAKEN_OR_REFUSED)
        yield Case(name=f"predict-{name}", run=lambda x=x: hp.Model.load(MODEL).predict(x), says=("model",), codes=TAKEN_OR_REFUSED)
    for k, (name, y) in enumerate(strange((12,)).items()):
        targets = ("labels", "values")[k % 2]
        yield Case(name=f"y-{targets}-{name}", run=lambda y=y, targets=targets: hp.arrays(FLAT, y, targets=targets), says=("arrays",), codes=TAKEN_OR_REFUSED)


@pytest.mark.parametrize("case", params(cases(), 12))
def test_an_object_is_taken_as_an_array_or_refused_in_a_line(case: Case, tmp_path: Path) -> None:
    lay({MODEL: model()}, tmp_path)
    hold(case, tmp_path)
