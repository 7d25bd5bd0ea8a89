"""BEGAN: Boundary Equilibrium Generative Adversarial Networks.

Berthelot, Schumm & Metz 2017, arXiv:1703.10717. The discriminator D is an autoencoder, and judges a picture v by how
badly it draws it, L(v) = |v - D(v)|, here the mean over pixels and colours. It learns to draw reals and, by a share k,
not to draw fakes; k is moved so that fakes are drawn γ times as badly as reals:

    discriminator   L(x) - k L(G(z_D))
    generator       L(G(z_G))
    balance         k ← k + λ_k (γ L(x) - L(G(z_G))),  within [0, 1]
    measure         M = L(x) + |γ L(x) - L(G(z_G))|

M falls as the pictures get better, and the learning rate is halved when it no longer does.

Numbers of equations are left out: they could not be checked against the paper's text.

Networks: 3x3 convolutions, two a level, and exponential linear units. The encoder goes down by strides of 2 to 8², its
channels growing by `width` a level, then to the code h of as many numbers as z; the decoder goes from h to 8² and
`width` channels and up by nearest neighbours. The generator is another such decoder. Skip connections repeat the
decoder's 8² tensor, enlarged, beside its features at each level.

Departures from the paper:
- Conditional on attributes when there are any: they are joined to z, and to the code h inside the discriminator.
- The halving of the learning rate is made definite: M, averaged over some 10 kimg, has not become smaller by 1 % in
  `stall_kimg`.
- `networks="dcgan"` takes DCGAN's generator and the VAE's encoder here instead, for comparison.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from limner.latents import NO_LABELS, AttributeRows, Labels, LatentSpace, Uniform
from limner.layers.convolution import Convolution
from limner.models import dcgan, vae
from limner.models.base import Model, Phase
from limner.optim import Adam
from limner.types import Attributes, Batch, Images, Latents, Logs, Scalar

MEASURE_HALF_LIFE_KIMG = 10.0
"""of the average of M that decides whether it stalls"""


@dataclass(frozen=True, kw_only=True)
class BEGANConfig:
    """Settings of BEGAN."""

    latent_dim: int = 64
    """size of z and of the discriminator's code h"""
    width: int = 64
    """channels at the image's own side, and what every level of the encoder adds"""
    gamma: float = 0.5
    """γ, the diversity ratio: how badly fakes are drawn beside reals; lower is smoother and less varied"""
    k_rate: float = 0.001
    """λ_k"""
    learning_rate: float = 1e-4
    """Adam's, for both networks"""
    beta1: float = 0.5
    """Adam's"""
    beta2: float = 0.999
    """Adam's (its own default)"""
    generator_steps: int = 1
    """generator updates per discriminator update"""
    stall_kimg: float = 200.0
    """the learning rate is halved where M has not fallen for so long; 0 never halves it"""
    skip_connections: bool = True
    """repeat the decoders' first tensor at every level"""
    networks: Literal["paper", "dcgan"] = "paper"
    """the paper's, or DCGAN's as the other models here have (they have no skip connections)"""


class BEGAN(Model):
    name = "began"
    summary = "BEGAN (Berthelot et al. 2017): an autoencoder as discriminator, kept in balance"
    Config = BEGANConfig
    batch_size = 16
    k: Tensor
    real: Tensor
    measure: Tensor
    rate: Tensor
    mean_measure: Tensor
    best_measure: Tensor
    best_images: Tensor
    last_images: Tensor

    def __init__(self, config: BEGANConfig, resolution: int, labels: Labels = NO_LABELS) -> None:
        super().__init__(config, resolution, labels)
        attributes = len(labels.names)
        self.latents = LatentSpace(
            Uniform("z", config.latent_dim), AttributeRows("attributes", attributes, labels=labels)
        )
        if config.networks == "paper":
            self.generator: nn.Module = Decoder(self.latents.width, config.width, resolution, config.skip_connections)
        else:
            self.generator = dcgan.Generator(self.latents.width, config.width, resolution)
        self.discriminator = Autoencoder(config, resolution, attributes)
        self.images_seen = 0
        for name in ("k", "real", "measure", "mean_measure", "best_measure"):
            self.register_buffer(name, torch.zeros(()))
        self.register_buffer("rate", torch.ones(()))
        for name in ("best_images", "last_images"):
            self.register_buffer(name, torch.zeros((), dtype=torch.int64))

    def phases(self) -> tuple[Phase, ...]:
        c = self.config
        adam = Adam(c.learning_rate, c.beta1, c.beta2)
        return (
            Phase(
                name="discriminator",
                trains=(self.discriminator,),
                loss=self.discriminator_loss,
                optimizer=adam,
                after_step=self.remember_real,
                rate=self.learning_rate_factor,
            ),
            Phase(
                name="generator",
                trains=(self.generator,),
                loss=self.generator_loss,
                optimizer=adam,
                steps=c.generator_steps,
                after_step=self.balance,
                rate=self.learning_rate_factor,
            ),
        )

    def discriminator_loss(self, batch: Batch) -> tuple[Scalar, Logs]:
        with torch.no_grad():
            fakes = self.generator(batch.latents)
        real = self.unlikeness(batch.images, batch.attributes).mean()
        fake = self.unlikeness(fakes, batch.attributes).mean()
        loss = real - self.k * fake
        return loss, {"loss": loss, "real": real, "fake": fake}

    def generator_loss(self, batch: Batch) -> tuple[Scalar, Logs]:
        loss = self.unlikeness(self.generator(batch.latents), batch.attributes).mean()
        return loss, {"loss": loss, "k": self.k, "measure": self.measure, "rate": self.rate}

    def unlikeness(self, images: Images, attributes: Attributes | None) -> Float[Tensor, "n"]:
        """L(v): how far the discriminator's drawing of each picture is from it, per pixel and colour."""
        return (images - self.discriminator(images, attributes)).abs().flatten(1).mean(dim=1)

    @torch.no_grad()
    def remember_real(self, logs: Logs) -> None:
        self.real.copy_(logs["real"])

    @torch.no_grad()
    def balance(self, logs: Logs) -> None:
        """Move k, take the measure, and halve the learning rate where that has stalled."""
        c = self.config
        apart = c.gamma * self.real - logs["loss"].to(self.real)
        self.k.add_(c.k_rate * apart).clamp_(0, 1)
        self.measure.copy_(self.real + apart.abs())
        self.mean_measure.copy_(self.measure if self.mean_measure == 0 else self._mean_measure())
        self.last_images.fill_(self.images_seen)
        if self.best_measure == 0 or self.mean_measure < 0.99 * self.best_measure:
            self.best_measure.copy_(self.mean_measure)
            self.best_images.fill_(self.images_seen)
        elif c.stall_kimg > 0 and self.images_seen - int(self.best_images) >= c.stall_kimg * 1000:
            self.rate.div_(2)
            self.best_images.fill_(self.images_seen)

    def _mean_measure(self) -> Tensor:
        kept = 0.5 ** ((self.images_seen - int(self.last_images)) / (1000 * MEASURE_HALF_LIFE_KIMG))
        return torch.lerp(self.measure, self.mean_measure, kept)

    def learning_rate_factor(self) -> float:
        return float(self.rate)

    def set_images_seen(self, images_seen: int) -> None:
        self.images_seen = images_seen

    def forward(self, latents: Latents) -> Images:
        return self.generator(latents).clamp(-1, 1)


