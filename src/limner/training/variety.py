"""How varied a sheet of faces is, in numbers that alarms are raised by (`limner.training.watches`)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

_DIVERSITY_PIXELS = 16
"""side that faces are reduced to before they are compared, so that noise is not taken for variety"""


@dataclass(frozen=True)
class Variety:
    """What is measured of faces, in grey levels, and as a share of all bytes."""

    apart: float
    """see `apart`"""
    contrast: float
    """standard deviation within a face and a colour, mean over both"""
    saturated: float
    """share of the bytes that are 0 or 255"""

    @classmethod
    def of(cls, faces: UInt8[np.ndarray, "n r r 3"]) -> Variety:
        """Measure faces, one or more."""
        return cls(
            apart(faces),
            float(faces.std(axis=(1, 2), dtype=np.float64).mean()),
            float(((faces == 0) | (faces == 255)).mean()),
        )

    def beside(self, reals: Variety) -> dict[str, float]:
        """Return `diversity`, `contrast` and `saturation`; one that the reals leave undefined is left out.

        The first two are quotients: 0 is none and 1 is as much as the reals have. The third is the share of those
        bytes that would not be 0 or 255 in the reals; below 0 the faces have fewer of them than the reals.
        """
        found: dict[str, float] = {}
        if reals.apart:
            found["diversity"] = round(self.apart / reals.apart, 5)
        if reals.contrast:
            found["contrast"] = round(self.contrast / reals.contrast, 5)
        if reals.saturated < 1:
            found["saturation"] = round((self.saturated - reals.saturated) / (1 - reals.saturated), 5)
        return found


def apart(faces: UInt8[np.ndarray, "n r r 3"]) -> float:
    """How far a face is from the one most like it, on average: root mean square over pixels and colours, grey levels.

    The faces are first reduced to 16² by averaging squares of pixels. 0 for fewer than two.
    """
    count, side = faces.shape[:2]
    if count < 2:
        return 0.0
    step = max(1, side // _DIVERSITY_PIXELS)
    small = faces.astype(np.float64).reshape(count, side // step, step, side // step, step, 3).mean(axis=(2, 4))
    flat = small.reshape(count, -1)
    squares = np.square(flat).mean(axis=1)
    distances = squares[:, None] + squares - 2 * (flat @ flat.T) / flat.shape[1]
    np.fill_diagonal(distances, np.inf)
    return float(np.sqrt(distances.min(axis=1).clip(min=0)).mean())
