"""Real data sets, where they lie beside the repository: the counts that their README states."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hogpour.core.errors import ResourceError
from hogpour.data.load import load

SHARED = Path(__file__).parents[3] / "shared" / "data"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not SHARED.is_dir(), reason="the real data sets do not lie beside the repository"),
]


def test_mnist() -> None:
    data = load("mnist/train-images-idx3-ubyte.gz", "mnist/t10k-images-idx3-ubyte.gz", base=SHARED)
    assert data.test is not None
    assert (data.train.x.shape, data.test.x.shape) == ((60000, 28, 28), (10000, 28, 28))
    assert np.bincount(data.train.y).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(data.test.y).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert round(float(data.train.x.mean(dtype=np.float64)), 4) == 0.1307


def test_a9a() -> None:
    data = load("a9a/a9a.xz", "a9a/a9a.t.xz", format="svmlight", base=SHARED)
    assert data.test is not None
    assert (data.train.x.shape, data.test.x.shape) == ((32561, 123), (16281, 123))
    assert data.train.label_names == ("-1", "1")
    assert (np.bincount(data.train.y).tolist(), np.bincount(data.test.y).tolist()) == ([24720, 7841], [12435, 3846])
    assert (np.count_nonzero(data.train.x), np.count_nonzero(data.test.x)) == (451592, 225731)


def test_mushrooms() -> None:
    files = ("mushrooms/agaricus_127d_train.libsvm.xz", "mushrooms/agaricus_127d_test.libsvm.xz")
    data = load(*files, base=SHARED)
    assert data.test is not None
    assert (data.train.x.shape, data.test.x.shape) == ((6513, 126), (1611, 126))
    assert (np.bincount(data.train.y).tolist(), np.bincount(data.test.y).tolist()) == ([3373, 3140], [835, 776])
    assert set(np.count_nonzero(data.train.x, axis=1).tolist()) == {22}


def test_casp() -> None:
    data = load("casp/CASP.csv.xz", label="RMSD", targets="values", validation=0, scale="standard", base=SHARED)
    assert (data.train.x.shape, data.train.y.shape) == ((45730, 8), (45730, 1))
    assert (round(float(data.train.y.mean(dtype=np.float64)), 3), float(data.train.y.max())) == (
        7.749,
        20.999000549316406,
    )
    assert np.allclose(data.train.x.std(axis=0, dtype=np.float64), 1, atol=1e-4)


def test_phoneme() -> None:
    data = load("phoneme/phoneme.data.csv.xz", label="g", ignore=("speaker",), validation=0, base=SHARED)
    assert data.train.x.shape == (4509, 256)
    assert data.train.label_names == ("aa", "ao", "dcl", "iy", "sh")
    assert np.bincount(data.train.y).tolist() == [695, 1022, 757, 1163, 872]


def test_imdb_as_dense_rows_says_what_memory_it_would_need(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = type("Memory", (), {"available": 4_000_000_000})
    monkeypatch.setattr("psutil.virtual_memory", lambda: memory)
    path = SHARED / "imdb/imdb_bow_train.svm.xz"
    with pytest.raises(ResourceError) as error:
        load(path, validation=0, n_features=89527)
    assert str(error.value) == (f"{path}: 25000 x 89527 float32 values need 9.0 GB of memory, 4.0 GB are available")
