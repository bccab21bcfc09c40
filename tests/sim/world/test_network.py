"""The simulated network between machines: connecting, delays, interfaces; and the production pair in it.

Machines a, b and c; somebody listens at port 7 of b and c. Where nothing else is said a way takes 0.1 s and interfaces
have no limit. What happens is noted with its time since the beginning. Single connections are in ``test_stream``,
partitions, resets and deaths in ``test_network_faults``.
"""

from __future__ import annotations

import asyncio
import errno
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from support.wired import RESET, TOKEN, End, Wired, error_of, system_error

from hogpour.core.errors import PeerLost
from hogpour.net.listener import Listener
from hogpour.net.peer import Peer
from hogpour.net.requests import Reply
from hogpour.net.staging import Staging
from hogpour.net.wire.base import Message
from hogpour.net.wire.dump import Dump, Dumped
from hogpour.sim.world.network import Conditions

# -- connecting ---------------------------------------------------------------------------------------------------------


def test_a_connection_takes_a_round_trip_and_the_accepting_end_knows_it_first() -> None:
    wired = Wired()
    stream, here = wired.run("a", wired.loop.create_connection(lambda: End(wired), "b", 7))
    (there,) = wired.accepted
    assert (there.seen, here.seen) == ([(0.1, "made")], [(0.2, "made")])
    assert here.stream is stream
    assert stream.get_protocol() is here
    assert stream.get_extra_info("peername") == there.stream.get_extra_info("sockname") == ("b", 7)
    assert stream.get_extra_info("sockname") == there.stream.get_extra_info("peername") == ("a", 49153)
    assert stream.get_extra_info("socket") is None
    assert wired.network.connected == 1


def test_delays_are_those_of_both_ends() -> None:
    wired = Wired({"b": Conditions(delay_s=0.5, bandwidth=0)})
    here, there = wired.connect()
    assert wired.now == 0.6
    wired.do("a", here.stream.write, b"1")
    wired.go(1.0)
    assert there.seen == [(0.9, "1 bytes")]


def test_nobody_listening_is_a_refusal_a_round_trip_later() -> None:
    assert error_of(Wired(), "b", 8) == (0.2, system_error(errno.ECONNREFUSED))


def test_a_server_that_was_closed_refuses() -> None:
    wired = Wired()
    server = wired.servers["b"]
    assert server.is_serving()
    wired.do("b", server.close)
    wired.run("b", server.wait_closed())
    assert (server.is_serving(), list(server.sockets)) == (False, [])
    assert error_of(wired, "b") == (0.2, system_error(errno.ECONNREFUSED))


def test_a_machine_that_is_not_there_is_unreachable_at_once() -> None:
    assert error_of(Wired(), "d") == (0.0, system_error(errno.ENETUNREACH))


def listening_error(wired: Wired, name: str, port: int) -> str:
    with pytest.raises(OSError) as caught:
        wired.run("b", wired.loop.create_server(wired.accept, name, port))
    return str(caught.value)


def test_a_port_has_one_server_and_an_address_its_machine() -> None:
    wired = Wired()
    assert listening_error(wired, "b", 7) == system_error(errno.EADDRINUSE)
    assert listening_error(wired, "c", 8) == system_error(errno.EADDRNOTAVAIL)
    wired.do("b", wired.servers["b"].close)
    for port, name in enumerate(("b", "0.0.0.0", "127.0.0.1", "", None), 7):
        server = wired.run("b", wired.loop.create_server(wired.accept, name, port))
        assert server.sockets[0].getsockname() == ("b", port)


def test_port_0_is_one_where_nobody_listens() -> None:
    """It was the next number, and in use where somebody had taken that by himself."""
    wired = Wired()
    wired.run("b", wired.loop.create_server(wired.accept, "b", 49153))
    servers = [wired.run("b", wired.loop.create_server(wired.accept, "b", 0)) for _ in range(2)]
    assert [server.sockets[0].getsockname()[1] for server in servers] == [49154, 49155]


def test_who_gives_up_connecting_leaves_nothing_behind() -> None:
    """The system of who gave up resets what it knows nothing of any more."""
    wired = Wired()
    with pytest.raises(TimeoutError):
        wired.run("a", asyncio.wait_for(wired.loop.create_connection(lambda: End(wired), "b", 7), 0.15))
    wired.go(1.0)
    assert wired.accepted[0].seen == [(0.1, "made"), (0.3, RESET)]
    assert [len(machine.streams) for machine in wired.machines.values()] == [0, 0, 0]


def test_who_gives_up_in_the_moment_of_success_leaves_nothing_behind() -> None:
    wired = Wired()
    task = wired.loop.spawn(wired.hosts["a"], wired.loop.create_connection(lambda: End(wired), "b", 7))
    wired.at(0.2, "a", task.cancel)
    wired.go(1.0)
    assert task.cancelled()
    assert wired.accepted[0].seen == [(0.1, "made"), (0.3, RESET)]
    assert [len(machine.streams) for machine in wired.machines.values()] == [0, 0, 0]


# -- the way ------------------------------------------------------------------------------------------------------------


