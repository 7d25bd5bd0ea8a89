"""Images per CPU-second of three ways to get a batch of 64² faces: why a dataset is packed before training.

    python benchmarks/data_path.py

(a) a gather from the memory-mapped array by `torch.index_select` into a buffer that is used again,
(b) the same by NumPy's fancy indexing,
(c) decoding as you go: open the JPEG, crop, resize. All make uint8 (64, 64, 64, 3) batches in random order.
The set is synthetic: 178×218 JPEGs of about 12 kB, as CelebA's, and 20,000 packed images (246 MB).
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from limner.data.dataset import Dataset
from limner.data.writer import DatasetWriter

BATCH = 64
RESOLUTION = 64


def measure(*, packed: int = 20_000, files: int = 400, repeats: int = 5) -> list[dict[str, object]]:
    """One row per way: "way", "images_per_cpu_second" (best of `repeats`) and "ratio" to decoding as you go."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        photos = _make_photos(Path(folder), files)
        data = _make_dataset(Path(folder) / "packed", packed)
        ways: dict[str, tuple[Callable[[np.ndarray], object], int, int]] = {
            "memory map, torch.index_select": (_torch_gather(data), packed, packed),
            "memory map, NumPy gather": (_numpy_gather(data), packed, packed),
            "JPEG: decode, crop, resize": (_decode(photos), files, files),
        }
        speeds = {name: _speed(*way, repeats) for name, way in ways.items()}
    slowest = speeds["JPEG: decode, crop, resize"]
    return [{"way": n, "images_per_cpu_second": round(s), "ratio": round(s / slowest, 1)} for n, s in speeds.items()]


def _make_photos(folder: Path, count: int) -> list[Path]:
    """Smooth random pictures with a little noise: as large, as JPEG, as CelebA's."""
    rng = np.random.default_rng(0)
    paths = []
    for k in range(count):
        coarse = Image.fromarray(rng.integers(40, 216, (28, 23, 3), dtype=np.uint8))
        pixels = np.asarray(coarse.resize((178, 218), Image.Resampling.BICUBIC)) + rng.normal(0, 4, (218, 178, 3))
        paths.append(folder / f"{k:06d}.jpg")
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(paths[-1], quality=90)
    return paths


def _make_dataset(folder: Path, count: int) -> Dataset:
    rng = np.random.default_rng(0)
    with DatasetWriter(
        folder, name="noise", count=count, resolution=RESOLUTION, crop="none", resize="none", source={"kind": "noise"}
    ) as writer:
        for start in range(0, count, 1000):
            rows = min(1000, count - start)
            writer.write(start, rng.integers(0, 256, (rows, RESOLUTION, RESOLUTION, 3), dtype=np.uint8))
        return writer.finish()


def _torch_gather(data: Dataset) -> Callable[[np.ndarray], object]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        images = torch.from_numpy(np.asarray(data.images(RESOLUTION)))
    buffer = torch.empty((BATCH, RESOLUTION, RESOLUTION, 3), dtype=torch.uint8)

    def gather(rows: np.ndarray) -> object:
        return torch.index_select(images, 0, torch.from_numpy(rows), out=buffer)

    return gather


def _numpy_gather(data: Dataset) -> Callable[[np.ndarray], object]:
    images = np.asarray(data.images(RESOLUTION))
    return lambda rows: images[rows]


def _decode(paths: list[Path]) -> Callable[[np.ndarray], object]:
    def one(path: Path) -> np.ndarray:
        with Image.open(path) as image:
            square = image.convert("RGB").crop((25, 57, 153, 185))
            return np.asarray(square.resize((RESOLUTION, RESOLUTION), Image.Resampling.LANCZOS))

    return lambda rows: np.stack([one(paths[row]) for row in rows])


def _speed(way: Callable[[np.ndarray], object], available: int, images: int, repeats: int) -> float:
    """Images per CPU-second, the best of some passes: the machine's other work only ever slows one down."""
    rng = np.random.default_rng(1)
    batches = [rng.integers(0, available, BATCH) for _ in range(max(1, images // BATCH))]
    for rows in batches:
        way(rows)  # the first touch of a page is the kernel's work, and that of the first epoch only
    best = 0.0
    for _ in range(repeats):
        start = time.process_time()
        for rows in batches:
            way(rows)
        best = max(best, len(batches) * BATCH / (time.process_time() - start))
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--packed", type=int, default=20_000, help="images in the memory map")
    parser.add_argument("--files", type=int, default=400, help="JPEG files")
    arguments = parser.parse_args()
    print(f"{'way':34}{'images per CPU-second':>22}{'ratio':>9}")
    for row in measure(packed=arguments.packed, files=arguments.files):
        print(f"{row['way']:34}{row['images_per_cpu_second']:>22,}{row['ratio']:>9}")


if __name__ == "__main__":
    main()
