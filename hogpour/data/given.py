"""Arrays as people hand them over in Python, made arrays of numpy; or one line that says why they cannot be."""

from __future__ import annotations

from collections.abc import Iterator
from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt

from hogpour.core.csr import Csr
from hogpour.core.errors import DataError, ResourceError

__all__ = ["answers", "column_names", "features"]

_SHOWN = 40
_MOST_FEATURES = 1 << 32  # whose numbers are uint32


def features(x: Any, name: str, columns: tuple[str, ...] = ()) -> npt.NDArray[Any] | Csr:
    """Return x as an array of numbers: bool, integers or floats; a sparse matrix as sparse rows.

    Args:
        x: an array, or what numpy makes one of: lists, tensors, a DataFrame.
        name: what to call it in messages.
        columns: names of the columns to take, in this order, where x has names.

    Raises:
        DataError: it holds something else.
    """
    if hasattr(x, "toarray"):
        return _sparse(x, name)
    names, array = column_names(x, name), _array(x, name)
    if names and columns:
        for column in columns:
            if column not in names:
                raise DataError(f"{name} has no column {column!r}; it has {', '.join(map(repr, names[:20]))}")
        array, names = array[:, [names.index(column) for column in columns]], columns
    if array.dtype.kind in "OSTU":
        array = _as_numbers(array, name, names)
    if array.dtype.kind not in "buif":
        hint = "; x.real is its real part" if array.dtype.kind == "c" else ""
        raise DataError(f"{name} holds {array.dtype.name}, expected numbers{hint}")
    return array


def answers(y: Any, name: str) -> npt.NDArray[Any]:
    """Return y as an array of numbers or of text.

    Raises:
        DataError: it holds something else, nothing in some place, or now text and now numbers.
    """
    array = _array(y, name)
    if array.dtype.kind in "OT":
        array = _all_alike(array, name)
    if array.dtype.kind not in "buifU":
        hint = f"; {name.rpartition(' ')[2]}.astype(str) makes text of them" if array.dtype.kind == "S" else ""
        raise DataError(f"{name} holds {array.dtype.name}, expected numbers or text{hint}")
    return array


def column_names(x: Any, name: str) -> tuple[str, ...]:
    """Return the names of a DataFrame's columns; () where it has none of its own, as any other array."""
    columns = getattr(x, "columns", None)
    if columns is None or isinstance(x, np.ndarray):
        return ()
    names = tuple(map(str, columns))
    if names == tuple(map(str, range(len(names)))):
        return ()
    if twice := next((column for k, column in enumerate(names) if column in names[:k]), None):
        raise DataError(f"{name}: two columns have the name {twice!r}")
    return names


def _array(given: Any, name: str) -> npt.NDArray[Any]:
    if given is None:
        raise DataError(f"{name} is None")
    if hasattr(given, "toarray"):
        raise DataError(f"{name} is a sparse matrix; make it dense with .toarray()")
    if isinstance(given, Iterator):
        raise DataError(f"{name} is a {type(given).__name__}, which can be walked through once; make a list of it")
    if isinstance(given, np.ma.MaskedArray) and (n_masked := int(np.ma.getmaskarray(given).sum())):
        raise DataError(f"{name} is a masked array, and {n_masked} of its values are masked; fill them with "
                        ".filled(...), or leave the examples out")  # fmt: skip
    if getattr(given, "requires_grad", False):
        raise DataError(f"{name} is a tensor with a gradient; take it out with .detach()")
    try:
        array = np.asarray(given)
        if array.dtype.kind in "SU" and not isinstance(given, np.ndarray):
            array = np.asarray(given, object)  # what there was before numpy made text of numbers beside text
    except MemoryError as exc:
        raise ResourceError(f"{name}: not enough memory to make an array of it") from exc
    except (TypeError, ValueError, RuntimeError, ArithmeticError, LookupError, AttributeError, OSError) as exc:
        lengths = [len(row) for row in given if hasattr(row, "__len__")] if isinstance(given, list | tuple) else []
        why = str(exc).split("\n")[0][:200] or type(exc).__name__
        if len(set(lengths)) > 1:
            why = f"its rows have {min(lengths)} to {max(lengths)} numbers"
        raise DataError(f"{name} makes no array: {why}") from exc
    if array.ndim == 0:
        raise DataError(f"{name} is one value ({type(given).__name__}), expected an array")
    return array


def _sparse(x: Any, name: str) -> Csr:
    if isinstance(x, Csr):
        return x
    kind = getattr(getattr(x, "dtype", None), "kind", "O")
    if kind not in "buif" or len(getattr(x, "shape", ())) != 2:
        raise DataError(f"{name} is a sparse {type(x).__name__} of {getattr(x, 'dtype', 'objects')}, expected one of "
                        "numbers with two axes")  # fmt: skip
    if x.shape[1] > _MOST_FEATURES:
        raise DataError(f"{name} is a sparse matrix of {x.shape[1]} columns, expected at most {_MOST_FEATURES}")
    return Csr.from_scipy(x)


def _as_numbers(array: npt.NDArray[Any], name: str, names: tuple[str, ...]) -> npt.NDArray[np.float64]:
    numbers = np.empty(array.shape)
    for place, cell in np.ndenumerate(array):
        try:
            if isinstance(cell, str | bytes):
                raise TypeError("text, even of digits, is no number")
            numbers[place] = float(cell)
        except (TypeError, ValueError, OverflowError) as exc:
            row, column = place[0], ", ".join(map(str, place[1:]))
            where = f"row {row}, column {names[place[1]]!r}" if names else f"row {row}, column {column}, counted from 0"
            raise DataError(f"{name}: {where}: got {str(cell)[:_SHOWN]!r}, expected a number") from exc
    return numbers


def _all_alike(array: npt.NDArray[Any], name: str) -> npt.NDArray[Any]:
    """Return an array of objects as one of text or of numbers."""
    first: tuple[int, Any] | None = None
    for place, cell in np.ndenumerate(array):
        row = place[0]
        if not isinstance(cell, str | Real | np.bool_) or cell != cell:
            what = "bytes; .decode() makes text of them" if isinstance(cell, bytes) else "expected a number or text"
            raise DataError(f"{name}: row {row} is {str(cell)[:_SHOWN]}, {what}")
        if first is not None and isinstance(cell, str) != isinstance(first[1], str):
            raise DataError(f"{name}: row {row} is {cell!r:.40}, row {first[0]} is {first[1]!r:.40}, "
                            "expected all numbers or all text")  # fmt: skip
        first = first or (row, cell)
    if first is None or isinstance(first[1], str):
        return np.array(array.tolist(), np.str_)
    numbers = np.array(array.tolist())
    return numbers if numbers.dtype.kind in "buif" else array.astype(str)  # integers of more bits: each is a name
