"""A head framed as CelebA's aligned pictures are: 178×218 pixels, level eyes near (69, 111) and (108, 111)."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from limner.data.crops import CELEBA_SIZE
from limner.heads.pack import Pack, load_pack
from limner.heads.person import Person
from limner.heads.render import SMALLEST_RESOLUTION, Drawing, draw

WIDTH, HEIGHT = CELEBA_SIZE
TEMPLATE = np.array([(69, 111), (108, 111), (88, 136), (72, 152), (105, 152)], np.float64)
"""where CelebA's landmarks are in the middle of its pictures (x, y pixels)"""
JPEG_QUALITY = 95
_ALIGNED_BY = [0, 1, 3, 4]  # eyes and mouth corners: the nose's tip moves with the pose more than the face does
_FACE_ABOVE_CHIN = 0.05  # decimetres
_FACE_BEHIND_EYES = 0.9  # decimetres; as far back as the ears


@dataclass(frozen=True)
class AlignedPicture:
    """jpeg: the file; landmarks: (5, 2) int pixels in CelebA's order; box: x, y, width, height of the face, pixels."""

    jpeg: bytes
    landmarks: np.ndarray
    box: tuple[int, int, int, int]


def aligned_picture(person: Person) -> AlignedPicture:
    """The picture of a person as CelebA would frame it."""
    aligned, frame = _align(person)
    drawing = draw(aligned, HEIGHT, frame)
    margin = (HEIGHT - WIDTH) // 2
    buffer = io.BytesIO()
    Image.fromarray(drawing.image[:, margin : margin + WIDTH]).save(buffer, "JPEG", quality=JPEG_QUALITY)
    landmarks = np.floor(_pixels(drawing.landmarks())).astype(int)
    return AlignedPicture(buffer.getvalue(), landmarks, _face_box(load_pack(), drawing))


def _align(person: Person) -> tuple[Person, float]:
    """The person with level eyes, moved, and the frame to draw in, so that the landmarks come closest to TEMPLATE.

    What a frame shows is scaled about its middle, and a shift is a fraction of the standard frame, so the best scale
    and shift (least squares) are exact.
    """
    level = replace(person, shot=replace(person.shot, roll=0.0))
    seen = draw(level, SMALLEST_RESOLUTION).landmarks()[_ALIGNED_BY] - 0.5
    wanted = (TEMPLATE[_ALIGNED_BY] + [(HEIGHT - WIDTH) / 2, 0]) / HEIGHT - 0.5
    about_seen, about_wanted = (points - points.mean(0) for points in (seen, wanted))
    scale = float((about_seen * about_wanted).sum() / np.square(about_seen).sum())
    across, down = (wanted.mean(0) / scale - seen.mean(0)).tolist()
    shot = replace(level.shot, shift=(level.shot.shift[0] + across, level.shot.shift[1] + down))
    return replace(level, shot=shot), 1 / scale


def _pixels(located: np.ndarray) -> np.ndarray:
    """Fractions (n, 2) of the square that was drawn, as pixels of the picture cut from it."""
    return located * HEIGHT - [(HEIGHT - WIDTH) / 2, 0]


def _face_box(pack: Pack, drawing: Drawing) -> tuple[int, int, int, int]:
    """x, y, width and height of the smallest box about the face, crown to chin and ear to ear, within the picture."""
    _, y, z = pack.vertices
    eyes = pack.vertices[:, pack.parts["eyes"].anchors.ravel()].mean(1)
    chin = pack.vertices[1, pack.span_vertices[4:]].min()
    face = np.flatnonzero((y > chin + _FACE_ABOVE_CHIN) & (z > eyes[2] - _FACE_BEHIND_EYES))
    pixels = _pixels(drawing.locate(drawing.outfit.head[:, face]))
    low = np.clip(np.floor(pixels.min(0)), 0, [WIDTH - 1, HEIGHT - 1]).astype(int)
    high = np.clip(np.ceil(pixels.max(0)), 1, [WIDTH, HEIGHT]).astype(int)
    return int(low[0]), int(low[1]), int(high[0] - low[0]), int(high[1] - low[1])
