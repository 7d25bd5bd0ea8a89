"""The eight models of generative-models-collection, rebuilt from a description of their training, faults included.

What limner's models are measured against. Common to all, as in the collection's own runs: Adam(1e-4, 0.5, 0.999) for
every network, no schedule, no mirroring, no average of weights, z from N(0, 1); generated images are asked for the
attributes of random rows of the data. Two batches per discriminator step where it is no Wasserstein model (a generator
step on each), five critic steps per generator step where it is.

Faults that change what is trained, and so were rebuilt:
- VAE and VAE-GAN take exp(log-variance) / 2 for the standard deviation, where exp(log-variance / 2) is meant.
- InfoGAN's Q keeps the gradient of the discriminator's step when the generator's side steps.
- WGAN has batch norm in its critic, Adam for its optimizer, and clips before each critic step, so that the generator
  sees a critic one step outside the bounds.
- BEGAN's discriminator bottleneck has no skip connections, and its k moves by 0.001.

Read into the description, where it leaves a choice: sums of VAE and VAE-GAN are over the whole batch too; encoders
start from PyTorch's own weights, wherever they are; BEGAN's k moves after the discriminator's step, by that step's two
losses; InfoGAN's discriminator step contains the information term (there is no stale gradient otherwise), and Q's
gradient is cleared only there, so it is also carried over from one generator step to the next.

Written anew so that it runs on today's PyTorch: VAE-GAN's three losses come from one forward pass, and the collection
steps one network before the next one's backward pass, which is refused now. Here the three gradients are all taken
first, each with respect to its own network, and the steps follow.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from benchmarks.collection_adversarial import (
    BEGAN,
    DCGAN,
    LSGAN,
    WGAN,
    WGANGP,
    Collected,
    InfoGAN,
    Losses,
    minus_log,
)
from benchmarks.collection_networks import Discriminator, Encoder, Size
from torch import Tensor

from limner.errors import LimnerError
from limner.latents import NO_LABELS, Labels


class Encoding(Collected):
    """A model with an encoder: photos have latents, the posterior's mean."""

    encoder: Encoder

    def encode(self, images: Tensor, attributes: Tensor | None = None) -> Tensor:
        """[n, 3, r, r] in [-1, 1], their attributes → [n, d]."""
        if attributes is None:
            raise LimnerError(f"{self.name}: the encoder is told the photos' attributes; give them")
        mean, _ = self.posterior((images + 1) / 2, attributes)
        return self.latents.join({"z": mean, "attributes": attributes})

    def posterior(self, images: Tensor, attributes: Tensor) -> tuple[Tensor, Tensor]:
        """Its mean and log-variance, of images in [0, 1]."""
        mean, log_variance = self.encoder(images, attributes).chunk(2, dim=1)
        return mean, log_variance


class VAE(Encoding):
    name = "vae"

    def __init__(self, size: Size, rows: Tensor, labels: Labels = NO_LABELS) -> None:
        super().__init__(size, rows, labels)
        self.encoder = Encoder(size, 2 * size.latent_dim)
        self.optimizer = self.adam(self.encoder, self.generator)

    def step(self, images: Tensor, attributes: Tensor) -> Losses:
        self.optimizer.zero_grad()
        mean, log_variance = self.posterior(images, attributes)
        made = self.generator(draw_code(mean, log_variance), attributes)
        reconstruction = F.binary_cross_entropy(made, images, reduction="sum") / self.size.numbers
        kl = kl_sum(mean, log_variance) / self.size.numbers
        (reconstruction + kl).backward()
        self.optimizer.step()
        return {"reconstruction": reconstruction.item(), "kl": kl.item()}


class VAEGAN(Encoding):
    """The likeness of reconstructions is that of the discriminator's features."""

    name = "vae-gan"
    batches = 2
    likeness_weight = 0.01

    def __init__(self, size: Size, rows: Tensor, labels: Labels = NO_LABELS) -> None:
        super().__init__(size, rows, labels)
        self.encoder = Encoder(size, 2 * size.latent_dim)
        self.discriminator = Discriminator(size)
        networks = (self.encoder, self.generator, self.discriminator)
        self.optimizers = tuple(self.adam(network) for network in networks)

    def step(self, images: Tensor, attributes: Tensor) -> Losses:
        losses = self.losses(images, attributes)
        stepped = self.optimizers if self.steps % self.batches == 0 else self.optimizers[:2]
        for optimizer, loss in zip(stepped, losses, strict=False):
            own = optimizer.param_groups[0]["params"]
            for parameter, gradient in zip(own, torch.autograd.grad(loss, own, retain_graph=True), strict=True):
                parameter.grad = gradient
        for optimizer in stepped:
            optimizer.step()
        self.steps += 1
        return dict(zip(("encoder", "generator", "discriminator"), (loss.item() for loss in losses), strict=True))

    def losses(self, images: Tensor, attributes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The encoder's, the generator's and the discriminator's, of one forward pass."""
        mean, log_variance = self.posterior(images, attributes)
        made = self.generator(draw_code(mean, log_variance), attributes)
        fakes, asked = self.fakes(len(images))
        features, made_features = (self.discriminator.features(some, attributes) for some in (images, made))
        real, made_real = (self.discriminator.judge(some).sigmoid() for some in (features, made_features))
        fake = self.discriminator(fakes, asked).sigmoid()
        likeness = (features - made_features).square().sum() / self.size.numbers
        return (
            likeness + kl_sum(mean, log_variance) / self.size.numbers,
            minus_log(fake) + minus_log(made_real) + self.likeness_weight * likeness,
            minus_log(real) + minus_log(1 - made_real) + minus_log(1 - fake),
        )


COLLECTION = {model.name: model for model in (DCGAN, LSGAN, WGAN, WGANGP, InfoGAN, BEGAN, VAE, VAEGAN)}


def standard_deviation(log_variance: Tensor) -> Tensor:
    """exp(log-variance) / 2, the collection's fault: 1/2 where it should be 1."""
    return log_variance.exp() / 2


def draw_code(mean: Tensor, log_variance: Tensor) -> Tensor:
    return mean + standard_deviation(log_variance) * torch.randn_like(mean)


def kl_sum(mean: Tensor, log_variance: Tensor) -> Tensor:
    """From N(mean, exp(log-variance)) to N(0, 1), summed over the batch."""
    return -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum()
