"""Resize rules: closed forms, Pillow and PyTorch themselves as references, and that wrong variants would be seen."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from limner.errors import LimnerError
from limner.metrics.extractors.resize import RESIZE_RULES, bytes_to_pixels, find_rule, floats_to_pixels
from limner.pixels import to_floats

CLEAN, PYTORCH_FID, TORCH_FIDELITY = (RESIZE_RULES[name] for name in ("clean", "pytorch-fid", "torch-fidelity"))
SIZES = (16, 64, 150, 299, 512)


def noise(count: int, height: int, width: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, height, width, 3), generator=generator, dtype=torch.uint8)


def by_pillow(image: Tensor, side: int) -> Tensor:
    """[h, w, 3] → [3, side, side]: bicubic of float channels, one at a time."""
    channels = [Image.fromarray(image[..., k].float().numpy()) for k in range(3)]
    resized = [np.asarray(channel.resize((side, side), Image.Resampling.BICUBIC)) for channel in channels]
    return torch.from_numpy(np.stack(resized)).clamp(0, 255)


def row(*values: float) -> Tensor:
    """[1, 3, 1, w]: one line of pixels."""
    return torch.tensor(values).expand(1, 3, 1, -1)


@pytest.mark.parametrize("rule", RESIZE_RULES.values(), ids=RESIZE_RULES)
@pytest.mark.parametrize("size", SIZES)
def test_a_plain_image_stays_what_it_is(rule, size: int) -> None:
    plain = torch.full((1, 3, size, size), 77.0)
    assert torch.allclose(rule.resize(plain, 299), torch.full((1, 3, 299, 299), 77.0), atol=1e-4)


@pytest.mark.parametrize("rule", RESIZE_RULES.values(), ids=RESIZE_RULES)
def test_the_same_size_changes_nothing(rule) -> None:
    pixels = bytes_to_pixels(noise(2, 50, 50))
    assert torch.equal(rule.resize(pixels, 50), pixels)


def test_doubling_two_pixels_in_closed_form() -> None:
    """Outputs sample the inputs' line at i/2 (corners), or at (i + 1/2)/2 - 1/2 (centres)."""
    pixels = row(0.0, 100.0).expand(1, 3, 2, 2)
    assert TORCH_FIDELITY.resize(pixels, 4)[0, 0, 0].tolist() == [0, 50, 100, 100]
    assert PYTORCH_FID.resize(pixels, 4)[0, 0, 0].tolist() == [0, 25, 75, 100]


def test_halving_takes_two_neighbours_or_a_kernel_of_eight() -> None:
    """A lone bright pixel: corners keep it or lose it whole, centres halve it, antialiasing spreads it."""
    pixels = torch.zeros(1, 3, 16, 16)
    pixels[..., 8] = 128
    assert TORCH_FIDELITY.resize(pixels, 8)[0, 0, 0].tolist() == [0, 0, 0, 0, 128, 0, 0, 0]
    assert PYTORCH_FID.resize(pixels, 8)[0, 0, 0].tolist() == [0, 0, 0, 0, 64, 0, 0, 0]
    # Keys' kernel at distances 1/4, 3/4, 5/4, 7/4 of an output pixel, halved: its sum over a shrunk pixel is 2
    weights = [111 / 128, 29 / 128, -9 / 128, -3 / 128]
    expected = [0, 0, 0, weights[1] * 64, weights[0] * 64, 0, 0, 0]  # the negative ones clip
    assert CLEAN.resize(pixels, 8)[0, 0, 0].tolist() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("size", SIZES)
def test_clean_is_pillow_on_floats(size: int) -> None:
    images = noise(2, size, size)
    expected = torch.stack([by_pillow(image, 299) for image in images])
    assert (CLEAN.resize(bytes_to_pixels(images), 299) - expected).abs().max() < 2e-4


def test_images_that_are_not_square() -> None:
    images = noise(1, 40, 90)
    found = CLEAN.resize(bytes_to_pixels(images), 64)[0]
    assert (found - by_pillow(images[0], 64)).abs().max() < 2e-4


