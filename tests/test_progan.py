"""ProGAN: parameter counts, layers, fades, losses."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limner.data.dataset import Dataset
from limner.errors import LimnerError
from limner.growing import Depth
from limner.latents import Labels
from limner.layers.equalized import Equalized, EqualizedConvolution, EqualizedLinear, EqualizedSeed
from limner.layers.input_gradient import input_gradient, squared_norms
from limner.layers.minibatch_std import minibatch_std
from limner.layers.pixel_norm import pixel_norm
from limner.layers.resampling import doubled, halved, halving_kernel
from limner.models.presets.progan import PRESETS
from limner.models.progan import GAMES, ProGAN, ProGANConfig
from limner.types import Batch, Draws
from test_trainer import make_trainer
from tiny import GROWN, tiny_config

LABELS = Labels(("Male", "Smiling"), np.array([[1, 0], [0, 1], [0, 0]], dtype=bool))


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def tiny(labels: Labels | None = None, **settings: Any) -> Any:
    """A model of 16² in float64 that has grown."""
    torch.manual_seed(0)
    config = tiny_config("progan", **settings)
    model = ProGAN(config, 16, labels or Labels()).double()
    model.set_images_seen(GROWN)
    return model


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# --- parameter counts ------------------------------------------------------------------------------------------------

OFFICIAL = {
    32: (20_719_628, 20_726_785),
    64: (22_490_383, 22_498_049),
    128: (22_933_394, 22_941_313),
    256: (23_044_309, 23_052_353),
    512: (23_072_120, 23_080_225),
    1024: (23_079_115, 23_087_249),
}


@pytest.mark.parametrize("resolution", OFFICIAL)
def test_parameters_of_the_authors_networks(resolution: int) -> None:
    with torch.device("meta"):
        model = ProGAN(ProGANConfig(), resolution)
    assert (count(model.generator), count(model.discriminator)) == OFFICIAL[resolution]


def test_parameters_of_the_networks_of_their_table_1() -> None:
    with torch.device("meta"):
        model = ProGAN(ProGANConfig(fmap_base=2048), 128)
    assert (count(model.generator), count(model.discriminator)) == (13_629_810, 13_636_897)


@pytest.mark.parametrize(
    ("preset", "resolution", "counts"),
    [
        ("s1", 256, (23_044_309, 23_052_353)),
        ("s2", 1024, (23_079_115, 25_444_737)),
        ("s3", 256, (13_636_805, 13_639_313)),
    ],
)
def test_parameters_of_the_re_implementations(preset: str, resolution: int, counts: tuple[int, int]) -> None:
    with torch.device("meta"):
        model = ProGAN(ProGANConfig(**PRESETS[preset].model), resolution)
    assert (count(model.generator), count(model.discriminator)) == counts


# --- layers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", [1, 3, 4])
@pytest.mark.parametrize("equalized", [True, False])
def test_equalized_layers_keep_the_variance_at_the_start(kernel: int, equalized: bool) -> None:
    torch.manual_seed(kernel)
    layer = EqualizedConvolution(96, 128, kernel, gain=1.0, equalized=equalized)
    inside = 1 if kernel == 3 else 0  # a padded border adds up fewer products
    with torch.no_grad():
        y = layer(torch.randn(64, 96, 6, 6))[:, :, inside : 6 - inside, inside : 6 - inside]
    assert float(y.var()) == pytest.approx(1, rel=0.05)
    torch.manual_seed(kernel)
    linear = EqualizedLinear(256, 512, gain=1.0, equalized=equalized)(torch.randn(256, 256))
    assert float(linear.detach().var()) == pytest.approx(1, rel=0.05)


def test_every_layer_of_both_networks_keeps_the_variance_at_the_start() -> None:
    """Each layer alone, fed N(0, 1): unit variance once its gain is divided away."""
    torch.manual_seed(0)
    model = ProGAN(ProGANConfig(fmap_base=2048, fmap_max=128, latent_dim=128), 32)
    seen = 0
    for name, layer in model.named_modules():
        if not isinstance(layer, Equalized):
            continue
        gain = 1.0 if "to_rgb" in name or name.endswith("last") else math.sqrt(2)
        if isinstance(layer, EqualizedSeed):
            gain /= 4  # the authors' constant for it
        sides = () if isinstance(layer, EqualizedLinear | EqualizedSeed) else (8, 8)
        x = torch.randn(400, layer.weight.shape[1], *sides)
        if isinstance(layer, EqualizedConvolution) and layer.sampling == "halving":
            x = doubled(x)  # so that the average is over like pixels
        with torch.no_grad():
            y = layer(x) / gain
        if y.ndim == 4 and layer.weight.shape[2] == 3:
            y = y[:, :, 2:-2, 2:-2]  # at the border, products are of zeros
        # Doubled pixels are not independent, so their weights add up before they are squared, for some outputs more
        # than for others: on average as often as not.
        loose = isinstance(layer, EqualizedConvolution) and (layer.sampling != "same" or layer.weight.shape[0] == 3)
        loose = loose or name.endswith("last") or "from_rgb" in name  # few random weights
        assert float(y.var()) == pytest.approx(1, rel=1.2 if loose else 0.1), name
        seen += 1
    assert seen == 25


def test_pixel_norm_gives_unit_root_mean_square() -> None:
    x = pixel_norm(100 * normal(2, 7, 3, 3))
    assert x.square().mean(dim=1).sub(1).abs().max() < 1e-9
    assert torch.allclose(pixel_norm(torch.zeros(1, 4, 2, 2)), torch.zeros(1, 4, 2, 2))
    assert torch.autograd.gradcheck(pixel_norm, normal(2, 3, 2, 2).requires_grad_())


@pytest.mark.parametrize("count_", [1, 2, 3, 4, 5, 6, 7, 8, 14])
@pytest.mark.parametrize("group", [0, 4])
def test_minibatch_std_takes_batches_of_any_size_and_leaves_them_alone(count_: int, group: int) -> None:
    x = normal(count_, 3, 2, 2)
    kept = x.clone()
    y = minibatch_std(x, group)
    assert torch.equal(x, kept)
    assert torch.equal(y[:, :3], kept)
    size = group or count_
    for low in range(0, count_, size):
        part = x[low : low + size]
        expected = part.var(dim=0, unbiased=False).add(1e-8).sqrt().mean()
        assert torch.allclose(y[low : low + size, 3], expected.expand(len(part), 2, 2))


def test_minibatch_std_is_zero_for_the_same_image_and_its_gradient_is_right() -> None:
    same = normal(1, 3, 4, 4).expand(4, -1, -1, -1)
    assert float(minibatch_std(same)[:, 3].max()) == pytest.approx(1e-4)
    x = normal(6, 2, 2, 2).requires_grad_()
    assert torch.autograd.gradcheck(minibatch_std, x)
    assert torch.autograd.gradgradcheck(minibatch_std, x)
    alone = normal(1, 2, 2, 2).requires_grad_()
    minibatch_std(alone)[:, 2].sum().backward()
    assert alone.grad is not None
    assert bool(alone.grad.isfinite().all())


def test_the_halving_kernel_is_the_two_operations() -> None:
    x, w = normal(2, 3, 6, 6), normal(5, 3, 3, 3, seed=1)
    down = F.conv2d(x, halving_kernel(w), stride=2, padding=1)
    assert (down - halved(F.conv2d(x, w, padding=1))).abs().max() < 1e-12


def test_fused_and_separate_generators_are_the_same_function() -> None:
    fused, separate = tiny(), tiny(fused_scale=False)
    latents = fused.latents.sample(3, torch.Generator().manual_seed(1)).double()
    difference = fused.generator(latents, fused.depth) - separate.generator(latents, separate.depth)
    assert difference.abs().max() < 1e-12


# --- growing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fused", [True, False])
def test_the_ends_of_a_fade_are_exact_in_both_networks(fused: bool) -> None:
    model = tiny(fused_scale=fused, labels=LABELS)
    latents = model.latents.sample(4, torch.Generator().manual_seed(1)).double()
    told = model.latents.split(latents)["attributes"]
    for level in (1, 2):
        below, above = model.generator(latents, Depth(level - 1)), model.generator(latents, Depth(level))
        assert torch.equal(model.generator(latents, Depth(level, 0.0)), doubled(below))
        almost = model.generator(latents, Depth(level, 1 - 1e-12))
        assert (almost - above).abs().max() < 1e-9
        assert not torch.allclose(doubled(below), above)
        images = normal(4, 3, 4 << level, 4 << level)
        judged = model.discriminator(images, Depth(level, 0.0), told)
        assert torch.equal(judged, model.discriminator(halved(images), Depth(level - 1), told))
        almost = model.discriminator(images, Depth(level, 1 - 1e-12), told)
        assert (almost - model.discriminator(images, Depth(level), told)).abs().max() < 1e-9


def test_reals_are_faded_too() -> None:
    model = tiny()
    x = normal(2, 3, 8, 8)
    for alpha, expected in ((0.0, doubled(halved(x))), (0.25, 0.25 * x + 0.75 * doubled(halved(x))), (1.0, x)):
        model.depth = Depth(1, alpha)
        assert torch.allclose(model.faded(x), expected)
    plain = tiny(fade_reals=False)
    plain.depth = Depth(1, 0.25)
    assert torch.equal(plain.faded(x), x)


def test_idle_parts_get_no_gradient_and_no_step(tiny_dataset: Dataset) -> None:
    trainer = make_trainer(tiny_dataset, "progan", settings={"reset_optimizers": False})
    before = {name: p.clone() for name, p in trainer.model.named_parameters()}
    trainer.iteration()  # 4²
    moved = {name for name, p in trainer.model.named_parameters() if not torch.equal(p, before[name])}
    assert {name.rsplit(".", 2)[0] for name in moved} == {
        "generator.blocks.0",
        "generator.to_rgb",
        "discriminator.blocks.0",
        "discriminator.from_rgb",
    }
    assert {name for name in moved if "rgb" in name} == {
        f"{end}.0.{what}" for end in ("generator.to_rgb", "discriminator.from_rgb") for what in ("weight", "bias")
    }
    kept = {name for name in trainer.state()[0] if name.startswith("optimizer")}
    assert kept
    assert all(".0." in name for name in kept)
    trainer.fit(33, lambda logs: None)  # 8² has begun to fade in
    steps = {
        name: int(value) for name, value in trainer.state()[0].items() if name.endswith("generator.to_rgb.1.bias.step")
    }
    assert list(steps.values()) == [3]


def test_optimizers_forget_where_a_level_begins_to_fade_in_and_to_stand_alone(tiny_dataset: Dataset) -> None:
    def steps(**settings: Any) -> list[int]:
        trainer = make_trainer(tiny_dataset, "progan", settings=settings)
        taken: list[int] = []
        bias = "optimizer.generator.generator.blocks.0.convolution.bias.step"
        trainer.fit(80, lambda logs: taken.append(int(trainer.state()[0].get(bias, torch.tensor(0)))))
        return taken

    assert steps() == [1, 0, 1, 0, 1, 0, 1, 0, 1, 2]
    assert steps(reset_optimizers=False) == list(range(1, 11))


def test_the_batch_size_and_the_rate_follow_the_level(tiny_dataset: Dataset) -> None:
    settings = {"batch_sizes": (16, 8, 4), "learning_rates": (0.001, 0.002, 0.004), "reset_optimizers": False}
    trainer = make_trainer(tiny_dataset, "progan", settings=settings)
    clocks, rates = [], []

    def note(logs: Any) -> None:
        clocks.append(trainer.images_seen)
        rates.append(trainer.optimizers["generator"].param_groups[0]["lr"])

    trainer.fit(88, note)
    assert clocks == [16, 24, 32, 40, 48, 52, 56, 60, 64, 68, 72, 76, 80, 84, 88]
    assert rates == [0.001] + [0.002] * 4 + [0.004] * 10


def test_micro_batches_train_what_the_whole_batch_does(tiny_dataset: Dataset) -> None:
    whole, parts = (make_trainer(tiny_dataset, "progan", micro_batch=size) for size in (8, 4))
    for _ in range(10):
        whole.iteration()
        parts.iteration()
    for (name, a), b in zip(whole.model.named_parameters(), parts.model.parameters(), strict=True):
        assert (a - b).abs().max() < 1e-10, name
    with pytest.raises(LimnerError, match=r"micro-batch 3: progan compares 4 images .* a multiple of 4"):
        make_trainer(tiny_dataset, "progan", micro_batch=3)
    with pytest.raises(LimnerError, match=r"compares all images"):
        make_trainer(tiny_dataset, "progan", micro_batch=4, settings={"minibatch_std_group": 0})
    make_trainer(tiny_dataset, "progan", micro_batch=3, settings={"minibatch_std": False})


# --- losses ----------------------------------------------------------------------------------------------------------


def half_square(images: Tensor) -> Tensor:
    """D(x) = ½ ||x||²: its gradient at x is x."""
    return 0.5 * images.square().sum(dim=(1, 2, 3))


def of_norm(norm: float, count_: int, seed: int) -> Tensor:
    x = normal(count_, 3, 4, 4, seed=seed)
    return norm * x / x.flatten(1).norm(dim=1)[:, None, None, None]


def draws(count_: int) -> Draws:
    return Draws(torch.Generator().manual_seed(5), count_, 0, count_, dtype=torch.float64)


def test_the_papers_loss_in_closed_form() -> None:
    """Reals of norm a, fakes 0, so points between have norm (1 - ε) a: all terms are known."""
    a, config = 1.5, ProGANConfig(gp_weight=7.0, drift_weight=0.5)
    reals, fakes = of_norm(a, 64, 1), torch.zeros(64, 3, 4, 4, dtype=torch.float64)
    loss, logs = GAMES["wgan-gp"].discriminator(half_square, reals, fakes, draws(64), config)
    epsilon = draws(64).uniform(1, 1, 1).flatten()
    penalty = (((1 - epsilon) * a - 1) ** 2).mean()
    expected = -0.5 * a**2 + 7 * penalty + 0.5 * (0.5 * a**2) ** 2
    assert float(loss.detach()) == pytest.approx(float(expected), abs=1e-9)
    assert float(logs["margin"]) == pytest.approx(0.5 * a**2)
    assert float(logs["penalty"].detach()) == pytest.approx(float(penalty))
    assert float(GAMES["wgan-gp"].generator(half_square, reals, of_norm(2.0, 64, 2))) == pytest.approx(-2)


def test_the_noisy_least_squares_in_closed_form() -> None:
    reals, fakes = of_norm(2.0, 32, 1), of_norm(1.0, 32, 2)  # judged 2 and 1/2
    config = ProGANConfig(game="least-squares", target_noise=0.3)
    loss, _ = GAMES["least-squares"].discriminator(half_square, reals, fakes, draws(32), config)
    noise = 0.3 * draws(32).normal(2)
    expected = 0.5 * (((1 - noise[:, 0]) ** 2).mean() + ((0.5 - noise[:, 1]) ** 2).mean())
    assert float(loss) == pytest.approx(float(expected))
    assert float(noise.std()) == pytest.approx(0.3, rel=0.2)
    assert float(GAMES["least-squares"].generator(half_square, reals, fakes)) == pytest.approx(0.5 * 0.25)


def test_the_logistic_and_relativistic_games_in_closed_form() -> None:
    reals, fakes = of_norm(2.0, 4, 1), of_norm(1.0, 4, 2)
    config = ProGANConfig(game="logistic", r1_weight=3.0 * 256)  # at 4², a 256th of what it is at 64²
    softplus = lambda x: math.log1p(math.exp(x))  # noqa: E731
    loss, logs = GAMES["logistic"].discriminator(half_square, reals, fakes, draws(4), config)
    assert float(loss) == pytest.approx(softplus(-2) + softplus(0.5) + 1.5 * 4)
    assert float(logs["margin"]) == pytest.approx(1.5)
    assert float(logs["real"]) == pytest.approx(1 / (1 + math.exp(-2)))
    loss, _ = GAMES["relativistic"].discriminator(half_square, reals, fakes, draws(4), config)
    assert float(loss) == pytest.approx(softplus(0.5 - 2) + 1.5 * (4 + 1))
    assert float(GAMES["logistic"].generator(half_square, reals, fakes)) == pytest.approx(softplus(-0.5))
    assert float(GAMES["relativistic"].generator(half_square, reals, fakes)) == pytest.approx(softplus(2 - 0.5))
    none = ProGANConfig(game="logistic")
    loss, _ = GAMES["logistic"].discriminator(half_square, reals, fakes, draws(4), none)
    assert float(loss) == pytest.approx(softplus(-2) + softplus(0.5))


def test_two_batches_of_latents_are_added_up() -> None:
    model = tiny(game="logistic", latent_batches=2, latents="unit-sphere")
    latents = model.latents.sample(8, torch.Generator().manual_seed(1)).double()
    batch = Batch(normal(8, 3, 16, 16), latents, draws(8))
    loss, _ = model.generator_loss(batch)
    more = draws(8).normal(6)
    more = more * 6**0.5 / more.norm(dim=1, keepdim=True)
    judged = [model.discriminator(model.generator(z, model.depth), model.depth) for z in (latents, more)]
    assert float(loss.detach()) == pytest.approx(float(sum(F.softplus(-j).mean() for j in judged).detach()))


@pytest.mark.parametrize("alpha", [0.4, 1.0])
@pytest.mark.parametrize("group", [0, 4])
def test_the_penaltys_gradient_is_autograds(alpha: float, group: int) -> None:
    """Against torch's own layers and double backward, in float64."""
    model = tiny(minibatch_std_group=group, width=6)
    depth, points = Depth(2, alpha), normal(8, 3, 16, 16, seed=3)
    parameters = list(model.discriminator.parameters())

    def slopes_by_torch() -> Tensor:
        x = points.clone().requires_grad_()
        return torch.autograd.grad(by_torch(model.discriminator, x, depth).sum(), x, create_graph=True)[0]

    ours = squared_norms(input_gradient(lambda images: model.discriminator(images, depth), points))
    theirs = squared_norms(slopes_by_torch())
    assert (ours - theirs).abs().max() < 1e-10
    a = torch.autograd.grad((ours.sqrt() - 1).square().mean(), parameters, allow_unused=True)
    b = torch.autograd.grad((theirs.sqrt() - 1).square().mean(), parameters, allow_unused=True)
    for x, y in zip(a, b, strict=True):
        zero = torch.zeros(1, dtype=torch.float64)
        assert ((zero if x is None else x) - (zero if y is None else y)).abs().max() < 1e-8


