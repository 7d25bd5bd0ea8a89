"""The three maps of a volume's convolution, torch's and with fewer products: CPU milliseconds, one thread.

    python -m benchmarks.volumes    # a minute; writes its results

What `limner.layers.volume.choose` decides between; its limits come from here. Torch's are the quicker of its two
memory formats.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from benchmarks.convolutions import milliseconds
from benchmarks.run import as_table
from benchmarks.training_step import write
from torch import Tensor

from limner.layers.volume import HALVING, KEEPING, SLICES, choose
from limner.layers.winograd3 import STEP

LAYERS = (
    (512, 256, 4),
    (256, 256, 4),
    (128, 64, 4),
    (64, 64, 4),
    (256, 128, 8),
    (128, 128, 8),
    (64, 64, 8),
    (64, 32, 8),
    (128, 64, 16),
    (64, 64, 16),
    (32, 16, 16),
)
"""channels before and after, side: a generator's of HoloGAN, and of narrower ones"""
DOUBLED = ((256, 128, 4), (128, 64, 4), (64, 32, 4))
"""the same of convolutions after doubling, side before"""
IMAGES = 16
FORMATS = (torch.contiguous_format, torch.channels_last_3d)


def theirs(x: Tensor, w: Tensor, y: Tensor, layout: torch.memory_format) -> dict[str, Callable[[], object]]:
    x, w, y = (each.contiguous(memory_format=layout) for each in (x, w, y))

    def derivative(which: int) -> Callable[[], object]:
        ones, wanted = [1, 1, 1], [which == 0, which == 1, False]
        return lambda: torch.ops.aten.convolution_backward(y, x, w, None, ones, ones, ones, False, [0, 0, 0], 1, wanted)

    return {"convolve": lambda: F.conv3d(x, w, None, 1, 1), "spread": derivative(0), "correlate": derivative(1)}


def doubled_theirs(x: Tensor, w: Tensor, y: Tensor, layout: torch.memory_format) -> dict[str, Callable[[], object]]:
    """Of the convolution alone: doubling and its derivative are not counted."""
    return theirs(repeated(x), w, y, layout)


def repeated(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


def measure() -> list[dict[str, object]]:
    """One row per layer and map: every way in milliseconds, interleaved."""
    torch.set_num_threads(1)
    rows: list[dict[str, object]] = []
    for before, after, side, doubled in [*((*each, False) for each in LAYERS), *((*each, True) for each in DOUBLED)]:
        last = 2 * side if doubled else side
        x, y = torch.randn(IMAGES, before, *[side] * 3), torch.randn(IMAGES, after, *[last] * 3)
        w = torch.randn(after, before, 3, 3, 3)
        peer = doubled_theirs if doubled else theirs
        ways = {f"torch {layout}": peer(x, w, y, layout) for layout in FORMATS} | {"ours": ours(x, w, y, doubled)}
        layer = f"{before} → {after}, {side}³" + (f" doubled to {last}³" if doubled else "")
        chosen = choose(x, w.shape, doubled)
        for name in ("convolve", "spread", "correlate"):
            taken = milliseconds({way: maps[name] for way, maps in ways.items()}, repeats=3)
            convolution, fewer = min(list(taken.values())[:-1]), list(taken.values())[-1]
            shown = {
                "convolution, ms": convolution,
                "fewer products, ms": fewer,
                "ratio": round(convolution / fewer, 2),
            }
            rows.append({"layer": layer, "map": name, **shown, "chosen": "convolution" if chosen is None else "fewer"})
    return rows


def ours(x: Tensor, w: Tensor, y: Tensor, doubled: bool) -> dict[str, Callable[[], object]]:
    """Whether it would choose them or not; of a doubled one, each the adjoint of what its name says."""
    x, w, y = (each.contiguous(memory_format=torch.channels_last_3d) for each in (x, w, y))
    if doubled:
        turned = w.flip(2, 3, 4).transpose(0, 1).contiguous(memory_format=torch.channels_last_3d)
        return {
            "convolve": lambda: HALVING.spread(x, turned),
            "spread": lambda: HALVING.convolve(y, turned),
            "correlate": lambda: HALVING.correlate(y, x),
        }
    maps = SLICES if x.shape[2] <= STEP else KEEPING
    return {
        "convolve": lambda: maps.convolve(x, w),
        "spread": lambda: maps.spread(y, w),
        "correlate": lambda: maps.correlate(x, y),
    }


if __name__ == "__main__":
    rows = measure()
    print(as_table(rows))
    write("volumes", rows)
