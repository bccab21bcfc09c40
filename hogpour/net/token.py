"""The token of a cluster: a secret in a file that only its user can read. Whoever knows it may join, push and stop.

``net.connection`` finds out whether the other end of a connection knows it, in the handshake. Here is only what a token
may be. Paths and hosts are arguments: which file it is, and what the environment says, is decided by who calls.
"""

from __future__ import annotations

import ipaddress
import os
import stat
from contextlib import suppress
from pathlib import Path

from hogpour.core.errors import ConfigError
from hogpour.net.address import is_everywhere

__all__ = ["check", "check_address", "is_loopback", "load", "make", "without_nul"]

LEAST_BYTES = 16
"""128 bits, if they are random. Who listens on the network can try out tokens offline."""

MOST_BYTES = 4096


def check(token: bytes, at: str) -> bytes:
    """Return a token without the whitespace around it.

    Args:
        at: where it comes from, for the error message; the token itself is never shown.

    Raises:
        ConfigError: it is too short, or has a NUL.
    """
    token = without_nul(token.strip(), at)
    if len(token) < LEAST_BYTES:
        raise ConfigError(f"{at}: a token of {len(token)} bytes; expected at least {LEAST_BYTES}")
    return token


def without_nul(token: bytes, at: str) -> bytes:
    """Return a token as it is.

    Raises:
        ConfigError: it has a NUL: HMAC takes "a" and "a\\0" for the same.
    """
    if b"\0" in token:
        raise ConfigError(f"{at}: a token holds no NUL")
    return token


def load(path: Path) -> bytes:
    """Return the token in a file.

    Raises:
        ConfigError: it cannot be read, is none, or others can read it too.
    """
    try:
        with open(path, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode  # of what was opened, whatever the path leads to by now
            token = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"token file {path}: {(error.strerror or str(error)).lower()}") from error
    if os.name == "posix" and mode & 0o077:
        allowed = stat.filemode(mode)
        raise ConfigError(f"token file {path}: others have access ({allowed}); chmod 600 it, and make a new token")
    if len(token) > MOST_BYTES:
        raise ConfigError(f"token file {path}: more than {MOST_BYTES} bytes")
    return check(token, f"token file {path}")


def make(path: Path) -> bytes:
    """Return the token in a file, which is made with a fresh one if it is not there.

    The file appears whole or not at all; of two nodes that start at once, both use the token of the first.

    Raises:
        ConfigError: it cannot be made, or others could put another one there.
    """
    folder, token = path.parent, os.urandom(32).hex().encode()
    fresh = folder / f".{path.name}.{os.urandom(8).hex()}"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        mode = folder.stat().st_mode
        if os.name == "posix" and mode & 0o022:
            raise ConfigError(f"folder {folder} of the token file: others may write there ({stat.filemode(mode)})")
        try:
            with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(token + b"\n")
                file.flush()
                os.fsync(file.fileno())
            with suppress(FileExistsError):
                os.link(fresh, path)  # unlike a rename it never replaces a token that others use already
        finally:
            fresh.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(f"token file {path} cannot be made: {(error.strerror or str(error)).lower()}") from error
    return load(path)


def check_address(host: str, has_token: bool, insecure: bool) -> None:
    """Refuse to listen where other machines can connect, unless somebody chose a token, or typed that it is insecure.

    Args:
        host: as it is listened on.
        has_token: a token was given, not made up for this user alone.

    Raises:
        ConfigError: refused.
    """
    if is_loopback(host) or has_token or insecure:
        return
    where = "all addresses" if is_everywhere(host) else host
    raise ConfigError(
        f"listening on {where}: other machines can connect, so the cluster needs a token that they know too: "
        "--token-file or HOGPOUR_TOKEN; or --insecure"
    )


def is_loopback(host: str) -> bool:
    """Return whether only this machine is reached by a host; of names, only "localhost" is known to stay here."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
