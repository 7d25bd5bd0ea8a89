"""The names, numbers and arithmetic that the writer and the reader of a dataset on disk share.

A dataset is a folder::

    dataset.json            what this is, and the SHA-256 of every file below
    images-0004.npy …       uint8 (n, r, r, 3), one file per resolution up to 256²; each level is the mean of 2×2
    images-0512.bin         above 256²: PNG files, one after the other (raw 1024² faces do not fit a disk)
    images-0512.index.npy   int64 (n + 1,), where each of them starts and where the last one ends
    splits.npy              uint8 (n,): 0 train, 1 valid, 2 test
    attributes.npy          uint8 (n, a) of 0 and 1, where known
    pose.npy                float32 (n, 3) yaw, pitch, roll in radians, where known
    identity.npy            int64 (n,), rows of one person have one number, where known
    landmarks.npy           float32 (n, 5, 2), LANDMARKS as fractions of the side, x right and y down, where known
    light.npy               float32 (n, 3) unit direction to the light: x right, y up, z to the camera, where known
    sources.csv             file and SHA-256 of the photo each row was made from, where made from files

PNG for the encoded levels because it is lossless: the pyramid below stays the exact mean of the level above, and no
second JPEG generation enters the metrics.
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np
from PIL import Image

FORMAT = "limner-dataset-1"
MANIFEST = "dataset.json"
SPLITS = ("train", "valid", "test")
LANDMARKS = ("left eye", "right eye", "nose", "left mouth corner", "right mouth corner")
"""in CelebA's order; left and right as seen in the picture of somebody who faces the camera"""
SMALLEST = 4
LARGEST_RAW = 256
LARGEST = 1024
PYRAMID = "mean of 2x2, halves to even"


def levels(resolution: int) -> tuple[int, ...]:
    """4, 8, … up to `resolution`, which must be a power of two from 4 to 1024 (see `is_level`)."""
    return tuple(2**k for k in range(2, resolution.bit_length()))


def is_level(resolution: int) -> bool:
    """Whether a dataset may have this resolution: a power of two from 4 to 1024."""
    return SMALLEST <= resolution <= LARGEST and resolution & (resolution - 1) == 0


def images_file(resolution: int) -> str:
    return f"images-{resolution:04d}.{'npy' if resolution <= LARGEST_RAW else 'bin'}"


def index_file(resolution: int) -> str:
    return f"images-{resolution:04d}.index.npy"


def image_files(resolutions: tuple[int, ...]) -> list[str]:
    """Every file that holds pixels, or says where they are, of a dataset with these resolutions."""
    files = [images_file(r) for r in resolutions]
    return files + [index_file(r) for r in resolutions if r > LARGEST_RAW]


def halve(images: np.ndarray) -> np.ndarray:
    """(k, r, r, 3) uint8 → (k, r/2, r/2, 3) uint8: the mean of each 2×2 block, rounded, halves to even.

    Halves to even, since always rounding them up brightens every level by an eighth of a grey step.
    """
    rows = images[:, 0::2].astype(np.uint16) + images[:, 1::2]
    total = rows[:, :, 0::2] + rows[:, :, 1::2]
    return ((total + 1 + ((total >> 2) & 1)) >> 2).astype(np.uint8)


def encode_png(image: np.ndarray) -> bytes:
    """(r, r, 3) uint8 → a PNG file. Level 1: five times faster than the default, some 10 % larger."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def decode_png(data: bytes) -> np.ndarray:
    """A PNG file of this dataset's own → (r, r, 3) uint8."""
    with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
        return np.asarray(image.convert("RGB"))


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file, read once."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
