"""WGAN-GP: Improved Training of Wasserstein GANs.

Gulrajani, Ahmed, Arjovsky, Dumoulin & Courville 2017, arXiv:1704.00028. The critic D is kept near 1-Lipschitz by a
penalty on the norm of its gradient at points between reals x and fakes x~:

    (3)   L = E[D(x~)] - E[D(x)] + λ E[(||grad D(x^)||₂ - 1)²],    x^ = ε x + (1 - ε) x~,  ε ~ U[0, 1]

The generator minimizes -E[D(G(z))] (algorithm 1, line 12), once for every `critic_steps` critic updates.

Departures from the paper:
- The networks are DCGAN's, one of the architectures of the paper's experiments, with layer norm in the critic as
  section 4 advises ("no critic batch normalization"); `critic_norm` chooses others.
- Conditional on attributes as DCGAN here is; the penalty is taken at the reals' own attributes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from limner.latents import NO_LABELS, AttributeRows, Gaussian, Labels, LatentSpace
from limner.layers.batch_norm import BatchNorm
from limner.layers.input_gradient import input_gradient, squared_norms
from limner.models.base import Model, Phase
from limner.models.dcgan import Discriminator, Generator
from limner.optim import Adam
from limner.types import Batch, Images, Latents, Logits, Logs, Scalar

NormName = Literal["batch", "layer", "instance", "none"]


@dataclass(frozen=True, kw_only=True)
class WGANGPConfig:
    """Settings of WGAN-GP; the defaults are the paper's."""

    latent_dim: int = 128
    """size of z (the authors' image networks)"""
    width: int = 64
    """channels of the widest-open layer, at half the image's side"""
    gp_weight: float = 10.0
    """λ of the gradient penalty (algorithm 1)"""
    critic_steps: int = 5
    """critic updates per generator update (algorithm 1)"""
    learning_rate: float = 1e-4
    """Adam's α, for both networks (algorithm 1)"""
    beta1: float = 0.0
    """Adam's (algorithm 1)"""
    beta2: float = 0.9
    """Adam's (algorithm 1)"""
    critic_norm: Literal["layer", "instance", "none"] = "layer"
    """normalization in the critic; never over the batch, which the penalty forbids (section 4)"""
    generator_norm: NormName = "batch"
    """normalization in the generator"""


class WGANGP(Model):
    name = "wgan-gp"
    summary = "WGAN-GP (Gulrajani et al. 2017): Wasserstein critic with gradient penalty"
    Config = WGANGPConfig
    batch_size = 64

    def __init__(self, config: WGANGPConfig, resolution: int, labels: Labels = NO_LABELS) -> None:
        super().__init__(config, resolution, labels)
        attributes = len(labels.names)
        self.latents = LatentSpace(
            Gaussian("z", config.latent_dim), AttributeRows("attributes", attributes, labels=labels)
        )
        self.generator = Generator(self.latents.width, config.width, resolution, NORMS[config.generator_norm])
        self.critic = Discriminator(config.width, resolution, attributes, NORMS[config.critic_norm])

    def phases(self) -> tuple[Phase, ...]:
        c = self.config
        adam = Adam(c.learning_rate, c.beta1, c.beta2)
        return (
            Phase(name="critic", trains=(self.critic,), loss=self.critic_loss, optimizer=adam, steps=c.critic_steps),
            Phase(name="generator", trains=(self.generator,), loss=self.generator_loss, optimizer=adam),
        )

    def critic_loss(self, batch: Batch) -> tuple[Scalar, Logs]:
        with torch.no_grad():
            fakes = self.generator(batch.latents)
        real = self.critic(batch.images, batch.attributes).mean()
        fake = self.critic(fakes, batch.attributes).mean()
        epsilon = batch.draws.uniform(1, 1, 1)
        between = epsilon * batch.images + (1 - epsilon) * fakes
        penalty = gradient_penalty(lambda images: self.critic(images, batch.attributes), between)
        loss = fake - real + self.config.gp_weight * penalty  # (3)
        return loss, {"loss": loss, "distance": real - fake, "penalty": penalty}

    def generator_loss(self, batch: Batch) -> tuple[Scalar, Logs]:
        loss = -self.critic(self.generator(batch.latents), batch.attributes).mean()
        return loss, {"loss": loss}

    def forward(self, latents: Latents) -> Images:
        return self.generator(latents)


def gradient_penalty(critic: Callable[[Images], Logits], points: Images) -> Scalar:
    """E[(||grad D(x)||₂ - 1)²] at the given points, differentiable in the critic's weights.

    The norm is one image's, over all its pixels and colours; rows must not influence each other inside the critic.
    """
    # The square root's own derivative is infinite at 0, where a dead critic would turn into NaN.
    norms = squared_norms(input_gradient(critic, points)).clamp_min(1e-24).sqrt()
    return (norms - 1).square().mean()


def layer_norm(channels: int) -> nn.Module:
    """Over channels and positions of one image, scale and shift per channel (Ba et al. 2016, arXiv:1607.06450)."""
    return nn.GroupNorm(1, channels)


def instance_norm(channels: int) -> nn.Module:
    """Over the positions of one image and channel, no scale or shift (Ulyanov et al. 2016, arXiv:1607.08022)."""
    return nn.InstanceNorm2d(channels)


def no_norm(channels: int) -> nn.Module:
    return nn.Identity()


NORMS: dict[str, Callable[[int], nn.Module]] = {
    "batch": BatchNorm,
    "layer": layer_norm,
    "instance": instance_norm,
    "none": no_norm,
}
