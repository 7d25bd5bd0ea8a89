"""The networks of Beckham's re-implementation of HoloGAN (hologan-pytorch, BSD-3), in residual blocks.

They differ from the paper's: residual blocks in both networks, an encoder as wide as the discriminator's end (a linear
one would not train, its author says), spectral normalization everywhere in the discriminator and no instance
normalization there. The same mathematics is done with less work: what is the same for repeated voxels or
pixels is done before they are repeated (normalization, bypasses), and averages are taken before a 1x1 convolution.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from limner.layers.convolution import Convolution, doubling_convolution, halving_convolution
from limner.layers.instance_norm import adaptive_instance_norm, instance_norm
from limner.layers.resampling import halved
from limner.layers.rigid import posed
from limner.layers.spectral import SpectralConvolution, SpectralLinear
from limner.layers.volume import VolumeConvolution, doubling_volume_convolution, folded
from limner.models.presets.hologan_seen import Seen
from limner.types import Images

if TYPE_CHECKING:
    from limner.models.hologan import HoloGANConfig

AnyConvolution: TypeAlias = VolumeConvolution | Convolution
SLOPE = 0.01
"""of the leaky ReLU"""
DRAWN_FROM = 16
"""side of the volume that is turned and drawn"""


class ResidualGenerator(nn.Module):
    """z [n, d], yaw, pitch and roll [n, 3] in radians, and perhaps scale and shift [n, 4] → [n, 3, r, r] in [-1, 1]."""

    def __init__(self, config: HoloGANConfig, resolution: int) -> None:
        super().__init__()
        c, d = 8 * config.width, config.latent_dim
        self.constant = nn.Parameter(nn.init.xavier_uniform_(torch.empty(1, c, 4, 4, 4)))
        self.volume = nn.ModuleList([ResidualVolume(c, c // 2), ResidualVolume(c // 2, c // 4)])
        self.volume_styles = nn.ModuleList([ResidualStyle(d, c // 2), ResidualStyle(d, c // 4)])
        self.turned = nn.ModuleList([VolumeConvolution(c // 4, c // 8), VolumeConvolution(c // 8, c // 8)])
        self.turned_norms = nn.ModuleList([AffineNorm(c // 8), AffineNorm(c // 8)])
        wide = DRAWN_FROM * (c // 8)
        self.projection, self.projection_norm = Convolution(wide, wide // 2, 3, 1, 1), AffineNorm(wide // 2)
        doublings = (resolution // DRAWN_FROM).bit_length() - 1
        widths = [wide >> level for level in range(1, doublings + 2)]
        self.images = nn.ModuleList([ResidualImage(*pair) for pair in itertools.pairwise(widths)])
        self.image_styles = nn.ModuleList([ResidualStyle(d, width) for width in widths[1:]])
        self.last = Convolution(widths[-1], 3, 3, 1, 1)

    def forward(
        self, z: Float[Tensor, "n d"], pose: Float[Tensor, "n 3"], placement: Float[Tensor, "n 4"] | None = None
    ) -> Images:
        # Up to the first style, everything is the same for all pictures.
        start = self.volume[0](self.constant, doubled=False).expand(len(z), -1, -1, -1, -1)
        x = self.volume_styles[0](start, z)
        x = self.volume_styles[1](self.volume[1](x, doubled=True), z)
        x = posed(x, pose, placement, doubled=True)
        for convolution, norm in zip(self.turned, self.turned_norms, strict=True):
            x = F.relu_(norm(convolution(x)))
        x = F.relu_(self.projection_norm(self.projection(folded(x))))
        for place, (block, style) in enumerate(zip(self.images, self.image_styles, strict=True)):
            x = style(block(x, doubled=place > 0), z)
        last = doubling_convolution(x, self.last.weight, self.last.bias) if len(self.images) else self.last(x)
        return last.to(z.dtype).tanh()


def repeated(x: Tensor) -> Tensor:
    """Every voxel or pixel repeated along every side."""
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


class Residual(nn.Module):
    """x + f(x), f twice: instance norm, leaky ReLU, convolution; or the same of x with everything in it repeated."""

    def __init__(self, before: int, after: int, convolution: Callable[[int, int, int], AnyConvolution]) -> None:
        super().__init__()
        self.first, self.second = convolution(before, after, 3), convolution(after, after, 3)
        self.bypass = convolution(before, after, 1) if before != after else None
        for module in (self.first, self.second):
            nn.init.xavier_uniform_(module.weight)

    def forward(self, x: Tensor, doubled: bool) -> Tensor:
        beside = x if self.bypass is None else self.bypass(x)
        x = F.leaky_relu_(instance_norm(x), SLOPE)  # in place: the norm keeps its input alone
        x = self.after_doubling(x) if doubled else self.first(x)
        x = self.second(F.leaky_relu_(instance_norm(x), SLOPE))
        return x + (repeated(beside) if doubled else beside)

    def after_doubling(self, x: Tensor) -> Tensor:
        """The first convolution, of x with everything repeated."""
        return self.first(repeated(x))


class ResidualVolume(Residual):
    def __init__(self, before: int, after: int) -> None:
        super().__init__(before, after, VolumeConvolution)

    def after_doubling(self, x: Tensor) -> Tensor:
        return doubling_volume_convolution(x, self.first.weight, self.first.bias)


class ResidualImage(Residual):
    def __init__(self, before: int, after: int) -> None:
        super().__init__(before, after, lambda c, c2, kernel: Convolution(c, c2, kernel, 1, kernel // 2))

    def after_doubling(self, x: Tensor) -> Tensor:
        return doubling_convolution(x, self.first.weight, self.first.bias)


class AffineNorm(nn.Module):
    """Instance norm with a learned scale and shift for each channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x: Float[Tensor, "n c ..."]) -> Float[Tensor, "n c ..."]:
        return adaptive_instance_norm(x, self.weight.expand(len(x), -1), self.bias.expand(len(x), -1))


