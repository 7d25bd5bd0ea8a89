"""DCGAN: Unsupervised Representation Learning with Deep Convolutional Generative Adversarial Networks.

Radford, Metz & Chintala 2016, arXiv:1511.06434. The paper describes networks and has no numbered equation; the game
they play is Goodfellow et al. 2014, arXiv:1406.2661, equation

    (1)   min over G, max over D:  E[log D(x)] + E[log(1 - D(G(z)))]

and, for the generator, the objective of that paper's section 3 with the same fixed point and stronger gradients early
on: maximize log D(G(z)).

Departures from the paper:
- z is Gaussian instead of uniform on [-1, 1], so that walks between two faces have a natural path.
- Sides other than 64: the 4² level has `width` x resolution / 8 channels, at most 8 x `width`, halving at every level.
- Conditional on the dataset's attributes when there are any (Mirza & Osindero 2014, arXiv:1411.1784): they are joined
  to z, and as constant planes to the discriminator's features after every convolution but the first and the last. The
  planes take the place of as many features. (At 16² there is none between, and they follow the first.)
- The discriminator returns logits, and its losses are written as softplus, which cannot overflow.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from limner.errors import LimnerError
from limner.latents import NO_LABELS, AttributeRows, Gaussian, Labels, LatentSpace
from limner.layers.batch_norm import BatchNorm
from limner.layers.convolution import Convolution, TransposedConvolution
from limner.models.base import Model, Phase
from limner.models.presets.dcgan import PRESETS
from limner.optim import Adam
from limner.types import Attributes, Batch, Images, Latents, Logits, Logs, Scalar


@dataclass(frozen=True, kw_only=True)
class DCGANConfig:
    """Settings of DCGAN; the defaults are the paper's."""

    latent_dim: int = 100
    """size of z (figure 1)"""
    width: int = 128
    """channels of the widest-open layer, at half the image's side; 1024 at 4² when the image is 64² (figure 1)"""
    learning_rate: float = 2e-4
    """Adam's, for both networks (section 4)"""
    beta1: float = 0.5
    """Adam's (section 4)"""
    beta2: float = 0.999
    """Adam's (its own default)"""
    generator_steps: int = 1
    """generator updates per discriminator update"""


class DCGAN(Model):
    name = "dcgan"
    summary = "DCGAN (Radford et al. 2016): convolutional GAN, batch norm, non-saturating loss"
    Config = DCGANConfig
    presets = PRESETS
    batch_size = 128

    def __init__(self, config: DCGANConfig, resolution: int, labels: Labels = NO_LABELS) -> None:
        super().__init__(config, resolution, labels)
        attributes = len(labels.names)
        self.latents = LatentSpace(
            Gaussian("z", config.latent_dim), AttributeRows("attributes", attributes, labels=labels)
        )
        self.generator = Generator(self.latents.width, config.width, resolution)
        self.discriminator = Discriminator(config.width, resolution, attributes, norm=BatchNorm)

    def phases(self) -> tuple[Phase, ...]:
        c = self.config
        adam = Adam(c.learning_rate, c.beta1, c.beta2)
        return (
            Phase(name="discriminator", trains=(self.discriminator,), loss=self.discriminator_loss, optimizer=adam),
            Phase(
                name="generator",
                trains=(self.generator,),
                loss=self.generator_loss,
                optimizer=adam,
                steps=c.generator_steps,
            ),
        )

    def discriminator_loss(self, batch: Batch) -> tuple[Scalar, Logs]:
        with torch.no_grad():
            fakes = self.generator(batch.latents)
        real = self.discriminator(batch.images, batch.attributes)
        fake = self.discriminator(fakes, batch.attributes)
        # -log D(x) = softplus(-logit) and -log(1 - D(x)) = softplus(logit), for D = sigmoid(logit).
        loss = F.softplus(-real).mean() + F.softplus(fake).mean()  # (1)
        return loss, {"loss": loss, "real": real.sigmoid().mean(), "fake": fake.sigmoid().mean()}

    def generator_loss(self, batch: Batch) -> tuple[Scalar, Logs]:
        logits = self.discriminator(self.generator(batch.latents), batch.attributes)
        loss = F.softplus(-logits).mean()
        return loss, {"loss": loss}

    def forward(self, latents: Latents) -> Images:
        return self.generator(latents)


