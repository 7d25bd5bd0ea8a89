"""Where photos come from: a sorted list of names, and the bytes of each. A folder or a zip; see `folder.py`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np


@runtime_checkable
class Photos(Protocol):
    """Files that can be read by name, from any process: opening happens on the first read."""

    @property
    def path(self) -> Path: ...

    @property
    def names(self) -> tuple[str, ...]:
        """Sorted; relative, with / on every system."""
        ...

    @property
    def ignored(self) -> tuple[str, ...]:
        """Files that are not named as pictures."""
        ...

    def read(self, name: str) -> bytes:
        """The bytes of one file.

        Raises:
            PictureError: "unreadable", or "bomb" for a file larger than any picture may be.
        """
        ...


@dataclass(frozen=True)
class Source:
    """Photos, and what is known of them by name."""

    kind: str
    """"folder", "zip" or "celeba" """
    photos: Photos
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
