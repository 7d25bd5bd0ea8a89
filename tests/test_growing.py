"""When a model grows: the schedule, and the tables of the presets."""

from __future__ import annotations

import itertools
import math

import pytest

from limner.growing import Depth, Schedule, level_of, level_value
from limner.models.presets.progan import PRESETS, half_life_kimg
from limner.models.progan import ProGAN, ProGANConfig, make_schedule

SIDES = (4, 8, 16, 32, 64, 128, 256, 512, 1024)


def schedule(top: int = 3, **changed: int | tuple[int, ...]) -> Schedule:
    settings = {"stable_images": 600, "fade_images": 400, "first_images": 600, "batch_sizes": (10,)}
    return Schedule(top=top, **{**settings, **changed})  # type: ignore[arg-type]


def test_a_level_is_trained_alone_and_the_next_one_is_faded_in() -> None:
    one = schedule()
    told = [one.depth(images) for images in (0, 599, 600, 700, 999, 1000, 1599, 1600, 1800)]
    alphas = [1, 1, 0, 0.25, 0.975, 1, 1, 0, 0.5]
    assert [depth.level for depth in told] == [0, 0, 1, 1, 1, 1, 1, 2, 2]
    assert [depth.alpha for depth in told] == pytest.approx(alphas)
    assert [depth.resolution for depth in told] == [4, 4, 8, 8, 8, 8, 8, 16, 16]
    assert one.depth(3599) == one.depth(10**9) == Depth(3)
    assert one.milestones() == (0, 600, 1000, 1600, 2000, 2600, 3000)
    assert one.end() == 3600


def test_the_fade_is_held_for_some_batches() -> None:
    held = schedule(repeats=4, batch_sizes=(10, 20))
    assert [held.depth(600 + images).alpha for images in (0, 79, 80, 159, 160, 399)] == pytest.approx(
        [0, 0, 0.2, 0.2, 0.4, 0.8]
    )
    assert held.depth(1000) == Depth(1)
    odd = schedule(repeats=4, batch_sizes=(10, 30))
    assert (odd.depth(999).alpha, odd.depth(1000).alpha) == (pytest.approx(0.9), 1), "it ends on time"


def test_the_fade_can_go_in_steps() -> None:
    stepped = schedule(fade_steps=15, fade_images=450)
    shares = [stepped.depth(600 + images).alpha for images in range(450)]
    assert sorted(set(shares)) == pytest.approx([k / 16 for k in range(1, 16)])
    assert shares.count(shares[0]) == 30
    assert stepped.depth(1050) == Depth(1)


def test_no_fade_and_no_time_alone_are_limits() -> None:
    at_once = schedule(fade_images=0)
    assert [at_once.depth(images).level for images in (599, 600, 1199, 1200)] == [0, 1, 1, 2]
    assert not any(at_once.depth(images).fading for images in range(0, 3000, 50))
    always = schedule(stable_images=0, first_images=0)
    assert [always.depth(images).level for images in (0, 399, 400, 1200)] == [1, 1, 2, 3]
    assert schedule(stable_images=0, fade_images=0, first_images=5).depth(5) == Depth(3)
    assert schedule(top=0).depth(10**9) == Depth(0)


def test_levels_and_sides() -> None:
    assert [level_of(side) for side in SIDES] == list(range(9))
    assert [Depth(level).resolution for level in range(9)] == list(SIDES)
    assert [level_value((3, 2, 1), level) for level in (0, 1, 2, 7)] == [3, 2, 1, 1]


# --- the presets, as published ---------------------------------------------------------------------------------------

# Batch per side as in the authors' config.py: a base, and exceptions by side. Learning rates: 0.001 but for these.
OFFICIAL = {
    "paper-1gpu": (16, {256: 14, 512: 6, 1024: 3}, {}, 800, 19000),
    "v2-1gpu": (4, {4: 128, 8: 128, 16: 128, 32: 64, 64: 32, 128: 16, 256: 8, 512: 4}, {1024: 0.0015}, 600, 12000),
    "v2-2gpus": (
        8,
        {4: 256, 8: 256, 16: 128, 32: 64, 64: 32, 128: 16, 256: 8},
        {512: 0.0015, 1024: 0.002},
        600,
        12000,
    ),
    "v2-4gpus": (
        16,
        {4: 512, 8: 256, 16: 128, 32: 64, 64: 32, 128: 16},
        {256: 0.0015, 512: 0.002, 1024: 0.003},
        600,
        12000,
    ),
    "v2-8gpus": (
        32,
        {4: 512, 8: 256, 16: 128, 32: 64, 64: 32},
        {128: 0.0015, 256: 0.002, 512: 0.003, 1024: 0.003},
        600,
        12000,
    ),
}


