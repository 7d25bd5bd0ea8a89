"""Twice the side and half the side, and the kernels that do it together with a convolution.

A 3x3 convolution after nearest-neighbour doubling is a transposed 4x4 convolution of stride 2, and one before the
averaging of 2x2 squares a 4x4 convolution of stride 2: both exactly, with 4 products where 9 were (Karras et al. 2018,
arXiv:1710.10196, do so in their published code).
"""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def doubled(x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h2 w2"]:
    """Every pixel repeated to a square of 2x2."""
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


def halved(x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h2 w2"]:
    """Squares of 2x2 pixels averaged."""
    return F.avg_pool2d(x, 2)


def doubling_kernel(weight: Float[Tensor, "c2 c 3 3"]) -> Float[Tensor, "c c2 4 4"]:
    """K with which `doubled(x)` convolved by `weight` is x's transposed convolution of stride 2 and padding 1.

    Along one side an output p takes x[i] times w[k] for both pixels p + k - 1 = 2i, 2i + 1 that show x[i]; at the
    kernel's place t = p - 2i + 1 these are w[2 - t] + w[3 - t].
    """
    return _summed(weight.flip(2, 3)).transpose(0, 1)


def halving_kernel(weight: Float[Tensor, "c2 c 3 3"]) -> Float[Tensor, "c2 c 4 4"]:
    """K with which a convolution of stride 2 and padding 1 is `halved` of the one by `weight`."""
    return _summed(weight) / 4


def _summed(weight: Float[Tensor, "a b 3 3"]) -> Float[Tensor, "a b 4 4"]:
    """The kernel added to itself moved by one pixel along each side: w[t] + w[t - 1]."""
    rows = F.pad(weight, (0, 0, 0, 1)) + F.pad(weight, (0, 0, 1, 0))
    return F.pad(rows, (0, 1)) + F.pad(rows, (1, 0))
