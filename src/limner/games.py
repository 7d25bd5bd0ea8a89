"""Games that a generator and a discriminator may play: what each of them minimizes.

A judge gives every image [n, 3, r, r] one number [n], more for what it takes to be real; n is the batch, or twice the
batch for reals and fakes. All are means over the batch.
What is logged of all of them is the margin, E[D(x)] - E[D(G(z))]: where it runs away, the discriminator has won.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F

from limner.layers.input_gradient import input_gradient, squared_norms
from limner.types import Draws, Images, Logits, Logs, Scalar

Judge: TypeAlias = Callable[[Images], Logits]


@dataclass(frozen=True)
class Game:
    """Both players' losses; `settings` are the model's."""

    discriminator: Callable[[Judge, Images, Images, Draws, Any], tuple[Scalar, Logs]]
    """of judge, reals, fakes, further randomness and settings"""
    generator: Callable[[Judge, Images, Images], Scalar]
    """of judge, reals and fakes"""


def judged_together(judge: Judge, reals: Images, fakes: Images) -> tuple[Logits, Logits]:
    """What a judge says of both in one pass, so that its scaled weights are kept once."""
    real, fake = judge(torch.cat([reals, fakes])).chunk(2)
    return real, fake


# --- least squares with noisy targets -------------------------------------------------------------------------------


def noisy_squares_discriminator(
    judge: Judge, reals: Images, fakes: Images, draws: Draws, settings: Any
) -> tuple[Scalar, Logs]:
    """½ E[(D(x) - 1 - ν)²] + ½ E[(D(G(z)) - ν')²], ν and ν' ~ N(0, `target_noise`²), one of each an image."""
    real, fake = judged_together(judge, reals, fakes)
    noise = settings.target_noise * draws.normal(2)
    loss = 0.5 * ((real - 1 - noise[:, 0]).square().mean() + (fake - noise[:, 1]).square().mean())
    return loss, {"loss": loss, "real": real.mean(), "fake": fake.mean(), "margin": (real - fake).mean()}


def squares_generator(judge: Judge, reals: Images, fakes: Images) -> Scalar:
    """½ E[(D(G(z)) - 1)²] (Mao et al. 2017, arXiv:1611.04076)."""
    return 0.5 * (judge(fakes) - 1).square().mean()


# --- logistic --------------------------------------------------------------------------------------------------------


def logistic_discriminator(
    judge: Judge, reals: Images, fakes: Images, draws: Draws, settings: Any
) -> tuple[Scalar, Logs]:
    """-E[log σ(D(x))] - E[log(1 - σ(D(G(z))))] (Goodfellow et al. 2014, arXiv:1406.2661), and R1's penalty."""
    real, fake = judged_together(judge, reals, fakes)
    loss = F.softplus(-real).mean() + F.softplus(fake).mean()
    logs = {"real": real.sigmoid().mean(), "fake": fake.sigmoid().mean(), "margin": (real - fake).mean()}
    if settings.r1_weight > 0:
        penalty = zero_centred_penalty(judge, reals)
        loss, logs = loss + _gamma(settings, reals) / 2 * penalty, logs | {"penalty": penalty}
    return loss, {"loss": loss, **logs}


def logistic_generator(judge: Judge, reals: Images, fakes: Images) -> Scalar:
    """-E[log σ(D(G(z)))], the one that does not saturate."""
    return F.softplus(-judge(fakes)).mean()


# --- relativistic ----------------------------------------------------------------------------------------------------


def relativistic_discriminator(
    judge: Judge, reals: Images, fakes: Images, draws: Draws, settings: Any
) -> tuple[Scalar, Logs]:
    """E[softplus(D(G(z)) - D(x))] over pairs of a real and a fake, and zero-centred penalties on both.

    Jolicoeur-Martineau 2018, arXiv:1807.00734, with the penalties of Huang et al. 2024, arXiv:2501.05441 (R3GAN).
    """
    real, fake = judged_together(judge, reals, fakes)
    loss = F.softplus(fake - real).mean()
    logs = {"margin": (real - fake).mean()}
    if settings.r1_weight > 0:
        penalty = zero_centred_penalty(judge, reals) + zero_centred_penalty(judge, fakes)
        loss, logs = loss + _gamma(settings, reals) / 2 * penalty, logs | {"penalty": penalty}
    return loss, {"loss": loss, **logs}


def relativistic_generator(judge: Judge, reals: Images, fakes: Images) -> Scalar:
    """E[softplus(D(x) - D(G(z)))] over the same pairs."""
    return F.softplus(judge(reals) - judge(fakes)).mean()


def zero_centred_penalty(judge: Judge, points: Images) -> Scalar:
    """E[||grad D(x)||²]: R1 at reals, R2 at fakes (Mescheder et al. 2018, arXiv:1801.04406)."""
    return squared_norms(input_gradient(judge, points)).mean()


def _gamma(settings: Any, images: Images) -> float:
    """The penalties' weight at this side, in proportion to its pixels: the gradient's square grows with these."""
    return settings.r1_weight * images.shape[2] * images.shape[3] / 64**2


LEAST_SQUARES = Game(noisy_squares_discriminator, squares_generator)
LOGISTIC = Game(logistic_discriminator, logistic_generator)
RELATIVISTIC = Game(relativistic_discriminator, relativistic_generator)
