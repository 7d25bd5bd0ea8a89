"""A TFRecord file: where its records are, and any of them, every byte checked by a CRC32C.

A record is the length of its payload (8 bytes, little-endian), the masked CRC32C of those 8 bytes, the payload, and the
masked CRC32C of the payload. There is no end mark: a file cut exactly between two records looks whole, which only its
count of records can tell.
"""

from __future__ import annotations

import os
import struct
from array import array
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

import numpy as np

from limner.data.crc32c import crc32c, masked
from limner.data.faults import PictureError, printable
from limner.errors import DataError

HEADER_BYTES, FOOTER_BYTES = 12, 4
_GZIP = b"\x1f\x8b"


@dataclass(frozen=True, eq=False)
class RecordFile:
    """Records that are read by number, in any order, from any process."""

    path: Path
    offsets: np.ndarray
    """(n + 1,) int64: the byte at which each record starts, and the end of the file"""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def place(self, record: int) -> str:
        """How a record is named in messages; records count from 0, as rows do."""
        return _place(self.path.name, record, int(self.offsets[record]))

    def read(self, records: Sequence[int], largest: int) -> list[memoryview | PictureError]:
        """The payload of each of these records, or what is wrong with it.

        Args:
            records: their numbers.
            largest: most bytes of a payload; a larger one is at fault, and not read.
        """
        found: list[memoryview | PictureError] = []
        try:
            with self.path.open("rb") as file:
                found = [self._read_one(file, record, largest) for record in records]
        except OSError as error:
            raise DataError(f"{self.path}: {error.strerror}; check that it may be read") from error
        self._check(records, found)
        return [f if isinstance(f, PictureError) else f[:-FOOTER_BYTES] for f in found]

    def _read_one(self, file: BinaryIO, record: int, largest: int) -> memoryview | PictureError:
        """The payload with the CRC behind it."""
        start, end = map(int, self.offsets[record : record + 2])
        length = end - start - HEADER_BYTES
        if length - FOOTER_BYTES > largest:
            detail = f"{length - FOOTER_BYTES:,} bytes, expected at most {largest:,}"
            return PictureError(self.place(record), "bad-record", detail)
        file.seek(start + HEADER_BYTES)
        data = file.read(length)
        if len(data) < length:
            return PictureError(self.place(record), "truncated", "the file was cut while it was read")
        return memoryview(data)

    def _check(self, records: Sequence[int], found: list[memoryview | PictureError]) -> None:
        """Put a fault in the place of each payload that is not what its CRC says; equal lengths are checked at once."""
        groups: dict[int, list[int]] = defaultdict(list)
        for k, data in enumerate(found):
            if not isinstance(data, PictureError):
                groups[len(data)].append(k)
        for length, group in groups.items():
            rows = np.frombuffer(b"".join(found[k] for k in group), dtype=np.uint8).reshape(len(group), length)  # type: ignore[misc]
            stored = np.ascontiguousarray(rows[:, -FOOTER_BYTES:]).view("<u4")[:, 0]
            for j in np.flatnonzero(masked(crc32c(rows[:, :-FOOTER_BYTES])) != stored):
                place = self.place(records[group[j]])
                found[group[j]] = PictureError(place, "damaged", "the CRC of its bytes does not match")


def open_record_file(path: Path) -> RecordFile:
    """Find the records of a file by one pass over the headers between them.

    Raises:
        DataError: it is not a TFRecord file, is damaged between records, or ends within one.
    """
    try:
        with path.open("rb") as file:
            return RecordFile(path, _index(path, file, os.fstat(file.fileno()).st_size))
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; check that it may be read") from error


def _index(path: Path, file: BinaryIO, size: int) -> np.ndarray:
    offsets, at = array("q", [0]), 0
    while at < size:
        file.seek(at)
        header = file.read(HEADER_BYTES)
        if len(header) == HEADER_BYTES and not _header_is_whole(header):
            raise _not_a_header(path, len(offsets) - 1, at, header)
        length = int.from_bytes(header[:8], "little") if len(header) == HEADER_BYTES else 0
        end = at + HEADER_BYTES + length + FOOTER_BYTES
        if end > size:
            place = _place(str(path), len(offsets) - 1, at)
            raise DataError(f"{place}: the file ends within it, at byte {size:,}; fetch it again")
        offsets.append(end)
        at = end
    return np.frombuffer(offsets, dtype=np.int64)


@lru_cache(64)
def _header_is_whole(header: bytes) -> bool:
    """Cached, as most records of a file have the same length."""
    length = np.frombuffer(header[:8], dtype=np.uint8)[None]
    return bool(masked(crc32c(length))[0] == struct.unpack_from("<I", header, 8)[0])


def _not_a_header(path: Path, record: int, at: int, header: bytes) -> DataError:
    if at == 0 and header.startswith(_GZIP):
        return DataError(f"{path}: is packed by gzip, so records cannot be read by number; unpack it first")
    place = _place(str(path), record, at)
    what = "the file does not begin with a TFRecord" if at == 0 else "damaged"
    return DataError(f"{place}: {what}: the CRC of its length does not match; fetch the file again")


def _place(name: str, record: int, at: int) -> str:
    return f"{printable(name)}:record {record} (byte {at})"
