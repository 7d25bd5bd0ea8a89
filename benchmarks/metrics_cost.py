"""What the metrics cost: CPU seconds per 1,000 images of each set, on one thread.

    python -m benchmarks.metrics_cost          # prints a table; about two minutes

`swd, columns` sorts the same projections with torch.sort along dim 0, which the usual transcription of the published
NumPy code does; `ms_ssim, conv` blurs with a grouped convolution. `features` are of both sets, by networks of random
weights, which cost what trained ones do; what is computed of features: `benchmarks.metrics_by_count`.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from limner.metrics import ms_ssim, swd
from limner.metrics.extractors.batches import place
from limner.metrics.extractors.fid_network import FIDNetwork
from limner.metrics.extractors.lite_network import LiteNetwork
from limner.metrics.extractors.resize import bytes_to_pixels, find_rule
from limner.metrics.probe.network import ProbeNetwork
from limner.pixels import to_floats

IMAGES = 256


def cpu_seconds(work: Callable[[], object], repeats: int = 3) -> float:
    """The best of a few runs: what disturbs a run only makes it longer."""
    taken = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        taken.append(time.process_time() - start)
    return min(taken)


def sort_columns(a: Float[Tensor, "m d"], b: Float[Tensor, "m d"], directions: Float[Tensor, "k d"]) -> float:
    """The same distance, sorted along dim 0."""
    total = 0.0
    for some in directions.split(128):
        first, second = torch.sort(a @ some.T, dim=0).values, torch.sort(b @ some.T, dim=0).values
        total += float((first - second).abs().mean())
    return total / (len(directions) // 128)


def blur_by_convolution(images: Float[Tensor, "n 3 h h"]) -> Tensor:
    """The window of MS-SSIM as a grouped conv2d over the four moments, at one scale."""
    taps = ms_ssim.window(images.shape[-1]).float()
    kernel = torch.outer(taps, taps).expand(3, 1, -1, -1).contiguous()
    return F.conv2d(torch.cat([images] * 4), kernel, groups=3)


def blur_by_products(images: Float[Tensor, "n 3 h h"]) -> Tensor:
    """The same by the banded products in use."""
    rows = ms_ssim._band(images.shape[-1])
    return rows @ torch.cat([images] * 4) @ rows.T


def measure() -> list[dict[str, object]]:
    """One row per figure: {"what", "resolution", "value", "unit"}."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        made = (_swd_rows, _ms_ssim_rows, _feature_rows)
        return [row for resolution in (64, 128) for rows in made for row in rows(resolution)]
    finally:
        torch.set_num_threads(threads)


def _noise(count: int, resolution: int, seed: int) -> Tensor:
    shape = (count, resolution, resolution, 3)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def _row(what: str, resolution: int, seconds: float, images: int) -> dict[str, object]:
    value = round(seconds / images * 1000, 3)
    return {"what": what, "resolution": resolution, "value": value, "unit": "CPU s per 1k images of each set"}


def _swd_rows(resolution: int) -> list[dict[str, object]]:
    reals, fakes = _noise(IMAGES, resolution, 0), _noise(IMAGES, resolution, 1)
    generator = torch.Generator().manual_seed(2)
    directions = swd.draw_directions(swd.DIRECTIONS, swd.DESCRIPTOR_SIZE, generator)
    a, b = (torch.randn(IMAGES * swd.PATCHES_PER_IMAGE, swd.DESCRIPTOR_SIZE, generator=generator) for _ in range(2))
    count = len(swd.levels(resolution))
    rows = cpu_seconds(lambda: swd.sliced_wasserstein(a, b, directions))
    columns = cpu_seconds(lambda: sort_columns(a, b, directions), repeats=1)
    return [
        _row("swd, all", resolution, cpu_seconds(lambda: swd.swd(reals, fakes)), IMAGES),
        _row("swd, project and sort, rows", resolution, rows * count, IMAGES),
        _row("swd, project and sort, columns", resolution, columns * count, IMAGES),
    ]


def _ms_ssim_rows(resolution: int) -> list[dict[str, object]]:
    images = _noise(IMAGES // 4, resolution, 0)
    floats = images.permute(0, 3, 1, 2).float().contiguous()
    return [
        _row("ms_ssim, all", resolution, 2 * cpu_seconds(lambda: ms_ssim.ms_ssim(images)), len(images)),
        _row("ms_ssim, first blur, products", resolution, cpu_seconds(lambda: blur_by_products(floats)), len(images)),
        _row("ms_ssim, first blur, conv", resolution, cpu_seconds(lambda: blur_by_convolution(floats)), len(images)),
    ]


@torch.no_grad()
def _feature_rows(resolution: int) -> list[dict[str, object]]:
    """From bytes of this resolution to features, with the resize to the network's side."""
    pixels = bytes_to_pixels(_noise(16, resolution, 0), torch.device("cpu"))
    clean = find_rule("clean")
    networks = {"FID network": (FIDNetwork(), 299), "EfficientNet-Lite0": (LiteNetwork(), 224)}
    rows = []
    for name, (network, side) in networks.items():
        place(network.eval(), torch.device("cpu"))

        def work(network: nn.Module = network, side: int = side) -> Tensor:
            return network(clean.resize(pixels, side).contiguous(memory_format=torch.channels_last))

        rows.append(_row(f"features, {name}", resolution, 2 * cpu_seconds(work), len(pixels)))
    probe = ProbeNetwork(64, attributes=20, pose=True, identity=True).eval()
    many = to_floats(_noise(IMAGES, 64, 0))
    return [*rows, _row("features, probe at 64²", resolution, 2 * cpu_seconds(lambda: probe(many)), IMAGES)]


if __name__ == "__main__":
    rows = measure()
    if "--json" in sys.argv:
        print(json.dumps(rows, indent=2))
    else:
        for row in rows:
            print(f"{row['resolution']:>4}²  {row['what']:32}{row['value']:>10} {row['unit']}")
