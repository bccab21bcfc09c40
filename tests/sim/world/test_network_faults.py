"""What goes wrong in the simulated network: partitions, resets, killed processes, machines without power.

Machines and ends are those of ``test_network``: a way takes 0.1 s, and both ends are there at 0.2 s.
"""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest
from support.wired import RESET, End, Wired, error_of, system_error

# -- partitions ---------------------------------------------------------------------------------------------------------


def test_a_sender_tries_again_after_pauses_that_double() -> None:
    """0.2, 0.4, 0.8 s ... after each other, up to 120 s: tries 0.2, 0.6, 1.4, 3.0 ... s after the first one."""
    silent_s = {0.0: 0.0, 0.1: 0.1, 0.2: 0.0, 0.3: 0.3, 1.0: 0.4, 2.9: 0.1, 102.2: 0.0, 103.0: 101.6, 205.0: 119.6, 325.0: 119.6}
    network = Wired().network
    assert {silent: round(network.retry_s(silent), 6) for silent in silent_s} == silent_s


def test_what_a_partition_held_comes_with_the_senders_next_try() -> None:
    """Held from 1.1 s on; tries at 1.3, 1.7, 2.5 s; healed at 2.0 s. Pieces keep their order, later ones too."""
    wired = Wired()
    here, there = wired.connect()
    wired.at(0.9, "outside", wired.network.cut, [wired.machines["b"]], 1)
    wired.at(1.0, "a", here.stream.write, b"12")
    wired.at(1.5, "a", here.stream.write, b"3")
    wired.at(2.0, "outside", wired.network.cut, [wired.machines["b"]], 0)
    wired.at(2.0, "outside", wired.network.heal)
    wired.at(2.2, "a", here.stream.write, b"45")
    wired.at(2.8, "a", here.stream.write, b"6")
    wired.go(5.0)
    assert there.seen == [(2.6, "2 bytes"), (2.6, "1 bytes"), (2.6, "2 bytes"), (2.9, "1 bytes")]
    assert there.got == b"123456"


def test_nothing_overtakes_what_a_partition_held() -> None:
    """What was under way when it healed came in its time, and what was held before it a try later."""
    wired = Wired()
    here, there = wired.connect()
    wired.at(1.0, "outside", wired.network.cut, [wired.machines["b"]], 1)
    wired.at(1.0, "a", here.stream.write, b"first")
    wired.at(1.95, "a", here.stream.write, b" second")
    wired.at(2.0, "outside", wired.network.cut, [wired.machines["b"]], 0)
    wired.at(2.0, "outside", wired.network.heal)
    wired.go(5.0)
    assert there.got == b"first second"
    assert there.seen == [(2.6, "5 bytes"), (2.6, "7 bytes")]


def test_machines_of_one_side_reach_each_other() -> None:
    wired = Wired()
    to_b, at_b = wired.connect()
    to_c, at_c = wired.connect(to="c")
    wired.network.cut([wired.machines["a"], wired.machines["b"]], 1)
    wired.do("a", to_b.stream.write, b"1")
    wired.do("a", to_c.stream.write, b"1")
    wired.go(10.0)
    assert (at_b.got, at_c.got) == (b"1", b"")


def test_a_partition_that_comes_back_before_the_next_try_holds_on() -> None:
    wired = Wired()
    here, there = wired.connect()
    for at, side in ((1.0, 1), (2.0, 0), (2.2, 1), (9.0, 0)):
        wired.at(at, "outside", wired.network.cut, [wired.machines["b"]], side)
        wired.at(at, "outside", wired.network.heal)
    wired.at(1.0, "a", here.stream.write, b"1")
    wired.go(30.0)
    assert there.seen == [(13.8, "1 bytes")]  # tries 0.2, 0.6 ... 6.2, 12.6 s after 1.1


@pytest.mark.parametrize(("end", "seen"), [
    (lambda wired, here: here.stream.close(), [(2.6, "4 bytes"), (2.6, "eof"), (2.6, "lost")]),
    (lambda wired, here: here.stream.abort(), [(2.6, "4 bytes"), (2.6, "eof"), (2.6, "lost")]),
    (lambda wired, here: wired.at(wired.now, "outside", wired.kill, "a"), [(2.6, "4 bytes"), (2.6, "eof"), (2.6, "lost")]),
    (lambda wired, here: wired.at(wired.now, "outside", lambda: wired.kill("a", power=True)), []),
])  # fmt: skip
def test_what_ends_during_a_partition_ends_for_the_other_end_after_it(
    end: Callable[[Wired, End], None], seen: list[tuple[float, str]]
) -> None:
    """The system of who closed, or was killed, goes on trying; that of a machine without power does not.

    Nothing ever came: a connection that was closed was not looked at any more when the partition was over.
    """
    wired = Wired()
    here, there = wired.connect()
    wired.at(1.0, "outside", wired.network.cut, [wired.machines["b"]], 1)
    wired.at(1.0, "a", here.stream.write, b"last")
    wired.at(1.1, "a", end, wired, here)
    wired.at(2.0, "outside", wired.network.cut, [wired.machines["b"]], 0)
    wired.at(2.0, "outside", wired.network.heal)
    wired.go(60.0)
    assert there.seen == seen
    assert wired.network.holding == {}


