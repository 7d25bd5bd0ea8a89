"""Perceptual path length: answers known for linear generators, trimming, rounding, attributes, and the seed."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from limner.errors import DivergedError, LimnerError
from limner.latents import AttributeRows, Gaussian, Labels, LatentSpace, Sphere, Uniform
from limner.metrics.card import Measurement
from limner.metrics.extractors.base import Extractor, Features
from limner.metrics.path_length import _trimmed_mean, perceptual_path_length


class Pixels(Extractor):
    """The pixels themselves as features."""

    name, sha256, width, resize = "pixels", "0" * 64, 48, "none"

    def of_bytes(self, images: Tensor) -> Features:
        return Features(images.flatten(1).float())

    def of_floats(self, images: Tensor) -> Tensor:
        return images.flatten(1)


def paint(width: int, scale: float = 1.0) -> Callable[[Tensor], Tensor]:
    """A linear generator that keeps lengths: scale × z in the first `width` of 48 pixels."""

    def generate(latents: Tensor) -> Tensor:
        empty = latents.new_zeros(len(latents), 48)
        empty[:, :width] = scale * latents
        return empty.reshape(-1, 3, 4, 4)

    return generate


def measure(space: LatentSpace, generate: Callable[[Tensor], Tensor], pairs: int, **rest: object) -> Measurement:
    settings: dict[str, object] = {"dtype": torch.float64, "batch_size": 4096, **rest}
    return perceptual_path_length(generate, space, Pixels(), pairs=pairs, **settings)  # type: ignore[arg-type]


def trimmed_angle_squared(width: int) -> float:
    """E θ² between the 1st and 99th percentile of θ, density ∝ sin^(d-2) θ on [0, π]."""
    theta = (torch.arange(200_000, dtype=torch.float64) + 0.5) * math.pi / 200_000
    density = theta.sin() ** (width - 2)
    share = density.cumsum(0) / density.sum()
    kept = (share >= 0.01) & (share <= 0.99)
    return float((theta[kept] ** 2 * density[kept]).sum() / density[kept].sum())


@pytest.mark.parametrize("width", [2, 3, 30])
def test_a_sphere_seen_undistorted_has_the_angle_squared(width: int) -> None:
    """‖γ'‖ = radius × angle on a great circle, radius² = d."""
    found = measure(LatentSpace(Sphere("z", width)), paint(width), 40_000)
    assert found.value == pytest.approx(width * trimmed_angle_squared(width), rel=0.02)
    assert found.values["noise"] < 1e-4 * found.value


def test_a_scale_counts_squared_whatever_the_step() -> None:
    space = LatentSpace(Gaussian("z", 10))
    one = measure(space, paint(10), 500).value
    assert measure(space, paint(10, scale=3.0), 500).value == pytest.approx(9 * one, rel=1e-9)
    assert measure(space, paint(10), 500, epsilon=1e-5).value == pytest.approx(one, rel=1e-3)


def test_a_box_is_crossed_on_straight_lines() -> None:
    """Uniform in [-1, 1]^d: ‖b - a‖² has mean 2d/3; exactly the mean of the drawn pairs where nothing is trimmed."""
    found = measure(LatentSpace(Uniform("code", 12)), paint(12), 20_000)
    assert found.value == pytest.approx(12 * 2 / 3, rel=0.02)


def test_a_generator_of_one_picture_has_no_length() -> None:
    found = measure(LatentSpace(Gaussian("z", 4)), lambda z: torch.ones(len(z), 3, 4, 4, dtype=z.dtype), 50)
    assert (found.value, found.values["noise"]) == (0, 0)


def test_attributes_do_not_change_on_the_way() -> None:
    """Half-way between two classes is no face of the data; the paths of a conditional model stay in one."""
    rows = np.array([[0, 1], [1, 0], [1, 1]], dtype=bool)
    space = LatentSpace(Gaussian("z", 3), AttributeRows("attributes", 2, Labels(("a", "b"), rows)))
    seen = []

    def generate(latents: Tensor) -> Tensor:
        seen.append(latents[:, 3:])
        return paint(5)(latents)

    measure(space, generate, 40)
    assert {tuple(row) for row in torch.cat(seen).tolist()} == {(0, 1), (1, 0), (1, 1)}


@pytest.mark.parametrize("batch_size", [1, 7, 300])
def test_the_batch_size_changes_nothing(batch_size: int) -> None:
    space = LatentSpace(Gaussian("z", 6), Uniform("code", 2))
    whole, parts = (measure(space, paint(8), 100, batch_size=size) for size in (100, batch_size))
    assert parts.value == pytest.approx(whole.value, rel=1e-9)
    assert measure(space, paint(8), 100, seed=1).value != whole.value


def test_float32_rounding_is_reported() -> None:
    """Pictures on a grey card of 1000 lose digits: the value is too large by about the noise that is reported."""
    space = LatentSpace(Sphere("z", 8))
    true = measure(space, paint(8), 2000)

    def coarse(latents: Tensor) -> Tensor:
        return (1000 + paint(8)(latents)).float()

    found = measure(space, coarse, 2000)
    assert found.values["noise"] > 0.02 * true.value
    assert found.value - true.value == pytest.approx(found.values["noise"], rel=0.5)
    assert true.values["noise"] < 1e-4 * true.value


def test_one_percent_at_each_end_is_left_out() -> None:
    """Of 0 … 1000 the percentiles are 10 and 990 and count; a few values are all kept but for none."""
    values = torch.arange(1001, dtype=torch.float64)
    values[-5:] = 1e9
    assert _trimmed_mean(values) == pytest.approx(500)
    assert _trimmed_mean(torch.tensor([3.0, 5.0])) == 4
    assert _trimmed_mean(torch.tensor([3.0])) == 3


def test_settings_and_refusals() -> None:
    space = LatentSpace(Gaussian("z", 4))
    found = measure(space, paint(4), 10)
    assert (found.extractor, found.extractor_sha256) == ("pixels", "0" * 64)
    assert (found.settings["pairs"], found.settings["epsilon"]) == (10, 1e-4)
    with pytest.raises(LimnerError, match="0 pairs"):
        measure(space, paint(4), 0)
    with pytest.raises(LimnerError, match="epsilon 0"):
        measure(space, paint(4), 5, epsilon=0.0)
    with pytest.raises(DivergedError, match="not finite"):
        measure(space, paint(4, scale=math.nan), 5)
