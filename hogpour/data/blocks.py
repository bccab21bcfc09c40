"""Who trains on which example when: blocks of examples, and the seeded orders in which they are used.

Knows no data and no memory. A replica takes a ticket from a counter that all replicas of the node share (one atomic
add), and this file says which examples the ticket stands for. Everything follows from integers, so that a replica which
was restarted, or another machine, finds the same answer without asking.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hogpour.core.csr import Csr

__all__ = ["Blocks", "example_order", "generator", "piece"]

_EXAMPLES_A_BLOCK = 1024
"""A ticket costs one atomic add on a line that all replicas share, and two short permutations. At this many examples
that is less than a thousandth of the work, even for logistic regression."""

_NONZEROS_A_PIECE, _PIECES_A_BLOCK = 20_000, 50
"""Of sparse examples: 160 kB of indices and values, and some milliseconds of work."""

_BLOCKS_A_REPLICA = 8
"""At least so many blocks for each replica in an epoch, so that at the end of the run the others wait for the last one
for an eighth of an epoch's share at most, instead of for a whole share. Whatever the number of epochs: a run that is
resumed for more of them goes on with the blocks that it has."""

_LONG_BLOCKS_A_REPLICA = 2
"""The same of sparse examples, one at a time: of half a share, which is a millisecond or two."""

# The first number of every stream's key: streams of different purpose never coincide.
_EPOCH, _EXAMPLES = 1, 2


@dataclass(frozen=True, slots=True)
class Blocks:
    """The training examples cut into blocks of whole batches; a ticket is one block of one epoch."""

    n: int
    """Number of training examples, at least 1."""
    batch: int
    """Examples in a minibatch, at least 1; may exceed ``n``: then there is one short block."""
    replicas: int
    """Replicas that share the tickets, at least 1. Decides the size of the blocks only."""
    epochs: int
    """Times that every example is used, 0 or more."""
    count: int = 0
    """Blocks in an epoch, at most, used in their order, as the examples in them are: whatever the number of replicas,
    sums over them come out the same. 0: as many as suit the replicas, shuffled."""
    piece: int = 0
    """Sparse examples: so many neighbours are used one after the other, in an order of their own; see ``piece``."""

    def __post_init__(self) -> None:
        assert self.n > 0, f"blocks: got n = {self.n}, expected at least 1"
        assert self.batch > 0, f"blocks: got batch = {self.batch}, expected at least 1"
        assert self.replicas > 0, f"blocks: got replicas = {self.replicas}, expected at least 1"
        assert self.epochs >= 0, f"blocks: got epochs = {self.epochs}, expected at least 0"

    @property
    def block_size(self) -> int:
        """Examples in a block: a multiple of ``batch``, so that only the last block has a short batch."""
        if self.count:
            return self.batch * -(-self.n // (self.batch * self.count))
        most, least = _EXAMPLES_A_BLOCK, self.replicas * _BLOCKS_A_REPLICA
        if self.piece and self.batch == 1:
            # An example may take 50 ns, a ticket 50 µs: longer blocks, for which nobody waits but at the end of a run.
            most, least = max(most, _PIECES_A_BLOCK * self.piece), self.replicas * _LONG_BLOCKS_A_REPLICA
        return self.batch * max(1, min(most // self.batch, self.n // (self.batch * least)))

    @property
    def n_blocks(self) -> int:
        """Blocks in an epoch; the last one may be shorter."""
        return -(-self.n // self.block_size)

    @property
    def total(self) -> int:
        """Tickets in the whole run: 0 up to here. A replica that draws this number or a greater one has finished."""
        return self.epochs * self.n_blocks

    def place(self, ticket: int) -> tuple[int, int]:
        """Return the epoch of a ticket and its rank within that epoch."""
        return divmod(ticket, self.n_blocks)

    def epoch_order(self, seed: int, epoch: int) -> npt.NDArray[np.int64]:
        """Return the order of the blocks in an epoch, the same for all replicas.

        Returns:
            (n_blocks,) int64, a permutation of 0..n_blocks-1: rank → block. New; the caller keeps it for the epoch.
        """
        if self.count or self.n_blocks == 1:
            return np.arange(self.n_blocks)
        if not self.piece:
            return generator(seed, _EPOCH, epoch).permutation(self.n_blocks)
        from hogpour.data.kernels.order import order_by_pieces  # numba, which --help does without

        # An epoch may be one block of a millisecond, and numpy's generator takes 0.15 ms when nothing of it is in a
        # cache. No block begins at example n: its stream is free.
        order = np.empty(self.n_blocks, np.int64)
        order_by_pieces(seed, epoch, self.n, self.n + self.n_blocks, self.n_blocks, order)
        return order - self.n

    def range(self, ticket: int, order: npt.NDArray[np.int64]) -> tuple[int, int]:
        """Return the examples of a ticket, from start up to, not including, stop.

        Args:
            ticket: 0..total-1.
            order: (n_blocks,) int64, read only; ``epoch_order`` of the ticket's epoch.
        """
        start = int(order[ticket % self.n_blocks]) * self.block_size
        return start, min(start + self.block_size, self.n)

    def example_order(
        self, seed: int, epoch: int, start: int, stop: int, out: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.int64]:
        """Write the order in which a replica uses the examples of one block; see ``example_order``."""
        if not (self.count or self.piece):
            return example_order(seed, epoch, start, stop, out)
        order = out[: stop - start]
        if self.count:
            order[:] = np.arange(start, stop)
        else:
            from hogpour.data.kernels.order import order_by_pieces  # numba, which --help does without

            order_by_pieces(seed, epoch, start, stop, self.piece, order)
        return order

    def stream(self, ticket: int) -> int:
        """Return whose random numbers a ticket's steps draw: its own; with ``count`` its block's, whatever the epoch,
        since the objective of a batch method is the same function in every evaluation."""
        return ticket % self.n_blocks if self.count else ticket


def piece(x: npt.NDArray[np.float32] | Csr) -> int:
    """Return how many training examples are a piece, whose data stay in a near cache while they are used; 0: they are
    dense, and one after the other in an order of the whole block."""
    return max(1, _NONZEROS_A_PIECE * len(x) // max(1, x.nnz)) if isinstance(x, Csr) else 0


def example_order(
    seed: int, epoch: int, start: int, stop: int, out: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Write the order in which a replica uses the examples of one block.

    Args:
        seed, epoch: 0 or more. With ``start`` they decide the order; which replica asks does not, so that another
            replica can finish a block that was begun.
        start, stop: the examples, from ``Blocks.range``.
        out: (at least stop - start,) int64, owned by the caller; what lies behind is left as it was.

    Returns:
        (stop - start,) int64, the beginning of ``out``: a permutation of start..stop-1.
    """
    order = out[: stop - start]
    assert order.size == stop - start, f"example order: got room for {out.size} examples, expected {stop - start}"
    order[:] = np.arange(start, stop)
    generator(seed, _EXAMPLES, epoch, start).shuffle(order)
    return order


def generator(seed: int, *key: int) -> np.random.Generator:
    """Return the random generator of one stream of a run.

    Args:
        seed: the run's seed, 0 or more.
        key: what the stream is for, each 0 or more. It goes into the spawn key: as plain entropy, (1, 2) and
            (1, 2, 0) would be one stream, since ``SeedSequence`` pads its entropy with zeros.
    """
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=key)))
