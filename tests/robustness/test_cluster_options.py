"""What is typed of a cluster: addresses, tokens and options that do not go together."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.robustness import TAKEN_OR_REFUSED, Case, hold, params

from hogpour.net import token
from hogpour.net.address import split

pytestmark = pytest.mark.robustness

TOKEN = "of these tests, 24 bytes"

ADDRESSES = (
    "", ":", ":7000", "7000", "a", "a:", "a:b", "a:-1", "a:1.5", "a:+1", "a: 1", "a:1 ", "a:0x10", "a:65536", "a:٣", "a:1_0", f"a:{'9' * 50}",
    f"a:{'9' * 5000}", "::1", "::1:7000", "[]:1", "[::1]", "[::1]7000", "[::1:7000", "fe80::1%eth0:7000", "http://a:7000", "a b:1", "a\tb:1", "a\nb:1",
    "a\x1b[2J:1", f"{'a' * 64}:1", f"{'a' * 64}.example:1", "a..b:1", ".:1", ".a:1", f"{'é' * 70}:1", f"{'x' * 5000}:1", f"{'a.' * 140}b:1", "\u202ea:1",
    "\udcff:1", " :1",
)  # fmt: skip
"""None of them may reach a resolver."""


def addresses() -> Iterator[Case]:
    for address in ADDRESSES:
        name = ascii(address)[1:-1][:30]
        for option in ("--listen", "--join"):
            if address:  # none is none
                yield Case(name=f"{option}-{name}", run=("node", f"{option}={address}"), says=("address", option))
        yield Case(name=f"status-{name}", run=("status", address, "--json"), says=("address",))
        yield Case(name=f"split-{name}", run=lambda address=address: split(address), says=("address",))


SECRETS: dict[str, tuple[bytes, frozenset[int]]] = {
    "empty": (b"", frozenset({2})), "a line end": (b"\n", frozenset({2})), "spaces": (b" " * 99, frozenset({2})), "15 bytes": (b"x" * 15, frozenset({2})),
    "16 bytes": (b"x" * 16, frozenset({0})), "16 with the line end": (b"x" * 15 + b"\n", frozenset({2})), "a NUL": (b"x" * 20 + b"\0", frozenset({2})),
    "NULs": (b"\0" * 40, frozenset({2})), "4096 bytes": (b"x" * 4096, frozenset({0})), "4097 bytes": (b"x" * 4097, frozenset({2})),
    "a megabyte": (b"x" * (1 << 20), frozenset({2})), "no text": (bytes(range(128, 256)), frozenset({0})), "windows": (b"x" * 16 + b"\r\n", frozenset({0})),
    "utf-16": (("x" * 16).encode("utf-16"), frozenset({2})), "two lines": (b"x" * 9 + b"\n" + b"x" * 9, frozenset({0})),
}  # fmt: skip
MODES = (0o600, 0o400, 0o640, 0o604, 0o620, 0o666, 0o644, 0o601)


def tokens() -> Iterator[Case]:
    for name, (secret, codes) in SECRETS.items():
        yield Case(name=f"file-{name}", files={"t": secret}, run=lambda: loaded(0o600), says=("token file t",), codes=codes)
        yield Case(name=f"said-{name}", run=lambda secret=secret: token.check(secret, "$HOGPOUR_TOKEN"), says=("$HOGPOUR_TOKEN",), codes=codes | {0})
        yield Case(name=f"option-{name}", files={"t": secret}, run=("node", "--listen=127.0.0.1:0", "--token-file=t"), says=("token file t",))
    for mode in MODES:
        codes = frozenset({2} if mode & 0o077 else {0})
        yield Case(name=f"mode-{mode:o}", files={"t": b"x" * 20}, run=lambda mode=mode: loaded(mode), says=("token file t",), codes=codes)
    for name in ("none", "folder", "folder/none", "loop", "x" * 300, "t\nx", "", "pipe/", "/dev/null", "/proc/self/mem"):
        run = ("node", "--listen=127.0.0.1:0", f"--token-file={name}")
        if name:
            yield Case(name=f"path-{ascii(name)[1:20]}", files={"folder/t": b""}, run=run, says=("token file",))
    for host in ("0.0.0.0", "[::]", "*", "10.0.0.1", "a.example", "127.0.0.1.example", "[fe80::1]", "localhost.", "[::ffff:127.0.0.1]"):
        run_check = lambda host=host: token.check_address(split(f"{host}:1")[0], False, False)  # noqa: E731
        yield Case(name=f"no-token-{host}", run=run_check, says=("listening on",), codes=TAKEN_OR_REFUSED)


def loaded(mode: int) -> None:
    os.chmod("t", mode)
    token.load(Path("t"))


OPTIONS: tuple[tuple[str, ...], ...] = (
    ("--data=.",), ("--allow-modules=os",), ("--join-s=3",), ("--join=127.0.0.1:1", "--join-s=0"), ("--join=127.0.0.1:1", "--join-s=-1"),
    ("--join=127.0.0.1:1", "--join-s=nan"), ("--join=127.0.0.1:1", "--join-s=inf"), ("--join=127.0.0.1:1", "--join-s=1e9"),
    ("--join=127.0.0.1:1", "job.toml"), ("--join=127.0.0.1:1", "--resume"), ("--join=127.0.0.1:1", "--epochs=3"), ("--join=127.0.0.1:1", "--seed=3"),
    ("--join=127.0.0.1:1", "--wait-for=3"), ("--join=127.0.0.1:1", "--replicas=0"), ("--listen=127.0.0.1:0", "--replicas=-1"),
    ("--listen=127.0.0.1:0", "--wait-for=0"), ("--listen=127.0.0.1:0", "--wait-for=-1"), ("--listen=127.0.0.1:0", "--wait-for=99999"),
    ("--listen=127.0.0.1:0", "--epochs=0"), ("--listen=127.0.0.1:0", "--seed=-1"), ("--listen=127.0.0.1:0", "none.toml"),
    ("--listen=127.0.0.1:0", "hogwild.toml"), ("--listen=192.0.2.1:7000", "--epochs=1"), ("--listen=0.0.0.0:0", "--join=127.0.0.1:1"),
    ("--listen=*:0", "--join=127.0.0.1:1"), ("--listen=[::]:0", "--join=127.0.0.1:1"), ("--wait-for=3",),
)  # fmt: skip


def options() -> Iterator[Case]:
    files = {"hogwild.toml": b'[algorithm]\nname = "hogwild"\n'}
    says = ("--", "replicas", "wait_for", "epochs", "seed", "none.toml", "hogwild", "192.0.2.1", "cluster")
    for chosen in OPTIONS:
        for more in ((), ("--json",)):
            yield Case(name=" ".join((*chosen, *more)), files=files, run=("node", "--model=", *chosen, *more), says=says)


@pytest.fixture(autouse=True)
def secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOGPOUR_TOKEN", TOKEN)


@pytest.mark.parametrize("case", params([*addresses(), *tokens(), *options()], 25))
def test_what_is_typed_of_a_cluster_is_taken_or_refused_in_a_line(case: Case, tmp_path: Path) -> None:
    hold(case, tmp_path)
