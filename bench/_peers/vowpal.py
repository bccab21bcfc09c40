"""Vowpal Wabbit's adaptive updates with its own settings, as its users train: passes over its binary cache.

The wheel has no command; ``Workspace`` takes the command's line. Writing the text and the cache counts for nobody.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from vowpalwabbit import Workspace

from bench._peers.task import Rows, SparseTask, log_loss

__all__ = ["run"]


def run(task: SparseTask) -> dict[str, Any]:
    """Train, and return what was reached, as ``sklearn_sgd.run``. It does not shuffle: the rows come in an order."""
    cache, test, model, scores = (task.folder / name for name in ("train.cache", "test.vw", "model", "scores"))
    if not cache.exists():
        text = task.folder / "train.vw"
        _write(task.train, text)
        _write(task.test, test)
        _command(f"-d {text} --cache_file {cache} --passes 1")
    learn = f"--loss_function logistic --holdout_off --cache_file {cache}"
    _command(f"{learn} --passes {task.epochs} -f {model}")
    _command(f"-t -i {model} -d {test} -p {scores}")
    found = np.loadtxt(scores)
    begin = time.perf_counter()
    _command(f"{learn} --passes {task.many}")
    rate = task.many * len(task.train.indices) / (time.perf_counter() - begin)
    accuracy = float(((found > 0) == (task.test.y == 1)).mean())
    return {"rate": rate, "loss": log_loss(found, task.test.y), "accuracy": accuracy}


def _command(line: str) -> None:
    Workspace(f"{line} --quiet").finish()


def _write(rows: Rows, path: Path) -> None:
    """Write its text: a label of -1 or 1, and features in one namespace; a value of 1 needs no word."""
    words = rows.indices.astype(str)
    if rows.values.size:
        words = np.char.add(np.char.add(words, ":"), rows.values.astype(str))
    with path.open("w", encoding="utf-8") as file:
        for y, begin, end in zip(rows.y, rows.indptr, rows.indptr[1:]):
            file.write(f"{2 * y - 1} |f {' '.join(words[begin:end])}\n")
