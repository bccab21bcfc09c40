"""What a shard remembers of who pushed what, so that no push is applied twice.

An origin is one replica of one incarnation of a node. It numbers its pushes to a shard 1, 2, 3 ... and repeats a number
with whatever it sends again. Pushes may overtake each other on the way, by fewer than ``WIDTH``; so the highest number
and one bit for each of the ``WIDTH`` last ones tell what is new. A number older than that counts as a repeated one:
rather a gradient lost than one applied twice. Knows no network.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from hogpour.net.wire.window import PushWindow

__all__ = ["WIDTH", "PushDedup"]

WIDTH = 64
"""Numbers that a window tells apart: an integer of the wire."""

_ALL = (1 << WIDTH) - 1


class PushDedup:
    """The windows of one shard.

    Args:
        windows: from another server that had the shard before.
    """

    __slots__ = ("_seen",)

    def __init__(self, windows: Iterable[PushWindow] = ()) -> None:
        self._seen = {(window.node, window.replica): (window.highest, window.bits & _ALL) for window in windows}

    def __len__(self) -> int:
        return len(self._seen)

    def __iter__(self) -> Iterator[PushWindow]:
        """Yield them for the wire."""
        for (node, replica), (highest, bits) in self._seen.items():
            yield PushWindow(node, replica, highest, bits)

    def knows(self, node: int, replica: int) -> bool:
        """Whether there is a window for this origin."""
        return (node, replica) in self._seen

    def count(self, node: int) -> int:
        """Return how many windows are a node's."""
        return sum(origin[0] == node for origin in self._seen)

    def repeats(self, node: int, replica: int, sequence: int) -> bool:
        """Whether this push was applied before, or is so old that nobody can tell."""
        highest, bits = self._seen.get((node, replica), (0, 0))
        back = highest - sequence
        return back >= WIDTH or (back >= 0 and bits >> back & 1 == 1)

    def add(self, node: int, replica: int, sequence: int) -> None:
        """Remember a push. One that is too old for the window is taken for a repeated one as it is."""
        highest, bits = self._seen.get((node, replica), (0, 0))
        ahead = sequence - highest
        if ahead >= WIDTH:  # shifted by what a peer says, an integer could take all memory
            self._seen[node, replica] = sequence, 1
        elif ahead > 0:
            self._seen[node, replica] = sequence, (bits << ahead | 1) & _ALL
        elif -ahead < WIDTH:
            self._seen[node, replica] = highest, bits | 1 << -ahead

    def forget(self, node: int) -> None:
        """Drop the windows of an incarnation whose pushes are refused from now on."""
        for origin in [origin for origin in self._seen if origin[0] == node]:
            del self._seen[origin]
