"""Asking every shard, wherever it is, until each has done what is asked: a step of a gate, a program of L-BFGS.

    1. The coordinator asks all servers at the same time, each for the shards that the newest map says it has.
    2. A server names the shards that it did it for. It leaves out those that have moved; its answer may be lost; it may
       be too busy to begin.
    3. The coordinator asks again for whatever nobody has named, by the map of then.

So a shard may be asked for twice: doing it again must be harmless.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from hogpour.core.errors import PeerLost, Refusal, RequestFailed
from hogpour.core.shard_map import ShardMap
from hogpour.net.requests import Requests
from hogpour.net.wire.base import Request
from hogpour.net.wire.gate import Committed
from hogpour.net.wire.operate import Operated

__all__ = ["ask_every_shard"]

_ALL_S = 90.0
"""Until every shard has done it: longer than one may be on its way to another server (``placement``)."""

_AGAIN_S = 0.02
"""Until those that nobody has named are asked for again, where nobody has named any."""


Answer = TypeVar("Answer", Committed, Operated)
"""They name the shards that have done it."""


async def ask_every_shard(
    shard_map: Callable[[], ShardMap],
    peers: Callable[[str], Requests],
    make: Callable[[list[int]], Request[Answer]],
    *,
    what: str,
    deadline_s: float,
    log: Callable[[str], None],
    wanted: Callable[[], bool] = lambda: True,
) -> list[Answer]:
    """Ask until every shard is named in an answer.

    Args:
        shard_map: returns the newest one.
        peers: whom to ask at an address.
        make: returns the request for these shards.
        what: names it to people.
        deadline_s: of one request.
        log: told what is asked for again because nobody answered.
        wanted: asked before anything is asked for again.

    Returns:
        Answers that name each shard once.

    Raises:
        RequestFailed: a server refuses, some shards have not done it after 90 s, or it is not wanted any more.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _ALL_S
    missing, answers = set(range(shard_map().n_shards)), list[Answer]()
    while missing:
        places: dict[str, list[int]] = {}
        for shard in sorted(missing):
            places.setdefault(shard_map().addresses[shard], []).append(shard)
        before = len(missing)
        asked = [_ask(peers(at), make(shards), what, deadline_s, log) for at, shards in places.items()]
        for answer in await asyncio.gather(*asked, return_exceptions=True):
            if isinstance(answer, BaseException):
                raise answer
            if answer is not None and answer.shards:
                missing.difference_update(answer.shards)
                answers.append(answer)
        if missing and not wanted():
            raise RequestFailed(Refusal.ENDED, f"{what} is not wanted any more")
        if len(missing) == before:
            if loop.time() > deadline:
                text = f"{what} could not be carried out on shards {sorted(missing)} within {_ALL_S:g} s"
                raise RequestFailed(Refusal.BUSY, text)
            await asyncio.sleep(_AGAIN_S)
    return answers


async def _ask(
    requests: Requests, message: Request[Answer], what: str, deadline_s: float, log: Callable[[str], None]
) -> Answer | None:
    """Ask one server; None: it is asked again."""
    try:
        return await requests.request(message, deadline_s=deadline_s)
    except PeerLost as error:
        log(f"{what} is asked for again: {error}")
        return None
    except RequestFailed as error:
        if error.code.may_pass:  # a node that was started anew serves nothing yet: its old life is missed soon
            return None
        raise RequestFailed(error.code, f"{what} cannot be carried out: {error}") from error
