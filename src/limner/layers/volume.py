"""Convolutions of volumes [n, c, d, h, w]."""

from __future__ import annotations

from torch import nn


class VolumeConvolution(nn.Conv3d):
    """[n, c, d, h, w] → [n, c2, d, h, w]; an odd kernel, zeros outside."""

    def __init__(self, before: int, after: int, kernel: int = 3, bias: bool = True) -> None:
        super().__init__(before, after, kernel, padding=kernel // 2, bias=bias)


class DoublingVolumeConvolution(nn.ConvTranspose3d):
    """[n, c, d, h, w] → [n, c2, 2d, 2h, 2w]: a transposed convolution of kernel 3 and stride 2."""

    def __init__(self, before: int, after: int, bias: bool = True) -> None:
        super().__init__(before, after, 3, stride=2, padding=1, output_padding=1, bias=bias)
