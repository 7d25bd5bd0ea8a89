"""Where images come from: a list of names, and for photos the bytes of each. See `folder.py` and `tfrecords.py`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np


@runtime_checkable
class Listing(Protocol):
    """What there is in a source."""

    @property
    def path(self) -> Path: ...

    @property
    def names(self) -> tuple[str, ...]:
        """Of files sorted, relative, with / on every system; of records in their own order."""
        ...

    @property
    def ignored(self) -> tuple[str, ...]:
        """Files that are not looked at."""
        ...


@runtime_checkable
class Photos(Listing, Protocol):
    """Files that can be read by name, from any process: opening happens on the first read."""

    def read(self, name: str) -> bytes:
        """The bytes of one file.

        Raises:
            PictureError: "unreadable", or "bomb" for a file larger than any picture may be.
        """
        ...


@dataclass(frozen=True)
class Source:
    """Images, and what is known of them by name."""

    kind: str
    """"folder", "zip", "celeba", "celebamask-hq" or "tfrecords" """
    photos: Listing
    crop: str
    """what is taken of each picture unless another crop is asked for"""
    attribute_names: tuple[str, ...] = ()
    attributes: Mapping[str, np.ndarray] = field(default_factory=dict)
    """name → (a,) uint8 of 0 and 1"""
    splits: Mapping[str, int] | None = None
    """name → 0 train, 1 valid, 2 test; None: by the file's SHA-256"""
    notes: tuple[str, ...] = ()
    """what was tolerated, one line each"""
    licence: str = ""
    """what the source's owners ask for, one line"""
    companions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """name → pictures that may be other sizes or the photo of it, by their names"""
