"""One trainer per run folder: a lock the kernel lets go of when its holder dies, however it dies."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from limner.errors import ResourceError, RunLockedError

STALE_SECONDS = 600.0
_NAMING_SECONDS = 1.0
"""how long a holder may take to write its name"""


class RunLock:
    """`flock` on `RUN/.lock`, whose text says who holds it.

    Where the file system has no locks (some network ones), a file made exclusively stands in: it is taken to be
    abandoned when its process is gone from this host, or when nobody touched it for ten minutes (its holder does, all
    the while).
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / ".lock"
        self._claim = folder / ".lock-claim"
        self._descriptor: int | None = None
        self._stands_in = False
        self._released = threading.Event()

    def __enter__(self) -> RunLock:
        try:
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise ResourceError(f"{self.path}: cannot be written ({error.strerror}); choose another --out") from error
        try:
            self._take(self._descriptor)
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, _me(), 0)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._released.set()
        if self._stands_in:
            self._stands_in = False
            self._claim.unlink(missing_ok=True)
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _take(self, descriptor: int) -> None:
        try:
            _lock(descriptor)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES, errno.EDEADLK):
                self._take_exclusively()
                return
            raise RunLockedError(
                f"{self.path.parent}: {_holder(self.path)} is training in this run; wait, stop it, or use another --out"
            ) from None

    def _take_exclusively(self) -> None:
        if not self._make_claim() and not (self._clear_abandoned() and self._make_claim()):
            raise RunLockedError(
                f"{self.path.parent}: {_holder(self._claim)} is training in this run (this file system has no locks, "
                f"so a file stands in); if it is not, delete {self._claim}"
            )
        self._stands_in = True
        self._released.clear()
        threading.Thread(target=self._keep_fresh, daemon=True).start()

    def _make_claim(self) -> bool:
        try:
            claim = os.open(self._claim, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        except FileExistsError:
            return False
        os.write(claim, _me())
        os.close(claim)
        return True

    def _clear_abandoned(self) -> bool:
        """Remove a dead process's claim; one contender at a time, or the second would remove the first one's own."""
        broom = self._claim.with_name(".lock-clearing")
        try:
            os.close(os.open(broom, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))
        except FileExistsError:
            if _untouched(broom):  # whoever held it died within these few lines
                broom.unlink(missing_ok=True)
            return False
        try:
            abandoned = _abandoned(self._claim)
            if abandoned:
                self._claim.unlink(missing_ok=True)
            return abandoned
        finally:
            broom.unlink(missing_ok=True)

    def _keep_fresh(self) -> None:
        while not self._released.wait(STALE_SECONDS / 10):
            with contextlib.suppress(OSError):
                os.utime(self._claim)


def _me() -> bytes:
    facts = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
    return json.dumps(facts).encode()


def _read(path: Path) -> dict[str, Any] | None:
    """What a lock's file says; None while it says nothing whole."""
    try:
        facts = json.loads(path.read_text())
        return {"pid": int(facts["pid"]), "host": str(facts["host"]), "since": str(facts["since"])}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _holder(path: Path) -> str:
    """Who holds it. A new holder has not written its name yet, and the last one's may still be there."""
    until = time.monotonic() + _NAMING_SECONDS
    while (facts := _read(path)) is None or _gone(facts):
        if time.monotonic() > until:
            return "another process"
        time.sleep(0.02)
    return f"process {facts['pid']} on {facts['host']} (since {facts['since']})"


def _gone(facts: dict[str, Any]) -> bool:
    """Whether it was a process of this host that is no more."""
    if facts["host"] != socket.gethostname():
        return False
    try:
        os.kill(facts["pid"], 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        return False
    return False


def _abandoned(claim: Path) -> bool:
    facts = _read(claim)
    if facts is not None and facts["host"] == socket.gethostname():
        return _gone(facts)
    return _untouched(claim)


def _untouched(path: Path) -> bool:
    try:
        return time.time() - path.stat().st_mtime > STALE_SECONDS
    except OSError:
        return False


def _lock(descriptor: int) -> None:
    if os.name == "nt":
        import msvcrt

        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
    else:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
