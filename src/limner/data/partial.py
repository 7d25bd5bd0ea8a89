"""A folder that appears whole or not at all.

Everything goes to `DEST.partial`; only when the last byte is on the disk is that renamed to `DEST`. A crash, a kill or
a full disk leaves no `DEST`, and what is left of `DEST.partial` is removed by the next writer.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from limner.errors import LimnerError, ResourceError, RunLockedError, StoppedError
from limner.signals import WATCH, Terminated

_LOCK = ".lock"


class PartialFolder:
    """Claims `DEST.partial` for this process, removing what a dead writer left there.

    Args:
        folder: where the finished folder shall be; must not exist, or be empty.
        what: what is written there, for messages: "dataset".

    Raises:
        LimnerError: the folder exists.
        ResourceError: it cannot be made.
        RunLockedError: another process is writing it.
    """

    def __init__(self, folder: Path, what: str) -> None:
        self.folder = folder
        self.path = folder.with_name(folder.name + ".partial")
        self._lock: IO[str] | None = None
        if folder.is_symlink() or folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
            raise LimnerError(f"{folder}: already exists; name another folder, or remove this one first")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = _take_lock(self.path / _LOCK, what)
            for entry in self.path.iterdir():
                if entry.name != _LOCK:
                    shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
        except OSError as error:
            raise self.storage_error(error) from error

    def names(self) -> list[str]:
        """Sorted names of what was written so far."""
        return sorted(entry.name for entry in self.path.iterdir() if entry.name != _LOCK)

    def require_space(self, needed: int) -> None:
        """Raise ResourceError unless the disk has `needed` bytes free."""
        free = shutil.disk_usage(self.path).free
        if needed > free:
            raise ResourceError(
                f"{self.folder}: needs {needed / 1e6:,.0f} MB, {free / 1e6:,.0f} MB free on its disk; "
                "free some, name a folder on another disk, or choose a lower resolution"
            )

    def publish(self) -> None:
        """Give the folder its name; every file in it must have been synced."""
        sync_folder(self.path)
        if self.folder.is_dir():
            self.folder.rmdir()  # empty, or it could not have been claimed; if no longer, this raises
        self.path.rename(self.folder)
        (self.folder / _LOCK).unlink(missing_ok=True)
        sync_folder(self.folder)
        sync_folder(self.folder.parent)
        self._release()

    def discard(self) -> None:
        """Remove what was written, unless it was published."""
        if self._lock is not None:
            shutil.rmtree(self.path, ignore_errors=True)
            self._release()

    def storage_error(self, error: OSError) -> LimnerError:
        """The one line for an error of the disk."""
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            free = shutil.disk_usage(self.folder.parent).free
            return ResourceError(f"{self.folder}: the disk is full ({free / 1e6:,.0f} MB free); nothing was kept")
        return ResourceError(f"{self.folder}: cannot be written ({error.strerror or error}: {error.filename})")

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None


def sync(file: IO[Any]) -> None:
    """Put a file's bytes on the disk."""
    file.flush()
    os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Put a folder's entries on the disk."""
    if os.name == "nt":  # Windows has no fsync of a folder
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def stopped_by_sigterm(dest: Path) -> Iterator[None]:
    """A signal that asks to stop becomes an exception that says so, and what was written is removed on its way."""
    said = f"{dest}: stopped by a signal; nothing was kept, make it again"
    with WATCH:
        try:
            yield
        except Terminated as stopped:
            raise StoppedError(said, stopped.number) from None
        except KeyboardInterrupt as interruption:
            raise KeyboardInterrupt(said) from interruption


def _take_lock(path: Path, what: str) -> IO[str]:
    """The lock is the kernel's, so it goes with its process, kill -9 included."""
    file = path.open("a")
    try:
        import fcntl
    except ImportError:  # Windows: an open file cannot be removed there, which keeps a second writer out
        return file
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise RunLockedError(f"{path.parent}: another process is writing this {what}; wait for it") from None
    except OSError:
        pass  # a file system without locks
    return file
