"""One node as a server among others: what it takes over, gives up and frees. The other server is in this process."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support.server import SIZE, Sum, now, ones, push, refused

import hogpour as hp
from hogpour.core.errors import PeerLost, Refusal, RequestFailed
from hogpour.core.shard_map import ShardMap
from hogpour.net.credentials import warrant
from hogpour.net.loopback import Loopback
from hogpour.net.wire.base import Message
from hogpour.net.wire.dump import Adopt, Dump
from hogpour.net.wire.held import Held
from hogpour.server.handover import ShardHost

HERE, THERE = 1, 2
MAP = ShardMap(1, (0, SIZE), (THERE,), ("there:1",))


def nobody(address: str) -> Any:
    raise AssertionError(f"{address} was asked")


def source() -> ShardHost:
    """A node that serves shard 0."""
    serving = ShardHost(hp.Downpour(optimiser=Sum()), nobody)
    serving.begin(THERE, b"theirs")
    serving.address, serving.map = "there:1", MAP
    serving.server.table.open(0, np.zeros(SIZE, np.float32))
    return serving


async def adopt(serving: ShardHost, of: str = "there:1", epoch: int = 1) -> Message:
    shown = warrant(b"theirs", 0, serving.node, epoch)
    return await Loopback(serving.handlers()).request(Adopt(0, of, epoch, shown), deadline_s=1.0)


async def test_a_shard_is_taken_over_and_freed_where_it_was_when_the_map_says_so() -> None:
    there = source()
    here = ShardHost(hp.Downpour(optimiser=Sum()), {"there:1": Loopback(there.handlers())}.__getitem__)
    here.begin(HERE, b"ours")
    here.address, here.map = "here:1", MAP
    now(there.server, push(1), ones())
    await adopt(here)
    await adopt(here)  # the answer was lost
    assert (here.server.table.serves(0), there.server.table.serves(0)) == (True, False)
    there.follow(MAP.moved(0, HERE, "here:1"))
    assert refused(there.server, Dump(0, True)) == ("moved", "shard 0 is not served here")
    assert now(here.server, push(2), ones()).message.clock == 2


async def test_a_map_that_is_not_newer_frees_nothing() -> None:
    """A shard that had come and was being given up to the next one was freed, and lost where that one asked again."""
    there = source()
    there.map = MAP.moved(0, THERE, "there:1")
    now(there.server, Dump(0, True))
    there.follow(ShardMap(1, (0, SIZE), (HERE,), ("here:1",)))
    await adopt(there)  # nobody took it
    assert there.server.table.serves(0)


@pytest.mark.parametrize("unheard", [True, False])
async def test_a_source_that_does_not_answer_is_waited_for_less_than_the_others_wait_for_the_taker(unheard: bool) -> None:
    """Whoever pushes and the coordinator wait for a minute; the taker must have said by then that it failed. Where no
    connection can be made it says so at once, and another taker is asked; one that broke is made again."""
    deadlines: list[float] = []

    class Silent:
        async def request(self, message: Message, *, deadline_s: float, retry: bool = True, **options: Any) -> Message:
            assert message == Dump(0, True, HERE, 1, warrant(b"theirs", 0, HERE, 1))
            assert retry == bool(deadlines)
            deadlines.append(deadline_s)
            raise PeerLost("there:1", "no answer", unheard=unheard)

    here = ShardHost(hp.Downpour(optimiser=Sum()), lambda address: Silent())
    here.begin(HERE, b"ours")
    here.address, here.map = "here:1", MAP
    with pytest.raises(RequestFailed, match=r"^shard 0: there:1: no answer$") as caught:
        await adopt(here)
    assert caught.value.code == Refusal.BUSY
    assert len(deadlines) == (1 if unheard else 2)
    assert deadlines[0] == 30.0 >= deadlines[-1]


async def test_a_node_that_joins_again_serves_nothing_of_before() -> None:
    """Seed 11239 of the sweep: cut off while it took a shard over, a node got it after it was declared dead and the
    source had gone on; asked to take it over once more, it said that it had it, and what was pushed meanwhile was lost."""
    there = source()
    here = ShardHost(hp.Downpour(optimiser=Sum()), {"there:1": Loopback(there.handlers())}.__getitem__)
    here.begin(HERE, b"ours")
    here.address, here.map = "here:1", MAP
    await adopt(here)
    await adopt(there)  # nobody took it, as it seems
    now(there.server, push(1), ones())
    here.begin(3, b"newer")
    assert not here.server.table.serves(0)
    await adopt(here, epoch=2)
    assert now(here.server, push(2), ones()).message.clock == 2


async def test_a_shard_that_comes_for_an_incarnation_that_is_dead_is_not_taken() -> None:
    there = source()

    class Late:
        async def request(self, message: Message, **options: Any) -> Message:
            answer = await Loopback(there.handlers()).request(message, **options)
            here.begin(3, b"newer")
            return answer

    here = ShardHost(hp.Downpour(optimiser=Sum()), lambda address: Late())
    here.begin(HERE, b"ours")
    here.address, here.map = "here:1", MAP
    with pytest.raises(RequestFailed, match=r"^shard 0: it came for node 1, which was declared dead$") as caught:
        await adopt(here)
    assert caught.value.code == Refusal.FENCED
    assert not here.server.table.serves(0)


@pytest.mark.parametrize(
    ("node", "epoch", "shown"),
    [
        (3, 1, b""),
        (3, 1, b"guessed"),
        (3, 1, warrant(b"theirs", 0, HERE, 1)),
        (HERE, 2, warrant(b"theirs", 0, HERE, 1)),
        (HERE, 1, warrant(b"theirs", 1, HERE, 1)),
        (HERE, 1, warrant(b"ours", 0, HERE, 1)),
    ],
    ids=["none", "guessed", "another taker's", "of another map", "of another shard", "of another source"],
)
def test_a_shard_is_given_up_to_nobody_without_a_warrant(node: int, epoch: int, shown: bytes) -> None:
    """Dump(0, True) from any member left a shard with nobody, and the cluster stood still."""
    there = source()
    give, held = (there.handlers()[kind] for kind in (Dump, Held))
    for asked in (Dump(0, True, node, epoch, shown), Held(0, node, 0, epoch, shown)):
        with pytest.raises(RequestFailed, match=rf"^shard 0: is not to be given to node {node} by the map of epoch "):
            (give if isinstance(asked, Dump) else held)(asked)
    if shown:
        with pytest.raises(RequestFailed):
            give(Dump(0, False, node, epoch, shown))
    assert there.server.table.serves(0)


async def test_a_warrant_is_good_for_one_move() -> None:
    """Whoever had a shard once, and lost it, could take it again at any time."""
    there = source()
    here = ShardHost(hp.Downpour(optimiser=Sum()), {"there:1": Loopback(there.handlers())}.__getitem__)
    there._reach = {"here:1": Loopback(here.handlers())}.__getitem__
    here.begin(HERE, b"ours")
    here.address, here.map = "here:1", MAP
    await adopt(here)
    back = Adopt(0, "here:1", 2, warrant(b"ours", 0, THERE, 2))
    await Loopback(there.handlers()).request(back, deadline_s=1.0)
    again = Dump(0, True, HERE, 1, warrant(b"theirs", 0, HERE, 1))
    with pytest.raises(RequestFailed, match=r"^shard 0: is not to be given to node 1 by the map of epoch 1$"):
        there.handlers()[Dump](again)
    await adopt(here, epoch=3)
    assert here.server.table.serves(0)


async def test_a_shard_that_stays_is_not_given_to_whoever_was_to_have_it() -> None:
    there = source()
    await adopt(there)  # its taker has refused it, says the coordinator
    with pytest.raises(RequestFailed, match=r"by the map of epoch 1$"):
        there.handlers()[Dump](Dump(0, True, HERE, 1, warrant(b"theirs", 0, HERE, 1)))
    assert there.server.table.serves(0)