class ResidualStyle(nn.Module):
    """Instance norm with a learned scale and shift, then those that z says: a mean, and softplus for a deviation."""

    def __init__(self, latent_dim: int, channels: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.mapping = nn.Linear(latent_dim, 2 * channels)

    def forward(self, x: Float[Tensor, "n c ..."], z: Float[Tensor, "n d"]) -> Float[Tensor, "n c ..."]:
        mean, deviation = self.mapping(z).chunk(2, dim=1)
        deviation = F.softplus(deviation)
        return adaptive_instance_norm(x, self.weight * deviation, self.bias * deviation + mean)


class ResidualDiscriminator(nn.Module):
    """[n, 3, r, r] → `Seen`; four halvings, whatever the side, and two ends: one judges, one reads z and the angles."""

    def __init__(self, config: HoloGANConfig, resolution: int) -> None:
        super().__init__()
        c, spectral = config.discriminator_width, config.spectral_norm
        self.first = ResidualFirst(c, spectral)
        levels = resolution.bit_length() - 3
        widths = [c * min(2**level, 8) for level in range(levels)]
        self.blocks = nn.ModuleList([ResidualHalving(*pair, spectral) for pair in itertools.pairwise(widths)])
        c = widths[-1]
        self.judging, self.reading = ResidualHalving(c, c, spectral), ResidualHalving(c, c, spectral)
        linear = SpectralLinear if spectral else nn.Linear
        self.judge, self.reader = linear(c, 1), linear(c, config.latent_dim + 3)
        for module in self.modules():
            if isinstance(module, Convolution | nn.Linear):
                nn.init.xavier_uniform_(module.weight)
        self.reads_angles = config.angle_weight > 0

    def forward(self, images: Images) -> Seen:
        x = self.first(images)
        for block in self.blocks:
            x = block(x, halving=True)
        judged, read = (end(x, halving=False).mean(dim=(2, 3)) for end in (self.judging, self.reading))
        answers = self.reader(read).to(images.dtype)
        angles = answers[:, -3:] if self.reads_angles else None
        return Seen(self.judge(judged).flatten().to(images.dtype), answers[:, :-3], angles)


class ResidualFirst(nn.Module):
    """Pictures [n, 3, r, r] → [n, c, r/2, r/2]."""

    def __init__(self, after: int, spectral: bool) -> None:
        super().__init__()
        make = SpectralConvolution if spectral else Convolution
        self.first, self.second = make(3, after, 3, 1, 1), make(after, after, 3, 1, 1)
        self.bypass = make(3, after, 1, 1, 0)

    def forward(self, x: Images) -> Float[Tensor, "n c h2 w2"]:
        return halved_outcome(self.second, F.relu(self.first(x))) + self.bypass(halved(x))


class ResidualHalving(nn.Module):
    """[n, c, h, w] → [n, c2, h/2, w/2], or the sides as they are."""

    def __init__(self, before: int, after: int, spectral: bool) -> None:
        super().__init__()
        make = SpectralConvolution if spectral else Convolution
        self.first, self.second = make(before, after, 3, 1, 1), make(after, after, 3, 1, 1)
        self.bypass = make(before, after, 1, 1, 0) if before != after else None

    def forward(self, x: Float[Tensor, "n c h w"], halving: bool) -> Float[Tensor, "n c2 h2 w2"]:
        beside = halved(x) if halving else x
        beside = beside if self.bypass is None else self.bypass(beside)
        x = F.relu(self.first(F.relu(x)))
        return (halved_outcome(self.second, x) if halving else self.second(x)) + beside


def halved_outcome(convolution: SpectralConvolution | Convolution, x: Float[Tensor, "n c h w"]) -> Tensor:
    """`halved` of a convolution, in one."""
    weight = convolution.normalized() if isinstance(convolution, SpectralConvolution) else convolution.weight
    return halving_convolution(x, weight, convolution.bias)
