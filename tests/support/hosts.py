"""Hosts on this machine: network namespaces of their own, joined by a bridge, that are cut off, slowed and walled in.

All traffic stays inside these namespaces; they are removed with everything in them, whatever happens.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator

import pytest

__all__ = ["Hosts", "hosts"]


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True, timeout=20)


class Hosts:
    """Three namespaces with an address each, on a bridge in a fourth one."""

    def __init__(self) -> None:
        self.name = f"hog{os.getpid()}"
        self._made: list[str] = []

    def make(self) -> None:
        """Make them. Nothing of it is in the namespace that this process is in."""
        switch = self._namespace("s")
        _ip("-n", switch, "link", "add", "bridge", "type", "bridge")
        _ip("-n", switch, "link", "set", "bridge", "up")
        for host in (1, 2, 3):
            namespace = self._namespace(str(host))
            _ip("-n", namespace, "link", "add", "eth", "type", "veth", "peer", "name", f"port{host}", "netns", switch)
            _ip("-n", switch, "link", "set", f"port{host}", "master", "bridge", "up")
            _ip("-n", namespace, "addr", "add", f"{self.address(host)}/24", "dev", "eth")
            _ip("-n", namespace, "link", "set", "eth", "up")
            _ip("-n", namespace, "link", "set", "lo", "up")

    def _namespace(self, suffix: str) -> str:
        namespace = f"{self.name}-{suffix}"
        _ip("netns", "add", namespace)
        self._made.append(namespace)
        return namespace

    def address(self, host: int) -> str:
        return f"10.77.19.{host}"

    def prefix(self, host: int) -> list[str]:
        """What a command begins with that is to run on this host."""
        return ["ip", "netns", "exec", f"{self.name}-{host}"]

    def cut(self, host: int) -> None:
        """Pull the cable of a host, at the switch: the host does not notice."""
        _ip("-n", f"{self.name}-s", "link", "set", f"port{host}", "down")

    def mend(self, host: int) -> None:
        _ip("-n", f"{self.name}-s", "link", "set", f"port{host}", "up")

    def name_again(self, host: int) -> str:
        """Give a host a second address, and return it."""
        _ip("-n", f"{self.name}-{host}", "addr", "add", f"10.77.19.{100 + host}/24", "dev", "eth")
        return f"10.77.19.{100 + host}"

    def wall(self, host: int, address: str) -> None:
        """Let nothing that this host sends come to an address."""
        _ip("-n", f"{self.name}-{host}", "route", "add", "blackhole", f"{address}/32")

    def slow(self, host: int, bytes_s: float) -> None:
        """Let a host send and receive no more than so much."""
        for namespace, device in ((f"{self.name}-{host}", "eth"), (f"{self.name}-s", f"port{host}")):
            limit = ("rate", f"{bytes_s * 8:.0f}bit", "burst", "32k", "latency", "400ms")
            command = ["tc", "-n", namespace, "qdisc", "add", "dev", device, "root", "tbf", *limit]
            if shutil.which("tc") is None or subprocess.run(command, capture_output=True, timeout=20).returncode:
                pytest.skip("this machine has no token bucket filter (tc)")

    def remove(self) -> None:
        for namespace in self._made:
            subprocess.run(["ip", "netns", "del", namespace], capture_output=True, timeout=20)


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    if os.name != "posix" or os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("needs root and iproute2 to make network namespaces")
    hosts = Hosts()
    try:
        try:
            hosts.make()
        except subprocess.CalledProcessError as error:
            pytest.skip(f"may not make network namespaces: {error.stderr.strip()}")
        yield hosts
    finally:
        hosts.remove()
