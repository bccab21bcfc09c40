"""The sparse form at a server: pushes come to the same as whole ones, changes to the same as fetches."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import numpy as np
import pytest
from support.server import SIZE, Floats, Kernels, Sum, fetched, now, push, refused, sent, served, settle, soon

from hogpour.algos.optim.adagrad import Adagrad
from hogpour.algos.optim.ftrl import Ftrl
from hogpour.algos.optim.sgd import Sgd
from hogpour.net import sparse_form
from hogpour.net.sparse_form import Elements
from hogpour.net.wire.fetch import Fetch
from hogpour.net.wire.fetch_changes import WHOLE, Changes, FetchChanges
from hogpour.net.wire.push import Push
from hogpour.server.server import ParameterServer

RULES = [Sgd(0.1), Adagrad(0.1), Ftrl(0.1, l1=0.01)]


def sparse(grad: Floats, sequence: int = 1) -> tuple[Push, Floats]:
    """A push of a gradient in the sparse form, and its payload."""
    form = sparse_form.nonzeros(grad)
    assert form is not None
    return msgspec.structs.replace(push(sequence), n_entries=form[0]), np.frombuffer(form[1], np.uint8)


def gradient(rng: np.random.Generator) -> Floats:
    """Few elements, and zeros with a sign among them, as a hinge leaves them."""
    grad = np.where(rng.random(SIZE) < 0.15, rng.normal(size=SIZE), 0).astype(np.float32)
    grad[rng.integers(SIZE)] = -0.0
    return grad


def parameters(server: ParameterServer) -> bytes:
    return bytes(sent(now(server, Fetch(0, 1))).payload[0])


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
def test_a_sparse_push_and_a_fetch_of_changes_come_to_the_bits_of_whole_ones(rule: Any) -> None:
    rng = np.random.default_rng(0)
    beginning = rng.choice(np.array([-0.0, 0.0, 1.0], np.float32), SIZE)
    whole, by_form = ParameterServer(rule), ParameterServer(rule)
    for server in (whole, by_form):
        server.table.open(0, beginning.copy())
    copy, clock = np.empty(SIZE, np.float32), -1
    for sequence in range(1, 30):
        grad = gradient(rng)
        now(whole, push(sequence), grad)
        now(by_form, *(sparse(grad, sequence) if sequence % 2 else (push(sequence), grad)))
        assert parameters(by_form) == parameters(whole)
        if sequence % 3 == 0:
            reply = now(by_form, FetchChanges(0, 1, clock))
            assert isinstance(reply.message, Changes)
            if reply.message.n_entries == WHOLE:
                copy[...] = np.frombuffer(sent(reply).payload[0], np.float32)
            else:
                payload = reply.payload[0] if reply.payload else memoryview(b"")
                assert sparse_form.read(payload, reply.message.n_entries, copy) == ""
            clock = reply.message.clock
            assert copy.tobytes() == parameters(by_form)


@pytest.mark.parametrize("since", [-(2**53 - 1), -1, 3, 2**53 - 1])
def test_whoever_names_a_clock_that_the_server_does_not_know_gets_the_whole_shard(since: int) -> None:
    server = served(Sgd(1.0))
    now(server, FetchChanges(0, 1, -1))
    now(server, *sparse(np.eye(1, SIZE, dtype=np.float32)[0]))
    reply = sent(now(server, FetchChanges(0, 1, since)))
    assert reply.message == Changes(0, 1, WHOLE, 4 * SIZE)


@pytest.mark.parametrize(
    ("n_entries", "payload", "text"),
    [
        (0, [1], "cannot be read: 1 bytes are no 0 elements"),
        (2**31 - 1, [0] * 10, "cannot be read: 10 bytes are no 2147483647 elements"),
        (1, [0, 0, 0, 0, SIZE], f"cannot be read: element 0 of 1 does not end within {SIZE}, or more follows"),
        (1, [0, 0, 0xC0, 0x7F, 3], "holds nan at element 3"),
    ],
)
def test_a_form_that_lies_changes_nothing_and_may_come_again(n_entries: int, payload: list[int], text: str) -> None:
    server = served(Sgd(1.0))
    bad = msgspec.structs.replace(push(1), n_entries=n_entries)
    code, said = refused(server, bad, np.array(payload, np.uint8))
    assert (code, said.endswith(text)) == ("wrong", True)
    now(server, *sparse(np.eye(1, SIZE, dtype=np.float32)[0]))
    assert fetched(server) == (1, [-1.0, 0.0])


async def test_pushes_that_wait_take_no_more_memory_than_they_came_with(
    kernels: Kernels, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, whole = list[int](), Elements.whole

    def counted(self: Elements, size: int) -> Floats:
        made.append(size)
        return whole(self, size)

    monkeypatch.setattr(Elements, "whole", counted)
    server = served(Sum(), inline=False)
    grad = np.eye(1, SIZE, dtype=np.float32)[0]
    tasks = [asyncio.ensure_future(soon(server, *sparse(grad, sequence))) for sequence in (1, 2, 3)]
    await settle()
    early = len(made)
    for _ in tasks:
        await kernels.finish()
    await asyncio.gather(*tasks)
    assert (early, len(made)) == (1, 3)
