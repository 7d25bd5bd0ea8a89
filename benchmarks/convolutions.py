"""The three maps of a convolution, as oneDNN's kernels and as products of patches: CPU milliseconds, one thread.

    python benchmarks/convolutions.py

What `limner.layers.convolution` chooses between; its limits come from here.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from unittest import mock

import torch

from limner.layers import convolution
from limner.layers.convolution import Geometry, convolve, correlate, spread

BATCH = 64
LAYERS = (
    (3, 64, 64, Geometry(4, 2, 1)),
    (64, 128, 32, Geometry(4, 2, 1)),
    (128, 256, 16, Geometry(4, 2, 1)),
    (256, 512, 8, Geometry(4, 2, 1)),
    (512, 128, 4, Geometry(4, 1, 0)),
)
"""channels before and after, side before, how the kernel moves: DCGAN's discriminator, and its generator's first"""


def milliseconds(work: Callable[[], object], repeats: int = 4) -> float:
    """The best of a few: what disturbs a run only makes it longer."""
    work()
    taken = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        taken.append(time.process_time() - start)
    return round(min(taken) * 1000, 1)


def measure() -> list[dict[str, object]]:
    """One row per layer and map: "convolution" and "product" in milliseconds."""
    torch.set_num_threads(1)
    rows: list[dict[str, object]] = []
    for before, after, side, geometry in LAYERS:
        x = torch.randn(BATCH, before, side, side).to(memory_format=torch.channels_last)
        w = torch.randn(after, before, geometry.kernel, geometry.kernel).to(memory_format=torch.channels_last)
        y = torch.randn_like(convolve(x, w, geometry))
        maps: dict[str, Callable[[], object]] = {
            "convolve": lambda: convolve(x, w, geometry),  # noqa: B023
            "spread": lambda: spread(y, w, geometry, (side, side)),  # noqa: B023
            "correlate": lambda: correlate(x, y, geometry),  # noqa: B023
        }
        for name, work in maps.items():
            row: dict[str, object] = {"layer": f"{before} → {after}, {side}² → {y.shape[2]}²", "map": name}
            for way, pays in (("convolution", False), ("product", True)):
                with mock.patch.object(convolution, "_product_pays", lambda *arguments, pays=pays: pays):
                    row[f"{way}, ms"] = milliseconds(work)
            pays = convolution._product_pays(name, y.shape[2] * y.shape[3])
            row["chosen"] = "product" if pays else "convolution"
            rows.append(row)
    return rows


if __name__ == "__main__":
    rows = measure()
    if "--json" in sys.argv:
        print(json.dumps(rows, indent=2))
    else:
        for row in rows:
            print("".join(f"{value!s:<24}" for value in row.values()))