def by_torch(discriminator: Any, images: Tensor, depth: Depth) -> Tensor:
    """The discriminator with torch's convolutions and leaky ReLU, doubling and halving apart from them."""

    def layer(module: Any, x: Tensor) -> Tensor:
        if isinstance(module, EqualizedLinear):
            return F.linear(x, module.scaled(), module.bias)
        y = F.conv2d(x, module.scaled(), module.bias, padding=module.geometry.padding)
        return F.avg_pool2d(y, 2) if module.sampling == "halving" else y

    def rgb(x: Tensor, level: int) -> Tensor:
        return F.leaky_relu(layer(discriminator.from_rgb[level], x), 0.2)

    x = rgb(images, depth.level)
    for level in range(depth.level, 0, -1):
        block = discriminator.blocks[level]
        x = F.leaky_relu(layer(block.second, F.leaky_relu(layer(block.first, x), 0.2)), 0.2)
        if level == depth.level and depth.fading:
            x = depth.alpha * x + (1 - depth.alpha) * rgb(F.avg_pool2d(images, 2), level - 1)
    last = discriminator.blocks[0]
    x = minibatch_std(x, last.group)
    x = F.leaky_relu(layer(last.dense, F.leaky_relu(layer(last.convolution, x), 0.2)), 0.2).flatten(1)
    return layer(last.last, x).flatten()


