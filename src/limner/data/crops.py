"""Named crops and resize rules: what turns a photo into a square of R × R pixels.

CelebA is not one data set: its users cut its 178×218 pictures in at least six ways, and FIDs over different cuts cannot
be compared. So a cut has a name, and the name goes into the dataset and onto every metric card.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from PIL import Image

from limner.data.faults import PictureError
from limner.data.pictures import BACKGROUND

Crop = Literal["center", "whole", "celeba-pggan", "celeba-collection", "celeba-178", "celeba-108"]
Resize = Literal["lanczos", "box"]

CELEBA_SIZE = (178, 218)
CELEBA_BOXES: dict[str, tuple[int, int, int, int]] = {
    "celeba-pggan": (25, 57, 153, 185),  # ProGAN (Karras 2018): rows 57:185, columns 25:153
    "celeba-collection": (25, 45, 153, 173),  # generative-models-collection: 12 rows higher
    "celeba-178": (0, 20, 178, 198),  # progressive_growing_of_gans (nvnbny); mimicry; the same as "center"
    "celeba-108": (35, 55, 143, 163),  # DCGAN and HoloGAN: the central 108
}
"""left, upper, right, lower in pixels of the aligned 178×218 pictures"""
_FILTERS = {"lanczos": Image.Resampling.LANCZOS, "box": Image.Resampling.BOX}


def cut(image: Image.Image, crop: Crop, name: str) -> Image.Image:
    """The square that `crop` takes of an RGB image.

    "center" is the largest centred square (the odd pixel goes to the right and bottom); "whole" is the whole picture,
    padded with white to a square; the others are fixed boxes of CelebA's aligned pictures.

    Raises:
        PictureError: "wrong-size", for a CelebA crop of a picture that is not 178×218.
    """
    width, height = image.size
    if crop == "whole":
        return _pad(image)
    if crop == "center":
        side = min(width, height)
        left, upper = (width - side) // 2, (height - side) // 2
        return image.crop((left, upper, left + side, upper + side))
    if image.size != CELEBA_SIZE:
        raise PictureError(name, "wrong-size", f"{width}×{height}, crop '{crop}' is for CelebA's aligned 178×218")
    return image.crop(CELEBA_BOXES[crop])


def fit(image: Image.Image, crop: Crop, resolution: int, resize: Resize, name: str) -> tuple[np.ndarray, bool]:
    """Crop and resize: (R, R, 3) uint8, and whether it had to be enlarged.

    Both filters average over all pixels they shrink ("lanczos" has the sharper cut-off, "box" no overshoot). Down to
    half the resolution a picture is enlarged; below that it would be more invented than seen, and is refused.

    Raises:
        PictureError: "too-small", or "wrong-size" for a CelebA crop.
    """
    square = cut(image, crop, name)
    seen = min(image.size) if crop == "whole" else square.width
    if seen * 2 < resolution:
        detail = f"{image.width}×{image.height}, crop '{crop}' shows {seen} pixels, fewer than half of {resolution}"
        raise PictureError(name, "too-small", detail)
    if square.width != resolution:
        enlarge = square.width < resolution
        method = Image.Resampling.LANCZOS if enlarge else _FILTERS[resize]  # box would only repeat pixels
        return np.asarray(square.resize((resolution, resolution), method)), enlarge
    return np.asarray(square), False


def _pad(image: Image.Image) -> Image.Image:
    side = max(image.size)
    square = Image.new("RGB", (side, side), BACKGROUND)
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return square
