"""libffm's text: a label, and features in fields, as field-aware factorisation machines take them.

    label field:feature:value field:feature:value ...

The label is a number. Field and feature are any bytes but blanks and ``:``. The feature is the hash of
``field^feature``, as if the field were a namespace of VowpalWabbit's.
"""

from __future__ import annotations

from pathlib import Path

from hogpour.data.formats.base import Table, Wanted
from hogpour.data.hashing import line_of_row, read_hashed

__all__ = ["PATTERNS", "read"]

PATTERNS = ("*.ffm", "*.libffm")


def read(path: Path, wanted: Wanted) -> Table:
    """Read x as sparse rows (n, 2^bits) of float64, and y (n,) float64."""
    from hogpour.data.kernels import vw

    wrong = {
        vw.LABEL: "the label is {}, expected a number",
        vw.FIELD: "got {}, expected field:feature:value with a finite number",
    }
    x, y, _ = read_hashed(path, wanted, vw.parse_libffm, wrong)
    return Table(x, y, hash_bits=wanted.hash_bits, line=line_of_row(path))
