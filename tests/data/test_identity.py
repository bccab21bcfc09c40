"""What nodes tell each other of their training sets."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hogpour.data.dataset import Dataset
from hogpour.data.identity import DataIdentity

X, Y = np.arange(12, dtype=np.float32).reshape(3, 2, 2), np.array([0, 1, 1])
TRAIN = Dataset(X, Y, 2, ("a", "b"), "a.csv")
VALUES = Dataset(X.reshape(3, 4), np.zeros((3, 2), np.float32), 0, (), "a.csv")


@pytest.mark.parametrize(("train", "facts"), [
    (TRAIN, "3 examples of 2 × 2 features, 2 labels"),
    (VALUES, "3 examples of 4 features, 2 values each"),
])  # fmt: skip
def test_a_training_set_is_told_by_its_counts(train: Dataset, facts: str) -> None:
    assert DataIdentity.of(train).facts == facts


def test_the_file_does_not_matter_and_every_value_and_shape_does() -> None:
    ours = DataIdentity.of(TRAIN)
    assert DataIdentity.of(replace(TRAIN, source="elsewhere.npz")).digest == ours.digest
    for other in (replace(TRAIN, x=X + 1), replace(TRAIN, y=1 - Y), replace(TRAIN, x=X.reshape(3, 4)), replace(TRAIN, x=X[:2], y=Y[:2])):
        assert DataIdentity.of(other).digest != ours.digest


def test_a_path_is_told_by_its_end_and_can_be_written() -> None:
    assert DataIdentity.of(replace(TRAIN, source=f"/{'x' * 900}/\udcff.csv")).source.encode().endswith(b"x/\\udcff.csv")
    assert len(DataIdentity.of(replace(TRAIN, source="x" * 900)).source) == 200


def test_other_data_are_told_by_shapes_or_by_files() -> None:
    ours, wide = DataIdentity.of(TRAIN), DataIdentity.of(replace(TRAIN, x=np.zeros((3, 5), np.float32)))
    other = DataIdentity.of(replace(TRAIN, x=X + 1, source="b.csv"))
    assert wide.against(ours) == ("3 examples of 5 features, 2 labels (a.csv); "
                                  "the cluster has 3 examples of 2 × 2 features, 2 labels (a.csv)")  # fmt: skip
    assert other.against(ours) == ("both have 3 examples of 2 × 2 features, 2 labels, but other values: "
                                   "its b.csv is not the first node's a.csv; copy that file")  # fmt: skip
