"""Every loss against a closed form that a wrong sign, a wrong interpolation or a wrong reduction cannot pass."""

import math

import pytest
import torch
from torch import nn

from limner.models.dcgan import DCGAN, DCGANConfig
from limner.models.wgan_gp import WGANGP, WGANGPConfig, gradient_penalty
from limner.types import Batch, Draws


class Constant(nn.Module):
    """A generator of one picture: `value` everywhere."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor(value, dtype=torch.float64))

    def forward(self, latents):
        return self.value.expand(len(latents), 3, 2, 2)


class Mean(nn.Module):
    """A discriminator: scale x (mean of the picture)."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(scale, dtype=torch.float64))

    def forward(self, images, attributes=None):
        return images.mean(dim=(1, 2, 3)) * self.scale


class HalfSquare(nn.Module):
    """D(x) = half the squared norm of x, whose gradient is x."""

    def forward(self, images, attributes=None):
        return images.flatten(1).square().sum(dim=1) / 2


class Linear(nn.Module):
    """D(x) = w . x"""

    def __init__(self, weights: torch.Tensor) -> None:
        super().__init__()
        self.weights = nn.Parameter(weights)

    def forward(self, images, attributes=None):
        return images.flatten(1) @ self.weights


def batch_of(images: torch.Tensor, seed: int = 0) -> Batch:
    n = len(images)
    draws = Draws(torch.Generator().manual_seed(seed), n, 0, n, dtype=torch.float64)
    return Batch(images, torch.zeros(n, 4, dtype=torch.float64), draws)


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def dcgan(fake: float, scale: float = 1.0) -> DCGAN:
    model = DCGAN(DCGANConfig(latent_dim=4, width=4), 16)
    model.generator, model.discriminator = Constant(fake), Mean(scale)
    return model


def test_dcgan_discriminator_loss():
    images = torch.stack([torch.full((3, 2, 2), v, dtype=torch.float64) for v in (0.5, -1.0)])
    loss, logs = dcgan(fake=0.25, scale=2.0).discriminator_loss(batch_of(images))
    # -log sigmoid(1) and -log sigmoid(-2), averaged, and -log(1 - sigmoid(0.5))
    expected = (softplus(-1.0) + softplus(2.0)) / 2 + softplus(0.5)
    assert float(loss) == pytest.approx(expected, abs=1e-12)
    assert float(logs["real"]) == pytest.approx((sigmoid(1.0) + sigmoid(-2.0)) / 2)
    assert float(logs["fake"]) == pytest.approx(sigmoid(0.5))


def test_dcgan_generator_loss_is_the_non_saturating_one():
    model = dcgan(fake=-3.0)
    loss, _ = model.generator_loss(batch_of(torch.zeros(4, 3, 2, 2, dtype=torch.float64)))
    assert float(loss) == pytest.approx(softplus(3.0), abs=1e-12)
    loss.backward()
    # The derivative of softplus(-v) is -sigmoid(-v): strong where the discriminator is sure, unlike log(1 - D).
    assert float(model.generator.value.grad) == pytest.approx(-sigmoid(3.0), abs=1e-12)


def test_dcgan_discriminator_loss_leaves_the_generator_alone():
    model = dcgan(fake=0.25)
    loss, _ = model.discriminator_loss(batch_of(torch.zeros(2, 3, 2, 2, dtype=torch.float64)))
    loss.backward()
    assert model.generator.value.grad is None
    assert model.discriminator.scale.grad is not None


def wgan_gp(fake: float, critic: nn.Module, gp_weight: float = 10.0) -> WGANGP:
    model = WGANGP(WGANGPConfig(latent_dim=4, width=4, gp_weight=gp_weight), 16)
    model.generator, model.critic = Constant(fake), critic
    return model