@pytest.mark.parametrize("size", SIZES)
def test_pytorch_fid_is_interpolate_of_zero_to_one(size: int) -> None:
    images = noise(2, size, size)
    zero_to_one = images.permute(0, 3, 1, 2).float() / 255
    expected = 2 * F.interpolate(zero_to_one, (299, 299), mode="bilinear", align_corners=False) - 1
    found = PYTORCH_FID.to_inception_range(PYTORCH_FID.resize(bytes_to_pixels(images), 299))
    assert (found - expected).abs().max() < 3e-5


@pytest.mark.parametrize("size", SIZES)
def test_torch_fidelity_samples_at_multiples_of_the_scale(size: int) -> None:
    images = noise(1, size, size).float().numpy()[0]
    position = np.arange(299) * (size / 299)
    low = np.minimum(position.astype(int), size - 1)
    high, share = np.minimum(low + 1, size - 1), position - low
    lines = images[low] * (1 - share)[:, None, None] + images[high] * share[:, None, None]
    expected = lines[:, low] * (1 - share)[None, :, None] + lines[:, high] * share[None, :, None]
    found = TORCH_FIDELITY.resize(torch.from_numpy(images).permute(2, 0, 1)[None], 299)[0].permute(1, 2, 0)
    # the rule's positions are float32: where one is a whole number in float64 it may fall just below
    assert np.abs(found.numpy() - expected).max() < 0.02


def test_wrong_variants_are_far_off() -> None:
    """What a mistake would do, in levels of 255: hundreds of times the tolerances above."""
    images = noise(1, 512, 512)
    pixels = bytes_to_pixels(images)
    clean, plain, corner = (rule.resize(pixels, 299) for rule in (CLEAN, PYTORCH_FID, TORCH_FIDELITY))
    for one, other in ((clean, plain), (plain, corner), (clean, corner)):
        assert (one - other).abs().mean() > 5
    not_antialiased = F.interpolate(pixels, (299, 299), mode="bicubic", align_corners=False).clamp(0, 255)
    assert (clean - not_antialiased).abs().mean() > 5
    antialiased = F.interpolate(pixels, (299, 299), mode="bilinear", align_corners=False, antialias=True)
    assert (plain - antialiased).abs().mean() > 5
    torchs_cubic = F.interpolate(pixels[..., :64, :64], (299, 299), mode="bicubic", align_corners=False).clamp(0, 255)
    assert (CLEAN.resize(pixels[..., :64, :64], 299) - torchs_cubic).abs().max() > 1  # a = -3/4 there


def test_nothing_is_rounded_to_bytes_on_the_way() -> None:
    image = noise(1, 64, 64)[0]
    found = CLEAN.resize(bytes_to_pixels(image[None]), 299)[0]
    rounded = np.asarray(Image.fromarray(image.numpy()).resize((299, 299), Image.Resampling.BICUBIC))
    difference = (found - torch.from_numpy(rounded.copy()).permute(2, 0, 1)).abs()
    assert 0.25 < difference.mean() < 0.5  # one rounding is a quarter of a level on average, and Pillow rounds twice
    assert (found != found.round()).float().mean() > 0.9


def test_clean_clips_the_overshoot_of_an_edge() -> None:
    edge = torch.zeros(1, 3, 16, 16)
    edge[..., 8:] = 255
    pixels = by_pillow(edge[0].permute(1, 2, 0), 299)
    found = CLEAN.resize(edge, 299)
    assert found.min() == 0
    assert found.max() == 255
    assert (found[0] - pixels).abs().max() < 2e-4


def test_ranges_of_the_fid_network() -> None:
    ends = torch.tensor([0.0, 255.0]).expand(1, 3, 1, 2)
    assert CLEAN.to_inception_range(ends)[0, 0, 0].tolist() == [-1, 127 / 128]
    assert TORCH_FIDELITY.to_inception_range(ends)[0, 0, 0].tolist() == [-1, 127 / 128]
    assert PYTORCH_FID.to_inception_range(ends)[0, 0, 0].tolist() == [-1, 1]


