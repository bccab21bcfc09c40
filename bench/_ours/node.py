"""A node of ours in a process of its own: trains one job after the other as it is told, and does nothing in between.

On its standard input it gets plans, a line of JSON each, and answers each twice: with its ``address``, when others may
join, and with what was reached. For times to an accuracy it keeps copies of its live vector while replicas train and
evaluates them when the clock has stopped.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from hogpour.core import host

host.set_kernel_cache()  # before a kernel is imported

import numpy as np  # noqa: E402
import numpy.typing as npt  # noqa: E402

import hogpour as hp  # noqa: E402
from bench._ours.gate import opened  # noqa: E402
from bench._peers.contender import tell  # noqa: E402
from bench._peers.echo import loop_factory  # noqa: E402
from hogpour.core import registry  # noqa: E402
from hogpour.core.job import job_from  # noqa: E402
from hogpour.data.load import Data, load  # noqa: E402

__all__ = ["Watch", "mnist", "train"]

LOOK_S = 0.005
"""Between two looks at the steps: what a time is exact to. A look takes 0.02 ms."""


def mnist(folder: Path) -> list[Path]:
    """Return where the images for training and testing are in MNIST's folder."""
    return [folder / f"{part}-images-idx3-ubyte.gz" for part in ("train", "t10k")]


class Watch:
    """Looks at a node while it trains.

    Args:
        every: steps of the node's replicas from one copy to the next; 0: keep none.

    Attributes:
        moved: when the steps were last seen to be more than before, on the clock of ``time.monotonic``.
        copies: moment and parameters.
    """

    def __init__(self, node: hp.Node, every: int) -> None:
        self._node, self._every = node, every
        self._seen, self._due = 0, every
        self.moved = 0.0
        self.copies: list[tuple[float, npt.NDArray[np.float32]]] = []

    def look(self, now: float) -> None:
        steps = self._node.steps
        if steps == self._seen:
            return
        self._seen, self.moved = steps, now
        if self._every and steps >= self._due:
            self.copies.append((now, self._node.parameters()))
            self._due = steps - steps % self._every + self._every

    async def run(self) -> None:
        """Look for ever, which the caller ends."""
        while True:
            await asyncio.sleep(LOOK_S)
            self.look(time.monotonic())


async def train(plan: dict[str, Any], data: Data) -> dict[str, Any]:
    """Train as planned; tell the address when others may join.

    Args:
        plan: ``job``: its tables; or ``join``: the address of the first node, and perhaps ``algorithm``: the table of
            another one than the job's. ``listen``: where to. ``gate``: folder of the run's ``Gate``. ``every``: see
            ``Watch``. ``target``: accuracy whose time is wanted; None: nothing is evaluated.

    Returns:
        ``opened``: when all replicas computed; ``moved``: when the last step here was seen; ``reached``: when the
        target was, None if never; ``accuracy``: of the final model; ``staleness``: mean of all pushes of the cluster,
        where there were any; ``outcome``: of the run here.
    """
    own = replace(data, test=None)  # nobody evaluates while replicas train
    if plan["join"]:
        changes: dict[str, Any] = {"data": own}
        if plan["algorithm"]:
            changes["algorithm"] = registry.build("scheme", plan["algorithm"], "algorithm")
        node = hp.Node(join=plan["join"], changes=changes, threads=1, allow_modules=["bench._ours"])
    else:
        job = replace(job_from(plan["job"], "bench"), data=own)
        node = hp.Node(job, listen=plan["listen"], threads=1)
    async with node:
        tell(address=node.address)
        watch = Watch(node, plan["every"])
        watching = asyncio.create_task(watch.run())
        try:
            progress = [progress async for progress in node][-1]
        finally:
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching
        summary, model = await node.wait(), await node.model()
    found: dict[str, Any] = {
        "opened": opened(plan["gate"]),
        "moved": watch.moved,
        "outcome": summary.outcome,
        "staleness": progress.cluster.staleness if progress.cluster else None,
    }
    if plan["target"] is not None:
        assert data.test is not None
        final = model.params.copy()
        copies = [(moment, params) for moment, params in watch.copies if moment > found["opened"]]
        found["accuracy"] = _accuracy(model, final, data)
        found["reached"] = _reached([*copies, (watch.moved, final)], model, data, plan["target"])
    return found


def _reached(
    copies: Iterable[tuple[float, npt.NDArray[np.float32]]], model: hp.Model, data: Data, target: float
) -> float | None:
    """Return the moment of the first copy that is as good as ``target``."""
    return next((moment for moment, params in copies if _accuracy(model, params, data) >= target), None)


def _accuracy(model: hp.Model, params: npt.NDArray[np.float32], data: Data) -> float:
    """Return the test accuracy of a model of this network."""
    assert data.test is not None
    model.params[...] = params
    evaluation = model.evaluate(data.test)
    assert evaluation is not None
    assert evaluation.accuracy is not None
    return evaluation.accuracy


def main(folder: str) -> None:
    """Answer until the input ends."""
    data = load(*mnist(Path(folder)))
    tell(ready=True)
    for line in sys.stdin:
        with asyncio.Runner(loop_factory=loop_factory("uvloop")) as runner:
            found = runner.run(train(json.loads(line), data))
        tell(**found)


if __name__ == "__main__":
    main(sys.argv[1])
