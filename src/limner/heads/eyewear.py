"""Which glasses a person wears."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

EYEWEAR_SHARE = 0.18
SHAPES = ("round", "rectangular", "aviator", "wide")
THICKNESSES = (0.048, 0.072)  # decimetres
DARK_LENS_SHARE = 0.12
# Frames are drawn thick and mostly dark, so that they can be seen in small pictures.
FRAME_COLOURS = (
    (0.05, 0.05, 0.06),
    (0.05, 0.05, 0.06),
    (0.05, 0.05, 0.06),
    (0.23, 0.12, 0.07),
    (0.33, 0.17, 0.09),
    (0.25, 0.26, 0.29),
    (0.10, 0.14, 0.30),
    (0.42, 0.07, 0.10),
)


@dataclass(frozen=True)
class Eyewear:
    """Glasses: `shape` is one of SHAPES; rims of `thickness` decimetres; sRGB `colour` (3,); `dark`: sunglasses;
    `glint`: how strongly a window mirrors in the lenses, 0 to 1.
    """

    shape: str
    thickness: float
    colour: np.ndarray
    dark: bool
    glint: float


def sample_eyewear(rng: np.random.Generator) -> Eyewear | None:
    """Draw a person's glasses, or None for most."""
    worn, shape, thickness, colour, dark, glint = rng.random(6).tolist()
    if worn >= EYEWEAR_SHARE:
        return None
    return Eyewear(
        shape=SHAPES[int(shape * len(SHAPES))],
        thickness=THICKNESSES[int(thickness * len(THICKNESSES))],
        colour=np.array(FRAME_COLOURS[int(colour * len(FRAME_COLOURS))]),
        dark=dark < DARK_LENS_SHARE,
        glint=max(0.0, 2 * glint - 1),
    )