def test_jitter_delays_each_piece_and_keeps_their_order() -> None:
    """Mean 0.05 of both ends, within three standard errors; single pieces, so that none waits for another."""
    wired = Wired({"a": Conditions(delay_s=0.1, jitter_s=0.02, bandwidth=0), "b": Conditions(delay_s=0.1, jitter_s=0.03, bandwidth=0)})
    here, there = wired.connect()
    begin, n = wired.now, 400
    for k in range(n):
        wired.at(begin + 10 * k, "a", here.stream.write, bytes([k % 256]))
    wired.go(10 * n)
    late = np.array([at - begin - 10 * k - 0.1 for k, (at, _) in enumerate(there.seen)])
    assert late.min() >= -1e-6
    assert late.mean() == pytest.approx(0.05, abs=3 * 0.05 / n**0.5)
    wired.do("a", lambda: [here.stream.write(bytes([k % 256])) for k in range(n)])
    wired.go(10.0)
    assert there.got == bytes(k % 256 for k in range(n)) * 2
    assert all(earlier[0] <= later[0] for earlier, later in pairwise(there.seen))


def test_connections_share_an_interface_on_its_way_out() -> None:
    """1,000 bytes a second: what is written second begins when the first has gone, whoever it is for."""
    wired = Wired({"a": Conditions(delay_s=0.1, bandwidth=1000)})
    to_b, at_b = wired.connect()
    to_c, at_c = wired.connect(to="c")
    begin = wired.now
    wired.do("a", to_b.stream.write, bytes(1000))
    wired.do("a", to_c.stream.write, bytes(500))
    wired.do("a", to_b.stream.write, bytes(250))
    wired.go(5.0)
    assert [round(at - begin, 6) for at, _ in (*at_b.seen, *at_c.seen)] == [1.1, 1.85, 1.6]
    assert (wired.machines["a"].bytes_out, wired.machines["b"].bytes_in, wired.machines["c"].bytes_in) == (1750, 1250, 500)


def test_connections_share_an_interface_on_its_way_in() -> None:
    wired = Wired({"b": Conditions(delay_s=0.1, bandwidth=1000)})
    from_a, at_a = wired.connect("a")
    from_c, at_c = wired.connect("c")
    begin = wired.now
    wired.do("a", from_a.stream.write, bytes(1000))
    wired.do("c", from_c.stream.write, bytes(500))
    wired.go(5.0)
    assert [round(at - begin, 6) for at, _ in (*at_a.seen, *at_c.seen)] == [1.1, 1.6]


@pytest.mark.parametrize(("out", "into", "seconds"), [
    (1000.0, 1000.0, 1.1),
    (1000.0, 0.0, 1.1),
    (1000.0, 4000.0, 1.1),
    (4000.0, 1000.0, 1.1),
    (0.0, 1000.0, 1.1),
    (0.0, 0.0, 0.1),
])  # fmt: skip
def test_the_slower_interface_says_how_long_a_piece_takes(out: float, into: float, seconds: float) -> None:
    """One that came into an idle interface took no time there: only the ones behind it waited."""
    wired = Wired({"a": Conditions(delay_s=0.1, bandwidth=out), "b": Conditions(delay_s=0.1, bandwidth=into)})
    here, there = wired.connect()
    begin = wired.now
    wired.do("a", here.stream.write, bytes(1000))
    wired.go(5.0)
    assert [round(at - begin, 6) for at, _ in there.seen] == [seconds]
    wired.do("a", here.stream.write, bytes(1000))
    wired.do("a", here.stream.write, bytes(1000))
    begin = wired.now
    wired.go(5.0)
    assert [round(at - begin, 6) for at, _ in there.seen[1:]] == [seconds, round(2 * seconds - 0.1, 6)]


def test_pieces_may_weigh_more_than_they_are() -> None:
    wired = Wired({"a": Conditions(delay_s=0.1, bandwidth=1000)}, weigh=lambda piece: 100 * len(piece))
    here, there = wired.connect()
    begin = wired.now
    wired.do("a", here.stream.write, b"twenty bytes or less")
    wired.go(5.0)
    assert there.got == b"twenty bytes or less"
    assert [round(at - begin, 6) for at, _ in there.seen] == [2.1]
    assert wired.machines["b"].bytes_in == 2000


def test_equal_networks_have_equal_traces() -> None:
    def trace(seed: int, text: bytes) -> str:
        jittery = Conditions(delay_s=0.1, jitter_s=0.01)
        wired = Wired({"a": jittery, "b": jittery}, seed=seed)
        here, there = wired.connect()
        there.echo = True
        wired.do("a", here.stream.write, text)
        wired.go(5.0)
        return wired.loop.trace.hexdigest()

    assert trace(0, b"1") == trace(0, b"1")
    assert len({trace(0, b"1"), trace(1, b"1"), trace(0, b"2")}) == 3


# -- the production pair ------------------------------------------------------------------------------------------------


