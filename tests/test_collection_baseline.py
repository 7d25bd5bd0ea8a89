"""The rebuilt collection: its sizes, and every fault that was rebuilt with it."""

from __future__ import annotations

import copy
import math
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import collection_models, collection_networks
from benchmarks.collection_models import BEGAN, COLLECTION, DCGAN, LSGAN, VAE, VAEGAN, WGAN, WGANGP, InfoGAN
from benchmarks.collection_networks import Discriminator, Encoder, Generator, Size

from limner.errors import LimnerError

TINY = Size(8, 5, 3, 16)
PUBLISHED = Size(128, 88, 40, 64)
PARAMETERS = {
    "dcgan": 23_909_265,
    "lsgan": 23_909_265,
    "wgan": 23_909_265,
    "wgan-gp": 23_905_841,
    "infogan": 26_257_961,
    "began": 39_118_952,
    "vae": 26_013_120,
    "vae-gan": 36_805_201,
}


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def rows(n: int = 8, attributes: int = 3) -> Tensor:
    return torch.randint(0, 2, (n, attributes)).float()


def fixed(function: Callable[..., Tensor]) -> nn.Module:
    """A network that is a function."""
    network = nn.Module()
    network.forward = function  # type: ignore[method-assign]
    return network


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def weights(module: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()])


@pytest.mark.parametrize("name", COLLECTION)
def test_parameter_counts_are_the_published_ones(name: str) -> None:
    with torch.device("meta"):
        model = COLLECTION[name](PUBLISHED, torch.zeros(1, 40))
    assert count(model) == PARAMETERS[name]


def test_parameter_counts_of_the_parts() -> None:
    small = Size(64, 128, 40, 64)
    with torch.device("meta"):
        found = [
            (count(Generator(size)), count(Discriminator(size)), count(Encoder(size, size.latent_dim)))
            for size in (PUBLISHED, small)
        ]
    assert found == [(13_117_184, 10_792_081, 12_884_584), (4_133_760, 2_643_409, 3_168_016)]


@pytest.mark.parametrize("resolution", [16, 32, 64, 128])
def test_every_side_is_made_and_judged(resolution: int) -> None:
    size = Size(4, 5, 3, resolution)
    images = Generator(size)(torch.randn(2, 5), rows(2))
    assert images.shape == (2, 3, resolution, resolution)
    assert images.min() >= 0
    assert images.max() <= 1
    discriminator = Discriminator(size)
    asked = rows(2)
    assert discriminator(images, asked).shape == (2,)
    assert not torch.equal(discriminator(images, asked), discriminator(images, 1 - asked))


def test_a_width_without_room_for_the_attributes_is_refused() -> None:
    with pytest.raises(LimnerError, match="too few features for 40 attributes"):
        Discriminator(Size(20, 5, 40, 64))


