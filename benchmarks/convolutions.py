"""The three maps of a convolution, each computed in every way there is for it: CPU milliseconds, one thread.

    python -m benchmarks.convolutions    # a minute; writes its results

What `limner.layers.bilinear` chooses between; its limits come from here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from unittest import mock

import torch
from benchmarks.run import as_table
from benchmarks.training_step import write

from limner.layers import bilinear
from limner.layers.bilinear import Geometry, convolve, correlate, spread

WAYS = ("convolution", "product", "winograd", "planes")
LAYERS = (
    (64, 3, 64, 64, Geometry(4, 2, 1)),
    (64, 64, 128, 32, Geometry(4, 2, 1)),
    (64, 128, 256, 16, Geometry(4, 2, 1)),
    (64, 256, 512, 8, Geometry(4, 2, 1)),
    (64, 512, 128, 4, Geometry(4, 1, 0)),
    (16, 512, 512, 4, bilinear.KEEPING),
    (16, 512, 512, 8, bilinear.KEEPING),
    (16, 512, 512, 16, bilinear.KEEPING),
    (4, 512, 512, 32, bilinear.KEEPING),
    (4, 256, 256, 64, bilinear.KEEPING),
    (4, 128, 128, 64, bilinear.KEEPING),
    (16, 512, 512, 16, bilinear.AVERAGING),
    (8, 512, 512, 32, bilinear.AVERAGING),
    (4, 256, 512, 64, bilinear.AVERAGING),
)
"""images, channels before and after, side before, how the kernel moves: DCGAN's discriminator, its generator's first
layer, and ProGAN's discriminator"""


def milliseconds(ways: Mapping[str, Callable[[], object]], repeats: int = 5) -> dict[str, float]:
    """The best of a few: what disturbs a run only makes it longer."""
    taken: dict[str, list[float]] = {way: [] for way in ways}
    for repeat in range(1 + repeats):
        for way, work in ways.items():
            start = time.process_time()
            work()
            if repeat > 0:
                taken[way].append(time.process_time() - start)
    return {f"{way}, ms": round(min(seconds) * 1000, 1) for way, seconds in taken.items()}


def possible(name: str, before: int, geometry: Geometry) -> tuple[str, ...]:
    if geometry not in bilinear.WINOGRAD:
        return WAYS[:2]
    if geometry != bilinear.HALVING or before > bilinear.MOST_PLANES:
        return WAYS[:3]
    return (*WAYS[:3], "planes") if name == "spread" else WAYS[:3]


def forced(work: Callable[[], object], way: str) -> Callable[[], object]:
    def run() -> object:
        with mock.patch.object(bilinear, "choose", return_value=way):
            return work()

    return run


def measure() -> list[dict[str, object]]:
    """One row per layer and map: every way in milliseconds, interleaved."""
    torch.set_num_threads(1)
    rows: list[dict[str, object]] = []
    for images, before, after, side, geometry in LAYERS:
        x = torch.randn(images, before, side, side).to(memory_format=torch.channels_last)
        w = torch.randn(after, before, geometry.kernel, geometry.kernel).to(memory_format=torch.channels_last)
        y = torch.randn_like(convolve(x, w, geometry))
        maps: dict[str, Callable[[], object]] = {
            "convolve": lambda: convolve(x, w, geometry),  # noqa: B023
            "spread": lambda: spread(y, w, geometry, (side, side)),  # noqa: B023
            "correlate": lambda: correlate(x, y, geometry),  # noqa: B023
        }
        for name, work in maps.items():
            ways = {way: forced(work, way) for way in possible(name, before, geometry)}
            shown = {f"{way}, ms": "" for way in WAYS} | milliseconds(ways)
            chosen = bilinear.choose(name, x, w.shape, geometry, (side, side), y.shape[2:])
            layer = f"{images} x {before} → {after}, kernel {geometry.kernel}, {side}² → {y.shape[2]}²"
            rows.append({"layer": layer, "map": name, **shown, "chosen": chosen})
    return rows


if __name__ == "__main__":
    rows = measure()
    print(as_table(rows))
    write("convolutions", rows)
