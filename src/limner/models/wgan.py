"""WGAN: Wasserstein GAN.

Arjovsky, Chintala & Bottou 2017, arXiv:1701.07875. Over all 1-Lipschitz functions f, the largest difference of means is
the earth mover's distance W between reals and fakes. A critic f whose weights w are kept in a box is K-Lipschitz for
some K, and its difference approximates K W:

    max over w:  E[f(x)] - E[f(G(z))]

The generator minimizes -E[f(G(z))]. Algorithm 1: `critic_steps` ascents of the critic by RMSprop, each followed by
w ← clip(w, -c, c), then one step of the generator.

Numbers of equations are left out: they could not be checked against the paper's text.

Departures from the paper:
- The networks are DCGAN's, one of the architectures of the paper's experiments, conditional on attributes as there.
- The critic's batch norm adds 1e-10 to variances, not 1e-5: where all weights are within 0.01, scales included, the
  variances of narrow layers are smaller than that, and layer after layer would drown what the critic sees. For the
  same reason it is told attributes as 0 and c, not 0 and 1.
- Fixed steps per generator update: the authors' code has longer bouts of the critic at the start and now and then.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch

from limner.latents import NO_LABELS, AttributeRows, Gaussian, Labels, LatentSpace
from limner.layers.batch_norm import BatchNorm
from limner.models.base import Model, Phase
from limner.models.dcgan import Discriminator, Generator
from limner.optim import Adam, RMSprop
from limner.types import Attributes, Batch, Images, Latents, Logs, Scalar

CRITIC_EPS = 1e-10
"""of the critic's batch norm"""


@dataclass(frozen=True, kw_only=True)
class WGANConfig:
    """Settings of WGAN; the defaults are the paper's."""

    latent_dim: int = 100
    """size of z (the authors' code)"""
    width: int = 64
    """channels of the widest-open layer, at half the image's side"""
    clip: float = 0.01
    """c: every weight of the critic stays in [-c, c] (algorithm 1)"""
    critic_steps: int = 5
    """critic updates per generator update (algorithm 1)"""
    optimizer: Literal["rmsprop", "adam"] = "rmsprop"
    """for both networks; the paper finds training unstable under Adam with momentum"""
    learning_rate: float = 5e-5
    """for both networks (algorithm 1)"""
    beta1: float = 0.5
    """Adam's, where that is chosen"""
    beta2: float = 0.999
    """Adam's, where that is chosen"""


class WGAN(Model):
    name = "wgan"
    summary = "WGAN (Arjovsky et al. 2017): Wasserstein critic with clipped weights"
    Config = WGANConfig
    batch_size = 64

    def __init__(self, config: WGANConfig, resolution: int, labels: Labels = NO_LABELS) -> None:
        super().__init__(config, resolution, labels)
        attributes = len(labels.names)
        self.latents = LatentSpace(
            Gaussian("z", config.latent_dim), AttributeRows("attributes", attributes, labels=labels)
        )
        self.generator = Generator(self.latents.width, config.width, resolution)
        self.critic = Discriminator(config.width, resolution, attributes, norm=partial(BatchNorm, eps=CRITIC_EPS))

    def phases(self) -> tuple[Phase, ...]:
        c = self.config
        adam, rmsprop = Adam(c.learning_rate, c.beta1, c.beta2), RMSprop(c.learning_rate)
        optimizer = adam if c.optimizer == "adam" else rmsprop
        return (
            Phase(
                name="critic",
                trains=(self.critic,),
                loss=self.critic_loss,
                optimizer=optimizer,
                steps=c.critic_steps,
                after_step=self.clip_critic,
            ),
            Phase(name="generator", trains=(self.generator,), loss=self.generator_loss, optimizer=optimizer),
        )

    def critic_loss(self, batch: Batch) -> tuple[Scalar, Logs]:
        with torch.no_grad():
            fakes = self.generator(batch.latents)
        real = self.critic(batch.images, self.told(batch)).mean()
        fake = self.critic(fakes, self.told(batch)).mean()
        loss = fake - real
        return loss, {"loss": loss, "distance": real - fake}

    @torch.no_grad()
    def clip_critic(self, logs: Logs) -> None:
        for weights in self.critic.parameters():
            weights.clamp_(-self.config.clip, self.config.clip)

    def generator_loss(self, batch: Batch) -> tuple[Scalar, Logs]:
        loss = -self.critic(self.generator(batch.latents), self.told(batch)).mean()
        return loss, {"loss": loss}

    def told(self, batch: Batch) -> Attributes | None:
        """The attributes at the size of the features they stand beside: normalized, then scaled by at most c."""
        return None if batch.attributes is None else self.config.clip * batch.attributes

    def forward(self, latents: Latents) -> Images:
        return self.generator(latents)
