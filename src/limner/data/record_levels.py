"""The records of TFRecord files as the levels of a dataset.

PGGAN's lower levels are the mean over all pixels of the largest picture that one pixel covers, rounded once, half to
even; ours are rounded at every level, so the two differ by one grey step here and there. What is stored is therefore
kept, and only levels that are not there are made.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np

from limner.data import layout
from limner.data.decoding import Square
from limner.data.example import ExampleError
from limner.data.faults import PictureError, printable
from limner.data.picture_record import PictureReader
from limner.data.record_file import RecordFile
from limner.errors import LimnerError

_MOST_OVERHEAD_BYTES = 4096
"""of a record beside its pixels; some 40 in truth"""
_OTHER_PICTURE = 32
"""grey steps by which the levels of one picture never differ on average, whatever the filter; two faces do"""


@dataclass(frozen=True, eq=False)
class Records:
    """The record files of one data set, all with the same number of records."""

    path: Path
    """as the user named it"""
    name: str
    files: Mapping[int, RecordFile]
    """by resolution, ascending"""
    ignored: tuple[str, ...] = ()

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Of each record at all its resolutions: xx for RR, as PGGAN has it for labels."""
        return tuple(f"{self.name}-rxx.tfrecords:{k}" for k in range(len(next(iter(self.files.values())))))


@dataclass(frozen=True, eq=False)
class RecordLevels:
    """What is done to each record: read and checked at every level of a dataset of `resolution` that is stored.

    Raises:
        LimnerError: `resolution` is none of a dataset's, or nothing as large is stored.
    """

    records: Records
    resolution: int

    def __post_init__(self) -> None:
        largest = max(self.records.files)
        if not layout.is_level(self.resolution):
            raise LimnerError(f"resolution {self.resolution}: choose a power of two from 4 to {largest}")
        if self.resolution > largest:
            raise LimnerError(
                f"resolution {self.resolution}: the largest records are {self.records.files[largest].path.name}, "
                f"{largest}²; choose at most that"
            )

    @property
    def path(self) -> Path:
        return self.records.path

    @property
    def count(self) -> int:
        return len(self.records.names)

    def stored(self) -> tuple[int, ...]:
        """Levels of the dataset that are the file's own."""
        return tuple(r for r in self.records.files if r <= self.resolution)

    def made(self) -> tuple[int, ...]:
        """Levels of the dataset that are made from the one above."""
        return tuple(r for r in layout.levels(self.resolution) if r not in self.records.files)

    def describe(self) -> str:
        """How the levels came to be, for people and `dataset.json`."""
        said = [f"{', '.join(f'{r}²' for r in levels)} {how}" for levels, how in self._origins() if levels]
        return "; ".join(said)

    def make(self, rows: range) -> list[Square]:
        """Read these records; bad ones are returned, not raised."""
        read = [Reading(self.records.names[row]) for row in rows]
        images = {r: _read_level(self.records.files[r], r, rows, read) for r in self._read()}
        _compare_levels(images, self.records, rows, read)
        top = max(images)
        for r in (top >> k for k in range(1, 11)):
            if self.resolution <= r < top and r not in images:
                images[r] = layout.halve(images[2 * r])
        return [each.square({r: images[r][k] for r in images if r <= self.resolution}) for k, each in enumerate(read)]

    def _read(self) -> tuple[int, ...]:
        """Levels to read, descending: with the next larger one where the largest wanted is not stored."""
        larger = tuple(r for r in self.records.files if r > self.resolution)[:1]
        return tuple(reversed(self.stored() + (larger if self.resolution not in self.records.files else ())))

    def _origins(self) -> tuple[tuple[tuple[int, ...], str], ...]:
        return (self.stored(), "as stored"), (self.made(), f"made from the level above ({layout.PYRAMID})")


class Reading:
    """What was found of one record so far, from its largest level down."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.digest = hashlib.sha256()
        self.smallest = b""
        self.notes: set[str] = set()
        self.fault: PictureError | None = None

    def take(self, pixels: np.ndarray) -> None:
        """One more level, (C, r, r)."""
        self.smallest = pixels.tobytes()
        self.digest.update(self.smallest)
        if len(pixels) == 1:
            self.notes.add("grey")

    def square(self, images: dict[int, np.ndarray]) -> Square:
        """`images` by resolution, those of the dataset."""
        if self.fault is not None:
            return Square(self.name, "", None, self.fault, ())
        top = max(images)
        lower = {r: image for r, image in images.items() if r != top}
        # Of the smallest level stored, so that an image's split is the same whatever resolution is asked for.
        split_key = hashlib.sha256(self.smallest).hexdigest()
        notes = tuple(sorted(self.notes))
        return Square(self.name, self.digest.hexdigest(), images[top], None, notes, lower, split_key)


def _read_level(file: RecordFile, resolution: int, rows: range, read: list[Reading]) -> np.ndarray:
    """(k, r, r, 3) uint8: these records; what is wrong with one is noted in its `Reading`."""
    images = np.zeros((len(rows), resolution, resolution, 3), dtype=np.uint8)
    reader, payloads = PictureReader(resolution), file.read(rows, 3 * resolution**2 + _MOST_OVERHEAD_BYTES)
    for k, payload in enumerate(payloads):
        try:
            if isinstance(payload, PictureError):
                raise payload
            pixels = reader.read(payload)
        except PictureError as fault:
            read[k].fault = read[k].fault or fault
        except ExampleError as error:
            read[k].fault = read[k].fault or PictureError(file.place(rows[k]), "bad-record", printable(str(error)))
        else:
            for channel in range(3):  # one by one is four times faster than a transposed copy
                images[k, ..., channel] = pixels[channel % len(pixels)]  # one channel is repeated
            read[k].take(pixels)
    return images


def _compare_levels(images: dict[int, np.ndarray], records: Records, rows: range, read: list[Reading]) -> None:
    """Note where a stored level is not the mean of the one above, and refuse it where it shows another picture."""
    for above, below in pairwise(list(images)):
        mean, halvings = images[above], 0
        while mean.shape[1] > below:
            mean, halvings = layout.halve(mean), halvings + 1
        differences = np.maximum(mean, images[below]) - np.minimum(mean, images[below])
        rounding = 1 + halvings // 2  # rounding at every level moves a value by half a step each, and both sides once
        for k in np.flatnonzero(differences.max(axis=(1, 2, 3)) > rounding):
            read[k].notes.add("other-means")
            if differences[k].mean() > _OTHER_PICTURE and read[k].fault is None:
                place, other = records.files[below].place(rows[k]), records.files[above].path.name
                read[k].fault = PictureError(place, "other-picture", f"shows another picture than {printable(other)}")
