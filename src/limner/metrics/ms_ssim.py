"""MS-SSIM between pairs of images of one set: how alike a generator's images are to each other. Lower is more diverse.

Odena, Olah, Shlens, "Conditional Image Synthesis with Auxiliary Classifier GANs", 2017, arXiv 1610.09585, section 4.2,
proposed the use; Wang, Simoncelli, Bovik, "Multi-scale structural similarity for image quality assessment", 2003, the
measure; Karras et al. 2018 (arXiv 1710.10196) average 10,000 pairs of 20,000 images.

    MS-SSIM = prod_{j<5} cs_j^w_j · ssim_5^w_5                                              (1)
    cs   = mean (2 s_ab + C2) / (s_a² + s_b² + C2)                                          (2)
    ssim = mean (2 m_a m_b + C1) / (m_a² + m_b² + C1) · (2 s_ab + C2) / (s_a² + s_b² + C2)  (3)

m, s: means and (co)variances under a Gaussian window of 11 pixels, σ 1.5, placed only where it lies wholly inside the
image; means over places and colour channels; each scale halves the one before by 2×2 means; C1 = (0.01·255)²,
C2 = (0.03·255)²; negative means count as 0.

Small images: a scale smaller than the window has a window of its own size, with σ shrunk in proportion (at 8 pixels: 8
and 1.09), as in the evaluation code published with Karras et al. So five scales fit down to 16².

torchmetrics 1.9 is no substitute: it refuses sides below 176 pixels, and its ssim_5 averages over a reflected border
too, where the cs_j do not. At 256² its cs_j and its window agree with these (see the tests).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from limner.errors import LimnerError
from limner.metrics.card import Measurement, Setting
from limner.metrics.images import check_images, check_pair, check_resolution

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""of the five scales, finest first (Wang et al. 2003); they sum to 1.0001, as published"""
WINDOW_PIXELS = 11
WINDOW_SIGMA_PIXELS = 1.5
C1 = (0.01 * 255) ** 2
C2 = (0.03 * 255) ** 2


def window(size: int) -> Float[Tensor, "k"]:
    """The 1-D Gaussian window for images of `size` pixels: min(11, size) taps that sum to one, float64."""
    taps = min(WINDOW_PIXELS, size)
    sigma = WINDOW_SIGMA_PIXELS * taps / WINDOW_PIXELS
    places = torch.arange(taps, dtype=torch.float64) - (taps - 1) / 2
    weights = torch.exp(-(places**2) / (2 * sigma**2))
    return weights / weights.sum()


@lru_cache(maxsize=16)
def _band(size: int) -> Float[Tensor, "m size"]:
    """The window at each of the m = size - k + 1 places where it fits; as a product it is 3 times as fast as conv2d."""
    taps = window(size)
    places = size - len(taps) + 1
    matrix = torch.zeros(places, size)
    for place in range(places):
        matrix[place, place : place + len(taps)] = taps.float()
    return matrix


def _similarity(a: Float[Tensor, "n 3 h h"], b: Float[Tensor, "n 3 h h"]) -> tuple[Tensor, Tensor]:
    """ssim and cs of each pair, [n] and [n]; images in [0, 255].

    Variances are differences of squares, and float32 is short of digits at 255². They do not change with a constant,
    so each image is centred first. Only s_a² + s_b² is needed, hence four blurs and not five.
    """
    rows = _band(a.shape[-1]).to(a)
    level_a, level_b = a.mean((2, 3), keepdim=True), b.mean((2, 3), keepdim=True)
    a, b = a - level_a, b - level_b
    mean_a, mean_b, squares, product = (rows @ torch.stack([a, b, a * a + b * b, a * b]) @ rows.T).unbind()
    variances = squares - mean_a**2 - mean_b**2
    covariance = product - mean_a * mean_b
    contrast = (2 * covariance + C2) / (variances + C2)  # (2)
    mean_a, mean_b = mean_a + level_a, mean_b + level_b
    luminance = (2 * mean_a * mean_b + C1) / (mean_a**2 + mean_b**2 + C1)
    return (luminance * contrast).mean((1, 2, 3)), contrast.mean((1, 2, 3))  # (3)


