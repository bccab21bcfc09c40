"""scikit-learn's embedded digits: 1797 images of 8 x 8 grey levels from 0 to 16, labels 0 to 9.

The test part is a fifth of each label's images, chosen once and for all by a seed of its own: runs with different
seeds can be compared. 1438 images train, 359 test.
"""

from __future__ import annotations

import gzip
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hogpour.data.formats.base import Table, Wanted

__all__ = ["PATTERNS", "read"]

PATTERNS: tuple[str, ...] = ()

_TEST_FRACTION = 0.2
_TEST_SEED = 1797


def read(path: Path, wanted: Wanted) -> Table:
    """Return the train or the test part, x (n, 8, 8) float32 in 0..1, y (n,) int64. There is no file at ``path``."""
    pixels, labels = _load()
    rng = np.random.default_rng(_TEST_SEED)
    in_test = np.zeros(labels.size, np.bool_)
    for label in range(10):
        rows = np.flatnonzero(labels == label)
        in_test[rng.permutation(rows)[: round(_TEST_FRACTION * rows.size)]] = True
    chosen = in_test if wanted.part == "test" else ~in_test
    return Table(pixels[chosen].reshape(-1, 8, 8) / np.float32(16), labels[chosen])


@cache
def _load() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Return pixels (1797, 64) float32 and labels (1797,) int64; read once, for both parts."""
    # Importing sklearn.datasets takes 1.0 s (2-core EPYC), reading the file that it ships 5 ms, and this is the data
    # set of the first command that a newcomer runs. Where the file has moved, the public function knows.
    package = find_spec("sklearn")
    assert package is not None
    for folder in package.submodule_search_locations or ():
        file = Path(folder, "datasets", "data", "digits.csv.gz")
        if file.is_file():
            with gzip.open(file) as lines:
                table = np.loadtxt(lines, delimiter=",", dtype=np.float32)
            return table[:, :-1], table[:, -1].astype(np.int64)
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return bunch.data.astype(np.float32), bunch.target.astype(np.int64)
