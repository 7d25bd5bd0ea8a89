"""How much of a photo comes back once a model has encoded it: generate(encode(photo)) beside the photo.

    MSE   = mean over photos, pixels and channels of (photo − reconstruction)², in grey levels of 255
    value = PSNR = 10 log₁₀ 255² / MSE, in dB

One MSE of all photos, not the mean of their PSNRs: no single photo can make it infinite, and it can be set beside
that of an encoder that tells nothing and a decoder that answers with the mean face, whose MSE is the photos' variance.
Bytes hold no error below their rounding: the MSE counts as at least 1/12, which is what rounding to whole grey levels
costs, so a perfect reconstruction has 58.92 dB and not infinity.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from limner.errors import LimnerError
from limner.metrics.card import Measurement
from limner.metrics.images import check_pair
from limner.metrics.ms_ssim import ms_ssim_of_pairs

LEAST_MSE = 1 / 12
"""variance of what rounding to whole grey levels takes away"""


def psnr(mse: float) -> float:
    """dB of a mean squared error in grey levels², at most 58.92."""
    return 10 * math.log10(255**2 / max(mse, LEAST_MSE))


class Reconstruction:
    """Takes photos and what came back, in batches; batches change nothing but MS-SSIM's last digits."""

    def __init__(self) -> None:
        self._squared = self._absolute = self._squares = self._pixels = 0
        self._sum: Int64[Tensor, "r r 3"] | None = None
        self._of_images: list[Tensor] = []
        self._similarity: list[Tensor] = []

    def add(self, photos: UInt8[Tensor, "n r r 3"], reconstructions: UInt8[Tensor, "m r r 3"]) -> None:
        """Compare photo i with reconstruction i.

        Raises:
            LimnerError: a wrong type, layout or size, or unequal counts.
        """
        check_pair(photos, reconstructions)
        wide = photos.long()
        error = wide - reconstructions.long()
        squared = (error**2).sum((1, 2, 3))
        self._squared += int(squared.sum())
        self._absolute += int(error.abs().sum())
        self._squares += int((wide**2).sum())
        self._pixels += photos.numel()
        self._sum = wide.sum(0) if self._sum is None else self._sum + wide.sum(0)
        self._of_images.append(squared.double() / photos[0].numel())
        self._similarity.append(ms_ssim_of_pairs(photos, reconstructions).double())

    def result(self) -> Measurement:
        """PSNR, dB; beside it `mean_face` (the PSNR of answering every photo with their mean), `mean_of_images` (of
        each photo's own PSNR), `mae` (mean absolute error, grey levels) and `ms_ssim`.

        Raises:
            LimnerError: no photos.
        """
        if self._sum is None:
            raise LimnerError("reconstruction: no photos; add at least one batch")
        count = len(torch.cat(self._of_images))
        mean_squares = float((self._sum.double() ** 2).sum()) / count
        of_images = torch.cat(self._of_images).clamp_min(LEAST_MSE)
        return Measurement(
            value=psnr(self._squared / self._pixels),
            values={
                "mean_face": psnr((self._squares - mean_squares) / self._pixels),
                "mean_of_images": float((10 * torch.log10(255**2 / of_images)).mean()),
                "mae": self._absolute / self._pixels,
                "ms_ssim": float(torch.cat(self._similarity).mean()),
            },
            settings={"least_mse": "1/12", "peak": 255, "psnr": "of the mean squared error over all images"},
        )
