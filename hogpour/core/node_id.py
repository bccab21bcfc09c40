"""Numbers of nodes: an incarnation has one that no other of any run has; people hear the short form."""

from __future__ import annotations

from base64 import b32encode

__all__ = ["MOST_MEMBERS", "coordinator_of", "display_id", "first_node", "run_name", "same_run"]

_INCARNATIONS = 1 << 20
"""Incarnations that a run may have: with 32 bits before them, a number stays below 2^53."""


MOST_MEMBERS = 2048
"""Members at a time: what the state of a member takes, in memory and in the answer to ``Status``, is bounded by it."""


def first_node(nonce: bytes) -> int:
    """Return the number of the first incarnation of a run, from 4 random bytes.

    A first node that was killed and started again at the same address is called by members of its former life, with
    numbers that are not to be anybody's now: a shard would take the pushes of two nodes for those of one, and answer
    the newer ones as repeated.
    """
    return int.from_bytes(nonce[:4]) * _INCARNATIONS + 1


def coordinator_of(node: int) -> int:
    """Return the incarnation of the first node of the run that another is of."""
    return node // _INCARNATIONS * _INCARNATIONS + 1


def display_id(node: int) -> int:
    """Return an incarnation as people hear of it: 1, 2, 3 ... in every run."""
    return node % _INCARNATIONS


def run_name(node: int) -> str:
    """Return four characters by which people tell runs apart: of two, one in a million has the other's."""
    return b32encode((node // _INCARNATIONS).to_bytes(4))[:4].decode().lower()


def same_run(node: int, other: int) -> bool:
    """Return whether two incarnations are of one run: of one life of the first node."""
    return node // _INCARNATIONS == other // _INCARNATIONS
