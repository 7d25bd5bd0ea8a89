"""HoloGAN's layers as a tutorial has them: what `benchmarks.plain_step` puts in the place of ours.

Doubling and halving are steps of their own, volumes are turned by torch's `grid_sample`, and normalization is torch's,
with scale and shift after it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limner.layers.resampling import halved
from limner.layers.rigid import ARRAY_SIGNS
from limner.layers.spectral import Spectral, SpectralConvolution


@contextmanager
def plain_volumes() -> Iterator[None]:
    """Inside, HoloGAN's networks compute with what is below."""
    ours = {"layers.rigid": (placed,), "models.hologan": HOLOGAN, "models.presets.hologan_residual": RESIDUAL}
    with ExitStack() as stack:
        for module, functions in ours.items():
            for function in functions:
                stack.enter_context(mock.patch(f"limner.{module}.{function.__name__}", function))
        yield


class PlainSpectralConvolution(SpectralConvolution):
    def forward(self, x: Tensor) -> Tensor:
        return torch.conv2d(x, over_sigma(self), self.bias, self.geometry.stride, self.geometry.padding)


def over_sigma(layer: Spectral) -> Tensor:
    """The weights over σ, by autograd."""
    rows = layer.weight.flatten(1)
    with torch.no_grad():
        right = F.normalize(rows.T @ layer.left, dim=0)
    return layer.weight / (layer.left @ (rows @ right))


def placed(
    volume: Tensor, turn: Tensor, scale: Tensor | None = None, shift: Tensor | None = None, doubled: bool = False
) -> Tensor:
    volume = repeated(volume) if doubled else volume
    signs = volume.new_tensor(ARRAY_SIGNS)
    back = turn.transpose(1, 2) if scale is None else turn.transpose(1, 2) / scale[:, None, None]
    moved = torch.zeros_like(back[:, :, :1]) if shift is None else -back @ shift[:, :, None]
    theta = torch.cat([signs[:, None] * back * signs, signs[:, None] * moved], dim=2)
    grid = F.affine_grid(theta, list(volume.shape), align_corners=False)
    return F.grid_sample(volume, grid, align_corners=False)


def folded(volume: Tensor) -> Tensor:
    return volume.flatten(1, 2)


def repeated(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


def instance_norm(x: Tensor, eps: float = 1e-5) -> Tensor:
    return F.instance_norm(x, eps=eps)


def adaptive_instance_norm(x: Tensor, scale: Tensor, shift: Tensor, eps: float = 1e-5) -> Tensor:
    ones = (1,) * (x.ndim - 2)
    return F.instance_norm(x, eps=eps) * scale.view(*scale.shape, *ones) + shift.view(*shift.shape, *ones)


def instance_statistics(x: Tensor, eps: float = 1e-5) -> tuple[Tensor, Tensor, Tensor]:
    variance, mean = torch.var_mean(x, dim=(2, 3), keepdim=True, correction=0)
    deviation = (variance + eps).sqrt()
    return (x - mean) / deviation, mean.flatten(1), deviation.flatten(1)


def doubling_convolution(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return torch.conv2d(repeated(x), weight, bias, padding=1)


def doubling_volume_convolution(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return torch.conv3d(repeated(x), weight, bias, padding=1)


def halved_outcome(convolution: nn.Module, x: Tensor) -> Tensor:
    return halved(convolution(x))


HOLOGAN = (folded, instance_norm, adaptive_instance_norm, instance_statistics)
RESIDUAL = (
    folded,
    instance_norm,
    adaptive_instance_norm,
    doubling_convolution,
    doubling_volume_convolution,
    halved_outcome,
)
