"""PBM, PGM and PPM, the formats of the ORL and Yale faces, at any number of grey steps.

Pillow reads binary files of 255 steps fast and all others value by value in Python, 1 to 4 s per megapixel. So binary
files of other steps are read here by NumPy, and text files are held to a size.
"""

from __future__ import annotations

import re

import numpy as np
from PIL import Image

from limner.data.faults import PictureError

LARGEST_TEXT_SAMPLES = 4 * 2**20
"""most values of a PNM written as text: Pillow reads about a million a second"""
_GAP = rb"(?:\s|#[^\r\n]*[\r\n])+"
_BINARY_HEADER = re.compile(rb"P[56]" + 3 * (_GAP + rb"(\d+)") + rb"\s")


def load_pnm(image: Image.Image, data: bytes, name: str) -> tuple[Image.Image, tuple[str, ...]]:
    """Decode an opened PNM: an image of mode RGB, and the keys of `faults.NOTES` that hold for it.

    Values are scaled so that the largest the file may hold, its maxval, is white.

    Args:
        image: as Pillow opened it, not yet loaded; its size has been checked.
        data: the whole file.
        name: its name, for messages.

    Raises:
        PictureError: "bomb", for text of too many values; "truncated".
        OSError, ValueError: whatever Pillow finds wrong.
    """
    notes = [] if image.mode == "RGB" else ["grey"]
    if data[:2] in (b"P1", b"P2", b"P3"):
        _check_text(image, name)
    header = _BINARY_HEADER.match(data)
    if header is None or int(header[3]) == 255:
        image.load()
        if image.mode == "I":  # text of more than 255 steps, which Pillow scales to 65535
            notes.append("16-bit")
            image = Image.fromarray(((np.asarray(image) * 255 + 32767) // 65535).astype(np.uint8))
        return image.convert("RGB"), tuple(notes)
    white = int(header[3])
    if white > 255:
        notes.append("16-bit")
    return _read_binary(data, header.end(), image.size, white, name).convert("RGB"), tuple(notes)


def _check_text(image: Image.Image, name: str) -> None:
    samples = image.width * image.height * len(image.getbands())
    if samples > LARGEST_TEXT_SAMPLES:
        found = f"{image.width}×{image.height} pixels written as text, more than {LARGEST_TEXT_SAMPLES >> 20} Mi values"
        raise PictureError(name, "bomb", found)


def _read_binary(data: bytes, start: int, size: tuple[int, int], white: int, name: str) -> Image.Image:
    """A PGM or PPM whose values begin at byte `start`, big-endian where `white` takes two bytes."""
    width, height = size
    shape = (height, width) if data[:2] == b"P5" else (height, width, 3)
    count, dtype = int(np.prod(shape)), np.dtype(np.uint8 if white < 256 else ">u2")
    if len(data) - start < count * dtype.itemsize:
        found = f"has {len(data) - start:,} bytes of pixels, expected {count * dtype.itemsize:,}"
        raise PictureError(name, "truncated", found)
    steps = np.arange(2 ** (8 * dtype.itemsize), dtype=np.uint32).clip(0, white)
    table = ((steps * 255 + white // 2) // white).astype(np.uint8)
    values = np.frombuffer(data, dtype, count, start).reshape(shape)
    scaled = np.empty(shape, dtype=np.uint8)
    for row, row_values in zip(scaled, values, strict=True):  # by rows: NumPy's gather takes eight bytes per index
        row[:] = table[row_values]
    return Image.fromarray(scaled)