class Pair:
    """A listener of production on machine b, and a peer of production on machine a that knows its address."""

    def __init__(self, wired: Wired, **settings: Any) -> None:
        self.wired, self.lines = wired, list[str]()
        self.kept = np.arange(50_000, dtype=np.float32)
        nonce = np.random.default_rng(7).bytes
        handlers = {Dump: self.dump}
        self.listener = Listener(handlers, TOKEN, staging=Staging(1 << 20), payload_limit=1 << 20, log=self.log,
                                 nonce=nonce, **settings)  # fmt: skip
        wired.run("b", self.listener.start("b", 0))
        self.peer = Peer(self.listener.address, TOKEN, nonce=nonce)

    def log(self, line: str) -> None:
        self.lines.append(f"{self.wired.now:g} s: {line}")

    def dump(self, message: Message) -> Reply:
        assert isinstance(message, Dump)
        return Reply(Dumped(message.shard, 5, []), (memoryview(self.kept).cast("B"),))

    async def ask(self, deadline_s: float = 5.0) -> np.ndarray[Any, Any]:
        into = np.zeros_like(self.kept)
        await self.peer.request(Dump(3, False), into=memoryview(into).cast("B"), deadline_s=deadline_s)
        return into

    def end(self) -> None:
        self.wired.run("a", self.peer.close())
        self.wired.run("b", self.listener.close())
        self.wired.go(1.0)
        assert self.wired.loop.errors == []
        assert [len(machine.streams) for machine in self.wired.machines.values()] == [0, 0, 0]


@pytest.mark.parametrize("settings", [{}, {"window_bytes": 1024}, {"split_reads": True}])
def test_a_request_with_a_payload_is_answered_in_virtual_time(settings: dict[str, Any]) -> None:
    wired = Wired({"a": Conditions(delay_s=0.0002), "b": Conditions(delay_s=0.0002)}, **settings)
    pair = Pair(wired)
    np.testing.assert_array_equal(wired.run("a", pair.ask()), pair.kept)
    assert 0.0008 < wired.now < 5.0
    assert wired.machines["a"].bytes_in > 200_000
    pair.end()
    assert pair.lines == []


def test_a_request_takes_its_round_trips_and_the_time_of_its_bytes() -> None:
    """A round trip is 0.2 s: connecting is one, the mutual proof two, the request one; 200,000 bytes take 0.2 s."""
    wired = Wired({"b": Conditions(delay_s=0.1, bandwidth=1e6)})
    pair = Pair(wired)
    wired.run("a", pair.ask())
    assert wired.now == pytest.approx(1.0, abs=0.001)
    began = wired.now
    wired.run("a", pair.ask())
    assert wired.now - began == pytest.approx(0.4, abs=0.001)
    pair.end()


def test_a_request_to_a_machine_without_power_ends_at_its_deadline() -> None:
    wired = Wired()
    pair = Pair(wired)
    wired.kill("b", power=True)
    with pytest.raises(PeerLost) as caught:
        wired.run("a", pair.ask(3.0))
    assert str(caught.value) == f"{pair.listener.address}: no answer to Dump within 3 s: no connection within 1 s"
    assert wired.now == 3.0
    wired.run("a", pair.peer.close())


@pytest.mark.parametrize(("delay_s", "connects"), [(0.49, True), (0.51, False)])
def test_each_round_trip_of_connecting_may_take_a_second(delay_s: float, connects: bool) -> None:
    """All three together had one second once: beyond a delay of 1/6 s nobody ever connected."""
    wired = Wired(dict.fromkeys("ab", Conditions(delay_s=delay_s)))
    pair = Pair(wired)
    if connects:
        wired.run("a", pair.ask(20.0))
        assert wired.now == pytest.approx(8 * delay_s, abs=0.01)
    else:
        with pytest.raises(PeerLost, match=r"no answer to Dump within 20 s: no connection within 1 s$"):
            wired.run("a", pair.ask(20.0))
    pair.end()


def test_a_request_outlives_a_reset() -> None:
    """Broken when half of the answer had gone, at 0.8 s; connected again after a pause of 0.05 s."""
    wired = Wired({"b": Conditions(delay_s=0.1, bandwidth=1e6)})
    pair = Pair(wired)
    wired.at(0.8, "outside", wired.network.reset, wired.machines["b"], 0)
    np.testing.assert_array_equal(wired.run("a", pair.ask(60.0)), pair.kept)
    assert wired.network.resets == 1
    assert wired.now == pytest.approx(0.8 + 0.05 + 1.0, abs=0.001)
    pair.end()


def test_an_idle_stranger_is_turned_away_after_the_time_for_the_proof() -> None:
    """The listener looks every second: handshake_s = 2.5 is over at its third look after the connection was made."""
    wired = Wired()
    pair = Pair(wired, handshake_s=2.5)
    stranger = wired.run("a", wired.loop.create_connection(lambda: End(wired), "b", int(pair.listener.address[2:])))[1]
    wired.go(10.0)
    assert [entry for entry in stranger.seen if "bytes" not in entry[1]] == [(0.2, "made"), (3.2, "eof"), (3.2, "lost")]
    assert pair.lines == ["3.1 s: a:49153: did not prove the token within 2.5 s"]
    pair.end()
