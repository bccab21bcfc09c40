from __future__ import annotations

import math

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from hogpour.cluster.membership import Membership
from hogpour.core.node_id import MOST_MEMBERS, display_id, first_node


def nodes(members: object) -> list[int]:
    return [member.node for member in members]  # type: ignore[attr-defined]


def test_each_joining_gets_a_number_of_its_own() -> None:
    members = Membership(3.0)
    assert [members.join("a", "", 0.0).node for _ in range(3)] == [1, 2, 3]
    members.leave(2)
    assert members.join("a", "", 0.0).node == 4
    assert nodes(members) == [1, 3, 4]
    assert Membership(3.0, first=7).join("a", "", 0.0).node == 7


def test_a_member_that_is_silent_for_its_lease_is_dead() -> None:
    members = Membership(3.0)
    members.join("a", "", 10.0)
    members.join("b", "", 10.5)
    assert members.expire(12.0) == []
    assert members.expire(12.9) == []
    dead = members.expire(13.0)
    assert nodes(dead) == [1]
    assert dead[0].heard == 10.0
    assert nodes(members) == [2]
    assert members.expire(13.1) == []


def test_a_heartbeat_renews_the_lease() -> None:
    members = Membership(3.0)
    member = members.join("a", "", 0.0)
    assert members.beat(1, 2.9) is member
    assert (member.heard, member.until) == (2.9, 5.9)
    members.expire(5.0)
    assert nodes(members.expire(5.9)) == [1]
    assert members.beat(1, 6.0) is None


def test_a_heartbeat_that_comes_before_anybody_looked_is_in_time() -> None:
    members = Membership(3.0)
    members.join("a", "", 0.0)
    members.expire(2.9)
    assert members.beat(1, 3.5) is not None
    assert members.expire(3.6) == []


def test_a_member_for_ever_needs_no_heartbeat() -> None:
    members = Membership(3.0)
    assert members.join("a", "", 0.0, for_ever=True).until == math.inf
    members.beat(1, 1.0)
    for now in [*range(100), 200, *range(200, 300)]:  # also after a sleep
        assert members.expire(float(now)) == []


def test_who_slept_cannot_say_that_others_were_silent() -> None:
    members = Membership(3.0)
    members.join("a", "", 0.0)
    members.expire(0.1)
    assert members.expire(50.0) == []
    assert members.expire(51.0) == []
    assert members.expire(52.0) == []
    assert nodes(members.expire(53.0)) == [1]


def test_numbers_that_were_issued_and_are_no_members_are_gone() -> None:
    members = Membership(3.0, first=5)
    members.join("a", "", 0.0)
    members.join("b", "", 0.0)
    members.leave(5)
    assert [members.gone(node) for node in (-1, 0, 4, 5, 6, 7)] == [False, False, False, True, False, False]
    assert members.leave(5) is None
    assert members.get(5) is None
    assert members.get(6) is not None


def test_a_member_is_found_by_its_address_unless_it_has_none() -> None:
    members = Membership(3.0)
    members.join("a", "", 0.0)
    served = members.join("b", "10.0.0.2:7000", 0.0)
    assert members.at("10.0.0.2:7000") is served
    assert members.at("") is None
    assert members.at("10.0.0.3:7000") is None


def test_the_number_of_members_is_bounded() -> None:
    members = Membership(3.0)
    for _ in range(MOST_MEMBERS):
        assert not members.full
        members.join("a", "", 0.0)
    assert members.full
    with pytest.raises(AssertionError, match="membership: 2048 members already"):
        members.join("a", "", 0.0)
    members.leave(1)
    assert not members.full


def test_a_lease_of_nothing_and_a_number_of_nobody_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^membership: lease of 0.0 s, expected above 0$"):
        Membership(0.0)
    with pytest.raises(ValueError, match=r"^membership: first incarnation 0, expected at least 1$"):
        Membership(3.0, first=0)


class MembershipMachine(RuleBasedStateMachine):
    """Members join, beat, go and fall silent while time passes; beside it, when each was last heard from."""

    def __init__(self) -> None:
        super().__init__()
        self.now, self.looked = 0, 0  # in eighths of a second, which are exact
        self.members = Membership(4 / 8)
        self.members.expire(0.0)
        self.heard: dict[int, int] = {}
        self.gone: set[int] = set()
        self.issued = 0

    @rule(steps=st.integers(0, 2))
    def wait_and_look(self, steps: int) -> None:
        self.now += steps
        dead = nodes(self.members.expire(self.now / 8))
        if self.now - self.looked > 2:
            self.heard = {node: self.now for node in self.heard}
        self.looked = self.now
        assert dead == [node for node, heard in self.heard.items() if self.now - heard >= 4]
        self.gone |= set(dead)
        self.heard = {node: heard for node, heard in self.heard.items() if node not in dead}

    @rule(steps=st.integers(0, 2))
    def wait(self, steps: int) -> None:
        self.now += steps

    @rule()
    def join(self) -> None:
        self.issued += 1
        assert self.members.join("a", "", self.now / 8).node == self.issued
        self.heard[self.issued] = self.now

    @rule(node=st.integers(-1, 12))
    def beat(self, node: int) -> None:
        assert (self.members.beat(node, self.now / 8) is not None) == (node in self.heard)
        if node in self.heard:
            self.heard[node] = self.now

    @rule(node=st.integers(-1, 12))
    def leave(self, node: int) -> None:
        assert (self.members.leave(node) is not None) == (node in self.heard)
        if self.heard.pop(node, None) is not None:
            self.gone.add(node)

    @invariant()
    def agrees(self) -> None:
        assert nodes(self.members) == list(self.heard)
        assert [self.members.gone(node) for node in range(-1, self.issued + 3)] == [
            node in self.gone for node in range(-1, self.issued + 3)
        ]


TestMembership = MembershipMachine.TestCase
TestMembership.settings = settings(max_examples=60, stateful_step_count=30)
TestMembership.pytestmark = [pytest.mark.slow]


def test_incarnations_of_two_runs_are_others_and_sound_alike() -> None:
    first, second = first_node(b"\x00\x00\x00\x01"), first_node(b"\xff\xff\xff\xff")
    assert first != second
    assert [display_id(first), display_id(first + 1), display_id(second + 1)] == [1, 2, 2]
    assert second + 4095 < 2**53  # also a number of JSON


def test_a_member_whose_lease_is_ended_is_dead_at_the_next_look_unless_it_speaks_before() -> None:
    members = Membership(3.0)
    for name in "ab":
        members.join(name, "", 0.0)
    for node in (1, 2, 9):
        members.end_lease(node)
    members.beat(1, 0.1)
    assert nodes(members.expire(0.2)) == [2]
    assert members.expire(3.0) == []
