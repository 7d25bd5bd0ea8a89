"""Signals that ask a run to stop: noted when they come, acted on between two steps."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

_ASKING = [s for s in ("SIGTERM", "SIGINT", "SIGUSR1") if hasattr(signal, s)]


class StopRequested(BaseException):
    """Raised by `poll` inside long work that must give up at once (measuring, sampling)."""


class StopSignals:
    """While active, SIGTERM, SIGINT and SIGUSR1 only set `number`; a second SIGINT ends the process at once.

    A closed terminal (SIGHUP) does not stop a run, nor does a reader gone (SIGPIPE, which Python ignores).
    """

    def __init__(self) -> None:
        self.number = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            for name in _ASKING:
                number = getattr(signal, name)
                self._before[number] = signal.signal(number, self._note)
            if hasattr(signal, "SIGHUP"):
                self._before[signal.SIGHUP] = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.number == signal.SIGINT:
            os._exit(128 + number)  # asked twice: the last checkpoint is whole, whatever was going on
        self.number = number

    def poll(self) -> None:
        """Raise StopRequested if a signal came."""
        if self.number:
            raise StopRequested
