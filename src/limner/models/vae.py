"""VAE: Auto-Encoding Variational Bayes.

Kingma & Welling 2014, arXiv:1312.6114. An encoder gives, for a picture x, a Gaussian q(z|x) of mean μ and variance σ²
over the latents; a decoder gives p(x|z). Both are trained to raise a lower bound on log p(x), estimated with one draw

    z = μ + σ ε,  ε ~ N(0, I)
    log p(x) ≥ 1/2 Σ (1 + log σ² - μ² - σ²) + log p(x|z)

whose first part is -KL(q(z|x) || N(0, I)). p(x|z) is Bernoulli for every pixel and colour (appendix C.1), whose mean is
the decoder's picture in [0, 1], or Gaussian around it (appendix C.2).

Numbers of equations are left out: they could not be checked against the paper's text.

Departures from the paper:
- The networks are convolutional: the decoder is DCGAN's generator, the encoder its discriminator's trunk with a hidden
  layer of `width` units, batch norm and ReLU, and then μ and log σ².
- Conditional on attributes when there are any: both networks are told them, so that z need not hold them.
- The Gaussian's variance is one learnt number, not the decoder's to say for each pixel.
- Adam in place of Adagrad. The loss is the bound's negative per pixel and colour; the log has nats per picture.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from limner.errors import LimnerError
from limner.latents import NO_LABELS, AttributeRows, Gaussian, Labels, LatentSpace
from limner.layers.batch_norm import BatchNorm
from limner.models.base import Model, Phase
from limner.models.dcgan import Generator, Trunk, initialize
from limner.optim import Adam
from limner.types import Attributes, Batch, Images, Latents, Logs, Scalar

SPREAD_SCALE = 10.0


@dataclass(frozen=True, kw_only=True)
class VAEConfig:
    """Settings of the VAE."""

    latent_dim: int = 128
    """size of z"""
    width: int = 64
    """channels of the widest-open layer, at half the image's side, and units of the encoder's hidden layer"""
    likelihood: Literal["bernoulli", "gaussian"] = "bernoulli"
    """what a pixel is given its mean (appendix C); gaussian learns its spread, and blurs less"""
    kl_weight: float = 1.0
    """weight of the KL divergence; 1 in the paper"""
    learning_rate: float = 1e-3
    """Adam's, for both networks"""
    beta1: float = 0.9
    """Adam's (its own default)"""
    beta2: float = 0.999
    """Adam's (its own default)"""


class VAE(Model):
    name = "vae"
    summary = "VAE (Kingma & Welling 2014): variational autoencoder"
    Config = VAEConfig
    batch_size = 100

    def __init__(self, config: VAEConfig, resolution: int, labels: Labels = NO_LABELS) -> None:
        super().__init__(config, resolution, labels)
        attributes = len(labels.names)
        self.latents = LatentSpace(
            Gaussian("z", config.latent_dim), AttributeRows("attributes", attributes, labels=labels)
        )
        self.encoder = Encoder(2 * config.latent_dim, config.width, resolution, attributes)
        self.decoder = Generator(self.latents.width, config.width, resolution)
        self.spread = Spread() if config.likelihood == "gaussian" else None

    def phases(self) -> tuple[Phase, ...]:
        c = self.config
        adam = Adam(c.learning_rate, c.beta1, c.beta2)
        trains = (self.encoder, self.decoder, *([self.spread] if self.spread else []))
        return (Phase(name="autoencoder", trains=trains, loss=self.loss, optimizer=adam),)

    def loss(self, batch: Batch) -> tuple[Scalar, Logs]:
        mean, log_variance = self.encoder(batch.images, batch.attributes).chunk(2, dim=1)
        z = draw(mean, log_variance, batch.draws.normal)
        surprise = self.surprise(batch.images, self.latents.replace(batch.latents, z=z)).mean()
        kl = kl_divergence(mean, log_variance).mean()
        loss = (surprise + self.config.kl_weight * kl) / batch.images[0].numel()
        return loss, {"loss": loss, "reconstruction": surprise, "kl": kl}

    def surprise(self, images: Images, latents: Latents) -> Float[Tensor, "n"]:
        """-log p(x|z), nats per picture."""
        if self.spread is None:
            # tanh(u) in [-1, 1] is sigmoid(2 u) in [0, 1].
            logits = 2 * self.decoder.before_tanh(latents)
            return F.binary_cross_entropy_with_logits(logits, (images + 1) / 2, reduction="none").flatten(1).sum(dim=1)
        return self.spread(images - self.decoder(latents))

    def encode(self, images: Images, attributes: Attributes | None = None) -> Latents:
        return posterior_mean(self.encoder, self.latents, images, attributes)

    def forward(self, latents: Latents) -> Images:
        return self.decoder(latents)


class Encoder(nn.Module):
    """[n, 3, r, r] and attributes [n, a] → [n, outputs]."""

    def __init__(self, outputs: int, width: int, resolution: int, attributes: int) -> None:
        super().__init__()
        self.trunk = Trunk(width, resolution, attributes, BatchNorm)
        self.hidden = nn.Sequential(nn.Linear(16 * self.trunk.channels, width), BatchNorm(width), nn.ReLU())
        self.last = nn.Linear(width, outputs)
        self.apply(initialize)

    def forward(self, images: Images, attributes: Attributes | None = None) -> Float[Tensor, "n k"]:
        features = F.leaky_relu(self.trunk.features(images, attributes), 0.2)
        return self.last(self.hidden(features.flatten(1))).to(images.dtype)


class Spread(nn.Module):
    """-log N(x), nats, of distances [n, …] from the decoder's picture: [n]; one variance for all pixels, learnt."""

    def __init__(self) -> None:
        super().__init__()
        # Adam moves a parameter by its learning rate a step, and this one has far to go: hence its scale.
        self.scaled = nn.Parameter(torch.zeros(()))

    @property
    def log_deviation(self) -> Tensor:
        return SPREAD_SCALE * self.scaled

    def forward(self, distances: Float[Tensor, "n ..."]) -> Float[Tensor, "n"]:
        squares = (distances * torch.exp(-self.log_deviation)).square()
        return (squares / 2 + self.log_deviation + math.log(2 * math.pi) / 2).flatten(1).sum(dim=1)


def draw(
    mean: Float[Tensor, "n d"],
    log_variance: Float[Tensor, "n d"],
    normal: Callable[[int], Tensor],
) -> Float[Tensor, "n d"]:
    """One z of every row's Gaussian, differentiable in both (section 2.4)."""
    return mean + torch.exp(log_variance / 2) * normal(mean.shape[1])


def kl_divergence(mean: Float[Tensor, "n d"], log_variance: Float[Tensor, "n d"]) -> Float[Tensor, "n"]:
    """Of every row's Gaussian from the standard normal, nats (appendix B)."""
    return -(1 + log_variance - mean.square() - log_variance.exp()).sum(dim=1) / 2


def posterior_mean(encoder: nn.Module, space: LatentSpace, images: Images, attributes: Attributes | None) -> Latents:
    """The latents of photos: the mean of q(z|x), and their attributes where the latents have such a part."""
    if "attributes" not in space:
        return encoder(images).chunk(2, dim=1)[0]
    if attributes is None:
        raise LimnerError("encode: this model is conditional; give the pictures' attributes, a row of 0 and 1 each")
    told = attributes.to(images)
    return space.join({"z": encoder(images, told).chunk(2, dim=1)[0], "attributes": told})
