"""Signals that ask a command to stop: SIGINT (Ctrl-C), SIGTERM and SIGUSR1.

The first one stops the command in an orderly way: what must be saved is saved, what is half written is removed. The
second one ends the process at once, with exit code 128 + the signal's number, whatever the process is doing.

Python runs a signal handler only between two bytecodes of the main thread, so not while that thread is inside one long
call of C code, such as a convolution of a huge batch. Python's own handler in C, however, writes the signal's number to
a file descriptor at once (`signal.set_wakeup_fd`). A thread reads it there; it runs whenever the interpreter's lock is
free, which it is inside torch's and NumPy's long calls. That thread ends the process at the second signal.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from concurrent.futures import ProcessPoolExecutor

ASKING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name))
"""signals that ask to stop"""
SAME_REQUEST_SECONDS = 0.1
"""signals closer together are one request: `timeout`, for one, sends to the process and then to its whole group"""
SAME_REQUEST_SECONDS_TORCHRUN = 5.0
"""the same under torchrun, which passes Ctrl-C on to processes that have had it from the terminal already"""
_SAY_AFTER_SECONDS = 1.0
"""a command that is not saving anything ends within this, or says that it is about to"""
_LOOK_FOR_PARENT_SECONDS = 0.5


class Terminated(KeyboardInterrupt):
    """Raised where SIGTERM or SIGUSR1 stops a command that has nothing to save; for SIGINT KeyboardInterrupt is.

    Like KeyboardInterrupt it is no Exception, so that `except Exception` lets it through.
    """

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.number = number


def number_of(error: KeyboardInterrupt) -> int:
    """Return the number of the signal that an interruption came from."""
    return error.number if isinstance(error, Terminated) else int(signal.SIGINT)


def name_of(number: int) -> str:
    """Return a signal's name, such as SIGTERM."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


class SignalWatch:
    """Receives the signals of `ASKING` for the whole process while it is entered; a context manager, to be nested.

    Only the main thread can receive signals: entered in another thread, it does nothing.

    Outside of `held` the first signal raises KeyboardInterrupt or `Terminated` in the main thread. Inside, it only sets
    `number`. A signal that was ignored before, as shells do with SIGINT of background jobs, is received nevertheless.
    """

    def __init__(self) -> None:
        self.number = 0
        """of the first signal since the watch was entered; 0: none"""
        self._depth = 0
        self._holding: list[tuple[str, str]] = []
        self._raised = False
        self._before: dict[int, Any] = {}
        self._reader: _Reader | None = None
        self._requests = _Requests()
        self._mask: set[Any] | None = None

    def __enter__(self) -> SignalWatch:
        if threading.current_thread() is not threading.main_thread():
            return self
        self._depth += 1
        if self._depth == 1:
            self.number, self._raised, self._holding, self._requests = 0, False, [], _Requests()
            self._reader = _Reader.started(self)
            for number in ASKING:
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        self._depth -= 1
        if self._depth == 0:
            self._put_back()
            if self._reader is not None:
                self._reader.stop()
                self._reader = None

    @contextmanager
    def held(self, doing: str, left: str = "") -> Iterator[None]:
        """Let the first signal only set `number`, until the block is done; who enters looks at it.

        Args:
            doing: told at once when the first signal comes: what happens now.
            left: told when the second one comes: what there is to go on from.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        self._holding.append((doing, left))
        try:
            yield
        finally:
            self._holding.pop()

    def interrupt(self) -> None:
        """Raise KeyboardInterrupt or Terminated where a signal has come and has not stopped anything yet."""
        if self.number and not self._raised:
            self._raised = True
            raise self._interruption()

    def _interruption(self) -> KeyboardInterrupt:
        message = f"stopped by {name_of(self.number)}"
        return KeyboardInterrupt(message) if self.number == signal.SIGINT else Terminated(message, self.number)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        """Python's handler: in the main thread, between two bytecodes."""
        self.number = self.number or number
        if self._reader is None:
            self.came(number)
        if not self._holding:
            self.interrupt()

    def came(self, number: int) -> None:
        """Count a signal, say what it does, and end the process at the second one. From any thread."""
        count = self._requests.add()
        if count == 1 and self._holding:
            self.say(number)
        elif count == 2:
            left = self._holding[-1][1] if self._holding else ""
            _tell(f"{name_of(number)}: stopped at once{left and f'; {left}'}")
            _show_cursor()
            os._exit(128 + number)

    @property
    def is_held(self) -> bool:
        """Whether somebody will look at `number`."""
        return bool(self._holding)

    def say(self, number: int) -> None:
        """Tell on standard error what happens now, and what a second signal would do."""
        doing = self._holding[-1][0] if self._holding else "stopping"
        if os.environ.get("RANK", "0") == "0":  # of a run's processes, one speaks
            _tell(f"{name_of(number)}: {doing}; a second one stops at once")

    def _put_back(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._before = {}

    def before_fork(self) -> None:
        """Hold signals back: one that came to the child too early would be written to the parent's descriptor."""
        if self._depth:
            self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, ASKING)

    def after_fork_in_parent(self) -> None:
        """Receive signals again."""
        if self._mask is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
            self._mask = None

    def after_fork_in_child(self) -> None:
        """Receive nothing any more, and leave the parent's descriptor alone."""
        if self._depth:
            if self._reader is not None:
                signal.set_wakeup_fd(-1)
                self._reader = None
            self._put_back()
            self._depth, self._holding = 0, []
        self.after_fork_in_parent()