@pytest.mark.parametrize("powered", [True, False])
def test_connecting_is_tried_again_after_pauses_that_double(powered: bool) -> None:
    """1, 2, 4 s after each other: at 0, 1, 3 and 7 s, across a partition as to a machine without power."""
    wired = Wired()
    if powered:
        wired.network.cut([wired.machines["b"]], 1)
        wired.at(5.0, "outside", wired.network.cut, [wired.machines["b"]], 0)
    else:
        wired.kill("b", power=True)
        wired.at(5.0, "outside", wired.start, "b")
        wired.at(5.0, "outside", lambda: wired.loop.spawn(wired.hosts["b"], wired.loop.create_server(wired.accept, "b", 7)))
    wired.run("a", wired.loop.create_connection(lambda: End(wired), "b", 7))
    assert [end.seen for end in wired.accepted] == [[(7.1, "made")]]
    assert wired.now == 7.2


# -- resets and deaths --------------------------------------------------------------------------------------------------


def test_a_reset_in_the_midst_delivers_a_beginning_of_what_is_under_way() -> None:
    lengths = set()
    for seed in range(20):
        wired = Wired(seed=seed)
        here, there = wired.connect()
        data = bytes(range(100))
        wired.at(1.0, "a", lambda here=here, data=data: here.stream.writelines([data[:60], data[60:]]))
        wired.at(1.05, "outside", wired.network.reset, wired.machines["a"], 0)
        wired.go(5.0)
        assert here.seen == [(1.05, RESET)]
        assert there.seen[-1] == (1.1, RESET)
        assert data.startswith(there.got)
        assert len(there.got) <= 60
        lengths.add(len(there.got))
        assert wired.network.resets == 1
        assert [len(machine.streams) for machine in wired.machines.values()] == [0, 0, 0]
    assert len(lengths) > 10


def test_a_reset_takes_one_of_the_connections_that_are_there() -> None:
    wired = Wired()
    assert not wired.network.reset(wired.machines["a"], 5)
    ends = [wired.connect() for _ in range(3)]
    assert wired.network.reset(wired.machines["b"], 4)
    wired.go(1.0)
    assert [here.seen for here, _ in ends] == [[], [(0.6, RESET)], []]
    assert wired.network.resets == 1


def test_a_reset_forgets_what_a_partition_held() -> None:
    wired = Wired()
    here, there = wired.connect()
    wired.at(1.0, "outside", wired.network.cut, [wired.machines["b"]], 1)
    wired.at(1.0, "a", here.stream.write, b"1")
    wired.at(2.0, "outside", wired.network.reset, wired.machines["a"], 0)
    wired.at(3.0, "outside", wired.network.cut, [wired.machines["b"]], 0)
    wired.at(3.0, "outside", wired.network.heal)
    wired.go(10.0)
    assert (here.seen, there.seen) == ([(2.0, RESET)], [(2.0, RESET)])


def test_the_system_of_a_killed_process_closes_its_connections() -> None:
    wired = Wired()
    here, there = wired.connect()
    wired.at(1.0, "b", there.stream.write, b"last words")
    wired.at(1.0, "outside", wired.kill, "b")
    wired.go(5.0)
    assert here.seen == [(1.1, "10 bytes"), (1.1, "eof"), (1.1, "lost")]
    assert there.seen == []
    assert error_of(wired, "b") == (5.4, system_error(errno.ECONNREFUSED))


@pytest.mark.parametrize(("sent", "last"), [(b"1", [(1.1, RESET)]), (b"", [(1.1, "eof"), (1.1, "lost")])])
def test_a_killed_process_that_had_not_read_everything_resets(sent: bytes, last: list[tuple[float, str]]) -> None:
    wired = Wired()
    here, there = wired.connect()
    wired.do("b", there.stream.pause_reading)
    wired.do("a", here.stream.write, sent)
    wired.at(1.0, "outside", wired.kill, "b")
    wired.go(5.0)
    assert here.seen == last


def test_what_is_sent_to_a_killed_process_is_answered_with_a_reset() -> None:
    wired = Wired()
    here, _ = wired.connect()
    here.stays = True
    wired.at(1.0, "outside", wired.kill, "b")
    wired.at(1.05, "a", here.stream.write, b"1")
    wired.go(5.0)
    assert here.seen == [(1.1, "eof"), (1.25, RESET)]


def test_a_machine_without_power_is_silent_and_resets_when_it_is_back() -> None:
    """Back at 5 s, and whoever waits for an answer is told with his system's next try, 6.2 s after the first at 1.1 s:
    who wrote nothing more was never told."""
    wired = Wired()
    here, there = wired.connect()
    idle, _ = wired.connect()
    wired.at(0.95, "b", there.stream.write, b"on its way")
    wired.at(1.0, "outside", lambda: wired.kill("b", power=True))
    wired.at(1.0, "a", here.stream.write, b"1")
    wired.at(5.0, "outside", wired.start, "b")
    wired.go(4.0)
    assert here.seen == [(1.05, "10 bytes")]
    wired.go(60.0)
    assert here.seen[1:] == [(7.5, RESET)]
    assert (there.seen, idle.seen) == ([], [])


def test_a_machine_without_power_that_never_comes_back_is_silent_for_ever() -> None:
    wired = Wired()
    here, _ = wired.connect()
    wired.kill("b", power=True)
    wired.do("a", here.stream.write, b"1")
    wired.go(86400.0)
    assert here.seen == []
