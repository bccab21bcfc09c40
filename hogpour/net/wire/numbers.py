"""What a number in a message may be. The decoder refuses any other, with the connection that it came by.

Sums of numbers in their range stay below 2^63 for as many as a message or a cluster has; so what is answered to one
member never depends on a number of another that cannot be encoded.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

__all__ = ["Count", "Difference", "Fraction", "Incarnation", "Index", "Nonnegative", "Ordinal", "Seconds"]

_MOST = (1 << 53) - 1
"""What a float64 still counts exactly."""

Incarnation = Annotated[int, Meta(ge=0, le=_MOST)]
"""Of a node, see ``core.node_id``; 0: nobody's."""
Index = Annotated[int, Meta(ge=0, lt=1 << 31)]
"""Of a shard, a replica, a block, or how many there are of such."""
Count = Annotated[int, Meta(ge=0, le=_MOST)]
"""Of examples, tickets, updates, bytes."""
Ordinal = Annotated[int, Meta(ge=1, le=_MOST)]
"""1, 2, 3 ..."""
Difference = Annotated[int, Meta(ge=-_MOST, le=_MOST)]
"""Of two counts."""
Nonnegative = Annotated[float, Meta(ge=0, le=1e30)]
Seconds = Annotated[float, Meta(gt=0, le=1e9)]
Fraction = Annotated[float, Meta(gt=0, le=1)]
