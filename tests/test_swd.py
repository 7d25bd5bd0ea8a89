"""Sliced Wasserstein distance: closed forms, a slow float64 reference, and what it sees and does not."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from limner.errors import LimnerError, ResourceError
from limner.metrics import swd as module
from limner.metrics.images import check_images
from limner.metrics.pyramid import expand, laplacian_pyramid, levels, shrink
from limner.metrics.swd import SWD, Descriptors, draw_directions, gather_patches, normalize, sliced_wasserstein, swd


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def blobs(count: int, resolution: int, seed: int, low: int = 60, high: int = 190) -> Tensor:
    """Smooth random pictures: bytes between low and high."""
    coarse = torch.rand(count, 3, 5, 5, generator=generator(seed))
    smooth = torch.nn.functional.interpolate(coarse, resolution, mode="bicubic", align_corners=True).clamp(0, 1)
    return (low + (high - low) * smooth).round().byte().permute(0, 2, 3, 1).contiguous()


def noisy(images: Tensor, deviation: float, seed: int = 9) -> Tensor:
    noise = torch.randn(images.shape, generator=generator(seed))
    return (images + deviation * noise).round().clamp(0, 255).byte()


# --- the distance of two point sets ---


def test_identical_point_sets_are_at_zero_in_any_order() -> None:
    points = torch.randn(500, 12, generator=generator())
    directions = draw_directions(64, 12, generator(1))
    assert sliced_wasserstein(points, points, directions) == 0
    shuffled = points[torch.randperm(500, generator=generator(2))]
    assert sliced_wasserstein(points, shuffled, directions) < 1e-6


def test_a_shift_costs_its_projection() -> None:
    points = torch.randn(400, 12, generator=generator(), dtype=torch.float64)
    shift = torch.linspace(-2, 3, 12, dtype=torch.float64)
    directions = draw_directions(64, 12, generator(1)).double()
    expected = float((directions @ shift).abs().mean())
    assert sliced_wasserstein(points, points + shift, directions) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("size", [2, 3, 147])
def test_the_mean_over_the_sphere_is_the_closed_form(size: int) -> None:
    """E|θ·δ| = ‖δ‖ Γ(d/2) / (√π Γ((d+1)/2)): 2/π of ‖δ‖ in the plane, half of it in space."""
    factor = math.exp(math.lgamma(size / 2) - math.lgamma((size + 1) / 2)) / math.sqrt(math.pi)
    if size < 4:
        assert factor == pytest.approx({2: 2 / math.pi, 3: 0.5}[size])
    points = torch.randn(20, size, generator=generator())
    shift = torch.randn(size, generator=generator(1))
    found = sliced_wasserstein(points, points + shift, draw_directions(40_000, size, generator(2)))
    assert found == pytest.approx(float(shift.norm()) * factor, rel=0.02)


def test_scaling_symmetry_and_triangle() -> None:
    a, b, c = (torch.randn(300, 6, generator=generator(i)) * (i + 1) for i in range(3))
    directions = draw_directions(50, 6, generator(3))
    ab = sliced_wasserstein(a, b, directions)
    assert ab > 0.1
    assert sliced_wasserstein(b, a, directions) == pytest.approx(ab, rel=1e-6)
    assert sliced_wasserstein(3 * a, 3 * b, directions) == pytest.approx(3 * ab, rel=1e-5)
    assert sliced_wasserstein(a, c, directions) <= ab + sliced_wasserstein(b, c, directions) + 1e-6


def test_gaussians_of_two_widths() -> None:
    """Along every direction N(0,1) and N(0,4) are at E|Z| (2 - 1) = √(2/π)."""
    points = torch.randn(100_000, 3, generator=generator())
    other = 2 * torch.randn(100_000, 3, generator=generator(1))
    found = sliced_wasserstein(points, other, draw_directions(16, 3, generator(2)))
    assert found == pytest.approx(math.sqrt(2 / math.pi), rel=0.02)


def test_directions_are_unit_and_point_everywhere() -> None:
    directions = draw_directions(20_000, 5, generator())
    torch.testing.assert_close(directions.norm(dim=1), torch.ones(20_000))
    assert directions.mean(0).abs().max() < 0.02
    torch.testing.assert_close(directions.T @ directions / 20_000, torch.eye(5) / 5, atol=0.01, rtol=0)


# --- pyramid and patches ---


def reference_blur(image: np.ndarray) -> np.ndarray:
    """5×5 binomial filter of [h, w], one pixel at a time; mirrored about the edge pixels."""
    taps = np.array([1, 4, 6, 4, 1]) / 16
    padded = np.pad(image, 2, mode="reflect")
    h, w = image.shape
    return np.array([[(np.outer(taps, taps) * padded[y : y + 5, x : x + 5]).sum() for x in range(w)] for y in range(h)])


def reference_pyramid(image: np.ndarray) -> list[np.ndarray]:
    pyramid = [image]
    while len(pyramid[-1]) > 16:
        smaller = reference_blur(pyramid[-1])[::2, ::2]
        spread = np.zeros(pyramid[-1].shape)
        spread[::2, ::2] = smaller
        pyramid[-1] = pyramid[-1] - 4 * reference_blur(spread)
        pyramid.append(smaller)
    return pyramid


def test_the_pyramid_agrees_with_a_loop_and_adds_up_again() -> None:
    images = torch.rand(2, 3, 64, 64, generator=generator(), dtype=torch.float64) * 255
    pyramid = laplacian_pyramid(images)
    assert [level.shape[-1] for level in pyramid] == [64, 32, 16]
    for level, expected in zip(pyramid, reference_pyramid(images[1, 2].numpy()), strict=True):
        np.testing.assert_allclose(level[1, 2].numpy(), expected, atol=1e-10)
    again = pyramid[-1]
    for level in reversed(pyramid[:-1]):
        again = expand(again) + level
    torch.testing.assert_close(again, images)


def test_flat_images_pass_the_filters_unchanged() -> None:
    flat = torch.full((1, 3, 32, 32), 77.0)
    assert (shrink(flat) == 77).all()
    assert (expand(flat) == 77).all()


def test_levels() -> None:
    assert levels(16) == (16,)
    assert levels(32) == (32, 16)
    assert levels(128) == (128, 64, 32, 16)
    assert levels(1024) == (1024, 512, 256, 128, 64, 32, 16)


def test_patches_are_the_pixels_at_their_corners() -> None:
    images = torch.arange(2 * 3 * 16 * 16, dtype=torch.float32).view(2, 3, 16, 16)
    corners = torch.tensor([[[0, 0], [9, 9], [4, 2]], [[9, 0], [0, 9], [1, 1]]])
    patches = gather_patches(images, corners).view(2, 3, 3, 7, 7)
    for i in range(2):
        for p in range(3):
            y, x = corners[i, p].tolist()
            assert torch.equal(patches[i, p], images[i, :, y : y + 7, x : x + 7])


def test_places_reach_every_corner_and_depend_on_no_batch() -> None:
    """At 16² a 7×7 patch has 10×10 places; 128 patches of 60 images find all of them."""
    rows, columns = torch.meshgrid(torch.arange(16), torch.arange(16), indexing="ij")
    images = torch.stack([rows, columns, rows], dim=-1).byte().expand(60, -1, -1, -1)
    whole, parts = Descriptors(16, 60, 0), Descriptors(16, 60, 0)
    whole.add(images)
    for some in images.split(7):
        parts.add(some)
    first = whole._patches[16].view(-1, 3, 49)[:, :2, 0].long()
    assert torch.equal(first.unique(dim=0), torch.cartesian_prod(torch.arange(10), torch.arange(10)))
    assert torch.equal(first, parts._patches[16].view(-1, 3, 49)[:, :2, 0].long())


def test_patches_are_normalised_per_channel_over_the_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_ROWS_AT_ONCE", 77)  # so that a set of 500 takes several chunks
    raw = torch.randn(500, 3, 49, generator=generator()) * torch.tensor([1, 5, 20])[:, None] + 100
    done = normalize(raw.clone().flatten(1)).view(500, 3, 49)
    channels = raw.double()
    expected = (channels - channels.mean((0, 2), keepdim=True)) / channels.std((0, 2), correction=0, keepdim=True)
    torch.testing.assert_close(done.double(), expected, atol=1e-4, rtol=0)


# --- the whole metric ---


def reference_swd(reals: np.ndarray, fakes: np.ndarray, seed: int) -> list[float]:
    """As the paper has it, in float64 and loops, with the places and directions that limner draws."""
    side = reals.shape[1]
    sides = [s for s in (128, 64, 32, 16) if s <= side]
    places = torch.rand((len(reals), len(sides), 128, 2), generator=generator(2 * seed), dtype=torch.float64).numpy()
    draws = generator(2 * seed + 1)
    distances = []
    for k, s in enumerate(sides):
        sets = []
        for images in (reals, fakes):
            patches = []
            for i, image in enumerate(images):
                level = np.stack([reference_pyramid(image[..., c].astype(np.float64))[k] for c in range(3)])
                for v, u in places[i, k]:
                    y, x = int(v * (s - 6)), int(u * (s - 6))
                    patches.append(level[:, y : y + 7, x : x + 7])
            stack = np.array(patches)
            stack -= stack.mean((0, 2, 3), keepdims=True)
            stack /= stack.std((0, 2, 3), keepdims=True)
            sets.append(stack.reshape(len(stack), -1))
        theta = torch.randn(512, 147, generator=draws, dtype=torch.float64).numpy()
        theta /= np.sqrt((theta**2).sum(1, keepdims=True))
        first, second = (np.sort(points @ theta.T, axis=0) for points in sets)
        distances.append(1e3 * np.abs(first - second).mean())
    return distances


def test_agrees_with_the_slow_reference() -> None:
    reals, fakes = blobs(3, 32, 0), noisy(blobs(3, 32, 1), 4)
    found = swd(reals, fakes, seed=5)
    expected = reference_swd(reals.numpy(), fakes.numpy(), 5)
    assert list(found.values) == ["level_32", "level_16"]
    assert list(found.values.values()) == pytest.approx(expected, rel=1e-5)
    assert found.value == pytest.approx(np.mean(expected), rel=1e-5)


def test_identical_sets_are_at_zero_and_a_new_order_is_near() -> None:
    """Places belong to positions in the set, so the same images in another order give other patches of them."""
    images = blobs(60, 32, 0)
    assert swd(images, images).value == 0
    shuffled = swd(images, images.flip(0)).value
    assert 0 < shuffled < 0.5 * swd(images, blobs(60, 32, 1)).value


def test_symmetric_and_deterministic_and_free_of_the_batch_size() -> None:
    reals, fakes = blobs(20, 32, 0), blobs(20, 32, 1)
    value = swd(reals, fakes).value
    assert swd(reals, fakes).value == value
    assert swd(fakes, reals).value == pytest.approx(value, rel=1e-9)
    assert swd(reals, fakes, seed=1).value != value
    for batch_size in (1, 3, 20, 64):
        assert swd(reals, fakes, batch_size=batch_size).value == pytest.approx(value, rel=1e-6)


def test_brightness_and_contrast_of_a_whole_channel_are_invisible() -> None:
    images = blobs(16, 32, 0, low=0, high=90)
    tinted = (images * torch.tensor([2, 1, 2], dtype=torch.uint8)) + torch.tensor([0, 50, 30], dtype=torch.uint8)
    assert swd(images, tinted).value < 1e-3
    half = images.clone()
    half[:8] += 50  # of half the images it is not: a difference within the set
    assert swd(images, half).value > 10


def test_more_noise_and_more_blur_are_further_away() -> None:
    images = noisy(blobs(40, 32, 0), 5, seed=1)
    noise = [swd(images, noisy(images, deviation)).values["level_32"] for deviation in (0, 3, 10, 30)]
    assert noise == sorted(noise)
    assert noise[1] > 1
    blurred = [images.permute(0, 3, 1, 2).float()]
    for _ in range(3):
        blurred.append(torch.nn.functional.avg_pool2d(blurred[-1], 3, 1, 1, count_include_pad=False))
    blur = [swd(images, x.round().byte().permute(0, 2, 3, 1)).values["level_32"] for x in blurred]
    assert blur == sorted(blur)
    assert blur[1] > 1


def test_a_generator_with_one_face_is_far_and_a_flat_one_is_finite() -> None:
    reals = blobs(40, 32, 0)
    fresh = swd(reals, blobs(40, 32, 1)).value
    assert swd(reals, reals[:1].expand(40, -1, -1, -1)).value > 2 * fresh
    flat = swd(reals, torch.full_like(reals, 128)).value
    assert math.isfinite(flat)
    assert flat > 2 * fresh


@pytest.mark.parametrize(
    ("images", "remedy"),
    [
        (torch.rand(2, 3, 16, 16), "to_bytes"),
        (torch.rand(2, 16, 16, 3) * 255, "to_bytes"),
        (torch.zeros(2, 16, 16, 3, dtype=torch.int32), "to_bytes"),
        (torch.zeros(2, 3, 16, 16, dtype=torch.uint8), "permute"),
        (torch.zeros(2, 16, 16, 1, dtype=torch.uint8), "expand"),
        (torch.zeros(2, 16, 16, dtype=torch.uint8), "expand"),
        (torch.zeros(2, 16, 16, 4, dtype=torch.uint8), "alpha"),
        (torch.zeros(16, 16, 3, dtype=torch.uint8), r"images\[None\]"),
        (torch.zeros(0, 16, 16, 3, dtype=torch.uint8), "at least one"),
        (torch.zeros(2, 16, 32, 3, dtype=torch.uint8), "square"),
        (torch.zeros(2, 8, 8, 3, dtype=torch.uint8), "at least 16²"),
        (torch.zeros(2, 48, 48, 3, dtype=torch.uint8), "power of two"),
    ],
)
def test_anything_but_bytes_with_channels_last_is_refused_with_the_remedy(images: Tensor, remedy: str) -> None:
    good = blobs(2, 16, 0)
    for pair in ((images, good), (good, images)):
        with pytest.raises(LimnerError, match=remedy) as caught:
            swd(*pair)
        assert "\n" not in str(caught.value)
    with pytest.raises(LimnerError, match="from_numpy"):
        check_images(good.numpy())


def test_unequal_sets_are_refused() -> None:
    with pytest.raises(LimnerError, match=r"4 reals and 3 fakes.*equal"):
        swd(blobs(4, 16, 0), blobs(3, 16, 0))
    with pytest.raises(LimnerError, match="reals are 32² and fakes 16²"):
        swd(blobs(2, 32, 0), blobs(2, 16, 0))
    metric = SWD(16, 4, 0)
    metric.add_reals(blobs(4, 16, 0))
    metric.add_fakes(blobs(3, 16, 0))
    with pytest.raises(LimnerError, match="3 of 4 images"):
        metric.result()
    with pytest.raises(LimnerError, match="raise count"):
        metric.add_fakes(blobs(2, 16, 0))


def test_more_patches_than_memory_is_said_before_the_first_image() -> None:
    with pytest.raises(ResourceError, match=r"GB of memory.*at most \d+"):
        SWD(1024, 10**9, 0)


def test_poll_can_stop_the_sums() -> None:
    metric = SWD(16, 2, 0)
    metric.add_reals(blobs(2, 16, 0))
    metric.add_fakes(blobs(2, 16, 1))

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        metric.result(stop)
