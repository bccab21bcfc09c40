"""A doorbell: replicas wake the node's event loop, which waits for nothing else.

A pipe, both ends non-blocking. Ringing a bell that already rings does nothing, so a slow listener costs a replica one
system call and never blocks it; the listener learns that something moved, not what: it looks at the clocks.
"""

from __future__ import annotations

import os
from contextlib import suppress

__all__ = ["Doorbell", "answer", "ring"]


class Doorbell:
    """Both ends of a bell.

    Attributes:
        listen_fd: becomes readable when somebody rang; for the event loop's ``add_reader``.
        ring_fd: to be inherited by replicas.
    """

    def __init__(self) -> None:
        self.listen_fd, self.ring_fd = os.pipe()
        os.set_blocking(self.listen_fd, False)
        os.set_blocking(self.ring_fd, False)

    def answer(self) -> None:
        """Silence the bell; whatever rings later is heard again."""
        answer(self.listen_fd)

    def close(self) -> None:
        """Close both ends."""
        os.close(self.listen_fd)
        os.close(self.ring_fd)


def answer(fd: int) -> None:
    """Silence the bell behind a ``listen_fd``, perhaps inherited."""
    with suppress(BlockingIOError):
        while len(os.read(fd, 4096)) == 4096:
            pass


def ring(fd: int) -> None:
    """Ring the bell behind an inherited ``ring_fd``. Never blocks; a node that is gone is no error."""
    with suppress(BlockingIOError, BrokenPipeError):
        os.write(fd, b"\0")
