"""The error tree: what can go wrong, who must act, and the exit code that the command line gives it.

    HogpourError
      InputError               what was given cannot be used; exit code 2
        ConfigError            a job file, an argument or an option
        DataError              a data file or its contents
        LayoutError            a file or a segment that does not fit the model's spec
        ResourceError          memory, disk or a path that the machine does not give
      ReplicaDied              a replica process ended and was not brought back; exit code 1
      Stopped                  somebody asked for the end before training began; exit code 0

Messages are lowercase facts that name the thing and both numbers, and say what to do. A numeric outcome (a loss that
became NaN) is a value in the summary of a run, not an exception.
"""

from __future__ import annotations

__all__ = [
    "ConfigError",
    "DataError",
    "HogpourError",
    "InputError",
    "LayoutError",
    "ReplicaDied",
    "ResourceError",
    "Stopped",
]


class HogpourError(Exception):
    """Root of everything that hogpour raises on purpose."""

    exit_code = 1


class InputError(HogpourError):
    """What was given cannot be used. Nothing was written."""

    exit_code = 2


class ConfigError(InputError):
    """A job file, an argument or an option is wrong. The message names the key and what was expected."""


class DataError(InputError):
    """A data file is missing, truncated, corrupt or out of range. The message names the file."""


class LayoutError(InputError):
    """A model file or a shared-memory segment does not fit the spec of the model."""


class ResourceError(InputError):
    """The machine does not give what the job needs: memory, a writable path."""


class Stopped(HogpourError):
    """Somebody asked for the end before training began. Nothing was written."""

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
