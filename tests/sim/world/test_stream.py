"""One connection of the simulated network: windows, waiting data by reference, slow readers, ends of every kind.

Machines and ends are those of ``test_network``: a way takes 0.1 s, and both ends are there at 0.2 s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from support.wired import RESET, End, Wired

from hogpour.sim.world.network import Conditions

TEXT = bytes(range(256)) * 12  # 3,072 bytes


class Buffered(asyncio.BufferedProtocol):
    """An end that gives memory of a few bytes to read into, as the production's transport does."""

    def __init__(self, wired: Wired, n_bytes: int = 100) -> None:
        self.wired, self.got, self.seen = wired, b"", list[tuple[float, str]]()
        self.memory = memoryview(bytearray(n_bytes))
        self.stream: Any = None

    def connection_made(self, transport: Any) -> None:
        self.stream = transport

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.memory

    def buffer_updated(self, nbytes: int) -> None:
        self.got += self.memory[:nbytes]
        self.seen.append((self.wired.now, f"{nbytes} bytes"))

    def eof_received(self) -> None:
        self.seen.append((self.wired.now, "eof"))

    def connection_lost(self, exc: Exception | None) -> None:
        self.seen.append((self.wired.now, "lost" if exc is None else f"lost: {exc}"))


def wired_to(make: Callable[[Wired], Any], **settings: Any) -> tuple[Wired, End, Any]:
    """Connect to a server that makes ends of another kind."""
    wired = Wired(**settings)
    made: list[Any] = []
    wired.run("b", wired.loop.create_server(lambda: made.append(make(wired)) or made[-1], "b", 8))
    here = wired.run("a", wired.loop.create_connection(lambda: End(wired), "b", 8))[1]
    here.seen.clear()
    return wired, here, made[0]


# -- windows ------------------------------------------------------------------------------------------------------------


def test_what_the_window_takes_is_sent_at_once_and_the_rest_when_it_was_read() -> None:
    """1,024 bytes arrive after 0.1 s; that they were read is known after 0.2 s, and the next ones go."""
    wired = Wired(window_bytes=1024)
    here, there = wired.connect()
    wired.at(1.0, "a", here.stream.write, TEXT[:2500])
    wired.go(0.8)
    assert here.stream.get_write_buffer_size() == 1476
    wired.go(5.0)
    assert there.seen == [(1.1, "1024 bytes"), (1.3, "1024 bytes"), (1.5, "452 bytes")]
    assert here.seen == [(1.0, "pause"), (1.4, "resume")]
    assert there.got == TEXT[:2500]
    assert here.stream.get_write_buffer_size() == 0


def test_what_fits_into_the_window_pauses_nobody() -> None:
    wired = Wired(window_bytes=1024)
    here, there = wired.connect()
    here.stream.set_write_buffer_limits(high=0)
    for _ in range(3):
        wired.do("a", here.stream.writelines, [TEXT[:1000], b"", TEXT[1000:1024]])
        wired.go(1.0)
    assert there.got == TEXT[:1024] * 3
    assert here.seen == []


def test_a_writer_is_paused_once_however_much_it_writes() -> None:
    wired = Wired(window_bytes=1024)
    here, there = wired.connect()
    wired.do("a", here.stream.writelines, [TEXT[k : k + 512] for k in range(0, 3072, 512)])
    wired.go(5.0)
    assert [what for _, what in here.seen] == ["pause", "resume"]
    assert there.got == TEXT


def test_a_reader_that_does_not_read_stops_the_writer() -> None:
    wired = Wired(window_bytes=1024)
    here, there = wired.connect()
    wired.do("b", there.stream.pause_reading)
    assert not there.stream.is_reading()
    wired.at(1.0, "a", here.stream.write, TEXT[:1500])
    wired.at(9.0, "b", there.stream.resume_reading)
    wired.at(9.0, "b", there.stream.resume_reading)
    wired.go(7.0)
    assert (here.seen, there.seen) == ([(1.0, "pause")], [])
    wired.go(10.0)
    assert here.seen == [(1.0, "pause"), (9.1, "resume")]
    assert there.seen == [(9.0, "1024 bytes"), (9.2, "476 bytes")]


def test_a_reader_that_stands_still_stops_the_writer() -> None:
    wired = Wired(window_bytes=1024)
    here, there = wired.connect()
    wired.at(1.0, "a", here.stream.write, TEXT[:1500])
    wired.at(1.0, "outside", wired.loop.pause, wired.hosts["b"])
    wired.at(9.0, "outside", wired.loop.go_on, wired.hosts["b"])
    wired.go(20.0)
    assert here.seen == [(1.0, "pause"), (9.1, "resume")]
    assert there.seen == [(9.0, "1024 bytes"), (9.2, "476 bytes")]


