"""What a training set is, in a few words: by which nodes find out, and say, that they do not train on the same."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Self

from hogpour.core.csr import Csr
from hogpour.core.text import encodable
from hogpour.data.dataset import Dataset

__all__ = ["DataIdentity"]

_SOURCE = 200
"""Characters of a path that others are told: its end."""


@dataclass(frozen=True, slots=True)
class DataIdentity:
    """Of one training set. Two are of the same examples where their digests are the same."""

    digest: str
    """Of every byte of the examples, their types and shapes."""
    facts: str = ""
    """For people: how many examples of which shape, and of what answers."""
    source: str = ""
    """For people: the file."""

    @classmethod
    def of(cls, train: Dataset) -> Self:
        """Return that of a training set. Reads every byte of it."""
        digest = hashlib.blake2b(digest_size=8)
        parts = train.x.arrays().values() if isinstance(train.x, Csr) else (train.x,)
        for array in (*parts, train.y):
            digest.update(f"{array.dtype.name} {array.shape} ".encode())
            digest.update(array.data)
        features = " × ".join(f"{size:,}" for size in train.shape)
        answers = f"{train.n_labels:,} labels" if train.n_labels else f"{train.y.shape[1]:,} values each"
        facts = f"{train.n:,} examples of {features} features, {answers}"
        return cls(digest.hexdigest(), facts, str(encodable(train.source))[-_SOURCE:])

    def against(self, other: Self) -> str:
        """Return how this set, of whoever asks, is another than the other one, the cluster's."""
        if self.facts != other.facts:
            return f"{self.facts} ({self.source}); the cluster has {other.facts} ({other.source})"
        return (f"both have {self.facts}, but other values: its {self.source} is not the first node's {other.source}; "
                "copy that file")  # fmt: skip