def test_a_png_is_the_image_and_a_jpeg_is_not() -> None:
    """Why a dataset of JPEGs is measured against fakes as they are: saving those as JPEG would change them."""
    y, x = np.mgrid[:64, :64]
    picture = np.stack([128 + 100 * np.sin(x / 5), 128 + 100 * np.cos(y / 7), 2 * (x + y)], -1).astype(np.uint8)
    again = {}
    for kind in ("PNG", "JPEG"):
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, kind, quality=95)
        again[kind] = torch.from_numpy(np.array(Image.open(buffer)))[None]
    inputs = {kind: CLEAN.resize(bytes_to_pixels(image), 299) for kind, image in again.items()}
    expected = CLEAN.resize(bytes_to_pixels(torch.from_numpy(picture)[None]), 299)
    assert torch.equal(inputs["PNG"], expected)
    assert (inputs["JPEG"] - expected).abs().mean() > 0.5


@pytest.mark.parametrize("rule", RESIZE_RULES.values(), ids=RESIZE_RULES)
def test_floats_take_the_same_way_and_gradients_come_back(rule) -> None:
    images = noise(2, 64, 64)
    floats = to_floats(images)
    found = rule.resize(floats_to_pixels(floats), 100)
    assert (found - rule.resize(bytes_to_pixels(images), 100)).abs().max() < 1e-4
    inner = (floats.detach() / 2).requires_grad_()  # where `clean` does not clip
    direction = torch.randn(inner.shape, generator=torch.Generator().manual_seed(1))
    weights = torch.rand(found.shape, generator=torch.Generator().manual_seed(2))
    (gradient,) = torch.autograd.grad((weights * rule.resize(floats_to_pixels(inner), 100)).sum(), inner)
    ahead, behind = (rule.resize(floats_to_pixels(inner.detach() + s * direction), 100) for s in (0.05, -0.05))
    slope = float((weights * (ahead - behind)).double().sum()) / 0.1
    assert float((gradient * direction).double().sum()) == pytest.approx(slope, rel=1e-3)


def test_a_step_smaller_than_a_byte_shows() -> None:
    floats = to_floats(noise(1, 64, 64)) * 0.9
    first, second = (CLEAN.resize(floats_to_pixels(floats + step), 299) for step in (0, 1e-4))
    assert float((second - first).mean()) == pytest.approx(1e-4 * 127.5, rel=0.05)


@pytest.mark.parametrize(
    "images",
    [
        torch.zeros(1, 8, 8, 3),
        torch.zeros(1, 3, 8, 8, dtype=torch.uint8),
        torch.zeros(1, 8, 8, 1, dtype=torch.uint8),
        torch.zeros(8, 8, 3, dtype=torch.uint8),
        torch.zeros(0, 8, 8, 3, dtype=torch.uint8),
        torch.zeros(1, 8, 8, 3, dtype=torch.int64),
    ],
    ids=["floats", "channels first", "gray", "one image", "none", "integers"],
)
def test_what_is_no_batch_of_bytes_is_refused(images: Tensor) -> None:
    with pytest.raises(LimnerError, match=r"takes bytes \[n, h, w, 3\]; use limner.pixels.to_bytes"):
        bytes_to_pixels(images)


@pytest.mark.parametrize(
    "images",
    [
        torch.zeros(1, 8, 8, 3),
        torch.zeros(1, 3, 8, 8, dtype=torch.uint8),
        torch.zeros(3, 8, 8),
        torch.zeros(0, 3, 8, 8),
    ],
    ids=["channels last", "bytes", "one image", "none"],
)
def test_what_is_no_batch_of_floats_is_refused(images: Tensor) -> None:
    with pytest.raises(LimnerError, match=r"floats \[n, 3, h, w\] in \[-1, 1\] are needed"):
        floats_to_pixels(images)


def test_floats_of_0_to_255_are_refused() -> None:
    with pytest.raises(LimnerError, match=r"up to 200, but \[-1, 1\] is needed; for \[0, 255\] use"):
        floats_to_pixels(torch.full((1, 3, 8, 8), 200.0))


def test_an_unknown_rule_is_named_with_the_nearest() -> None:
    with pytest.raises(LimnerError, match="'pytorch_fid' is not a rule; did you mean pytorch-fid"):
        find_rule("pytorch_fid")
    with pytest.raises(LimnerError, match="there are clean, pytorch-fid, torch-fidelity"):
        find_rule("area")
