"""Pixelwise feature vector normalization (Karras et al. 2018, arXiv:1710.10196, section 4.2)."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor


def pixel_norm(x: Float[Tensor, "n c *sides"], eps: float = 1e-8) -> Float[Tensor, "n c *sides"]:
    """Every pixel's features divided by their root mean square over channels; computed in float32 at the least."""
    wide = x if x.dtype.itemsize >= 4 else x.float()
    return (wide * (wide.square().mean(dim=1, keepdim=True) + eps).rsqrt()).to(x.dtype)