def test_a_reader_may_stop_in_the_midst_of_what_has_arrived() -> None:
    wired, here, there = wired_to(Buffered)
    there.buffer_updated = lambda nbytes: (Buffered.buffer_updated(there, nbytes), there.stream.pause_reading())
    wired.at(1.0, "a", here.stream.write, TEXT[:250])
    for at in (2.0, 3.0, 4.0):
        wired.at(at, "b", there.stream.resume_reading)
    wired.go(5.0)
    assert there.seen == [(1.1, "100 bytes"), (2.0, "100 bytes"), (3.0, "50 bytes")]
    assert there.got == TEXT[:250]


def test_what_waits_is_sent_as_it_is_when_it_goes() -> None:
    """By reference, as in uvloop: what the window took is a copy, what it did not take is not."""
    wired = Wired(window_bytes=1024)
    here, there = wired.connect()
    memory = bytearray(b"a" * 3000)
    wired.at(1.0, "a", here.stream.write, memory)
    wired.at(1.1, "a", lambda: memory.__setitem__(slice(None), b"b" * 3000))
    wired.at(1.3, "a", lambda: memory.__setitem__(slice(None), b"c" * 3000))
    wired.go(5.0)
    assert there.got == b"a" * 1024 + b"b" * 1024 + b"c" * 952


def test_numbers_are_sent_as_their_bytes() -> None:
    """A view of 400 numbers counts 400: the window let through four times what it had room for."""
    wired = Wired(window_bytes=1024)
    here, there = wired.connect()
    numbers = np.arange(400, dtype=np.float32)
    wired.at(1.0, "a", here.stream.write, memoryview(numbers))
    wired.go(5.0)
    assert there.got == numbers.tobytes()
    assert there.seen == [(1.1, "1024 bytes"), (1.3, "576 bytes")]


# -- protocols ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [End, Buffered])
@pytest.mark.parametrize("settings", [{}, {"split_reads": True}, {"window_bytes": 1024}, {"window_bytes": 1024, "split_reads": True}])
def test_both_kinds_of_protocols_get_the_same_bytes_however_they_are_split(
    make: Callable[[Wired], Any], settings: dict[str, Any]
) -> None:
    wired, here, there = wired_to(make, **settings)
    wired.do("a", lambda: [here.stream.write(TEXT[k : k + 64]) for k in range(0, 3072, 64)])
    wired.go(5.0)
    assert there.got == TEXT
    lengths = [int(what.split()[0]) for _, what in there.seen if what.endswith("bytes")]
    assert sum(lengths) == 3072
    assert (len(set(lengths)) > 5) == settings.get("split_reads", False)


def test_a_protocol_that_gives_no_memory_is_told_so_as_asyncio_tells_it() -> None:
    """It was asked again and again, within one callback: a simulation that stood still without being stuck."""
    wired, here, _ = wired_to(lambda wired: Buffered(wired, 0))
    wired.at(1.0, "a", here.stream.write, b"1")
    with pytest.raises(AssertionError):
        wired.go(5.0)
    assert [str(error["exception"]) for error in wired.loop.errors] == ["get_buffer() returned an empty buffer"]


def test_a_connection_may_change_its_protocol() -> None:
    wired = Wired()
    here, there = wired.connect()
    other = Buffered(wired)
    wired.at(1.0, "a", here.stream.write, b"for the first")
    wired.at(2.0, "b", there.stream.set_protocol, other)
    wired.at(2.0, "a", here.stream.write, b"for the second")
    wired.go(5.0)
    assert (there.got, other.got) == (b"for the first", b"for the second")


def test_asyncios_streams_talk_over_it() -> None:
    wired = Wired()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"you said " + await reader.readline())
        await writer.drain()
        writer.close()

    async def ask() -> bytes:
        reader, writer = await asyncio.open_connection("c", 9)
        writer.write(b"hello\n")
        try:
            return await reader.read()
        finally:
            writer.close()
            await writer.wait_closed()

    wired.run("c", asyncio.start_server(answer, "c", 9))
    assert wired.run("a", ask()) == b"you said hello\n"
    assert wired.now == 0.4


def test_what_arrives_before_the_accepting_end_has_begun_waits_for_it() -> None:
    """The system accepts for a process that stands still, as in reality."""
    wired = Wired()
    wired.loop.pause(wired.hosts["b"])
    wired.at(5.0, "outside", wired.loop.go_on, wired.hosts["b"])
    here = wired.run("a", wired.loop.create_connection(lambda: End(wired), "b", 7))[1]
    assert (wired.now, wired.accepted) == (0.2, [])
    wired.do("a", here.stream.write, b"1")
    wired.go(10.0)
    assert wired.accepted[0].seen == [(5.0, "made"), (5.0, "1 bytes")]


# -- the end ------------------------------------------------------------------------------------------------------------


def test_who_closes_is_done_at_once_and_the_other_end_after_the_way() -> None:
    wired = Wired()
    here, there = wired.connect()
    wired.at(1.0, "a", here.stream.write, b"last")
    wired.at(1.0, "a", here.stream.close)
    wired.at(1.0, "a", here.stream.write, b"not any more")
    wired.go(5.0)
    assert here.stream.is_closing()
    assert here.seen == [(1.0, "lost")]
    assert there.seen == [(1.1, "4 bytes"), (1.1, "eof"), (1.1, "lost")]
    assert [len(machine.streams) for machine in wired.machines.values()] == [0, 0, 0]