def ms_ssim_of_pairs(a: Tensor, b: Tensor, weights: Sequence[float] = WEIGHTS) -> Float[Tensor, "n"]:
    """MS-SSIM of a[i] with b[i], in [0, 1]: 1 where they are equal.

    Args:
        a: uint8 [n, r, r, 3], r a power of two of at least 16 pixels.
        b: the same shape.
        weights: of the scales, finest first.

    Raises:
        LimnerError: a wrong type, layout or size, or unequal counts.
    """
    check_pair(a, b)
    first, second = (images.permute(0, 3, 1, 2).float() for images in (a, b))
    score = torch.ones(len(a), device=a.device)
    for scale, weight in enumerate(weights):
        ssim, contrast = _similarity(first, second)
        term = ssim if scale == len(weights) - 1 else contrast
        score = score * term.clamp(min=0) ** weight  # (1)
        if scale < len(weights) - 1:
            first, second = F.avg_pool2d(first, 2), F.avg_pool2d(second, 2)
    return score


class PairScores:
    """MS-SSIM of images 0 and 1, 2 and 3, … of a set that arrives in batches; which batches does not matter."""

    def __init__(self) -> None:
        self._scores: list[Tensor] = []
        self._waiting: Tensor | None = None

    def add(self, images: UInt8[Tensor, "n r r 3"]) -> None:
        """Score the pairs that are complete; an odd image waits for the next batch."""
        if self._waiting is not None:
            images = torch.cat([self._waiting.to(images.device), images])
        paired = len(images) // 2 * 2
        self._waiting = images[paired:] if paired < len(images) else None
        if paired:
            self._scores.append(ms_ssim_of_pairs(images[:paired:2], images[1:paired:2]).double().cpu())

    @property
    def count(self) -> int:
        """Pairs scored."""
        return sum(len(scores) for scores in self._scores)

    def mean(self) -> float:
        """Over all pairs; an odd image at the end is left out."""
        return float(torch.cat(self._scores).mean())


class MSSSIM:
    """Mean MS-SSIM of count // 2 pairs of fakes; the same of the reals is the sub-value `reals`.

    Images are paired as they come, so each set must come in random order, as latents drawn from a generator and reals
    chosen by `limner.metrics.evaluate` do. A value above the reals' is a lack of diversity; one below is no merit.
    """

    def __init__(self, resolution: int, count: int, seed: int) -> None:
        check_resolution(resolution, resolution)
        if count < 2:
            raise LimnerError(f"ms_ssim: {count} images make no pair; use a count of at least 2")
        self._resolution = resolution
        self._reals = PairScores()
        self._fakes = PairScores()

    def add_reals(self, images: Tensor) -> None:
        """Add a batch of uint8 [n, r, r, 3]."""
        check_images(images, "reals")
        self._reals.add(images)

    def add_fakes(self, images: Tensor) -> None:
        """Add a batch of uint8 [n, r, r, 3]."""
        check_images(images, "fakes")
        self._fakes.add(images)

    def result(self, poll: Callable[[], None] = lambda: None) -> Measurement:
        """The means over all pairs added."""
        sizes = [min(WINDOW_PIXELS, self._resolution >> scale) for scale in range(len(WEIGHTS))]
        settings: dict[str, Setting] = {
            "pairs": self._fakes.count,
            "pairing": "disjoint, of one set",
            "scales": len(WEIGHTS),
            "weights": " ".join(str(weight) for weight in WEIGHTS),
            "windows": " ".join(str(size) for size in sizes),
            "window_sigma": f"{WINDOW_SIGMA_PIXELS}*window/{WINDOW_PIXELS}",
            "border": "valid",
        }
        return Measurement(value=self._fakes.mean(), values={"reals": self._reals.mean()}, settings=settings)


def ms_ssim(images: Tensor, *, seed: int = 0, pairs: int | None = None, batch_size: int = 64) -> float:
    """Mean MS-SSIM of random disjoint pairs of one set of images.

    Args:
        images: uint8 [n, r, r, 3], r a power of two of at least 16 pixels, in any order.
        seed: of the pairing.
        pairs: how many; by default as many as there are, n // 2.
        batch_size: images scored at once; does not change the result.

    Raises:
        LimnerError: a wrong type, layout or size, or too few images for the pairs.
    """
    check_images(images)
    wanted = len(images) // 2 if pairs is None else pairs
    if not 1 <= wanted <= len(images) // 2:
        raise LimnerError(f"images: {len(images)} make {len(images) // 2} disjoint pairs, not {wanted}; pass more")
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))[: 2 * wanted]
    scores = PairScores()
    for some in order.split(math.ceil(batch_size / 2) * 2):
        scores.add(images[some.to(images.device)])
    return scores.mean()
