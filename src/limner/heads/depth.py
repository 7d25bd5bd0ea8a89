"""Which of many fragments is the nearest at each sample of a picture."""

from __future__ import annotations

import numpy as np

from limner.heads.raster import Fragments

NOTHING = np.int64(2**63 - 1)  # where nothing is drawn yet
_ID_BITS = 32


class DepthBuffer:
    """The nearest of `count` fragments for each sample, depths above zero. Of equally near ones the lowest numbered is
    kept.
    """

    def __init__(self, size: int, count: int) -> None:
        self.keys = np.full(size * size, NOTHING)
        self.count = count

    def offer(self, fragments: Fragments, numbers: np.ndarray) -> None:
        """Take in `fragments`, called by `numbers` (k,) below `count`."""
        np.minimum.at(self.keys, fragments.sample, _depth_bits(fragments) | numbers)

    def passes(self, fragments: Fragments) -> np.ndarray:
        """Indices of the fragments that are nearer than what is kept."""
        return np.flatnonzero(_depth_bits(fragments) < self.keys.take(fragments.sample))

    def kept(self) -> np.ndarray:
        """The numbers of the fragments kept, ascending."""
        kept = self.keys.take(np.flatnonzero(self.keys != NOTHING))
        kept &= np.int64(2**_ID_BITS - 1)
        marked = np.zeros(self.count, bool)  # faster than to sort them
        marked[kept] = True
        return np.flatnonzero(marked)

    def depths(self, samples: np.ndarray) -> np.ndarray:
        """Depth (k,) float32 of what is kept at `samples` (k,); not a number where nothing is."""
        return (self.keys.take(samples) >> np.int64(_ID_BITS)).astype(np.int32).view(np.float32)


def _depth_bits(fragments: Fragments) -> np.ndarray:
    """Depths in the high halves of 64 bits, in their order: floats above zero compare as their bits do."""
    return fragments.depth.view(np.int32).astype(np.int64) << np.int64(_ID_BITS)
