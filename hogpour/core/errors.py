"""The error tree: what can go wrong, who must act, and the exit code that the command line gives it.

    HogpourError
      InputError               what was given cannot be used; exit code 2
        ConfigError            a job file, an argument or an option
        DataError              a data file or its contents
        LayoutError            a file or a segment that does not fit the model's spec
        ResourceError          memory, disk or a path that the machine does not give
          ModelNotSaved        after the run: the model is elsewhere; exit code 1
      ReplicaDied              a replica process ended and was not brought back; exit code 1
      ProtocolError            bytes or messages on the wire that must not be
        LocalProtocolError     we would break the protocol; a bug of ours
        RemoteProtocolError    the other end broke it; the connection is closed
      PeerLost                 no connection, or no answer within the deadline; exit code 1
      RequestFailed            the other end answered that it did not do what was asked; exit code 1
      ClusterFailed            the cluster cannot go on: its coordinator, or a node that serves a shard, is gone
      Stopped                  the end was asked for, or came, before training began; exit code 0

Messages are lowercase facts that name the thing and both numbers, and say what to do. A numeric outcome (a loss that
became NaN) is a value in the summary of a run, not an exception.
"""

from __future__ import annotations

from enum import StrEnum

__all__ = [
    "ClusterFailed",
    "ConfigError",
    "DataError",
    "DataWarning",
    "HogpourError",
    "InputError",
    "LayoutError",
    "LocalProtocolError",
    "ModelNotSaved",
    "PeerLost",
    "ProtocolError",
    "Refusal",
    "RemoteProtocolError",
    "ReplicaDied",
    "RequestFailed",
    "ResourceError",
    "Stopped",
]


class HogpourError(Exception):
    """Root of everything that hogpour raises on purpose."""

    exit_code = 1


class InputError(HogpourError):
    """What was given cannot be used. Nothing was written."""

    exit_code = 2


class ConfigError(InputError, ValueError):
    """A job file, an argument or an option is wrong. The message names the key and what was expected."""


class DataError(InputError):
    """A data file is missing, truncated, corrupt or out of range. The message names the file."""


class DataWarning(UserWarning):
    """Data were taken, but perhaps not as they were meant. No error: training or predicting goes on."""


class LayoutError(InputError):
    """A model file or a shared-memory segment does not fit the spec of the model."""


class ResourceError(InputError):
    """The machine does not give what the job needs: memory, a writable path."""


class ModelNotSaved(ResourceError):
    """A run ended, and its model file could not be written. The message names the file that has the model instead."""

    exit_code = 1


class Stopped(HogpourError):
    """Training did not begin: somebody asked for the end, or the run that was joined had ended. Nothing was written."""

    exit_code = 0


class ReplicaDied(HogpourError):
    """A replica process ended and the supervisor gave up bringing it back.

    Attributes:
        replica: number of the replica.
        exit_code: of the command line, always 1.
        status: exit status of the process; negative is the number of the signal that ended it.
    """

    def __init__(self, replica: int, status: int, message: str) -> None:
        super().__init__(message)
        self.replica = replica
        self.status = status


class ProtocolError(HogpourError):
    """Bytes or messages on the wire that must not be."""


class LocalProtocolError(ProtocolError):
    """We would break the protocol: a bug of ours."""


class RemoteProtocolError(ProtocolError):
    """The other end broke the protocol. Its connection is closed; nothing of it was used."""


class PeerLost(HogpourError):
    """No connection to a node, or no answer from it within the deadline.

    Attributes:
        address: host:port that was asked.
        unheard: nothing of what was asked has left this node, so it was not done.
    """

    def __init__(self, address: str, text: str, *, unheard: bool = False) -> None:
        super().__init__(f"{address}: {text}")
        self.address, self.unheard = address, unheard


class Refusal(StrEnum):
    """Why a node did not do what it was asked. Travels as its text."""

    REFUSED = "refused"
    """The asker has another token or another version."""
    MOVED = "moved"
    """The shard is served elsewhere."""
    FENCED = "fenced"
    """The asker was declared dead and must join again."""
    BUSY = "busy"
    """Not now: too many others ask, or what it needs is not there yet."""
    WRONG = "wrong"
    """It makes no sense."""
    ENDED = "ended"
    """The run is over."""

    @property
    def may_pass(self) -> bool:
        """Whether the same request, sent later to whoever serves it then, may be done."""
        return self in (Refusal.MOVED, Refusal.BUSY)


class RequestFailed(HogpourError):
    """Another node answered that it did not do what it was asked."""

    def __init__(self, code: Refusal, text: str) -> None:
        super().__init__(text)
        self.code = code


class ClusterFailed(HogpourError):
    """The cluster cannot go on; what this node holds was written. The message names who is gone."""
