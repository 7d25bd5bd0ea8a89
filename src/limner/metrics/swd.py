"""Sliced Wasserstein distance between patches of two sets of images, at every level of a Laplacian pyramid.

Karras, Aila, Laine, Lehtinen, "Progressive Growing of GANs for Improved Quality, Stability, and Variation", ICLR 2018,
arXiv 1710.10196, section 5: "Multi-scale statistical similarity for assessing GAN results".

Of each image and level 128 patches of 7×7×3 are taken at random places; each set of patches is normalised to zero mean
and unit standard deviation per colour channel; the distance is the mean over 512 random directions of the 1-D
Wasserstein distance of the projected patches, × 10³. The paper compares 16,384 images.

What that means: each set is normalised by itself, so a global change of brightness or contrast of a colour channel is
invisible at every level. What is left is structure, per frequency band.

Departures from the paper: patches lie at the same places in both sets (image i of the reals and image i of the fakes),
so that a set is at distance exactly 0 from itself; random numbers come from torch's CPU generator.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from limner.errors import LimnerError, ResourceError
from limner.metrics.card import Measurement, Setting
from limner.metrics.images import check_images, check_pair
from limner.metrics.pyramid import laplacian_pyramid, levels

PATCH_PIXELS = 7
PATCHES_PER_IMAGE = 128
DIRECTIONS = 512
"""the paper's 4 repeats of 128: the mean of four equal means is the mean of all"""
DESCRIPTOR_SIZE = 3 * PATCH_PIXELS**2
SCALE = 1e3

_DIRECTIONS_AT_ONCE = 16
_ROWS_AT_ONCE = 65536
_SMALLEST_DEVIATION = 1e-6
"""gray levels; below it a channel is constant and stays at 0 after centring, where dividing would give NaN"""


def gather_patches(images: Float[Tensor, "n 3 h h"], corners: Int[Tensor, "n p 2"]) -> Float[Tensor, "n*p 147"]:
    """7×7 patches whose top left pixels are at `corners` (row, column); a row is the red, the green, the blue patch."""
    n, _, side, _ = images.shape
    steps = torch.arange(PATCH_PIXELS)
    offsets = (steps[:, None] * side + steps).flatten()
    pixels = (corners[..., 0] * side + corners[..., 1])[..., None] + offsets
    patches = images.flatten(2).gather(2, pixels.flatten(1)[:, None].expand(n, 3, -1))
    return patches.view(n, 3, corners.shape[1], -1).transpose(1, 2).reshape(-1, DESCRIPTOR_SIZE)


class Descriptors:
    """The patches of one set of images, added in batches: 75,264 bytes per image and level, whatever the resolution.

    The places depend on the seed and on how many images came before, never on the batches.
    """

    def __init__(self, resolution: int, count: int, seed: int) -> None:
        self.levels = levels(resolution)
        self.count = count
        self.added = 0
        self._generator = torch.Generator().manual_seed(2 * seed)
        rows = count * PATCHES_PER_IMAGE
        self._patches = {side: torch.empty(rows, DESCRIPTOR_SIZE) for side in self.levels}

    def add(self, images: UInt8[Tensor, "n r r 3"]) -> None:
        """Take the patches of a batch."""
        n = len(images)
        if self.added + n > self.count:
            raise LimnerError(f"{self.added + n} images added where {self.count} were announced; raise count")
        # float64, because in float32 u × (side - 6) can round up to side - 6, a corner outside the image
        shape = (n, len(self.levels), PATCHES_PER_IMAGE, 2)
        places = torch.rand(shape, generator=self._generator, dtype=torch.float64)
        pyramid = laplacian_pyramid(images.cpu().permute(0, 3, 1, 2).float())
        rows = slice(self.added * PATCHES_PER_IMAGE, (self.added + n) * PATCHES_PER_IMAGE)
        for i, (side, level) in enumerate(zip(self.levels, pyramid, strict=True)):
            corners = (places[:, i] * (side - PATCH_PIXELS + 1)).long()
            self._patches[side][rows] = gather_patches(level, corners)
        self.added += n

    def take(self, side: int) -> Float[Tensor, "m 147"]:
        """The normalised patches of a level, which are then forgotten here."""
        if self.added < self.count:
            raise LimnerError(f"{self.added} of {self.count} images were added; add the others before the result")
        return normalize(self._patches.pop(side))


def normalize(patches: Float[Tensor, "m 147"]) -> Float[Tensor, "m 147"]:
    """To zero mean and unit standard deviation per colour channel over the whole set, in place; sums in float64."""
    channels = patches.view(len(patches), 3, -1)
    values = channels.shape[0] * channels.shape[2]
    chunks = channels.split(_ROWS_AT_ONCE)
    mean = torch.stack([chunk.sum((0, 2), dtype=torch.float64) for chunk in chunks]).sum(0) / values
    for chunk in chunks:
        chunk.sub_(mean.float()[:, None])
    variance = torch.stack([chunk.double().square_().sum((0, 2)) for chunk in chunks]).sum(0) / values
    deviation = variance.sqrt().where(variance.sqrt() > _SMALLEST_DEVIATION, 1.0)
    for chunk in chunks:
        chunk.div_(deviation.float()[:, None])
    return patches


