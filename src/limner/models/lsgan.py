"""LSGAN: Least Squares Generative Adversarial Networks.

Mao, Li, Xie, Lau, Wang & Smolley 2017, arXiv:1611.04076. The discriminator is a regression on codes a for fakes and b
for reals; the generator wants its pictures to be given c:

    min over D:  1/2 E[(D(x) - b)²] + 1/2 E[(D(G(z)) - a)²]
    min over G:  1/2 E[(D(G(z)) - c)²]

With b - c = 1 and b - a = 2 the generator minimizes the Pearson χ² divergence of (reals + fakes) and twice the fakes;
a = -1, b = 1, c = 0 is such a choice, and the default. a = 0, b = c = 1 is the paper's other one.

Numbers of equations are left out: they could not be checked against the paper's text.

Departures from the paper:
- The networks are DCGAN's, conditional on attributes as there.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from limner.latents import NO_LABELS, AttributeRows, Gaussian, Labels, LatentSpace
from limner.layers.batch_norm import BatchNorm
from limner.models.base import Model, Phase
from limner.models.dcgan import Discriminator, Generator
from limner.optim import Adam
from limner.types import Batch, Images, Latents, Logs, Scalar


@dataclass(frozen=True, kw_only=True)
class LSGANConfig:
    """Settings of LSGAN; the defaults are the paper's."""

    latent_dim: int = 1024
    """size of z"""
    width: int = 64
    """channels of the widest-open layer, at half the image's side"""
    fake_code: float = -1.0
    """a: what the discriminator should say of fakes"""
    real_code: float = 1.0
    """b: what it should say of reals"""
    wanted_code: float = 0.0
    """c: what the generator wants it to say of fakes"""
    learning_rate: float = 2e-4
    """Adam's, for both networks"""
    beta1: float = 0.5
    """Adam's"""
    beta2: float = 0.999
    """Adam's (its own default)"""
    generator_steps: int = 1
    """generator updates per discriminator update"""


class LSGAN(Model):
    name = "lsgan"
    summary = "LSGAN (Mao et al. 2017): least squares in place of the logistic loss"
    Config = LSGANConfig
    batch_size = 64

    def __init__(self, config: LSGANConfig, resolution: int, labels: Labels = NO_LABELS) -> None:
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
        a, b = self.config.fake_code, self.config.real_code
        loss = (real - b).square().mean() / 2 + (fake - a).square().mean() / 2
        return loss, {"loss": loss, "real": real.mean(), "fake": fake.mean()}

    def generator_loss(self, batch: Batch) -> tuple[Scalar, Logs]:
        fake = self.discriminator(self.generator(batch.latents), batch.attributes)
        loss = (fake - self.config.wanted_code).square().mean() / 2
        return loss, {"loss": loss}

    def forward(self, latents: Latents) -> Images:
        return self.generator(latents)
