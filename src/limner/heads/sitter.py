"""A shaped head under its lamp: what every part that is put on it needs to know."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from limner.heads.pack import Pack
from limner.heads.person import Person
from limner.heads.surfaces import Lamp


@dataclass(frozen=True)
class Sitter:
    """A shaped head (3, n) under its lamp: `lit` and `openness` (n,) say how much light reaches its vertices."""

    pack: Pack
    person: Person
    head: np.ndarray
    scale: np.ndarray
    lamp: Lamp
    lit: np.ndarray
    openness: np.ndarray
