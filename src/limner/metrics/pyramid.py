"""The Laplacian pyramid of Burt and Adelson, 1983, down to 16².

Filters are banded matrices: on a CPU two matrix products per level are 1.4 times as fast as a strided convolution.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from limner.metrics.images import SMALLEST_PIXELS, check_resolution

_BINOMIAL = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)


def levels(resolution: int) -> tuple[int, ...]:
    """Sides of the pyramid's levels, pixels: 64 → (64, 32, 16)."""
    check_resolution(resolution, resolution)
    return tuple(resolution >> i for i in range(resolution.bit_length()) if resolution >> i >= SMALLEST_PIXELS)


def laplacian_pyramid(images: Float[Tensor, "n 3 h h"]) -> list[Float[Tensor, "n 3 _ _"]]:
    """Finest level first; each but the last is what `shrink` loses, the last (16²) is the blurred image itself."""
    pyramid = [images]
    while pyramid[-1].shape[-1] > SMALLEST_PIXELS:
        smaller = shrink(pyramid[-1])
        pyramid[-1] = pyramid[-1] - expand(smaller)
        pyramid.append(smaller)
    return pyramid


def shrink(images: Float[Tensor, "n 3 h h"]) -> Float[Tensor, "n 3 g g"]:
    """REDUCE: blur, then keep every other row and column; g = h / 2."""
    rows = _blur(images.shape[-1])[::2].to(images)
    return rows @ images @ rows.T


def expand(images: Float[Tensor, "n 3 g g"]) -> Float[Tensor, "n 3 h h"]:
    """EXPAND: zeros between the pixels, then blur, times four; h = 2 g."""
    rows = 2 * _blur(2 * images.shape[-1])[:, ::2].to(images)
    return rows @ images @ rows.T


@lru_cache(maxsize=16)
def _blur(size: int) -> Float[Tensor, "size size"]:
    """The 5-tap binomial filter. Images are mirrored about their edge pixels: d c b | a b c d | c b a."""
    matrix = torch.zeros(size, size)
    for row in range(size):
        for tap, weight in enumerate(_BINOMIAL):
            column = abs(row + tap - 2)
            matrix[row, min(column, 2 * (size - 1) - column)] += weight
    return matrix