# --- settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {"fmap_base": 4},
        {"fmap_max": 0},
        {"batch_sizes": ()},
        {"batch_sizes": (8, 0)},
        {"learning_rates": (0.0,)},
        {"minibatch_std_group": 1},
        {"fade_kimg": -1.0},
        {"minibatch_repeats": 0},
        {"latent_batches": 0},
    ],
)
def test_settings_that_make_no_sense_are_refused_by_name(settings: dict[str, Any]) -> None:
    with pytest.raises(LimnerError, match=f"{next(iter(settings))} is .*expected"):
        ProGAN(ProGANConfig(**settings), 16)


def test_without_growing_all_is_trained_from_the_start() -> None:
    model = ProGAN(tiny_config("progan", grow=False), 16)
    assert model.milestones() == (0,)
    assert model.stage(0).resolution == 16
    assert not model.depth.fading


def test_latents_lie_where_the_preset_says() -> None:
    rng = torch.Generator().manual_seed(0)
    norms = {name: tiny(latents=name).latents.sample(500, rng).norm(dim=1) for name in ("sphere", "gaussian")}
    assert torch.allclose(norms["sphere"], torch.full((500,), 6**0.5))
    assert float(norms["gaussian"].std()) > 0.5
    unit, plain = tiny(latents="unit-sphere"), tiny()
    z = unit.latents.sample(2, rng).double()
    assert torch.allclose(unit.generator(z, unit.depth), plain.generator(z / 6**0.5, plain.depth))
