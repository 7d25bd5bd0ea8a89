"""The average of a model's recent weights, which makes better pictures than the weights themselves."""

from __future__ import annotations

import copy

import torch

from limner.models.base import Model


class WeightAverage:
    """An exponential moving average by half-life: images after which a weight's share has halved.

    Running statistics are averaged like the weights, since to first order the statistics of averaged weights are the
    averaged statistics; copying the latest ones, as is common, pairs averaged weights with statistics they never had.
    Whole numbers (counters) are copied.
    """

    def __init__(self, model: Model, half_life_kimg: float, rampup: float) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.half_life_kimg = half_life_kimg
        self.rampup = rampup

    def decay(self, images_seen: int, images: int) -> float:
        """The share kept when `images` more images end at `images_seen`.

        Early on the half-life is at most `rampup` x the images seen (as in the published code of
        Karras et al. 2020, arXiv:2006.06676),
        so that the first pictures are not those of the untrained network. A half-life of 0 keeps nothing.
        """
        half_life = self.half_life_kimg * 1000
        if self.rampup > 0:
            half_life = min(half_life, images_seen * self.rampup)
        return 0.5 ** (images / half_life) if half_life > 0 else 0.0

    @torch.no_grad()
    def update(self, model: Model, images_seen: int, images: int) -> None:
        decay = self.decay(images_seen, images)
        averages, values = [], []
        for average, value in zip(self._tensors(self.model), self._tensors(model), strict=True):
            if average.is_floating_point():
                averages.append(average)
                values.append(value)
            else:
                average.copy_(value)
        torch._foreach_lerp_(averages, values, 1 - decay)

    @staticmethod
    def _tensors(model: Model) -> list[torch.Tensor]:
        return [*(p.data for p in model.parameters()), *(b.data for b in model.buffers())]
