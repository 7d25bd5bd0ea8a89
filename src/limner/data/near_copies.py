"""Pictures that are one photo in several sizes or encodings: found by their colours at 8×8, and kept in one split.

A thumbnail in the test split of a face in the train split would make what is measured there too good. Copies to the
byte have the same SHA-256 and so the same split; these do not.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

SIDE = 8
LARGEST_DIFFERENCE = 3.0
"""grey steps by which two sizes of one photo differ at 8×8 on average, at most: JPEGs of quality 75 down to 64² differ
by 1.9, two of 700 built-in heads by 7.9 or more"""
LEAST_CONTRAST = 8.0
"""grey steps of standard deviation; flatter pictures are too much alike to say that two are one"""


def signature(image: Image.Image) -> np.ndarray:
    """(8, 8, 3) uint8: the mean colours of the largest centred square, the same for all sizes of a photo.

    Args:
        image: of mode RGB.
    """
    side = min(image.size)
    left, upper = (image.width - side) / 2, (image.height - side) / 2
    box = (left, upper, left + side, upper + side)
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BOX, box=box))


def are_alike(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two signatures are of one photo."""
    return bool(min(a.std(), b.std()) >= LEAST_CONTRAST and np.abs(a.astype(np.int16) - b).mean() <= LARGEST_DIFFERENCE)


def group_copies(signatures: np.ndarray, order: Sequence[int]) -> np.ndarray:
    """For each picture, the row of the picture that it is a copy of: its own where it is none.

    A picture is a copy of the most similar one before it in `order` that is itself no copy. So a chain of pictures
    that each differ a little from the next, such as the frames of a film, does not become one group.

    Args:
        signatures: (n, 8, 8, 3) uint8.
        order: all n rows, originals before their copies.
    """
    by_mean = np.argsort(signatures.mean(axis=(1, 2, 3)), kind="stable")
    place = np.argsort(by_mean)  # of each row among the sorted ones
    flat = signatures.reshape(len(signatures), -1)[by_mean]
    means, contrasts = flat.mean(axis=1), flat.std(axis=1)
    halves = _halves(signatures[by_mean])
    low = np.searchsorted(means, means - LARGEST_DIFFERENCE)
    high = np.searchsorted(means, means + LARGEST_DIFFERENCE, side="right")
    is_original = np.zeros(len(flat), dtype=bool)
    groups = np.arange(len(flat))
    for row in order:
        at = place[row]
        if contrasts[at] < LEAST_CONTRAST:
            continue
        # A cheap bound: if the means of two halves differ by d and e, |d| + |e| is at most twice the whole difference.
        window = slice(low[at], high[at])
        maybe = is_original[window].copy()
        for half in halves:
            maybe &= np.abs(half[window] - half[at]) <= 2 * LARGEST_DIFFERENCE + 1e-3
        near = low[at] + np.flatnonzero(maybe)
        differences = np.abs(flat[near].astype(np.int16) - flat[at]).mean(axis=1)
        if len(near) and differences.min() <= LARGEST_DIFFERENCE:
            groups[row] = by_mean[near[differences.argmin()]]
        else:
            is_original[at] = True
    return groups


def _halves(signatures: np.ndarray) -> tuple[np.ndarray, ...]:
    """(n,) float32 each: the mean of a half less that of the other: left, right; upper, lower; middle, edges."""
    at = np.arange(SIDE)
    middle = (at >= SIDE // 4) & (at < SIDE - SIDE // 4)
    left, upper = np.meshgrid(at < SIDE // 2, at < SIDE // 2)
    parts = (left, upper, np.broadcast_to(middle, (SIDE, SIDE)))
    grey = signatures.mean(axis=3, dtype=np.float32)
    return tuple(grey[:, part].mean(axis=1) - grey[:, ~part].mean(axis=1) for part in parts)
