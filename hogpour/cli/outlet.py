"""Standard output and standard error as raw streams that an event loop never waits for.

Whoever holds a terminal, or reads no pipe, stops this program at its next line, and with the event loop heartbeats and
shards stop as well. So while a loop runs a thread writes, from a queue with room for so many bytes; where it is full,
the oldest lines are dropped and counted, and the reader is told how many when it reads on. Otherwise, as in a program
without a loop, whoever writes waits.
"""

from __future__ import annotations

import io
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable

__all__ = ["Outlet", "OutputError"]

ROOM_BYTES = 256 * 1024
"""Of lines that nobody has read yet."""


class OutputError(OSError):
    """What is written to standard output does not arrive: a full disk, or a reader that went away."""


class Outlet(io.RawIOBase):
    """A raw stream over a descriptor, which is not closed with it. What is written at once stays together.

    Args:
        fd: the descriptor.
        write: as ``os.write``, which may take a part.
        room_bytes: of the queue.
    """

    def __init__(self, fd: int, *, write: Callable[[int, bytes], int] = os.write, room_bytes: int = ROOM_BYTES) -> None:
        self._fd, self._write, self._room_bytes = fd, write, room_bytes
        self._changed = threading.Condition()
        self._queue: deque[bytes] = deque()
        self._n_bytes = self._dropped = 0
        self._moved = 0  # grows with each byte written: a reader that is slow is no reader that is gone
        self._busy = self._queued = False
        self._missing: Callable[[int], str] = lambda n: ""
        self._error: OutputError | None = None
        self._thread: threading.Thread | None = None

    def fileno(self) -> int:
        return self._fd

    def isatty(self) -> bool:
        return os.isatty(self._fd)

    def writable(self) -> bool:
        return True

    def write(self, data: object, /) -> int:
        """Write all of it, or keep it for the thread.

        Raises:
            OutputError: it, or what was written before, does not arrive.
        """
        octets = bytes(data)  # type: ignore[call-overload]
        with self._changed:
            if self._error is not None:
                raise self._error
            if self._queued:
                self._queue.append(octets)
                self._n_bytes += len(octets)
                while self._n_bytes > self._room_bytes and len(self._queue) > 1:
                    dropped = self._queue.popleft()
                    self._n_bytes -= len(dropped)
                    self._dropped += dropped.count(b"\n")
                self._changed.notify_all()
                return len(octets)
        self._write_all(octets)
        return len(octets)

    def begin_queue(self, missing: Callable[[int], str]) -> None:
        """Let a thread write from now on.

        Args:
            missing: text of the line that stands for so many that were dropped.
        """
        with self._changed:
            self._queued, self._missing = True, missing
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=f"writes to descriptor {self._fd}", daemon=True)
            self._thread.start()

    def end_queue(self, still_s: float) -> None:
        """Wait until all is written, as long as something moves within ``still_s`` seconds; then drop the rest.

        Raises:
            OutputError: it does not arrive.
        """
        with self._changed:
            seen, since = self._moved, time.monotonic()
            while (self._queue or self._busy) and self._error is None:
                left = since + still_s - time.monotonic()
                if self._moved != seen:
                    seen, since = self._moved, time.monotonic()
                elif left <= 0:
                    self._queue.clear()
                    self._n_bytes = 0
                    return  # the thread still waits in the kernel; what follows is for the queue
                else:
                    self._changed.wait(left)
            self._queued = False
            if self._error is not None:
                raise self._error

    def _run(self) -> None:
        while True:
            with self._changed:
                self._busy = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: bool(self._queue))
                octets = self._queue.popleft()
                self._n_bytes -= len(octets)
                dropped, self._dropped, self._busy = self._dropped, 0, True
            if dropped:
                octets = f"{self._missing(dropped)}\n".encode() + octets
            try:
                self._write_all(octets)
            except OutputError as error:
                with self._changed:
                    self._error, self._busy = error, False
                    self._changed.notify_all()
                return

    def _write_all(self, octets: bytes) -> None:
        while octets:
            try:
                n = self._write(self._fd, octets)
            except BlockingIOError:  # somebody who has the same terminal or pipe made it so
                select.select([], [self._fd], [])
                continue
            except OSError as error:
                raise OutputError(error.errno, error.strerror) from error
            octets = octets[n:]
            with self._changed:
                self._moved += n
                self._changed.notify_all()