def test_the_encoder_sees_minus_one_and_one(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []
    plain = collection_networks._with_planes
    monkeypatch.setattr(collection_networks, "_with_planes", lambda f, a: (seen.append(a), plain(f, a))[1])
    asked = torch.tensor([[0.0, 1.0, 1.0], [1.0, 0.0, 1.0]])
    Encoder(TINY, 5)(torch.rand(2, 3, 16, 16), asked)
    Discriminator(TINY)(torch.rand(2, 3, 16, 16), asked)
    assert torch.equal(seen[0], torch.tensor([[-1.0, 1, 1], [1, -1, 1]]))
    assert torch.equal(seen[1], asked)


def test_only_some_networks_start_from_narrow_normals() -> None:
    """A convolution of 32 channels starts within ±1/√512 by PyTorch's default: uniform, so with deviation 0.0255."""
    size = Size(32, 5, 3, 16)

    def narrow(module: nn.Module) -> bool:
        layer = max((m for m in module.modules() if isinstance(m, nn.Conv2d)), key=lambda m: m.weight.numel())
        bound = 1 / math.sqrt(layer.weight[0].numel())
        return layer.weight.abs().max().item() > 1.5 * bound  # a normal goes beyond, a uniform draw cannot

    drawn = {name: narrow(COLLECTION[name](size, rows()).discriminator) for name in COLLECTION if name != "vae"}
    assert drawn == {
        "dcgan": True,
        "lsgan": True,
        "wgan": False,
        "wgan-gp": False,
        "infogan": True,
        "began": False,
        "vae-gan": False,
    }
    assert not narrow(VAE(size, rows()).encoder)


@pytest.mark.parametrize("name", COLLECTION)
def test_adam_and_its_settings_everywhere(name: str) -> None:
    model = COLLECTION[name](TINY, rows())
    stepped = {id(weight) for o in model.every_optimizer for group in o.param_groups for weight in group["params"]}
    assert stepped == set(map(id, model.parameters()))
    for optimizer in model.every_optimizer:
        assert type(optimizer) is torch.optim.Adam
        assert (optimizer.defaults["lr"], optimizer.defaults["betas"]) == (1e-4, (0.5, 0.999))


@pytest.mark.parametrize("name", COLLECTION)
def test_nothing_moves_at_a_learning_rate_of_nought(name: str) -> None:
    model = COLLECTION[name](TINY, rows())
    for parameter in model.parameters():
        parameter.data.clamp_(-0.01, 0.01)  # as WGAN's step would
    before = weights(model)
    model.set_learning_rate(0.0)
    for _ in range(model.batches):
        model.step(torch.rand(4, 3, 16, 16), rows(4))
    assert torch.equal(weights(model), before)


def test_dcgan_losses() -> None:
    model = DCGAN(TINY, rows())
    real, fake = torch.tensor([0.0, 0.0]), torch.tensor([math.log(3)])  # D = 1/2 and 3/4
    assert model.discriminator_loss(real, fake).item() == pytest.approx(math.log(2) + math.log(4))
    assert model.generator_loss(fake).item() == pytest.approx(math.log(4 / 3))
    assert model.generator_loss(torch.tensor([-1e4])).item() == pytest.approx(-math.log(1e-8))


def test_lsgan_calls_the_real_ones_minus_one() -> None:
    model = LSGAN(TINY, rows())
    minus, none, one = (torch.tensor([value]) for value in (-1.0, 0.0, 1.0))
    assert model.discriminator_loss(minus, one).item() == 0
    assert model.discriminator_loss(one, minus).item() == 4
    assert model.generator_loss(none).item() == 0
    assert model.generator_loss(minus).item() == 0.5


def test_wgan_clips_before_each_critic_step_and_not_after() -> None:
    model = WGAN(TINY, rows())
    assert any(isinstance(module, nn.BatchNorm2d) for module in model.discriminator.modules())
    clipped = copy.deepcopy(model.discriminator)
    for parameter in clipped.parameters():
        parameter.data.clamp_(-0.01, 0.01)
    model.step_discriminator(torch.rand(4, 3, 16, 16), rows(4))
    moved = (weights(model.discriminator) - weights(clipped)).abs()
    assert 0 < moved.max() <= 1.001e-4  # Adam's first step, from the clipped weights
    assert weights(model.discriminator).abs().max() > 0.01


def test_wasserstein_models_take_five_critic_steps_and_the_others_two_generator_steps() -> None:
    for name, steps in {"wgan": "ddddd g", "wgan-gp": "ddddd g", "dcgan": "d gg", "infogan": "d gg"}.items():
        model, taken = COLLECTION[name](TINY, rows()), []
        model.step_discriminator = lambda *_, taken=taken: taken.append("d") or {}  # type: ignore[method-assign]
        model.step_generator = lambda *_, taken=taken: taken.append("g") or {}  # type: ignore[method-assign]
        for _ in range(model.batches):
            model.step(torch.zeros(2, 3, 16, 16), rows(2))
        assert "".join(sorted(taken)) == steps.replace(" ", "")
        assert taken[0] == "d"


def test_gradient_penalty_of_a_linear_critic() -> None:
    model = WGANGP(TINY, rows())
    assert not any(isinstance(module, nn.BatchNorm2d) for module in model.discriminator.modules())

    class Linear(nn.Module):
        def forward(self, images: Tensor, attributes: Tensor) -> Tensor:
            return 3 * images[:, 0, 0, 0] + 4 * images[:, 2, 1, 1] + attributes.sum()

    model.discriminator = Linear()
    found = model.penalty(torch.rand(4, 3, 16, 16), torch.rand(4, 3, 16, 16), rows(4))
    assert found.item() == pytest.approx(10 * (5 - 1) ** 2)


def test_fakes_are_asked_for_rows_of_the_data() -> None:
    only = torch.tensor([[1.0, 0.0, 1.0]])
    assert torch.equal(DCGAN(TINY, only).fakes(4)[1], only.expand(4, 3))


def test_infogan_steps_q_along_a_stale_gradient() -> None:
    model = InfoGAN(TINY, rows())
    model.step_discriminator(torch.rand(4, 3, 16, 16), rows(4))
    stale = [parameter.grad.clone() for parameter in model.q.parameters()]
    before = weights(model.q)
    clean = copy.deepcopy(model)
    clean.q.zero_grad()
    state = torch.get_rng_state()
    model.step_generator(4)
    torch.set_rng_state(state)
    clean.step_generator(4)
    norms = [gradient.norm().item() for gradient in stale]
    assert max(norms) > 0
    for total, left, own in zip(model.q.parameters(), stale, clean.q.parameters(), strict=True):
        assert torch.allclose(total.grad, left + own.grad, atol=1e-7)
    assert not torch.equal(weights(model.q), before)


def test_infogan_discriminator_step_leaves_q_and_the_generator() -> None:
    model = InfoGAN(TINY, rows())
    before = weights(model.q), weights(model.generator)
    model.step_discriminator(torch.rand(4, 3, 16, 16), rows(4))
    assert torch.equal(weights(model.q), before[0])
    assert torch.equal(weights(model.generator), before[1])


def test_infogan_is_not_conditional() -> None:
    model = InfoGAN(TINY, rows())
    assert "attributes" not in model.latents
    assert model.code_parts == ("codes",)


def test_began_moves_k_by_a_thousandth_and_keeps_it_between_0_and_1() -> None:
    model = BEGAN(TINY, rows())
    model.balance(real=0.4, fake=0.1)
    assert model.k == pytest.approx(0.001 * (0.5 * 0.4 - 0.1))
    model.balance(real=0.0, fake=1.0)
    assert model.k == 0
    model.k = 1.0
    model.balance(real=1.0, fake=0.0)
    assert model.k == 1


def test_began_losses() -> None:
    model = BEGAN(TINY, rows())
    model.discriminator = type(
        "Half", (nn.Module,), {"forward": lambda self, images, _: torch.full_like(images, 0.5)}
    )()
    assert model.error(torch.full((2, 3, 16, 16), 0.75), rows(2)).item() == 0.25


def test_began_discriminator_is_an_encoder_and_a_generator() -> None:
    model = BEGAN(TINY, rows())
    assert isinstance(model.discriminator.encoder, Encoder)
    assert isinstance(model.discriminator.decoder, Generator)
    assert model.discriminator.decoder is not model.generator


def test_the_standard_deviation_is_half_the_variance() -> None:
    found = collection_models.standard_deviation(torch.tensor([0.0, 2.0]))
    assert found.tolist() == pytest.approx([0.5, math.exp(2) / 2])
    drawn = collection_models.draw_code(torch.full((100_000,), 3.0), torch.zeros(100_000))
    assert drawn.mean().item() == pytest.approx(3.0, abs=0.01)
    assert drawn.std().item() == pytest.approx(0.5, abs=0.01)


def test_vae_losses() -> None:
    model = VAE(TINY, rows())
    learnt = nn.Parameter(torch.zeros(()))
    mean = torch.tensor([[1.0, 0, 0, 0, 0]]).expand(4, 5)
    model.encoder = fixed(lambda *_: torch.cat([mean, torch.zeros(4, 5)], dim=1))
    model.generator = fixed(lambda *_: torch.full((4, 3, 16, 16), 0.5) + learnt)
    losses = model.step(torch.rand(4, 3, 16, 16), rows(4))
    assert losses["reconstruction"] == pytest.approx(4 * math.log(2))  # summed over the batch, divided by 3 · 16²
    assert losses["kl"] == pytest.approx(4 * 0.5 / 768)


def test_an_encoded_photo_has_the_posteriors_mean_and_its_attributes() -> None:
    model = VAE(TINY, rows()).eval()
    images, asked = torch.rand(4, 3, 16, 16), rows(4)
    z, attributes = model.encode(2 * images - 1, asked).split([5, 3], dim=1)
    assert torch.allclose(z, model.encoder(images, asked)[:, :5], atol=1e-6)
    assert torch.equal(attributes, asked)


def test_vae_gan_steps_its_discriminator_every_second_time() -> None:
    model = VAEGAN(TINY, rows())
    changed = []
    for _ in range(4):
        before = [weights(part) for part in (model.encoder, model.generator, model.discriminator)]
        model.step(torch.rand(4, 3, 16, 16), rows(4))
        after = [weights(part) for part in (model.encoder, model.generator, model.discriminator)]
        changed.append([not torch.equal(a, b) for a, b in zip(before, after, strict=True)])
    assert changed == [[True, True, True], [True, True, False]] * 2


def test_vae_gan_gradients_are_all_of_the_same_weights() -> None:
    """Adam's first step is the learning rate against the gradient's sign: whose sign, is checked for each network."""
    model = VAEGAN(TINY, rows())
    still = copy.deepcopy(model)
    images, asked = torch.rand(4, 3, 16, 16), rows(4)
    state = torch.get_rng_state()
    model.step(images, asked)
    torch.set_rng_state(state)
    losses = still.losses(images, asked)
    for part, loss in zip(("encoder", "generator", "discriminator"), losses, strict=True):
        own, moved = list(getattr(still, part).parameters()), list(getattr(model, part).parameters())
        gradients = torch.autograd.grad(loss, own, retain_graph=True)
        for old, new, gradient in zip(own, moved, gradients, strict=True):
            clear = gradient.abs() > 1e-6
            assert torch.allclose((new - old)[clear], -1e-4 * gradient.sign()[clear], atol=1e-5)


def test_vae_gan_likeness_has_a_hundredth_of_a_say_in_the_generator() -> None:
    model = VAEGAN(TINY, rows())
    images, asked = torch.rand(4, 3, 16, 16), rows(4)
    state = torch.get_rng_state()
    with torch.no_grad():
        _, with_likeness, _ = model.losses(images, asked)
        model.likeness_weight = 0.0
        torch.set_rng_state(state)
        encoder, without, _ = model.losses(images, asked)
        mean, log_variance = model.encoder(images, asked).chunk(2, dim=1)
    likeness = encoder - collection_models.kl_sum(mean, log_variance) / 768
    assert (with_likeness - without).item() == pytest.approx(0.01 * likeness.item(), rel=1e-3)