def test_gradient_penalty_of_half_square_between_zero_and_norm_c():
    """D(x) = half |x|², reals 0, fakes of norm c: x^ = (1 - e) fake, so E[((1 - e) c - 1)²] = c²/3 - c + 1."""
    n, value = 40000, 0.7
    c = value * math.sqrt(12)
    model = wgan_gp(value, HalfSquare(), gp_weight=3.0)
    loss, logs = model.critic_loss(batch_of(torch.zeros(n, 3, 2, 2, dtype=torch.float64)))
    expected = c * c / 3 - c + 1
    assert float(logs["penalty"]) == pytest.approx(expected, rel=0.02)
    assert float(loss) == pytest.approx(c * c / 2 - 0 + 3.0 * float(logs["penalty"]), rel=1e-12)
    assert float(logs["distance"]) == pytest.approx(-c * c / 2, rel=1e-12)


def test_the_points_of_the_penalty_lie_one_random_step_per_image_between_real_and_fake():
    seen = []

    class Watching(HalfSquare):
        def forward(self, images, attributes=None):
            seen.append(images.detach().clone())
            return super().forward(images)

    reals = torch.full((64, 3, 2, 2), -1.0, dtype=torch.float64)
    wgan_gp(1.0, Watching()).critic_loss(batch_of(reals))
    between = seen[-1]
    assert (between.flatten(1).std(dim=1) < 1e-12).all(), "one step per image, not per pixel"
    steps = between[:, 0, 0, 0]
    assert steps.std() > 0.4, "another step for every image"
    assert (steps >= -1).all()
    assert (steps <= 1).all()


def test_gradient_penalty_of_a_linear_critic_and_its_gradient():
    weights = torch.randn(12, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    critic = Linear(weights)
    points = torch.randn(5, 3, 2, 2, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    penalty = gradient_penalty(critic, points)
    norm = weights.norm()
    assert float(penalty) == pytest.approx(float((norm - 1) ** 2), abs=1e-12)
    penalty.backward()
    torch.testing.assert_close(critic.weights.grad, 2 * (norm - 1) * weights / norm)


def test_gradient_penalty_is_one_norm_per_image_over_all_pixels():
    """Images of different slopes: the mean of squares of (norm - 1), not a norm over the batch or per channel."""
    points = torch.zeros(2, 3, 2, 2, dtype=torch.float64)
    points[0] += 3 / math.sqrt(12)  # norm 3
    points[1, 0, 0, 0] = 0.5  # norm 0.5
    assert float(gradient_penalty(HalfSquare(), points)) == pytest.approx(((3 - 1) ** 2 + (0.5 - 1) ** 2) / 2)


def test_gradient_penalty_of_a_dead_critic_is_one_and_has_finite_gradients():
    critic = Linear(torch.zeros(12, dtype=torch.float64))
    penalty = gradient_penalty(critic, torch.ones(2, 3, 2, 2, dtype=torch.float64))
    assert float(penalty) == pytest.approx(1.0)
    penalty.backward()
    assert bool(critic.weights.grad.isfinite().all())


def test_wgan_gp_losses_have_their_signs():
    reals = torch.full((3, 3, 2, 2), 0.5, dtype=torch.float64)
    model = wgan_gp(-0.25, Mean(2.0), gp_weight=0.0)
    critic, logs = model.critic_loss(batch_of(reals))
    assert float(critic) == pytest.approx(2 * -0.25 - 2 * 0.5, abs=1e-12)
    assert float(logs["distance"]) == pytest.approx(1.5, abs=1e-12)
    generator, _ = model.generator_loss(batch_of(reals))
    assert float(generator) == pytest.approx(0.5, abs=1e-12)


def test_the_penalty_of_the_real_networks_matches_finite_differences():
    """The whole critic with its layer norm: double backward against the numeric derivative of the penalty."""
    torch.manual_seed(0)
    model = WGANGP(WGANGPConfig(latent_dim=4, width=4), 16).double()
    points = torch.rand(2, 3, 16, 16, dtype=torch.float64) * 2 - 1
    weight = model.critic.first.weight
    (exact,) = torch.autograd.grad(gradient_penalty(model.critic, points), weight)
    direction = torch.randn_like(weight)
    step = 1e-6
    with torch.no_grad():
        weight += step * direction
    above = float(gradient_penalty(model.critic, points))
    with torch.no_grad():
        weight -= 2 * step * direction
    below = float(gradient_penalty(model.critic, points))
    assert float((exact * direction).sum()) == pytest.approx((above - below) / (2 * step), rel=1e-4)