@pytest.mark.parametrize("name", OFFICIAL)
def test_the_authors_presets_are_their_tables(name: str) -> None:
    base, batches, rates, kimg, total = OFFICIAL[name]
    preset = PRESETS[name]
    config = ProGANConfig(**preset.model)
    for level, side in enumerate(SIDES):
        assert level_value(config.batch_sizes, level) == batches.get(side, base)
        assert level_value(config.learning_rates or (config.learning_rate,), level) == rates.get(side, 0.001)
    assert (config.stable_kimg, config.fade_kimg, preset.run["kimg"]) == (kimg, kimg, total)
    assert preset.run["ema_half_life_kimg"] == half_life_kimg(base)
    assert config.minibatch_std_group == (16 if name == "paper-1gpu" else 4)
    assert (config.beta1, config.beta2, config.minibatch_repeats, config.reset_optimizers) == (0.0, 0.99, 4, True)
    assert 0.5 ** (base / 1000 / half_life_kimg(base)) == pytest.approx(0.999, abs=5e-6)


def by_side(name: str, resolution: int, kimg: float) -> tuple[int, float, int | None]:
    """Side, share of the new level and batch size of a preset after so many thousand images."""
    config = ProGANConfig(**PRESETS[name].model)
    depth = make_schedule(config, resolution).depth(round(kimg * 1000))
    return depth.resolution, depth.alpha, level_value(config.batch_sizes, depth.level)


def test_s1_shows_600_thousand_images_in_every_stage() -> None:
    assert by_side("s1", 256, 599) == (4, 1.0, 16)
    assert by_side("s1", 256, 900) == (8, pytest.approx(0.5, abs=1e-4), 16)
    assert by_side("s1", 256, 1201) == (8, 1.0, 16)
    assert by_side("s1", 256, 600 + 4 * 1200 + 300)[::2] == (128, 4)
    assert by_side("s1", 256, 600 + 3 * 1200 + 300)[::2] == (64, 8)
    config = ProGANConfig(**PRESETS["s1"].model)
    assert make_schedule(config, 256).end() == 7_800_000
    iterations = [600_000 // size for size in config.batch_sizes]
    assert iterations == [37_500, 37_500, 37_500, 37_500, 75_000, 150_000, 150_000]


def test_s2_has_27_epochs_of_30_thousand_in_every_stage() -> None:
    assert by_side("s2", 1024, 27 * 30 - 1) == (4, 1.0, 64)
    assert by_side("s2", 1024, 27 * 30 + 13.5 * 30) == (8, pytest.approx(0.5, abs=1e-4), 64)
    assert by_side("s2", 1024, 27 * 30 * 3) == (16, 0.0, 32)
    assert [by_side("s2", 1024, 810 * (2 * level + 0.01))[2] for level in range(9)] == [64, 64, 32, 32, 16, 16, 8, 8, 4]


def test_s3_fades_in_sixteenths_once_an_epoch() -> None:
    assert by_side("s3", 128, 40 * 30 - 1) == (4, 1.0, 128)
    shares = [by_side("s3", 128, 40 * 30 + epoch * 30 + 15)[1] for epoch in range(16)]
    assert shares == pytest.approx([(epoch + 1) / 16 for epoch in range(16)])
    assert by_side("s3", 128, 80 * 30)[0] == 16, "forty epochs a size"
    assert make_schedule(ProGANConfig(**PRESETS["s3"].model), 128).end() == 6 * 40 * 30_000


def test_the_models_stages_follow_the_schedule() -> None:
    import torch

    with torch.device("meta"):
        model = ProGAN(ProGANConfig(**PRESETS["v2-8gpus"].model), 1024)
    milestones = model.milestones()
    assert len(milestones) == 17
    stages = [model.stage(images) for images in milestones]
    assert [stage.resolution for stage in stages] == [4, *itertools.chain.from_iterable((s, s) for s in SIDES[1:])]
    assert [stage.era for stage in stages] == list(range(1, 18)), "the optimizers forget at every one"
    assert model.images_needed() == 8 * 1_200_000 + 600_000
    model.set_images_seen(milestones[-1])
    assert model.learning_rate_factor() == pytest.approx(3)
    model.set_images_seen(0)
    assert model.learning_rate_factor() == 1
    assert math.isclose(model.phases()[0].rate(), 1)
