"""MS-SSIM: a slow float64 reference at every size, torchmetrics where it does the same, and pairs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torchmetrics.functional.image import (
    multiscale_structural_similarity_index_measure,
    structural_similarity_index_measure,
)

from limner.errors import LimnerError
from limner.metrics.ms_ssim import MSSSIM, WEIGHTS, PairScores, ms_ssim, ms_ssim_of_pairs, window


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def smooth(count: int, resolution: int, seed: int, noise: float = 8.0) -> Tensor:
    """Smooth random pictures with a little noise, as bytes."""
    rng = generator(seed)
    coarse = torch.rand(count, 3, 6, 6, generator=rng) * 255
    images = torch.nn.functional.interpolate(coarse, resolution, mode="bicubic")
    images += noise * torch.randn(images.shape, generator=rng)
    return images.clamp(0, 255).round().byte().permute(0, 2, 3, 1).contiguous()


def mixed(a: Tensor, b: Tensor, share: float) -> Tensor:
    return ((1 - share) * a + share * b).round().byte()


def reference_window(size: int) -> np.ndarray:
    taps = min(11, size)
    x = np.arange(taps) - (taps - 1) / 2
    weights = np.exp(-(x[:, None] ** 2 + x[None] ** 2) / (2 * (1.5 * taps / 11) ** 2))
    return weights / weights.sum()


def reference_terms(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """ssim and cs of two images [h, w, 3], window by window."""
    weights = reference_window(len(a))
    taps = len(weights)
    ssims, contrasts = [], []
    for c in range(3):
        for y in range(len(a) - taps + 1):
            for x in range(len(a) - taps + 1):
                p, q = (image[y : y + taps, x : x + taps, c] for image in (a, b))
                mean_p, mean_q = (weights * p).sum(), (weights * q).sum()
                var_p, var_q = (weights * (p - mean_p) ** 2).sum(), (weights * (q - mean_q) ** 2).sum()
                covariance = (weights * (p - mean_p) * (q - mean_q)).sum()
                contrast = (2 * covariance + 58.5225) / (var_p + var_q + 58.5225)
                contrasts.append(contrast)
                ssims.append(contrast * (2 * mean_p * mean_q + 6.5025) / (mean_p**2 + mean_q**2 + 6.5025))
    return float(np.mean(ssims)), float(np.mean(contrasts))


def reference(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a.astype(np.float64), b.astype(np.float64)
    score = 1.0
    for scale, weight in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
        ssim, contrast = reference_terms(a, b)
        score *= max(ssim if scale == 4 else contrast, 0) ** weight
        if scale < 4:
            a, b = (image.reshape(len(image) // 2, 2, len(image) // 2, 2, 3).mean((1, 3)) for image in (a, b))
    return score


@pytest.mark.parametrize("resolution", [16, 32, 64])
def test_agrees_with_the_slow_reference_at_small_sizes(resolution: int) -> None:
    a = smooth(2, resolution, 0)
    b = mixed(a, smooth(2, resolution, 1), 0.4)
    expected = [reference(p.numpy(), q.numpy()) for p, q in zip(a, b, strict=True)]
    assert min(expected) > 0.1
    assert ms_ssim_of_pairs(a, b).tolist() == pytest.approx(expected, abs=1e-5)


def test_agrees_with_torchmetrics_at_256_where_both_follow_the_standard() -> None:
    a = smooth(2, 256, 0)
    b = mixed(a, smooth(2, 256, 1), 0.3)
    floats = [images.permute(0, 3, 1, 2).float() for images in (a, b)]
    contrasts_only = (*WEIGHTS[:4], 0.0)
    theirs = multiscale_structural_similarity_index_measure(
        *floats, data_range=255.0, betas=contrasts_only, reduction="none"
    )
    torch.testing.assert_close(ms_ssim_of_pairs(a, b, contrasts_only), theirs, atol=1e-5, rtol=0)

    # Their last scale averages over 5 more pixels at each side, of a reflected picture; without those it is ours.
    last = [torch.nn.functional.avg_pool2d(x, 16) for x in floats]
    _, places = structural_similarity_index_measure(*last, data_range=255.0, return_full_image=True)
    ours = ms_ssim_of_pairs(a, b)
    inside = places[..., 5:-5, 5:-5].mean((1, 2, 3))
    torch.testing.assert_close(ours, theirs * inside ** WEIGHTS[4], atol=1e-5, rtol=0)
    assert (ours - theirs * places.mean((1, 2, 3)) ** WEIGHTS[4]).abs().max() > 5e-4


def test_torchmetrics_refuses_the_sizes_faces_are_trained_at() -> None:
    """The reason this is written by hand; when it fails, torchmetrics has learnt it."""
    images = torch.rand(1, 3, 64, 64)
    with pytest.raises(ValueError, match="larger than"):
        multiscale_structural_similarity_index_measure(images, images, data_range=1.0)


def test_windows_shrink_with_the_image() -> None:
    assert [len(window(size)) for size in (64, 16, 11, 8, 4, 2, 1)] == [11, 11, 11, 8, 4, 2, 1]
    for size in (64, 8, 3, 1):
        assert float(window(size).sum()) == pytest.approx(1)
        outer = torch.outer(window(size), window(size)).numpy()
        np.testing.assert_allclose(outer, reference_window(size), atol=1e-12)


def test_identical_pairs_are_one_and_noise_is_near_zero() -> None:
    images = smooth(3, 32, 0)
    assert ms_ssim_of_pairs(images, images).tolist() == pytest.approx([1] * 3, abs=1e-6)
    noise = torch.randint(0, 256, (40, 64, 64, 3), generator=generator(), dtype=torch.uint8)
    scores = ms_ssim_of_pairs(noise[:20], noise[20:])
    assert scores.mean() < 0.1
    assert scores.min() >= 0
    assert ms_ssim_of_pairs(images, 255 - images).max() < 0.05


def test_symmetric_and_falls_as_pairs_part() -> None:
    a, b = smooth(4, 32, 0), smooth(4, 32, 1)
    torch.testing.assert_close(ms_ssim_of_pairs(a, b), ms_ssim_of_pairs(b, a))
    means = [float(ms_ssim_of_pairs(a, mixed(a, b, share)).mean()) for share in (0, 0.1, 0.3, 0.6, 1)]
    assert means == sorted(means, reverse=True)
    assert means[0] == pytest.approx(1)
    assert means[-1] < 0.6


@pytest.mark.parametrize(("p", "q"), [(0, 10), (3, 200), (255, 1), (100, 120)])
def test_flat_images_have_a_closed_form(p: int, q: int) -> None:
    """Without contrast every cs is C2/C2 = 1, and what is left is the luminance of (3) to the power 0.1333."""
    a, b = (torch.full((1, 32, 32, 3), level, dtype=torch.uint8) for level in (p, q))
    luminance = (2 * p * q + 2.55**2) / (p**2 + q**2 + 2.55**2)
    assert float(ms_ssim_of_pairs(a, b)) == pytest.approx(luminance**0.1333, abs=1e-5)


def test_black_and_equal_gray_images_are_alike() -> None:
    for level in (0, 128, 255):
        flat = torch.full((2, 16, 16, 3), level, dtype=torch.uint8)
        assert ms_ssim_of_pairs(flat, flat).tolist() == pytest.approx([1, 1], abs=1e-6)


def test_a_set_is_paired_at_random_and_each_image_is_used_once() -> None:
    """Ten pictures twice, side by side: in the given order every pair is 1; shuffled, hardly any is."""
    images = smooth(10, 16, 0).repeat_interleave(2, dim=0)
    in_order = PairScores()
    in_order.add(images)
    assert (in_order.count, in_order.mean()) == (10, pytest.approx(1))
    assert ms_ssim(images) < 0.8
    assert ms_ssim(images) == ms_ssim(images)
    assert ms_ssim(images) != ms_ssim(images, seed=1)
    order = torch.randperm(20, generator=generator(0))
    expected = ms_ssim_of_pairs(images[order[:8:2]], images[order[1:8:2]]).mean()
    assert ms_ssim(images, pairs=4) == pytest.approx(float(expected), abs=1e-6)


@pytest.mark.parametrize("sizes", [(21,), (1,) * 21, (2, 3, 5, 11), (20, 1)])
def test_batches_change_nothing_and_the_odd_image_is_left_out(sizes: tuple[int, ...]) -> None:
    images = smooth(21, 16, 0)
    expected = ms_ssim_of_pairs(images[:20:2], images[1:20:2]).double().mean()
    scores = PairScores()
    for some in images.split(list(sizes)):
        scores.add(some)
    assert scores.count == 10
    assert scores.mean() == pytest.approx(float(expected), abs=1e-6)
    assert ms_ssim(images, batch_size=1) == pytest.approx(ms_ssim(images, batch_size=64), abs=1e-6)


def test_the_metric_reports_fakes_and_beside_them_reals() -> None:
    metric = MSSSIM(16, 6, 0)
    reals, fakes = smooth(6, 16, 0), smooth(1, 16, 1).expand(6, -1, -1, -1)
    metric.add_reals(reals)
    metric.add_fakes(fakes)
    found = metric.result()
    assert found.value == pytest.approx(1)
    assert found.values["reals"] == pytest.approx(float(ms_ssim_of_pairs(reals[::2], reals[1::2]).mean()))
    assert found.settings["pairs"] == 3
    assert found.settings["windows"] == "11 8 4 2 1"


def test_what_is_not_a_set_of_pairs_is_refused() -> None:
    with pytest.raises(LimnerError, match="to_bytes"):
        ms_ssim(torch.rand(4, 3, 16, 16))
    with pytest.raises(LimnerError, match="permute"):
        ms_ssim(torch.zeros(4, 3, 16, 16, dtype=torch.uint8))
    with pytest.raises(LimnerError, match="at least 16²"):
        ms_ssim(smooth(4, 8, 0))
    with pytest.raises(LimnerError, match="4 make 2 disjoint pairs, not 3"):
        ms_ssim(smooth(4, 16, 0), pairs=3)
    with pytest.raises(LimnerError, match="1 make 0"):
        ms_ssim(smooth(1, 16, 0))
    with pytest.raises(LimnerError, match="at least 2"):
        MSSSIM(16, 1, 0)
    with pytest.raises(LimnerError, match="equal counts"):
        ms_ssim_of_pairs(smooth(2, 16, 0), smooth(3, 16, 0))
