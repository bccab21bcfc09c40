"""The order of what happens to a shard: one request after the other, and a thread where a kernel takes long.

    1. A request that finds nobody before it begins at once, within the handler; others take their turn behind it.
    2. When it is its turn it is answered, or leaves its kernel to a thread, or has to wait for memory (``copies``).
    3. A kernel that has ended answers its request, and the next one begins.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, Protocol

from hogpour.core.errors import Refusal, RequestFailed
from hogpour.net.requests import Reply
from hogpour.net.wire.base import Answer
from hogpour.server.copies import Copies, Vector

__all__ = ["MAX_TURNS", "Begin", "Running", "TurnQueue"]

MAX_TURNS = 1024
"""Requests that may wait for one shard. Whoever asks for more than that gets ``busy``."""


class ShardWork(Protocol):
    """What writes a shard."""

    @property
    def sources(self) -> list[Vector]:
        """The frozen vectors that it copies from; it counts as a reader of them until it has run."""

    def run(self) -> None:
        """Do it; may be called in a thread."""


@dataclass(frozen=True, slots=True)
class Running(Generic[Answer]):
    """Work that is left to a thread, and what answers the request when it is done."""

    work: ShardWork
    reply: Callable[[], Reply[Answer]]


Begin = Callable[[], Reply[Answer] | Running[Answer] | None]
"""Answers a request whose turn it is, or returns what a thread must do before; None: it waits for memory, and is asked
again."""


class TurnQueue:
    """The requests that wait for one shard, the first one being served.

    Args:
        shard: its number.
        size: its elements.
        copies: the server's.
        inline_elements: work that passes over more than this is left to the event loop's executor.

    Attributes:
        copies: as given.
    """

    __slots__ = ("_inline_elements", "_shard", "_size", "_turns", "copies")

    def __init__(self, shard: int, size: int, copies: Copies, inline_elements: int) -> None:
        self._shard, self._size, self.copies, self._inline_elements = shard, size, copies, inline_elements
        self._turns: deque[_Turn[Any]] = deque()

    def __len__(self) -> int:
        return len(self._turns)

    def at_once(self, begin: Begin[Answer]) -> Reply[Answer] | Awaitable[Reply[Answer]]:
        """Serve a request now where the shard is idle and small, else when it is its turn."""
        if not self._turns and self._size <= self._inline_elements:
            outcome = begin()
            if isinstance(outcome, Reply):
                return outcome
            assert outcome is None, "a small shard was left to a thread"
        return self.put(begin)

    def read(self, begin: Callable[[], Reply[Answer]]) -> Reply[Answer] | Awaitable[Reply[Answer]]:
        """Serve a request that writes nothing: now where the shard is idle, else when it is its turn."""
        return self.put(begin) if self._turns else begin()

    def check_room(self) -> None:
        """Raise RequestFailed where too many requests wait."""
        if len(self._turns) >= MAX_TURNS:
            raise RequestFailed(Refusal.BUSY, f"shard {self._shard}: {MAX_TURNS} requests wait for it")

    def put(self, begin: Begin[Answer]) -> Awaitable[Reply[Answer]]:
        """Serve a request when all before it have been."""
        self.check_room()
        turn = _Turn(begin, self.advance)
        self._turns.append(turn)
        self.advance()
        return turn

    def run(
        self, work: ShardWork, reply: Callable[[], Reply[Answer]], passes: int = 1
    ) -> Reply[Answer] | Running[Answer]:
        """Do what writes the shard, or leave it to a thread where it passes over many elements."""
        if self._size * passes > self._inline_elements:
            return Running(work, reply)
        try:
            work.run()
        finally:
            self.copies.release(work.sources)
        return reply()

    def advance(self) -> None:
        """Serve the requests whose turn it is; may be called at any time."""
        turns = self._turns
        while turns and not turns[0].begun:
            turn = turns[0]
            self.copies.waiting.pop(self, None)
            if not turn.cancelled():
                turn.begun = True
                try:
                    outcome = turn.begin()
                    if isinstance(outcome, Running):
                        self._start(turn, outcome)
                        return
                except Exception as error:  # whoever asked is told; the next one has its turn
                    turn.set_exception(error)
                else:
                    if outcome is None:
                        turn.begun = False
                        self.copies.waiting[self] = self.advance
                        return
                    turn.set_result(outcome)
            turns.popleft()

    def _start(self, turn: _Turn[Answer], running: Running[Answer]) -> None:
        """Run a kernel in a thread. Whatever happens to the request: the turn ends when the kernel has ended."""
        try:
            thread = turn.get_loop().run_in_executor(None, running.work.run)
        except RuntimeError:  # the executor was shut down
            self.copies.release(running.work.sources)
            raise
        thread.add_done_callback(partial(self._end, turn, running))

    def _end(self, turn: _Turn[Answer], running: Running[Answer], thread: asyncio.Future[None]) -> None:
        error = thread.exception()
        if error is None:
            turn.set_result(running.reply())
        else:
            turn.set_exception(error)
        self._turns.popleft()
        self.copies.let_go(running.work.sources)
        self.advance()


class _Turn(asyncio.Future[Reply[Answer]]):
    """The reply to a request that waits for others of its shard.

    It can be cancelled before it has begun, and then nothing of it happens. Not after that: a kernel reads the
    payload of the request, whose memory must not be given back before the kernel has ended. (``cancel`` says False, and
    a task that waits here is cancelled when the kernel has ended.) A reply that a cancelled task does not take any more
    is let go of here, or the shard would stay frozen for ever.
    """

    def __init__(self, begin: Begin[Answer], advance: Callable[[], None]) -> None:
        super().__init__(loop=asyncio.get_running_loop())
        self.begin, self._advance, self.begun = begin, advance, False

    def cancel(self, msg: object | None = None) -> bool:
        if self.begun or not super().cancel(msg):
            return False
        self._advance()  # it may have been the first, waiting for memory
        return True

    def __await__(self) -> Generator[object, None, Reply[Answer]]:
        try:
            return (yield from super().__await__())
        except asyncio.CancelledError:
            if self.done() and not self.cancelled() and self.exception() is None:
                sent = self.result().sent
                if sent is not None:
                    sent()
            raise
