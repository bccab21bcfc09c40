"""Plain blocking sockets: what a fetch and a push cost when nothing but the bytes has to move.

A request is 16 bytes, what is asked and how many bytes; a fetch is answered with the parameters by one ``sendall``, a
push is followed by the gradient and answered with 8 bytes. Both ends receive with ``recv_into`` into memory that is
there already. There is one connection, one request at a time, no token, no checks, and nobody else is served.

The server applies a gradient with NumPy, in pieces that fit into a cache, or (``push_bare``) does not apply it at all.
"""

from __future__ import annotations

import os
import socket
import struct
import sys

import numpy as np
import numpy.typing as npt

from bench._peers.contender import LR, answer, resident_bytes, server, tell, timed, written

__all__: list[str] = []

REQUEST = struct.Struct("<QQ")
ANSWER = struct.Struct("<Q")
FETCH, PUSH, PUSH_BARE = range(3)
PIECE = 1 << 16
"""Elements of a gradient applied at once: two passes over 256 KiB stay in the second-level cache."""

Vector = npt.NDArray[np.float32]


def serve(n_bytes: int) -> None:
    """Serve one connection until it is closed."""
    before = resident_bytes()
    params, landing = written(n_bytes, 0), written(n_bytes, 0)
    scratch, clock = np.empty(PIECE, np.float32), 0
    with socket.create_server(("127.0.0.1", 0)) as listener:
        tell(port=listener.getsockname()[1], server=os.getpid(), before=before)
        listener.settimeout(60)
        connection, _ = listener.accept()
    with connection:
        connection.settimeout(None)  # the client may be asked nothing for long; it closes the connection when it ends
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        request = bytearray(REQUEST.size)
        while receive(connection, memoryview(request)):
            what, length = REQUEST.unpack(request)
            assert length == n_bytes
            if what == FETCH:
                connection.sendall(params)
                continue
            receive(connection, memoryview(landing).cast("B"))
            if what == PUSH:
                clock += 1
                descend(params, landing, scratch)
            connection.sendall(ANSWER.pack(clock))


def descend(params: Vector, grad: Vector, scratch: Vector) -> None:
    """params -= LR · grad, piece by piece."""
    for begin in range(0, params.size, PIECE):
        piece = grad[begin : begin + PIECE]
        step = scratch[: piece.size]
        np.multiply(piece, np.float32(LR), out=step)
        np.subtract(params[begin : begin + PIECE], step, out=params[begin : begin + PIECE])


def receive(connection: socket.socket, place: memoryview) -> bool:
    """Fill ``place``; return False when the other end closed before its first byte."""
    done = 0
    while done < len(place):
        n = connection.recv_into(place[done:])
        if n == 0:
            assert done == 0, f"closed after {done} of {len(place)} bytes"
            return False
        done += n
    return True


def measure(n_bytes: int) -> None:
    """Be the client."""
    params, grad = written(n_bytes, 0), written(n_bytes, 1)
    landing, outgoing = memoryview(params).cast("B"), memoryview(grad).cast("B")
    small = memoryview(bytearray(ANSWER.size))
    with (
        server(__spec__.name, "serve", str(n_bytes)) as there,
        socket.create_connection(("127.0.0.1", there["port"]), timeout=60) as connection,
    ):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def fetch() -> None:
            connection.sendall(REQUEST.pack(FETCH, n_bytes))
            assert receive(connection, landing)

        def push(what: int) -> None:
            sent = connection.sendmsg([REQUEST.pack(what, n_bytes), outgoing])
            if sent < REQUEST.size + n_bytes:
                connection.sendall(outgoing[sent - REQUEST.size :])
            assert receive(connection, small)

        def value() -> tuple[float, float]:
            fetch()
            return params.min() / -LR, params.max() / -LR

        answer({"fetch": timed(fetch), "push": timed(lambda: push(PUSH)), "push_bare": timed(lambda: push(PUSH_BARE))},
               value, server=there["server"], before=there["before"])  # fmt: skip


if __name__ == "__main__":
    {"serve": serve, "measure": measure}[sys.argv[1]](int(sys.argv[2]))