class Autoencoder(nn.Module):
    """The discriminator: [n, 3, r, r] and attributes [n, a] → its drawing of them [n, 3, r, r]."""

    def __init__(self, config: BEGANConfig, resolution: int, attributes: int) -> None:
        super().__init__()
        c, codes = config, config.latent_dim + attributes
        if c.networks == "paper":
            self.encoder: nn.Module = Encoder(c.latent_dim, c.width, resolution)
            self.decoder: nn.Module = Decoder(codes, c.width, resolution, c.skip_connections)
        else:
            self.encoder = vae.Encoder(c.latent_dim, c.width, resolution, attributes)
            self.decoder = dcgan.Generator(codes, c.width, resolution)

    def forward(self, images: Images, attributes: Attributes | None = None) -> Images:
        codes = self.encoder(images, attributes)
        return self.decoder(codes if attributes is None else torch.cat([codes, attributes], dim=1))


class Encoder(nn.Module):
    """[n, 3, r, r] → h [n, d]; what attributes there are is left to the decoder."""

    def __init__(self, codes: int, width: int, resolution: int) -> None:
        super().__init__()
        levels = resolution.bit_length() - 3
        layers: list[nn.Module] = [Convolution(3, width, 3, 1, 1), nn.ELU()]
        for level in range(1, levels + 1):
            channels = level * width
            for _ in range(2):
                layers += [Convolution(channels, channels, 3, 1, 1), nn.ELU()]
            if level < levels:
                layers += [Convolution(channels, channels + width, 3, 2, 1), nn.ELU()]
        self.layers = nn.Sequential(*layers)
        self.last = nn.Linear(levels * width * 8 * 8, codes)

    def forward(self, images: Images, attributes: Attributes | None = None) -> Float[Tensor, "n d"]:
        return self.last(self.layers(images).flatten(1)).to(images.dtype)


class Decoder(nn.Module):
    """[n, d] → [n, 3, r, r], not bounded: the generator, and the discriminator's second half."""

    def __init__(self, codes: int, width: int, resolution: int, skip_connections: bool) -> None:
        super().__init__()
        self.width, self.skip_connections = width, skip_connections
        self.first = nn.Linear(codes, width * 8 * 8)
        self.levels = nn.ModuleList()
        for level in range(resolution.bit_length() - 3):
            joined = 2 * width if skip_connections and level > 0 else width
            self.levels.append(
                nn.Sequential(
                    Convolution(joined, width, 3, 1, 1), nn.ELU(), Convolution(width, width, 3, 1, 1), nn.ELU()
                )
            )
        self.last = Convolution(width, 3, 3, 1, 1)

    def forward(self, codes: Float[Tensor, "n d"]) -> Images:
        start = self.first(codes).view(-1, self.width, 8, 8).contiguous(memory_format=torch.channels_last)
        features = self.levels[0](start)
        for level in self.levels[1:]:
            features = F.interpolate(features, scale_factor=2.0, mode="nearest")
            if self.skip_connections:
                again = F.interpolate(start, size=list(features.shape[2:]), mode="nearest")
                features = torch.cat([features, again.to(features.dtype)], dim=1)
            features = level(features)
        return self.last(features).to(codes.dtype)