class Generator(nn.Module):
    """[n, d] → [n, 3, r, r] in [-1, 1]: transposed convolutions, batch norm and ReLU, tanh at the end."""

    def __init__(
        self, latent_width: int, width: int, resolution: int, norm: Callable[[int], nn.Module] = BatchNorm
    ) -> None:
        super().__init__()
        channels = level_channels(width, resolution)[::-1]
        layers: list[nn.Module] = [TransposedConvolution(latent_width, channels[0], 4, 1, 0, bias=False)]
        for before, after in itertools.pairwise(channels):
            layers += [
                norm(before),
                nn.ReLU(inplace=norm is BatchNorm),
                TransposedConvolution(before, after, 4, 2, 1, bias=False),
            ]
        layers += [
            norm(channels[-1]),
            nn.ReLU(inplace=norm is BatchNorm),
            TransposedConvolution(channels[-1], 3, 4, 2, 1, bias=False),
            nn.Tanh(),
        ]
        self.layers = nn.Sequential(*layers)
        self.apply(initialize)

    def forward(self, latents: Latents) -> Images:
        return self.before_tanh(latents).tanh()

    def before_tanh(self, latents: Latents) -> Images:
        """What the tanh makes a picture of: half the logit of a pixel's brightness in [0, 1]."""
        # Under autocast the layers work in bfloat16; losses and pictures are kept in the latents' own precision.
        return self.layers[:-1](latents[:, :, None, None]).to(latents.dtype)


class Trunk(nn.Module):
    """[n, 3, r, r] and attributes [n, a] → features [n, c, 4, 4]: strided convolutions, leaky ReLU of slope 0.2.

    The features are the last convolution's, normalized, before their leaky ReLU.
    """

    def __init__(self, width: int, resolution: int, attributes: int, norm: Callable[[int], nn.Module]) -> None:
        super().__init__()
        channels = level_channels(width, resolution)
        if attributes >= 2 * width:
            raise LimnerError(
                f"width {width} leaves no room for {attributes} attributes; take a --width above {attributes // 2}, or "
                "fewer --attributes (or none)"
            )
        self.channels = channels[-1]
        self.planes_at_once = len(channels) == 2
        self.first = Convolution(3, channels[0], 4, 2, 1)
        self.blocks = nn.ModuleList()
        for i, (before, after) in enumerate(itertools.pairwise(channels)):
            planes = attributes if i < len(channels) - 2 else 0
            joined = attributes if self.planes_at_once else 0
            convolution = Convolution(before + joined, after - planes, 4, 2, 1)
            # In place where that is known to be allowed: batch norm's derivative does not need its output.
            rectifier = nn.LeakyReLU(0.2, inplace=norm is BatchNorm)
            self.blocks.append(nn.Sequential(convolution, norm(after - planes), rectifier))

    def features(self, images: Images, attributes: Attributes | None = None) -> Float[Tensor, "n {self.channels} 4 4"]:
        features = F.leaky_relu(self.first(images), 0.2)
        if self.planes_at_once:
            features = with_planes(features, attributes)
        for block in self.blocks[:-1]:
            features = with_planes(block(features), attributes)
        convolution, norm, _ = self.blocks[-1].children()
        return norm(convolution(features))


class Discriminator(Trunk):
    """[n, 3, r, r] and attributes [n, a] → logits [n]."""

    def __init__(self, width: int, resolution: int, attributes: int, norm: Callable[[int], nn.Module]) -> None:
        super().__init__(width, resolution, attributes, norm)
        self.last = Convolution(self.channels, 1, 4, 1, 0)
        self.apply(initialize)

    def forward(self, images: Images, attributes: Attributes | None = None) -> Logits:
        return self.judge(self.features(images, attributes)).to(images.dtype)

    def judge(self, features: Float[Tensor, "n c 4 4"]) -> Logits:
        """Logits of features that are at hand already."""
        return self.last(F.leaky_relu(features, 0.2)).flatten()


def level_channels(width: int, resolution: int) -> list[int]:
    """Channels of the levels of side r/2, r/4, … 4 of an image of side r."""
    levels = resolution.bit_length() - 3
    return [width * 2 ** min(level, 3) for level in range(levels)]


def with_planes(features: Float[Tensor, "n c h w"], attributes: Attributes | None) -> Float[Tensor, "n c2 h w"]:
    """Features with one constant plane per attribute joined to them."""
    if attributes is None or attributes.shape[1] == 0:
        return features
    planes = attributes.to(features.dtype)[:, :, None, None].expand(-1, -1, *features.shape[2:])
    return torch.cat([features, planes], dim=1).contiguous(memory_format=torch.channels_last)


def initialize(module: nn.Module) -> None:
    """Weights from a zero-centred normal of standard deviation 0.02 (section 4); batch norm's around 1."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, BatchNorm):
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)