def sliced_wasserstein(
    a: Float[Tensor, "m d"],
    b: Float[Tensor, "m d"],
    directions: Float[Tensor, "k d"],
    poll: Callable[[], None] = lambda: None,
) -> float:
    """Mean over directions (unit rows) of the 1-D Wasserstein distance between the projections of two point sets.

    In one dimension the distance of two sets of m points is the mean |difference| of the sorted points. Rows are
    contiguous and np.sort does them with vector instructions, where torch.sort along columns takes 20 times as long.
    """
    total = 0.0
    for some in directions.split(_DIRECTIONS_AT_ONCE):
        poll()
        first, second = (some @ a.T).numpy(), (some @ b.T).numpy()
        first.sort(axis=1)
        second.sort(axis=1)
        first -= second
        total += float(np.abs(first, out=first).sum(dtype=np.float64))
    return total / (len(directions) * len(a))


def draw_directions(count: int, size: int, generator: torch.Generator) -> Float[Tensor, "k d"]:
    """Unit vectors, uniform on the sphere: [count, size]."""
    drawn = torch.randn(count, size, generator=generator, dtype=torch.float64)
    return (drawn / drawn.norm(dim=1, keepdim=True)).float()


class SWD:
    """Sliced Wasserstein distance, × 10³, of `count` reals and `count` fakes that arrive in batches.

    The result's value is the mean over levels; its sub-values are the levels, finest first.

    Raises:
        LimnerError: resolution without a pyramid.
        ResourceError: the patches do not fit this machine's memory; the message says how many images do.
    """

    def __init__(self, resolution: int, count: int, seed: int) -> None:
        _check_memory(resolution, count)
        self._seed = seed
        self._reals = Descriptors(resolution, count, seed)
        self._fakes = Descriptors(resolution, count, seed)

    def add_reals(self, images: Tensor) -> None:
        """Add a batch of uint8 [n, r, r, 3]."""
        check_images(images, "reals")
        self._reals.add(images)

    def add_fakes(self, images: Tensor) -> None:
        """Add a batch of uint8 [n, r, r, 3]."""
        check_images(images, "fakes")
        self._fakes.add(images)

    def result(self, poll: Callable[[], None] = lambda: None) -> Measurement:
        """The distance; once, as the patches are forgotten on the way. `poll` is called every few directions."""
        generator = torch.Generator().manual_seed(2 * self._seed + 1)
        values = {}
        for side in self._reals.levels:
            directions = draw_directions(DIRECTIONS, DESCRIPTOR_SIZE, generator)
            distance = sliced_wasserstein(self._reals.take(side), self._fakes.take(side), directions, poll)
            values[f"level_{side}"] = SCALE * distance
        settings: dict[str, Setting] = {
            "levels": " ".join(str(side) for side in self._reals.levels),
            "patches": PATCHES_PER_IMAGE,
            "patch_pixels": PATCH_PIXELS,
            "places": "random, the same in both sets",
            "normalisation": "zero mean, unit deviation per channel, level and set",
            "directions": DIRECTIONS,
            "scale": SCALE,
            "random_numbers": "torch CPU generator",
        }
        return Measurement(value=sum(values.values()) / len(values), values=values, settings=settings)


def _check_memory(resolution: int, count: int) -> None:
    """Better one line now than the kernel ending the process at the 9000th image."""
    per_image = 2 * len(levels(resolution)) * PATCHES_PER_IMAGE * DESCRIPTOR_SIZE * 4
    try:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        return
    if count * per_image > 0.9 * memory:
        raise ResourceError(
            f"swd: patches of 2×{count} images of {resolution}² need {count * per_image / 1e9:.1f} GB of memory and "
            f"this machine has {memory / 1e9:.1f}; use a count of at most {int(0.8 * memory / per_image)}"
        )


def swd(reals: Tensor, fakes: Tensor, *, seed: int = 0, batch_size: int = 64) -> Measurement:
    """Sliced Wasserstein distance, × 10³, of two sets of equally many images.

    Args:
        reals: uint8 [n, r, r, 3], r a power of two of at least 16 pixels.
        fakes: uint8 [n, r, r, 3].
        seed: of patches and directions; the result is a function of the images and of it alone.
        batch_size: images whose pyramids are in memory at once; does not change the result.

    Raises:
        LimnerError: a wrong type, layout or size, or unequal counts.
        ResourceError: more patches than memory.
    """
    check_pair(reals, fakes)
    metric = SWD(reals.shape[1], len(reals), seed)
    for some in reals.split(batch_size):
        metric.add_reals(some)
    for some in fakes.split(batch_size):
        metric.add_fakes(some)
    return metric.result()