class _Requests:
    """Counts signals, those that come close together as one."""

    def __init__(self) -> None:
        self.count = 0
        self._last = 0.0

    def add(self) -> int:
        """Return how many requests there have been, or 0 where this signal belongs to the one before."""
        now = time.monotonic()
        torchrun = "TORCHELASTIC_RUN_ID" in os.environ
        if self.count and now - self._last < (SAME_REQUEST_SECONDS_TORCHRUN if torchrun else SAME_REQUEST_SECONDS):
            return 0
        self._last = now
        self.count += 1
        return self.count


class _Reader:
    """The thread that hears of signals while the main thread is inside a long call of C code."""

    def __init__(self, watch: SignalWatch, mine: socket.socket, wakeup: socket.socket) -> None:
        self._watch, self._mine, self._wakeup = watch, mine, wakeup
        self._thread = threading.Thread(target=self._read, name="limner-signals", daemon=True)

    @classmethod
    def started(cls, watch: SignalWatch) -> _Reader | None:
        """Start one; None where another library (asyncio) has the wakeup descriptor, which stays its own."""
        mine, wakeup = socket.socketpair()
        wakeup.setblocking(False)
        before = signal.set_wakeup_fd(wakeup.fileno(), warn_on_full_buffer=False)
        if before != -1:
            signal.set_wakeup_fd(before)
            mine.close()
            wakeup.close()
            return None
        reader = cls(watch, mine, wakeup)
        reader._thread.start()
        return reader

    def stop(self) -> None:
        """Give the descriptor back and end the thread."""
        signal.set_wakeup_fd(-1)
        with contextlib.suppress(OSError):
            self._wakeup.send(b"\0")
        self._thread.join(timeout=5)
        self._mine.close()
        self._wakeup.close()

    def _read(self) -> None:
        silent = 0
        """the number of a signal that has been answered with nothing yet"""
        while True:
            self._mine.settimeout(_SAY_AFTER_SECONDS if silent else None)
            try:
                number = self._mine.recv(1)[0]
            except TimeoutError:
                self._watch.say(silent)
                silent = 0
                continue
            except (OSError, IndexError):
                return
            if number == 0:
                return
            if number in ASKING:
                silent = 0 if self._watch.is_held else number
                self._watch.came(number)


WATCH = SignalWatch()
"""of this process"""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=WATCH.before_fork,
        after_in_parent=WATCH.after_fork_in_parent,
        after_in_child=WATCH.after_fork_in_child,
    )


@contextmanager
def unbroken() -> Iterator[None]:
    """Hold signals back until the block is done; one that came then interrupts."""
    with WATCH:
        with WATCH.held("finishing what is being written"):
            yield
        WATCH.interrupt()


def leave_signals_to(parent: int) -> None:
    """Let this worker process live as long as its parent does: Ctrl-C, which goes to the whole group, is the parent's.

    A parent that ends at once, or is killed, cannot end its workers, so each of them looks whether it is still there.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "SIGUSR1"):
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    end_with(parent)


def end_workers(pool: ProcessPoolExecutor) -> None:
    """End a pool's processes without waiting for what they are doing; the pool cannot be used any more."""
    for process in list((getattr(pool, "_processes", None) or {}).values()):
        process.terminate()


def end_with(parent: int) -> None:
    """Let this process end soon after another one, its parent, has ended."""

    def look() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOK_FOR_PARENT_SECONDS)
        os._exit(1)

    threading.Thread(target=look, daemon=True).start()


def _tell(line: str) -> None:
    """Write a line to standard error: not through Python's buffers, which the main thread may hold; never waiting."""
    start = "\n" if _is_terminal() else ""  # the terminal shows ^C, or a bar, on this line
    with contextlib.suppress(OSError, ValueError):
        if os.name != "nt" and not select.select([], [2], [], 0)[1]:
            return  # a full pipe, or a terminal that is held: nobody reads
        os.write(2, f"{start}limner: {line}\n".encode())


def _show_cursor() -> None:
    """Bars hide a terminal's cursor."""
    if _is_terminal():
        with contextlib.suppress(OSError, ValueError):
            if os.name == "nt" or select.select([], [2], [], 0)[1]:
                os.write(2, b"\x1b[?25h")


def _is_terminal() -> bool:
    try:
        return os.isatty(2)
    except OSError:
        return False


def flush_output() -> None:
    """Write what is buffered; where its reader is gone, drop it, so that the exit code stays the command's own."""
    for stream in (sys.stdout, sys.stderr):
        if stream is None:
            continue
        try:
            stream.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError, ValueError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, stream.fileno())
                os.close(nowhere)
