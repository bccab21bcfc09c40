"""VowpalWabbit's text: a label, and features by their names, in namespaces.

    label importance 'tag|namespace:scale feature:value feature ...|namespace feature ...

A label is a number; it may be absent where a model predicts. Importance may be left out, and is 1; the tag is skipped.
A name is any bytes but blanks, ``|`` and ``:``, a value is 1 unless it is written, and is multiplied by its namespace's
scale. The feature is the hash of ``namespace^feature``, also where the name is a number: VowpalWabbit's own numbers are
others.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hogpour.data.formats.base import Table, Wanted
from hogpour.data.hashing import line_of_row, read_hashed

__all__ = ["PATTERNS", "read"]

PATTERNS = ("*.vw",)


def read(path: Path, wanted: Wanted) -> Table:
    """Read x as sparse rows (n, 2^bits) of float64, and y (n,) float64, NaN where there is no label; None where there
    is none at all and a model predicts."""
    from hogpour.data.kernels import vw

    wrong = {
        vw.LABEL: "the label is {}, expected a number",
        vw.IMPORTANCE: "the importance weight is {}, and none but 1 can be used: leave it out, or write 1",
        vw.BEHIND: "got {} behind the label, expected an importance weight of 1, a tag such as 'name, or |",
        vw.TAG: "the tag {} is followed by a word, expected |",
        vw.TOUCHES: "got {}, where a number touches |, which is the place of a tag; write a space between them",
        vw.NO_BAR: "begins with {} and has no |, expected label |namespace feature:value ...",
        vw.SCALE: "got {}, expected |namespace:scale with a finite number",
        vw.FEATURE: "got {}, expected feature or feature:value",
        vw.VALUE: "got {}, expected feature:value with a finite number",
    }
    x, y, _ = read_hashed(path, wanted, vw.parse_vw, wrong)
    unknown = wanted.predicting and bool(np.isnan(y).all())
    return Table(x, None if unknown else y, hash_bits=wanted.hash_bits, line=line_of_row(path))