def test_the_end_comes_behind_what_was_written() -> None:
    wired = Wired({"a": Conditions(delay_s=0.1, bandwidth=1000)})
    here, there = wired.connect()
    wired.at(1.0, "a", here.stream.write, bytes(1000))
    wired.at(1.0, "a", here.stream.close)
    wired.go(5.0)
    assert there.seen == [(2.1, "1000 bytes"), (2.1, "eof"), (2.1, "lost")]


def test_what_waits_when_it_is_closed_is_still_sent() -> None:
    wired = Wired(window_bytes=1024)
    here, there = wired.connect()
    wired.at(1.0, "a", here.stream.write, TEXT)
    wired.at(1.0, "a", here.stream.close)
    wired.go(5.0)
    assert here.seen == [(1.0, "pause"), (1.4, "lost")]
    assert there.got == TEXT
    assert there.seen[-2:] == [(1.5, "eof"), (1.5, "lost")]


def test_what_waits_when_it_is_closed_is_sent_although_the_other_end_still_talks() -> None:
    """The first byte that came was answered with a reset, and what waited was lost. In reality the socket is open until
    everything is with the kernel, and then there is the reset, because of that byte."""
    wired = Wired(window_bytes=1024)
    here, there = wired.connect()
    wired.at(1.0, "a", here.stream.write, TEXT)
    wired.at(1.0, "a", here.stream.close)
    wired.at(1.0, "b", there.stream.write, b"1")
    wired.go(5.0)
    assert here.seen == [(1.0, "pause"), (1.4, "lost")]
    assert there.got == TEXT
    assert there.seen[-1] == (1.5, RESET)


def test_who_closes_without_having_read_everything_resets() -> None:
    wired = Wired()
    here, there = wired.connect()
    wired.do("a", here.stream.pause_reading)
    wired.do("b", there.stream.write, b"1")
    wired.at(1.0, "a", here.stream.close)
    wired.go(5.0)
    assert (here.seen, there.seen) == ([(1.0, "lost")], [(1.1, RESET)])


def test_who_aborts_drops_what_waits() -> None:
    wired = Wired(window_bytes=1024)
    here, there = wired.connect()
    wired.at(1.0, "a", here.stream.write, TEXT)
    wired.at(1.0, "a", here.stream.abort)
    wired.at(1.0, "a", here.stream.abort)
    wired.go(5.0)
    assert here.seen == [(1.0, "pause"), (1.0, "lost")]
    assert there.seen == [(1.1, "1024 bytes"), (1.1, "eof"), (1.1, "lost")]
    assert here.stream.get_write_buffer_size() == 0


def test_who_aborts_without_having_read_everything_resets() -> None:
    wired = Wired()
    here, there = wired.connect()
    wired.do("a", here.stream.pause_reading)
    wired.do("b", there.stream.write, b"1")
    wired.at(1.0, "a", here.stream.abort)
    wired.go(5.0)
    assert there.seen == [(1.1, RESET)]


def test_an_end_that_stays_open_may_write_and_is_reset_for_it() -> None:
    wired = Wired()
    here, there = wired.connect()
    there.stays = True
    wired.at(1.0, "a", here.stream.close)
    wired.at(2.0, "b", there.stream.write, b"1")
    wired.go(5.0)
    assert there.seen == [(1.1, "eof"), (2.2, RESET)]
    assert here.seen == [(1.0, "lost")]


def test_a_reset_overtakes_what_waits_to_be_read() -> None:
    wired = Wired()
    here, there = wired.connect()
    wired.do("b", there.stream.pause_reading)
    wired.at(1.0, "a", here.stream.write, b"never read")
    wired.at(2.0, "outside", wired.network.reset, wired.machines["a"], 0)
    wired.at(3.0, "b", there.stream.resume_reading)
    wired.go(5.0)
    assert there.seen == [(2.0, RESET)]
    assert there.got == b""


def test_nothing_can_be_written_after_the_end() -> None:
    wired = Wired(window_bytes=1024)
    here, there = wired.connect()
    wired.at(1.0, "outside", wired.network.reset, wired.machines["a"], 0)
    wired.at(2.0, "a", here.stream.write, TEXT)
    wired.at(2.0, "a", here.stream.close)
    wired.go(5.0)
    assert (here.seen, there.seen) == ([(1.0, RESET)], [(1.0, RESET)])


def test_a_dead_process_writes_and_closes_nothing() -> None:
    """Its transports may still be called from ``finally`` blocks that Python runs."""
    wired = Wired()
    here, there = wired.connect()

    async def talks() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            here.stream.write(b"heard")
            here.stream.close()
            here.stream.abort()

    wired.loop.spawn(wired.hosts["a"], talks())
    wired.at(1.0, "outside", lambda: wired.kill("a", power=True))
    wired.go(5.0)
    assert (here.seen, there.seen) == ([], [])
