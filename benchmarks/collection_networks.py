"""The three networks that the eight models of a published collection share, rebuilt from a description of them.

The collection is generative-models-collection (2018; 64² faces of CelebA with 40 attributes). Nothing here was taken
from its code: the numbers of parameters at width 128 and latent size 88 are known, and a test holds that they are met
exactly. At another side the description is carried on: one level per halving down to 4², n, 2n, 4n, 8n, 8n … channels,
and a scale of 3 r² where it divides by 12,288 = 3 · 64².

Images are in [0, 1] here, attributes 0 or 1.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limner.errors import LimnerError


@dataclass(frozen=True)
class Size:
    """How large the networks are."""

    width: int
    """n: channels of the level of half the image's side"""
    latent_dim: int
    attributes: int
    resolution: int
    """pixels: 16, 32, 64 or 128"""

    @property
    def channels(self) -> list[int]:
        """Of the levels of side r/2, r/4, … 4."""
        return [self.width * min(2**level, 8) for level in range(self.resolution.bit_length() - 3)]

    @property
    def features(self) -> int:
        """Numbers at the 4² level."""
        return self.channels[-1] * 16

    @property
    def numbers(self) -> int:
        """Numbers of an image: what the sums of VAE and VAE-GAN are divided by, 12,288 at 64²."""
        return 3 * self.resolution**2


class Generator(nn.Module):
    """(z, attributes) → images [n, 3, r, r] in [0, 1]; transposed convolutions without biases."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        channels = size.channels[::-1]
        layers: list[nn.Module] = [nn.ConvTranspose2d(size.latent_dim + size.attributes, channels[0], 4, bias=False)]
        for before, after in itertools.pairwise([*channels, 3]):
            layers += [nn.BatchNorm2d(before), nn.ReLU(), nn.ConvTranspose2d(before, after, 4, 2, 1, bias=False)]
        self.layers = nn.Sequential(*layers)

    def forward(self, z: Tensor, attributes: Tensor) -> Tensor:
        joined = torch.cat([z, attributes], dim=1)[:, :, None, None]
        return (self.layers(joined).tanh() + 1) / 2


class Trunk(nn.Module):
    """(images, values of attributes) → normalized features of the 4² level, before their leaky ReLU.

    The attributes are constant planes after every convolution but the first and the last, in the place of as many
    features. At 16² there is no such convolution; the planes then join the first one's features, in no one's place.
    """

    def __init__(self, size: Size, norm: Callable[[int], nn.Module] = nn.BatchNorm2d) -> None:
        super().__init__()
        channels, planes = size.channels, size.attributes
        self.first = nn.Conv2d(3, channels[0], 4, 2, 1)
        self.early = len(channels) == 2
        widths = [channels[0] + planes * self.early, *channels[1:]]
        outs = [width - planes for width in channels[1:-1]] + channels[-1:]
        if min(outs) < 1:
            raise LimnerError(f"width {size.width}: too few features for {planes} attributes; use {planes // 2 + 1}")
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(before, after, 4, 2, 1), norm(after))
            for before, after in zip(widths, outs, strict=False)
        )

    def forward(self, images: Tensor, attributes: Tensor) -> Tensor:
        features = F.leaky_relu(self.first(2 * images - 1), 0.2)
        if self.early:
            features = _with_planes(features, attributes)
        for block in self.blocks[:-1]:
            features = _with_planes(F.leaky_relu(block(features), 0.2), attributes)
        return self.blocks[-1](features)


class Discriminator(nn.Module):
    """(images, attributes) → one number each; no sigmoid, which the losses that need it take."""

    def __init__(self, size: Size, norm: Callable[[int], nn.Module] = nn.BatchNorm2d) -> None:
        super().__init__()
        self.trunk = Trunk(size, norm)
        self.last = nn.Conv2d(size.channels[-1], 1, 4)

    def features(self, images: Tensor, attributes: Tensor) -> Tensor:
        """What VAE-GAN compares: the last convolution but one, normalized."""
        return self.trunk(images, attributes)

    def judge(self, features: Tensor) -> Tensor:
        return self.last(F.leaky_relu(features, 0.2)).flatten()

    def forward(self, images: Tensor, attributes: Tensor) -> Tensor:
        return self.judge(self.features(images, attributes))


class Encoder(nn.Module):
    """(images, attributes) → `outputs` numbers each; its planes hold -1 and 1, the discriminator's 0 and 1."""

    def __init__(self, size: Size, outputs: int) -> None:
        super().__init__()
        self.trunk = Trunk(size)
        self.head = hidden_head(size, outputs)

    def forward(self, images: Tensor, attributes: Tensor) -> Tensor:
        features = F.leaky_relu(self.trunk(images, 2 * attributes - 1), 0.2)
        return self.head(features.flatten(1))


class Autoencoder(nn.Module):
    """BEGAN's discriminator: an encoder and a generator of its own, nothing between them but z."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.encoder = Encoder(size, size.latent_dim)
        self.decoder = Generator(size)

    def forward(self, images: Tensor, attributes: Tensor) -> Tensor:
        return self.decoder(self.encoder(images, attributes), attributes)


def hidden_head(size: Size, outputs: int) -> nn.Sequential:
    """The 4² level's features → n → `outputs`."""
    hidden = nn.Linear(size.features, size.width)
    return nn.Sequential(hidden, nn.BatchNorm1d(size.width), nn.ReLU(), nn.Linear(size.width, outputs))


def draw_weights(module: nn.Module) -> None:
    """Convolutions from N(0, 0.02), batch norm's scales from N(1, 0.02); elsewhere PyTorch's defaults stay."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)


def _with_planes(features: Tensor, attributes: Tensor) -> Tensor:
    planes = attributes[:, :, None, None].expand(-1, -1, *features.shape[2:])
    return torch.cat([features, planes], dim=1)
