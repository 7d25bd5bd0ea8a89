"""What can be wrong with a generator's pictures, made of pictures that are right; for `benchmarks.metrics_sanity`."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import Tensor

SIDE = 64
Pictures = Tensor


@dataclass(frozen=True)
class Heads:
    """uint8 [n, 64, 64, 3] each, two views of a person beside each other."""

    reference: Pictures
    fakes: Pictures
    half: Pictures
    """of the fakes' people the first half, in four views"""
    men: Pictures
    """of the fakes' people the men, in up to four views"""


@dataclass(frozen=True)
class Fault:
    """What is wrong with the fakes, and which metrics ought to go up (+) or down (-) for it."""

    name: str
    make: Callable[[Heads], Pictures]
    up: tuple[str, ...]
    down: tuple[str, ...]


def each(images: Pictures, change: Callable[[Image.Image], Image.Image]) -> Pictures:
    """Every picture changed by itself."""
    changed = [np.asarray(change(Image.fromarray(image.numpy()))) for image in images]
    return torch.from_numpy(np.stack(changed))


def noisy(images: Pictures, deviation: float) -> Pictures:
    """With Gaussian noise, its deviation in grey levels."""
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0)) * deviation
    return (images + noise).round().clamp(0, 255).to(torch.uint8)


def blurred(image: Image.Image) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(1))


def zoomed(image: Image.Image) -> Image.Image:
    """The middle 56² of 64², enlarged: another crop."""
    return image.crop((4, 4, 60, 60)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)


def as_jpeg(image: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=30)
    with Image.open(buffer, formats=("JPEG",)) as decoded:
        return decoded.convert("RGB")


def tinted(images: Pictures) -> Pictures:
    """Red 12 grey levels up, blue 12 down."""
    return (images.int() + torch.tensor([12, 0, -12])).clamp(0, 255).to(torch.uint8)


WORSE, POORER = ("fd", "kd", "swd"), ("precision", "density", "coverage")
"""distances grow with any fault; fewer fakes look real"""
NARROW, MISSING = (*WORSE, "ms_ssim"), ("recall", "coverage")
"""pairs are more alike; reals are not reached"""
FAULTS = (
    Fault("blurred, σ 1 pixel", lambda h: each(h.fakes, blurred), WORSE, POORER),
    Fault("noisy, σ 10 grey levels", lambda h: noisy(h.fakes, 10), WORSE, POORER),
    Fault("zoomed, 64² → 56²", lambda h: each(h.fakes, zoomed), WORSE, POORER),
    Fault("JPEG, quality 30", lambda h: each(h.fakes, as_jpeg), WORSE, POORER),
    Fault("tinted, 12 grey levels", lambda h: tinted(h.fakes), WORSE, POORER),
    Fault("one image repeated", lambda h: h.fakes[:1].repeat(len(h.fakes), 1, 1, 1), NARROW, MISSING),
    Fault("half the people", lambda h: h.half, NARROW, MISSING),
    Fault("only the men", lambda h: h.men, NARROW, MISSING),
    Fault("training images", lambda h: h.reference, ("copy_rate",), ()),
    Fault("training images, mirrored and noisy", lambda h: noisy(h.reference.flip(2), 4), ("copy_rate",), ()),
)
