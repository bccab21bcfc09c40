"""One end of the mutual proof that ``wire.handshake`` tells of, as a state machine without I/O."""

from __future__ import annotations

import hmac
from typing import NoReturn

from hogpour.core.errors import Refusal, RemoteProtocolError, RequestFailed
from hogpour.net.frame import VERSION, encode
from hogpour.net.wire.base import Failed, Message
from hogpour.net.wire.handshake import Challenge, Hello, Proof, Welcome

__all__ = ["NONCE_BYTES", "Handshake"]

NONCE_BYTES = 32


class Handshake:
    """One end of it.

    Args:
        connects: this is the connector's end.
        token, nonce: see ``Connection``.

    Attributes:
        expects: what the other end must send next.
        outgoing: frames that are to be sent.
    """

    def __init__(self, connects: bool, token: bytes, nonce: bytes) -> None:
        assert len(nonce) == NONCE_BYTES
        self._connects, self._token, self._nonce = connects, token, nonce
        self._nonces = b""  # the connector's and the acceptor's
        self.expects: type[Message] = Challenge if connects else Hello
        self.outgoing = [encode(Hello(VERSION, nonce), 0)] if connects else []

    def check(self, kind: type[Message], id: int) -> None:
        """Raise RemoteProtocolError if such a message may not come now."""
        if kind is not self.expects and not (kind is Failed and self._connects):
            raise RemoteProtocolError(f"sent {kind.__name__} where {self.expects.__name__} was expected")
        if id:
            raise RemoteProtocolError(f"sent {kind.__name__} with id {id}; expected 0")

    def take(self, message: Message) -> bool:
        """Do the next step. Return whether it was the last: both ends have proven that they know the token.

        Raises:
            RemoteProtocolError: the other end does not know it, or speaks another version.
            RequestFailed: the acceptor refuses this connector.
        """
        if isinstance(message, Failed):
            raise RequestFailed(message.code, message.text)
        if isinstance(message, Proof):
            if not hmac.compare_digest(message.mac, self._mac("connector", self._token)):
                self._refuse(f"wrong token{self._why_wrong(message.mac)}")
            self.outgoing.append(encode(Welcome(self._mac("acceptor", self._token)), 0))
            return True
        if isinstance(message, Welcome):
            if not hmac.compare_digest(message.mac, self._mac("acceptor", self._token)):
                raise RemoteProtocolError("does not know the token that it asks for")
            return True
        assert isinstance(message, Hello | Challenge)
        if isinstance(message, Hello) and message.version != VERSION:
            older = "listens" if message.version > VERSION else "connects"
            self._refuse(f"the node that connects speaks version {message.version} of hogpour's protocol, the one "
                         f"that listens version {VERSION}: update hogpour on the one that {older}")  # fmt: skip
        if len(message.nonce) != NONCE_BYTES:
            raise RemoteProtocolError(f"sent a nonce of {len(message.nonce)} bytes; expected {NONCE_BYTES}")
        if self._connects:
            self._nonces, self.expects = self._nonce + message.nonce, Welcome
            self.outgoing.append(encode(Proof(self._mac("connector", self._token)), 0))
        else:
            self._nonces, self.expects = message.nonce + self._nonce, Proof
            self.outgoing.append(encode(Challenge(self._nonce), 0))
        return False

    def _refuse(self, text: str) -> NoReturn:
        self.outgoing.append(encode(Failed(Refusal.REFUSED, text), 0))
        raise RemoteProtocolError(text)

    def _why_wrong(self, mac: bytes) -> str:
        """Return what is wrong with the proof of a connector, where one end has no token at all."""
        if not self._token:
            return ": the node that listens has none (--insecure), the one that connects has one"
        if hmac.compare_digest(mac, self._mac("connector", b"")):
            return ": the node that connects has none (--insecure), the one that listens has one"
        return ""

    def _mac(self, role: str, token: bytes) -> bytes:
        return hmac.digest(token, role.encode() + self._nonces, "sha256")
