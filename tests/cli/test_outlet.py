"""What is printed while an event loop runs: nobody who holds a terminal or reads no pipe holds the loop."""

from __future__ import annotations

import errno
import json
import os
import pty
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from support.processes import ROOT, hear_signals, nodes

from hogpour.cli.outlet import Outlet, OutputError

JOB = """
[model]
layers = [{layer = "linear", units = 10}]
[algorithm]
name = "downpour"
optimiser = {name = "sgd", lr = 0.05}
[run]
epochs = 1000000
replicas = 1
[cluster]
lease_s = 1.0
give_up_s = 2.0
"""


class Reader:
    """Takes what is written when it reads; ``held`` until then."""

    def __init__(self, takes: int = 1 << 20) -> None:
        self.read, self.takes = b"", takes
        self.reads, self.waits = threading.Event(), threading.Event()

    def write(self, fd: int, octets: bytes) -> int:
        self.waits.set()
        assert self.reads.wait(60)
        self.read += octets[: self.takes]
        return len(octets[: self.takes])


@contextmanager
def held(reader: Reader, room_bytes: int = 1000) -> Iterator[Outlet]:
    """A queued stream whose thread waits for the reader in the midst of the line "first"."""
    output = Outlet(1, write=reader.write, room_bytes=room_bytes)
    output.begin_queue(lambda n: f"{n} missing")
    output.write(b"first\n")
    assert reader.waits.wait(60)
    yield output
    reader.reads.set()
    output.end_queue(60)


def test_lines_wait_in_their_order_while_nobody_reads() -> None:
    with held(reader := Reader()) as output:
        for k in range(9):
            output.write(f"line {k}\n".encode())
        assert reader.read == b""
    assert reader.read == b"first\n" + b"".join(f"line {k}\n".encode() for k in range(9))


def test_where_the_queue_is_full_the_oldest_lines_are_counted_and_the_last_one_arrives() -> None:
    with held(reader := Reader(), room_bytes=30) as output:
        for k in range(10):
            output.write(f"line {k:4}\n".encode())
    assert reader.read == b"first\n7 missing\nline    7\nline    8\nline    9\n"


def test_a_line_longer_than_the_queue_is_written() -> None:
    with held(reader := Reader(), room_bytes=3) as output:
        output.write(b"0123456789\n")
    assert reader.read == b"first\n0123456789\n"


@pytest.mark.parametrize("queued", [True, False])
def test_a_reader_that_takes_little_at_a_time_gets_all(queued: bool) -> None:
    reader = Reader(takes=3)
    reader.reads.set()
    output = Outlet(1, write=reader.write)
    if queued:
        output.begin_queue(str)
    assert output.write(b"0123456789") == 10
    if queued:
        output.end_queue(60)
    assert reader.read == b"0123456789"


def test_the_end_does_not_wait_for_a_reader_that_is_gone_for_good() -> None:
    with held(reader := Reader()) as output:
        output.write(b"last\n")
        output.end_queue(0.01)
        assert reader.read == b""
    assert reader.read == b"first\n"


def test_outside_a_loop_whoever_writes_waits() -> None:
    output = Outlet(1, write=(reader := Reader()).write)
    output.begin_queue(str)
    output.end_queue(60)
    thread = threading.Thread(target=output.write, args=(b"answers\n",))
    thread.start()
    assert reader.waits.wait(60)
    assert thread.is_alive()
    reader.reads.set()
    thread.join(60)
    assert reader.read == b"answers\n"


def test_a_broken_pipe_is_told_at_the_next_line_and_at_the_end() -> None:
    def write(fd: int, octets: bytes) -> int:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    output = Outlet(1, write=write)
    output.begin_queue(str)
    output.write(b"first\n")
    with pytest.raises(OutputError) as caught:
        output.end_queue(60)
    assert caught.value.errno == errno.EPIPE
    with pytest.raises(OutputError):
        output.write(b"second\n")


@pytest.mark.real
def test_a_descriptor_that_others_made_nonblocking_gets_all() -> None:
    source, sink = os.pipe()
    os.set_blocking(sink, False)
    output, octets = Outlet(sink), bytes(range(256)) * 1024
    thread = threading.Thread(target=output.write, args=(octets,))
    thread.start()
    read = b""
    while len(read) < len(octets):
        read += os.read(source, 1 << 16)
    thread.join(60)
    os.close(source)
    os.close(sink)
    assert read == octets


@pytest.mark.long
@pytest.mark.real
@pytest.mark.parametrize("more", [(), ("--json",)])
def test_a_held_terminal_of_the_first_node_holds_nobody(more: tuple[str, ...], tmp_path: Path) -> None:
    """Ctrl+S on it ended every joined node within give_up_s."""
    (tmp_path / "job.toml").write_text(JOB)
    master, slave = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HOGPOUR_TOKEN": "of these tests, 24 b", "TERM": "xterm"}
    line = [sys.executable, "-m", "hogpour", "node", "job.toml", "--listen", "127.0.0.1:0", *more]
    first = subprocess.Popen(line, cwd=tmp_path, env=environment, stdin=slave, stdout=slave, stderr=slave, preexec_fn=hear_signals)
    os.close(slave)
    try:
        said = b""
        while not (b"listening on 127.0.0.1:" in said and said.endswith(b"\n")):
            said += os.read(master, 1 << 16)
        address = said.partition(b"listening on ")[2].split()[0].decode().strip('",}\x1b').split("\x1b")[0].rstrip('"}')
        with nodes(tmp_path) as start:
            joined = start("--join", address)
            joined.until_training()
            os.write(master, b"\x13")  # Ctrl+S
            for _ in range(12):  # two a second: three times as long as a node has patience
                before = joined.said[-1]["examples"]
                joined.until("progress", lambda fields, before=before: fields["examples"] > before)
            os.write(master, b"\x11")  # Ctrl+Q
            joined.interrupt()
            assert joined.end()["outcome"] == "stopped"
        first.send_signal(2)
        said = b""
        with suppress(OSError):  # the other end is closed: all is read
            while piece := os.read(master, 1 << 16):
                said += piece
        first.wait(60)
        assert first.returncode == 0
        last = said.decode(errors="replace").strip().splitlines()[-1]
        assert json.loads(last)["outcome"] == "stopped" if more else "stopped after" in said.decode(errors="replace")
    finally:
        first.kill()
        first.wait()
        os.close(master)
