"""Signals that ask a run to stop: noted when they come, acted on between two steps."""

from __future__ import annotations

import signal
import threading
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from limner.program import limner_command
from limner.signals import WATCH


class StopRequested(BaseException):
    """Raised by `poll` inside long work that must give up at once (measuring, sampling)."""


class StopSignals:
    """While active, the first SIGTERM, SIGINT or SIGUSR1 only sets `number`; the second ends the process at once.

    A closed terminal (SIGHUP) does not stop a run, nor does a reader gone (SIGPIPE, which Python ignores).

    Args:
        folder: of the run, for the command that goes on with it.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._entered = ExitStack()
        self._receives = False

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is not threading.main_thread():
            return self
        left = (
            f"go on from the newest checkpoint with: {limner_command()} resume {self._folder}" if self._folder else ""
        )
        self._entered.enter_context(WATCH)
        self._entered.enter_context(WATCH.held("stopping after this iteration and saving", left))
        if hasattr(signal, "SIGHUP"):
            before: Any = signal.signal(signal.SIGHUP, signal.SIG_IGN)
            self._entered.callback(signal.signal, signal.SIGHUP, before)
        self._receives = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._receives:
            return
        self._receives = False
        with WATCH:
            self._entered.close()
            if error is None:
                WATCH.interrupt()  # it came too late to stop the run, and must not be lost

    @property
    def number(self) -> int:
        """Of the first signal that came; 0: none."""
        return WATCH.number if self._receives else 0

    def poll(self) -> None:
        """Raise StopRequested if a signal came."""
        if self.number:
            raise StopRequested
