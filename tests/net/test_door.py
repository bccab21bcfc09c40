"""Strangers share the door by where they come from."""

from __future__ import annotations

import random

import pytest

from hogpour.net.door import Door, source_of

PLACES = 64


def crowd(door: Door[str], count: int, source: str) -> None:
    """So many strangers, one after the other, as a listener lets them in."""
    for k in range(count):
        if len(door) >= PLACES:
            door.drop()
        door.enter(f"{source} {k}", source)


def door(seed: int = 0) -> Door[str]:
    return Door(random.Random(seed).randbytes)


def test_a_flood_from_one_host_takes_no_place_of_another() -> None:
    """The oldest lost its place: 690 connections a second kept out a node with a round trip of 100 ms."""
    strangers = door()
    crowd(strangers, 10, "flood")
    strangers.enter("far", "node")
    crowd(strangers, 10_000, "flood")
    assert "far" in strangers
    assert len(strangers) == PLACES
    strangers.leave("far")
    assert "far" not in strangers
    strangers.leave("far")  # again changes nothing


def test_of_a_flood_from_everywhere_a_random_one_loses() -> None:
    """Whoever needs as long for its proof as 32 others need to come keeps its place more often than not."""
    stays = 0
    for seed in range(100):
        strangers = door(seed)
        for k in range(PLACES):
            crowd(strangers, 1, f"flood {k}")
        crowd(strangers, 1, "far")
        for k in range(32):
            crowd(strangers, 1, f"more {k}")
        stays += "far 0" in strangers
    assert 40 <= stays <= 80


@pytest.mark.parametrize(
    ("host", "source"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("2001:db8::1:2:3:4", "2001:db8::/64"),
        ("2001:db8::9", "2001:db8::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("elm", "elm"),
        ("", ""),
    ],
)
def test_a_source_is_a_host_or_the_network_that_one_host_has(host: str, source: str) -> None:
    assert source_of(host) == source
