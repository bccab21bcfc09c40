"""A training with made-up replicas: compile, watch, end, in this order, whatever the end is."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from typing import Any

import numpy as np
import pytest
from support.machine import FakeMachine
from support.prepared import N, prepared, small_job

import hogpour as hp
from hogpour.core.errors import ConfigError, HogpourError, ModelNotSaved, ReplicaDied, ResourceError
from hogpour.core.progress import Notice
from hogpour.machine.prepare import Prepared
from hogpour.node.backends import Alone
from hogpour.node.training import Training

JOB = small_job(epochs=1)


@pytest.fixture
def ready() -> Iterator[Prepared]:
    with prepared(JOB) as ready:
        yield ready


class Run:
    """One training. ``calls`` are what its backend and its machine were asked, in their order."""

    def __init__(self, ready: Prepared, replicas: Callable[[Run], Any], *, save: str = "") -> None:
        async def act() -> None:
            await replicas(self)

        self.machine, self.notices = FakeMachine(ready, act), list[Notice]()
        self.calls = self.machine.noted
        self.backend = Noting(ready, self.calls)
        self.stop = asyncio.Event()
        self.training = Training(replace(JOB, save=save), self.machine, self.backend, notify=self.notices.append,
                                 stop_asked=self.stop, news=asyncio.Event())  # fmt: skip

    async def end(self) -> str:
        try:
            await self.training.run()
        finally:
            self.machine.bell.close()
            self.backend.release()
        assert self.training.summary is not None
        return self.training.summary.outcome


class Noting(Alone):
    """A machine alone that notes what it is asked at the end."""

    def __init__(self, ready: Prepared, calls: list[str]) -> None:
        super().__init__(JOB, ready)
        self.calls = calls

    def train(self, alive: Callable[[], int]) -> None:
        self.calls.append("train")

    async def wind_down(self) -> bool:
        self.calls.append("wind down")
        return False

    async def finish(self, *, diverged: bool) -> None:
        self.calls.append("diverged" if diverged else "finish")

    async def give_up(self, error: HogpourError) -> None:
        self.calls.append(f"give up: {error}")


async def trains(run: Run) -> None:
    """Use every example, and move the parameters."""
    while not run.backend.nothing_else:
        run.backend.control.take_ticket(lambda ticket: None)
    run.backend.clocks.record(0, N, 1.0, N)
    run.backend.ready.live.arrays["params"][:] = 0.5


async def test_a_run_compiles_trains_ends_and_writes_its_model(ready: Prepared) -> None:
    run = Run(ready, trains, save="m.safetensors")
    assert await run.end() == "finished"
    assert run.calls == ["rehearse", "train", "run", "wind down", "finish"]
    assert run.machine.saved == ["m.safetensors"]
    assert (run.training.evaluator.final.params == 0.5).all()


async def test_a_stop_ends_the_replicas_and_then_the_backend(ready: Prepared) -> None:
    async def waits(run: Run) -> None:
        run.stop.set()
        await asyncio.Event().wait()

    run = Run(ready, waits, save="m.safetensors")
    assert await run.end() == "stopped"
    assert run.calls == ["rehearse", "train", "run", "wind down", "stop", "finish"]
    assert run.machine.saved == [], "no step was made"


async def test_a_stop_before_training_takes_leave_and_trains_nothing(ready: Prepared) -> None:
    run = Run(ready, trains)
    run.stop.set()
    assert await run.end() == "stopped"
    assert run.calls == ["rehearse", "wind down", "finish"]


async def test_kernels_that_do_not_compile_are_given_up_and_told(ready: Prepared) -> None:
    run = Run(ready, trains)

    def fails(*_: Any) -> None:
        raise ConfigError("the first step fails")

    run.machine.rehearse = fails  # type: ignore[method-assign]
    with pytest.raises(ConfigError, match=r"^the first step fails$"):
        await run.end()
    assert run.calls == ["give up: the first step fails"]


async def test_a_replica_that_dies_for_good_leaves_what_was_trained(ready: Prepared) -> None:
    async def dies(run: Run) -> None:
        await trains(run)
        raise ReplicaDied(0, -9, "replica 0 died")

    run = Run(ready, dies, save="m.safetensors")
    with pytest.raises(ReplicaDied):
        await run.end()
    assert run.calls[-2:] == ["wind down", "give up: replica 0 died"]
    assert run.training.summary is not None
    assert (run.training.summary.outcome, run.machine.saved) == ("failed", ["m.safetensors"])


async def test_a_replica_that_diverges_ends_the_run_as_diverged(ready: Prepared) -> None:
    async def diverges(run: Run) -> None:
        await trains(run)
        run.backend.control.diverge()

    run = Run(ready, diverges, save="m.safetensors")
    assert await run.end() == "diverged"
    assert run.calls[-1] == "diverged"
    assert run.machine.saved == [], "no snapshot was good"
    assert run.notices[-1].text.endswith("m.safetensors was not written; a lower learning rate may help")


async def test_a_run_that_diverges_on_large_features_is_told_of_scaling(ready: Prepared) -> None:
    async def diverges(run: Run) -> None:
        run.backend.control.diverge()

    ready.examples.arrays["x"][0] = -12345.0
    run = Run(ready, diverges)
    await run.end()
    assert run.notices[-1].text.endswith(
        'a lower learning rate may help, or data.scale = "standard": features are as large as 1.23e+04'
    )


async def test_final_parameters_that_are_not_finite_are_not_written(ready: Prepared) -> None:
    async def overflows(run: Run) -> None:
        await trains(run)
        run.backend.ready.live.arrays["params"][0] = np.nan

    run = Run(ready, overflows, save="m.safetensors")
    assert await run.end() == "diverged"
    assert run.machine.saved == []


class Full:
    """A place that takes no model file, so many times; elsewhere there is room or not."""

    def __init__(self, run: Run, times: int, room: bool = True) -> None:
        self.run, self.times, self.room = run, times, room
        self.there, run.machine.save = run.machine.save, self.save  # type: ignore[method-assign]
        run.machine.rescue = self.rescue  # type: ignore[method-assign]

    def save(self, path: str, model: hp.Model, state: Any) -> None:
        self.times -= 1
        if self.times >= 0:
            raise ResourceError("model file m: no space")
        self.there(path, model, state)

    def rescue(self, path: str, model: hp.Model, state: Any) -> str:
        if not self.room:
            raise ResourceError("no space there")
        return "/elsewhere/m.safetensors"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hogpour.node.training._AGAIN_S", 0.0)


async def test_a_model_that_its_place_takes_a_moment_later_is_there(ready: Prepared, impatient: None) -> None:
    """Somebody made room, or a file server came back."""
    run = Run(ready, trains, save="m.safetensors")
    Full(run, 3)
    assert await run.end() == "finished"
    assert run.machine.saved == ["m.safetensors"]
    assert [notice.text for notice in run.notices] == ["model file m: no space; tried again for 10 s, then elsewhere"]


@pytest.mark.parametrize(("room", "text"), [(True, "it is in /elsewhere/m.safetensors"), (False, "nor could one elsewhere: no space there")])
@pytest.mark.parametrize("asked", [False, True])
async def test_a_model_that_its_place_does_not_take_is_written_elsewhere(
    room: bool, text: str, asked: bool, ready: Prepared, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 2, "bad input, nothing was written", was the end of a run of days. Whoever asked for the end waits for
    nothing."""
    run = Run(ready, trains, save="m.safetensors")
    full = Full(run, 1_000_000, room)
    if asked:
        run.backend.wind_down = lambda: _set(run.stop)  # type: ignore[method-assign]
    else:
        monkeypatch.setattr("hogpour.node.training._KEEP_TRYING_S", 0.01)
    with pytest.raises(ModelNotSaved, match=f"^model file m: no space; {text}$"):
        await run.end()
    assert ModelNotSaved.exit_code == 1
    assert (full.times == 999_999) == asked


async def _set(event: asyncio.Event) -> bool:
    event.set()
    return False


@pytest.mark.parametrize(("compiled", "told"), [(0, []), (1, ["compiling", "compiled"])])
async def test_compiling_is_told_where_something_is_compiled(
    compiled: int, told: list[str], ready: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a loaded machine kernels that came from the cache took long to load, and were called compiled."""
    run, loaded, asked = Run(ready, trains), threading.Event(), count()

    def compilations() -> int:
        number = next(asked)
        if number == 2:
            loaded.set()
        return min(number, compiled)

    monkeypatch.setattr("hogpour.node.training._SILENT_COMPILE_S", 0.001)
    monkeypatch.setattr("hogpour.node.training.compilations", compilations)
    run.machine.rehearse = lambda *_: loaded.wait(0.2)  # type: ignore[method-assign,assignment]
    await run.end()
    assert [notice.event for notice in run.notices] == told
