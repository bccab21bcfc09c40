"""A message is one file: nothing else names it but whoever asks and whoever answers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.real

TOY = '''
from hogpour.net.wire.base import Before, Message, Request

class Doubled(Message, frozen=True):
    KIND = 254
    PAYLOAD = True
    number: int

class Double(Request[Doubled], frozen=True):
    KIND = 255
    BEFORE = Before.NO_MEMBERS
    PAYLOAD = True
    number: int
'''

MAIN = '''
import asyncio, sys
from hogpour.net import wire
wire.__path__.append(sys.argv[1])
from hogpour.core.errors import RequestFailed
from hogpour.net.listener import Listener
from hogpour.net.peer import Peer
from hogpour.net.requests import Reply
from hogpour.net.staging import Staging
from hogpour.net.wire.toy import Double, Doubled
from hogpour.node.joining import BEFORE

def double(message, payload):
    return Reply(Doubled(2 * message.number), [memoryview(bytes(payload) * 2)])

async def main():
    handlers = dict(BEFORE)
    listener = Listener(handlers, b"t" * 16, staging=Staging(1 << 16), payload_limit=1 << 16, log=print)
    await listener.start("127.0.0.1", 0)
    peer, into = Peer(listener.address, b"t" * 16), bytearray(6)
    async def ask():
        return await peer.request(Double(21), [memoryview(b"abc")], into=memoryview(into), deadline_s=10.0)
    try:
        await ask()
    except RequestFailed as error:
        print(error.code, error)
    handlers[Double] = double
    print(await ask(), bytes(into))
    await peer.close()
    await listener.drain(1.0)

asyncio.run(main())
'''


def test_a_message_in_one_new_file_is_found_routed_and_answered(tmp_path: Path) -> None:
    """In a process of its own: which messages there are is read once."""
    (tmp_path / "toy.py").write_text(TOY)
    root = str(Path(__file__).parents[2])
    ran = subprocess.run([sys.executable, "-c", MAIN, str(tmp_path)], cwd=root, capture_output=True, text=True,
                         timeout=60, env={**os.environ, "PYTHONPATH": root})  # fmt: skip
    assert (ran.stdout.splitlines(), ran.stderr, ran.returncode) == (
        [
            "fenced this node has no members yet: it must be joined again",
            "Doubled(number=42) b'abcabc'",
        ],
        "",
        0,
    )
