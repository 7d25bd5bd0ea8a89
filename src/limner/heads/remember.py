"""What is worked out once from arrays and meshes, and kept for as long as those live.

They have no value that could be hashed quickly, so `functools.lru_cache` is no use: here they are known by identity.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Remembered(Generic[T]):
    """Results of one function of objects: `remembered(function, *objects)`; the result must not hold the objects."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, ...], tuple[tuple[weakref.ref[object], ...], T]] = {}

    def __call__(self, function: Callable[..., T], *objects: object) -> T:
        key = tuple(map(id, objects))
        known = self._known.get(key)
        if known is None:  # an object that goes takes its entry along before its identity can be given to another
            watched = tuple(weakref.ref(thing, lambda _: self._known.pop(key, None)) for thing in objects)
            known = self._known[key] = (watched, function(*objects))
        return known[1]
