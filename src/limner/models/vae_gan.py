"""VAE-GAN: Autoencoding beyond pixels using a learned similarity metric.

Larsen, Sønderby, Larochelle & Winther 2016, arXiv:1512.09300. A VAE whose pictures are compared in the features of a
layer l of a GAN's discriminator, and whose decoder is that GAN's generator. With x~ = Dec(z), z ~ q(z|x), the
encoder's, and x_p = Dec(z_p), z_p ~ N(0, I):

    L_prior = KL(q(z|x) || N(0, I))
    L_llike = -log N(Dis_l(x) | Dis_l(x~), I), here without its constant:  1/2 |Dis_l(x) - Dis_l(x~)|²
    L_GAN   = log Dis(x) + log(1 - Dis(x~)) + log(1 - Dis(x_p))

Algorithm 1: each player goes down its own loss and nothing else's, and learns nothing from the others':

    encoder         L_prior + L_llike
    decoder         γ L_llike - L_GAN
    discriminator   -L_GAN, written here as the logistic loss that it is

Numbers of equations are left out: they could not be checked against the paper's text.

Departures from the paper:
- The networks are DCGAN's and the VAE's here, conditional on attributes as there. Dis_l is the discriminator's last
  convolution, normalized.
- The decoder maximizes log Dis(x~) + log Dis(x_p) instead of minimizing L_GAN, which has the same fixed point and
  stronger gradients early on (Goodfellow et al. 2014, arXiv:1406.2661, section 3).
- Each player computes its loss anew after the others' steps, with draws of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from limner.latents import NO_LABELS, AttributeRows, Gaussian, Labels, LatentSpace
from limner.layers.batch_norm import BatchNorm
from limner.models.base import Model, Phase
from limner.models.dcgan import Discriminator, Generator
from limner.models.vae import Encoder, draw, kl_divergence, posterior_mean
from limner.optim import Adam, RMSprop
from limner.types import Attributes, Batch, Images, Latents, Logs, Scalar


@dataclass(frozen=True, kw_only=True)
class VAEGANConfig:
    """Settings of VAE-GAN."""

    latent_dim: int = 128
    """size of z"""
    width: int = 64
    """channels of the widest-open layer, at half the image's side"""
    likeness_weight: float = 1e-6
    """γ: how much the decoder heeds L_llike (nats per picture) beside the discriminator (the authors' code)"""
    optimizer: Literal["rmsprop", "adam"] = "rmsprop"
    """for all three networks"""
    learning_rate: float = 3e-4
    """for all three networks"""
    beta1: float = 0.5
    """Adam's, where that is chosen"""
    beta2: float = 0.999
    """Adam's, where that is chosen"""
    generator_steps: int = 1
    """updates of the encoder and the decoder per discriminator update"""


class VAEGAN(Model):
    name = "vae-gan"
    summary = "VAE-GAN (Larsen et al. 2016): a VAE that compares pictures by a discriminator's features"
    Config = VAEGANConfig
    batch_size = 64

    def __init__(self, config: VAEGANConfig, resolution: int, labels: Labels = NO_LABELS) -> None:
        super().__init__(config, resolution, labels)
        attributes = len(labels.names)
        self.latents = LatentSpace(
            Gaussian("z", config.latent_dim), AttributeRows("attributes", attributes, labels=labels)
        )
        self.encoder = Encoder(2 * config.latent_dim, config.width, resolution, attributes)
        self.decoder = Generator(self.latents.width, config.width, resolution)
        self.discriminator = Discriminator(config.width, resolution, attributes, norm=BatchNorm)

    def phases(self) -> tuple[Phase, ...]:
        c = self.config
        adam, rmsprop = Adam(c.learning_rate, c.beta1, c.beta2), RMSprop(c.learning_rate)
        optimizer = adam if c.optimizer == "adam" else rmsprop
        steps = c.generator_steps
        return (
            Phase(name="encoder", trains=(self.encoder,), loss=self.encoder_loss, optimizer=optimizer, steps=steps),
            Phase(name="decoder", trains=(self.decoder,), loss=self.decoder_loss, optimizer=optimizer, steps=steps),
            Phase(
                name="discriminator", trains=(self.discriminator,), loss=self.discriminator_loss, optimizer=optimizer
            ),
        )

    def encoder_loss(self, batch: Batch) -> tuple[Scalar, Logs]:
        mean, log_variance = self.encoder(batch.images, batch.attributes).chunk(2, dim=1)
        again = self.decoder(self.latents.replace(batch.latents, z=draw(mean, log_variance, batch.draws.normal)))
        with torch.no_grad():
            seen = self.discriminator.features(batch.images, batch.attributes)
        likeness = unlikeness(seen, self.discriminator.features(again, batch.attributes)).mean()
        kl = kl_divergence(mean, log_variance).mean()
        loss = kl + likeness
        return loss, {"loss": loss, "kl": kl, "likeness": likeness}

    def decoder_loss(self, batch: Batch) -> tuple[Scalar, Logs]:
        with torch.no_grad():
            latents = self.posterior(batch)
            seen = self.discriminator.features(batch.images, batch.attributes)
        features = self.discriminator.features(self.decoder(latents), batch.attributes)
        reconstructed = self.discriminator.judge(features).to(seen.dtype)
        fake = self.discriminator(self.decoder(batch.latents), batch.attributes)
        fooled = F.softplus(-reconstructed).mean() + F.softplus(-fake).mean()
        loss = self.config.likeness_weight * unlikeness(seen, features).mean() + fooled
        return loss, {"loss": loss}

    def discriminator_loss(self, batch: Batch) -> tuple[Scalar, Logs]:
        with torch.no_grad():
            again, fakes = self.decoder(self.posterior(batch)), self.decoder(batch.latents)
        real = self.discriminator(batch.images, batch.attributes)
        reconstructed = self.discriminator(again, batch.attributes)
        fake = self.discriminator(fakes, batch.attributes)
        loss = F.softplus(-real).mean() + F.softplus(reconstructed).mean() + F.softplus(fake).mean()
        said = {"real": real, "reconstructed": reconstructed, "fake": fake}
        return loss, {"loss": loss, **{name: logits.sigmoid().mean() for name, logits in said.items()}}

    def posterior(self, batch: Batch) -> Latents:
        """One draw of what the encoder believes of the batch's pictures."""
        mean, log_variance = self.encoder(batch.images, batch.attributes).chunk(2, dim=1)
        return self.latents.replace(batch.latents, z=draw(mean, log_variance, batch.draws.normal))

    def encode(self, images: Images, attributes: Attributes | None = None) -> Latents:
        return posterior_mean(self.encoder, self.latents, images, attributes)

    def forward(self, latents: Latents) -> Images:
        return self.decoder(latents)


def unlikeness(seen: Float[Tensor, "n c h w"], made: Float[Tensor, "n c h w"]) -> Float[Tensor, "n"]:
    """L_llike of every picture, nats but for its constant."""
    difference = seen.to(torch.promote_types(seen.dtype, torch.float32)) - made
    return difference.square().flatten(1).sum(dim=1) / 2
