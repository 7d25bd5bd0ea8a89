"""What the number of images does to metrics of features, and what they cost.

    python -m benchmarks.metrics_by_count [--out benchmarks/results/metrics_by_count.json] [--features FILE.npz]

Two disjoint sets of built-in heads of one kind stand for reals and a perfect generator's fakes: whatever the metrics
say of them is the count's doing. Features are EfficientNet-Lite0's (1280), or an array `features` [n, d] of a file.
CPU seconds are of one thread, on Gaussian features of 2048, without the extractor.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from limner.metrics.copies import nearest_images
from limner.metrics.frechet import frechet_distance, frechet_distance_of_features
from limner.metrics.kernel import kernel_distance
from limner.metrics.moments import Moments
from limner.metrics.neighbours import prdc

HEADS = 4000
COUNTS = (125, 250, 500, 1000, 2000)
WIDTH = 2048


def head_features(count: int) -> Tensor:
    """EfficientNet-Lite0's features of built-in heads at 64²: float32 [count, 1280]."""
    from limner.data.dataset import open_dataset
    from limner.heads.make import default_heads
    from limner.metrics.extractors import open_extractor

    dataset, extractor = open_dataset(default_heads(64, count)), open_extractor("efficientnet-lite0")
    batches = np.array_split(np.arange(count), max(1, count // 100))
    return torch.cat([extractor.of_bytes(torch.from_numpy(dataset.read(64, rows))).features for rows in batches])


def by_count(features: Tensor) -> list[dict[str, float]]:
    """One row per count n: metrics of the first n rows of each half."""
    half = len(features) // 2
    rows = []
    for count in [n for n in COUNTS if n <= half]:
        reals, fakes = features[:count], features[half : half + count]
        kernel, deviation = kernel_distance(reals, fakes, subset_size=min(1000, count // 2))
        row = {
            "count": float(count),
            "frechet": frechet_distance_of_features(reals, fakes),
            "kernel x 1000": 1000 * kernel,
            "its deviation": 1000 * deviation,
        }
        rows.append(row | prdc(reals, fakes)._asdict())
    return rows


def costs() -> list[dict[str, object]]:
    """CPU seconds of each metric at 1,000 and 5,000 images of 2048 features."""
    generator = torch.Generator().manual_seed(0)
    rows: list[dict[str, object]] = []
    for count in (1000, 5000):
        a, b = (torch.randn(count, WIDTH, generator=generator) for _ in range(2))
        first, second = Moments.from_features(a), Moments.from_features(b)
        work: dict[str, Callable[[], object]] = {
            "moments of one set": lambda a=a: Moments.from_features(a).covariance,  # type: ignore[misc]
            "Fréchet distance, of moments": lambda f=first, s=second: frechet_distance(  # type: ignore[misc]
                f.mean, f.covariance, s.mean, s.covariance
            ),
            "kernel distance, ten of its 100 subsets": lambda a=a, b=b: kernel_distance(a, b, subsets=10),  # type: ignore[misc]
            "precision, recall, density, coverage": lambda a=a, b=b: prdc(a, b),  # type: ignore[misc]
        }
        for name, function in work.items():
            start = time.process_time()
            function()
            rows.append({"what": name, "count": count, "CPU s": round(time.process_time() - start, 2)})
    return [*rows, copy_cost()]


class Noise:
    """Stands for a dataset of 32²."""

    def __init__(self, count: int) -> None:
        self._images = np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)

    def indices(self, split: str) -> np.ndarray:
        return np.arange(len(self._images))

    def read(self, resolution: int, indices: np.ndarray) -> np.ndarray:
        return self._images[indices]


def copy_cost(fakes: int = 1000, training: int = 4000) -> dict[str, object]:
    """CPU seconds of the search for the nearest training image, mirrored ones too."""
    dataset, images = Noise(training), torch.from_numpy(Noise(training + fakes)._images[training:])
    start = time.process_time()
    nearest_images(images, dataset, dataset.indices("train"))
    taken = round(time.process_time() - start, 2)
    return {"what": f"nearest of {training:,} training images", "count": fakes, "CPU s": taken}


def measure(features: Tensor | None = None) -> dict[str, Any]:
    """{"by count", "costs"}, on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        features = head_features(HEADS) if features is None else features
        return {"width": features.shape[1], "by count": by_count(features), "costs": costs()}
    finally:
        torch.set_num_threads(threads)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="write JSON there")
    parser.add_argument("--features", type=Path, help="a .npz file with an array `features` [n, d]")
    options = parser.parse_args()
    given = None
    if options.features is not None:
        given = torch.from_numpy(np.load(options.features, allow_pickle=False)["features"])
    found = measure(given)
    for row in found["by count"]:
        print("  ".join(f"{name} {value:.5g}" for name, value in row.items()))
    for row in found["costs"]:
        print(f"{row['what']:42}{row['count']:>8}{row['CPU s']:>9} CPU s")
    if options.out is not None:
        options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
