"""What can go wrong, and the exit code it ends a command with.

Every error a user can cause is one line that says what, where, why and what to do. The command line prints that line
and exits with the class's `exit_code`; a traceback is shown only with `--debug`.
"""

from __future__ import annotations


class LimnerError(ValueError):
    """Wrong usage or configuration; also a path that is not a run, where one is asked for."""

    exit_code = 2


class DataError(LimnerError):
    """A source of photos, or a dataset on disk, is not what it should be."""

    exit_code = 3


class CheckpointError(LimnerError):
    """No checkpoint could be read, or it does not belong to this run."""

    exit_code = 4


class ResourceError(LimnerError):
    """Out of disk, memory or device."""

    exit_code = 5


class RunLockedError(LimnerError):
    """Another process is training in this run folder."""

    exit_code = 6


class DivergedError(LimnerError):
    """The loss or a gradient stopped being finite, and rolling back did not help."""

    exit_code = 7


class PeerLostError(LimnerError):
    """Another process of a distributed run died or stopped answering."""

    exit_code = 8


class StoppedError(LimnerError):
    """A signal asked to stop: a run saved everything first, and what makes a folder removed what it had written.

    `exit_code` is 128 + the signal's number: 130 for SIGINT, 143 for SIGTERM. (A command without anything to save ends
    by KeyboardInterrupt or `limner.signals.Terminated`, with the same exit codes.)
    """

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number
