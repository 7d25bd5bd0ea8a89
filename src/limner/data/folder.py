"""Photos in a folder, nested as it likes, or in a zip."""

from __future__ import annotations

import os
import stat
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from limner.data.faults import PictureError, is_picture_name, printable
from limner.data.other_files import why_no_pictures, why_not_a_zip
from limner.data.pictures import LARGEST_BYTES
from limner.errors import DataError

LARGEST_RATIO = 100
"""most a zip entry may shrink to: photos hardly shrink at all"""
_SMALL_BYTES = 1 << 20
"""entries below this may shrink as they like"""
_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
_CLUTTER = {"__MACOSX", "thumbs.db", "desktop.ini"}


@dataclass(frozen=True)
class FolderPhotos:
    """Pictures below `path`. Links to files are followed, links to folders are not (they may lead in circles)."""

    path: Path
    names: tuple[str, ...]
    ignored: tuple[str, ...]

    def read(self, name: str) -> bytes:
        try:
            with (self.path / name).open("rb") as file:
                data = file.read(LARGEST_BYTES + 1)
        except OSError as error:
            raise PictureError(name, "unreadable", error.strerror or str(error)) from error
        return _bounded(data, name)


@dataclass
class ZipPhotos:
    """Pictures in the zip `path`. Nothing is ever unpacked to the disk."""

    path: Path
    names: tuple[str, ...]
    ignored: tuple[str, ...]
    _archive: zipfile.ZipFile | None = field(default=None, repr=False)

    def __getstate__(self) -> tuple[Path, tuple[str, ...], tuple[str, ...]]:
        return self.path, self.names, self.ignored

    def __setstate__(self, state: tuple[Path, tuple[str, ...], tuple[str, ...]]) -> None:
        self.path, self.names, self.ignored = state
        self._archive = None  # each process opens its own: a shared file has one position

    def read(self, name: str) -> bytes:
        try:
            if self._archive is None:
                self._archive = zipfile.ZipFile(self.path)
            with self._archive.open(name) as file:
                data = file.read(LARGEST_BYTES + 1)
        except (OSError, ValueError, NotImplementedError, KeyError) as error:
            raise PictureError(name, "unreadable", f"in {self.path.name}: {error}") from error
        except Exception as error:  # BadZipFile, EOFError, zlib.error …: damaged data
            raise PictureError(name, "damaged", f"in {self.path.name}: {error}") from error
        return _bounded(data, name)


def open_folder(path: Path) -> FolderPhotos:
    """List the pictures below a folder.

    Raises:
        DataError: there are none, or a folder cannot be read.
    """
    names, others = divide(list_folder(path))
    if not names:
        raise DataError(f"{path}: {why_no_pictures(path, others)}")
    return FolderPhotos(path, names, others)


def list_folder(path: Path) -> list[str]:
    """All files below a folder but hidden ones and systems' clutter: relative names with /.

    Raises:
        DataError: a folder cannot be read.
    """

    def fail(error: OSError) -> None:
        raise DataError(f"{error.filename}: {error.strerror}; check that it may be read") from error

    found = []
    for folder, folders, files in os.walk(path, onerror=fail):
        folders[:] = [f for f in folders if not _is_clutter(f)]
        found += [(Path(folder) / f).relative_to(path).as_posix() for f in files if not _is_clutter(f)]
    return found


def open_zip(path: Path) -> ZipPhotos:
    """List the pictures of a zip, after a look at every entry.

    Raises:
        DataError: not a zip, without pictures, or with an entry that has no business in a zip of photos.
    """
    names, others = divide(list_zip(path))
    if not names:
        raise DataError(f"{path}: {why_no_pictures(path, others)}")
    return ZipPhotos(path, names, others)


def list_zip(path: Path) -> list[str]:
    """All files of a zip but hidden ones and systems' clutter, after a look at every entry.

    Raises:
        DataError: not a zip, or with an entry that has no business in a zip of photos.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}; check that it may be read") from error
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise DataError(f"{path}: {why_not_a_zip(path, str(error))}") from error
    _check_entries(path, entries)
    found = [e.filename for e in entries if not e.is_dir()]
    return [n for n in found if not any(_is_clutter(part) for part in n.split("/"))]


def _check_entries(path: Path, entries: list[zipfile.ZipInfo]) -> None:
    seen: dict[str, str] = {}
    for entry in entries:
        name = entry.filename
        reason = _unsafe(entry)
        if name.casefold() in seen:
            other = seen[name.casefold()]
            reason = "is there twice" if other == name else f"differs from '{printable(other)}' only by case"
        if reason:
            raise DataError(f"{path}: entry '{printable(name)}' {reason}; refused, pack the photos anew")
        seen[name.casefold()] = name
    total, size = sum(e.file_size for e in entries), path.stat().st_size
    if total > LARGEST_RATIO * size + _SMALL_BYTES:  # also entries that overlap, to be read many times over
        raise DataError(f"{path}: unpacks from {size:,} to {total:,} bytes; refused as a zip bomb")


def _unsafe(entry: zipfile.ZipInfo) -> str:
    name = entry.orig_filename
    mode = entry.external_attr >> 16
    if "\0" in name or "\\" in name:
        return "has a NUL or a backslash in its name"
    if name.startswith("/") or (len(name) > 1 and name[1] == ":"):
        return "has an absolute name"
    if ".." in PurePosixPath(name).parts:
        return "leads out of the zip"
    if mode and stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a link or a device"
    if entry.flag_bits & 1:
        return "is encrypted"
    if entry.compress_type not in _METHODS:
        return f"is packed by method {entry.compress_type}, only stored and deflated are read"
    if entry.file_size > _SMALL_BYTES and entry.file_size > LARGEST_RATIO * entry.compress_size:
        return f"unpacks from {entry.compress_size:,} to {entry.file_size:,} bytes, as bombs do"
    return ""


def divide(found: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of pictures, of readable formats or not (those are reported later), and the rest; sorted."""
    names: list[str] = []
    ignored: list[str] = []
    for name in sorted(found):
        (names if is_picture_name(name) else ignored).append(name)
    return tuple(names), tuple(ignored)


def _is_clutter(name: str) -> bool:
    return name.startswith(".") or name.lower() in _CLUTTER or name in _CLUTTER


def _bounded(data: bytes, name: str) -> bytes:
    if len(data) > LARGEST_BYTES:
        raise PictureError(name, "bomb", f"more than {LARGEST_BYTES >> 20} MiB")
    return data
