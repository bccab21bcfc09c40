"""One flat vector for all parameters of a model: names, shapes, offsets and a fingerprint.

Everything above the mathematics (shared memory, shards, wire, files) sees a model as one contiguous vector of n
elements. A ``Spec`` says which range of it belongs to which tensor. Knows no layers and no memory.
"""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterable
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["ALIGNMENT", "Spec", "Tensor"]

ALIGNMENT = 16
"""Offsets are multiples of this many elements: 64 bytes of float32, a cache line and an AVX-512 register, so that
two tensors never share a line. The elements between two tensors are zero and stay zero."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """A named range of the flat vector."""

    name: str
    """Unique in the spec, such as ``0.linear.weight``: place of the layer, its file name, its own name."""
    shape: tuple[int, ...]
    """Shape of the view; C order."""
    offset: int
    """First element in the flat vector."""
    by_row: bool = False
    """Whether a gradient of it names the rows that it touches; such tensors lie behind all others."""

    @property
    def size(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    def view(self, flat: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return this tensor's view of ``flat``: no copy, C-contiguous, shares memory."""
        return flat[self.offset : self.offset + self.size].reshape(self.shape)


@dataclass(frozen=True, slots=True)
class Spec:
    """Where every tensor of a model lies in the flat vector."""

    tensors: tuple[Tensor, ...]
    n: int
    """Length of the flat vector, alignment included."""

    @classmethod
    def pack(cls, shapes: Iterable[tuple[str, tuple[int, ...]]], by_row: Container[str] = ()) -> Spec:
        """Lay the tensors one behind the other, in the given order but for those named in ``by_row``, which come last,
        each at a multiple of ``ALIGNMENT``."""
        tensors: list[Tensor] = []
        offset = 0
        for name, shape in sorted(shapes, key=lambda one: one[0] in by_row):
            tensors.append(Tensor(name, tuple(int(d) for d in shape), offset, name in by_row))
            offset += -(-prod(shape) // ALIGNMENT) * ALIGNMENT
        assert len({t.name for t in tensors}) == len(tensors), "tensor names must be unique"
        return cls(tuple(tensors), offset)

    @property
    def n_parameters(self) -> int:
        """Number of trained elements, alignment not counted."""
        return sum(t.size for t in self.tensors)

    @property
    def n_dense(self) -> int:
        """Length of the beginning of the flat vector in which the tensors lie that are not by row."""
        return next((t.offset for t in self.tensors if t.by_row), self.n)

    @property
    def by_row(self) -> tuple[Tensor, ...]:
        """The tensors by row, of two axes each: rows and their elements."""
        return tuple(t for t in self.tensors if t.by_row)

    @property
    def fingerprint(self) -> str:
        """16 hex digits that two specs share only if names, shapes and offsets are the same."""
        text = ";".join(f"{t.name}:{','.join(map(str, t.shape))}@{t.offset}" for t in self.tensors)
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    def views(self, flat: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
        """Return a view of ``flat`` for each tensor, by name.

        Args:
            flat: (n,) any dtype, C-contiguous. The views share its memory for as long as they live.
        """
        assert flat.shape == (self.n,), f"flat vector: got shape {flat.shape}, expected ({self.n},)"
        return {t.name: t.view(flat) for t in self.tensors}

    def zeros(self, dtype: npt.DTypeLike = "float32") -> npt.NDArray[Any]:
        """Return a new flat vector of zeros."""
        import numpy as np  # whoever only asks where tensors lie, as `status` does, needs no arrays

        return np.zeros(self.n, dtype)
