"""One trainer per run folder: a lock the kernel lets go of when its holder dies, however it dies."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import time
from pathlib import Path
from types import TracebackType

from limner.errors import ResourceError, RunLockedError

STALE_SECONDS = 600


class RunLock:
    """`flock` on `RUN/.lock`, whose text says who holds it.

    Where the file system has no locks (some network ones), a file made exclusively stands in: it is taken to be
    abandoned when its process is gone from this host, or when nobody touched it for ten minutes (`refresh` does).
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / ".lock"
        self._descriptor: int | None = None
        self._fallback = False

    def __enter__(self) -> RunLock:
        try:
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise ResourceError(f"{self.path}: cannot be written ({error.strerror}); choose another --out") from error
        try:
            _lock(self._descriptor)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES, errno.EDEADLK):
                holder = self._holder()
                os.close(self._descriptor)
                self._descriptor = None
                raise RunLockedError(
                    f"{self.path.parent}: {holder} is training in this run; wait, stop it, or use another --out"
                ) from None
            self._take_exclusively()
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, json.dumps(self._me()).encode(), 0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._fallback:
            self._claim.unlink(missing_ok=True)
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def refresh(self) -> None:
        """Show that the holder lives; only the stand-in needs it."""
        if self._fallback:
            with contextlib.suppress(OSError):
                os.utime(self._claim)

    @property
    def _claim(self) -> Path:
        return self.path.with_name(".lock-claim")

    def _take_exclusively(self) -> None:
        for _ in range(2):
            try:
                claim = os.open(self._claim, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
                os.write(claim, json.dumps(self._me()).encode())
                os.close(claim)
                self._fallback = True
                return
            except FileExistsError:
                if not self._abandoned():
                    holder = _describe(self._claim)
                    raise RunLockedError(
                        f"{self.path.parent}: {holder} is training here (a file stands in for a lock); "
                        f"if it is not, delete {self._claim}"
                    ) from None
                self._claim.unlink(missing_ok=True)
        raise RunLockedError(f"{self.path.parent}: another process took this run at the same moment")

    def _abandoned(self) -> bool:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            facts = json.loads(self._claim.read_text())
            if facts["host"] == socket.gethostname():
                return not _alive(int(facts["pid"]))
        with contextlib.suppress(OSError):
            return time.time() - self._claim.stat().st_mtime > STALE_SECONDS
        return False

    def _me(self) -> dict[str, object]:
        return {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}

    def _holder(self) -> str:
        return _describe(self.path)


def _describe(path: Path) -> str:
    try:
        facts = json.loads(path.read_text())
        return f"process {facts['pid']} on {facts['host']} (since {facts['since']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _lock(descriptor: int) -> None:
    if os.name == "nt":
        import msvcrt

        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
    else:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
