"""How fast this machine does the parts of an evaluation: each is timed on a few images, once, when it is first needed.

The parts are the evaluation's own functions on real inputs (the model's latents, the dataset's images), so the figures
contain the machine's threads, caches and neighbours. Nothing of the model or of the numbers changes: models are in
evaluation mode, and all random numbers come from generators made here.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from limner.metrics import swd
from limner.metrics.copies import PIXELS, CopyRate, nearest_images, shrink
from limner.metrics.extractors.base import Extractor
from limner.metrics.frechet import frechet_terms
from limner.metrics.kernel import squared_mmd
from limner.metrics.moments import Moments
from limner.metrics.ms_ssim import PairScores
from limner.metrics.neighbours import prdc
from limner.metrics.subject import Generates, HasImages, generate_fakes, read_reals, reconstruct

_TRIAL_SECONDS, _SLOW_SECONDS = 0.25, 2.5
"""a trial that takes longer is the last one: of `_FAIR_TRIAL` images or more, and of fewer"""
_FAIR_TRIAL = 16
_LARGEST_TRIAL = 64
"""images in a trial, the batch of an evaluation"""
_FEATURE_ROWS, _COVARIANCE_SIDE = 256, 512
_COPY_ROWS = 512
SORTED_IMAGES = 256
"""images of each set in the largest trial of SWD"""
_DIRECTIONS = 16


def seconds_of(work: Callable[[], object]) -> float:
    """Wall-clock seconds of one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def best_seconds(work: Callable[[], object], calls: int = 3) -> float:
    """Wall-clock seconds of the fastest of a few calls: the first one pays for memory, any may be interrupted."""
    return min(seconds_of(work) for _ in range(calls))


def seconds_per_item(work: Callable[[int], object], most: int) -> float:
    """Seconds for one item of a batch, the best of trials with 1, 4, 16 … items.

    Single items say little: where another process needs the same cores, torch's threads wait for each other in every
    layer, and one image can take as long as 32.

    Args:
        work: does that many items, at least 1.
        most: items in the largest trial.
    """
    best, count = math.inf, 1
    while count <= most:
        seconds = seconds_of(lambda count=count: work(count))  # type: ignore[misc]
        best = min(best, seconds / count)
        if seconds > (_SLOW_SECONDS if count < _FAIR_TRIAL else _TRIAL_SECONDS):
            break
        count *= 4
    return best if most else 0.0


class Speeds:
    """Seconds per unit of work, of one model, one dataset and this machine.

    Args:
        model: in evaluation mode.
        dataset: that it is compared with.
        rows: of the dataset, the reals that will be compared.
    """

    def __init__(self, model: Generates, dataset: HasImages, rows: np.ndarray) -> None:
        self.model, self.dataset = model, dataset
        self._rows = rows[:_LARGEST_TRIAL]
        self._most = len(self._rows)
        self._of_networks: dict[tuple[str, str], float] = {}

    @cached_property
    def read(self) -> float:
        """One image of the dataset."""
        return seconds_per_item(lambda n: read_reals(self.dataset, self.model.resolution, self._rows[:n]), self._most)

    @cached_property
    def generated(self) -> float:
        """One image of the model."""
        latents = self.model.latents.sample(self._most, torch.Generator().manual_seed(0))
        return seconds_per_item(lambda n: generate_fakes(self.model, latents[:n]), self._most)

    @cached_property
    def reconstructed(self) -> float:
        """One photo encoded and decoded."""
        return seconds_per_item(
            lambda n: reconstruct(self.model, self.dataset, self._images[:n], self._rows[:n]), self._most
        )

    def features(self, network: Extractor) -> float:
        """One image through an extractor or a probe."""
        key = network.name, network.sha256
        if key not in self._of_networks:
            self._of_networks[key] = seconds_per_item(lambda n: network.of_bytes(self._images[:n]), self._most)
        return self._of_networks[key]

    def moments(self, width: int) -> float:
        """One image's features of that width, added to a mean and covariance."""
        features, moments = _noise(_LARGEST_TRIAL, width), Moments(width)
        return seconds_per_item(lambda n: moments.add(features[:n]), _LARGEST_TRIAL)

    @cached_property
    def patches(self) -> float:
        """The patches of one image, at all levels."""
        side = self.model.resolution
        return seconds_per_item(lambda n: swd.Descriptors(side, n, 0).add(self._images[:n]), self._most)

    @cached_property
    def projected(self) -> float:
        """One image of each set at one level of SWD, along one direction."""
        patches = _noise(SORTED_IMAGES * swd.PATCHES_PER_IMAGE, swd.DESCRIPTOR_SIZE)
        directions = _noise(_DIRECTIONS, swd.DESCRIPTOR_SIZE)

        def work(count: int) -> None:
            some = patches[: count * swd.PATCHES_PER_IMAGE]
            swd.sliced_wasserstein(some, some, directions)

        return seconds_per_item(work, SORTED_IMAGES) / _DIRECTIONS

    @cached_property
    def scored(self) -> float:
        """One image of a pair of MS-SSIM."""
        twice = torch.cat([self._images, self._images])
        return seconds_per_item(lambda n: PairScores().add(twice[: 2 * n]), self._most) / 2

    @cached_property
    def compared_with_faces(self) -> float:
        """One image with one training face, at the resolution of the copy rate."""
        rows = self.dataset.indices("train")[:_COPY_ROWS]
        queries = shrink(self._images, min(PIXELS, self.model.resolution))
        queries = queries.repeat(-(-_COPY_ROWS // len(queries)), 1, 1, 1)[:_COPY_ROWS]
        seconds = best_seconds(lambda: nearest_images(queries, self.dataset, rows))
        return seconds / (len(queries) * max(len(rows), 1))

    def face_comparisons(self, fakes: int, seed: int) -> int:
        """How often the copy rate compares an image with a training face, for so many fakes."""
        return CopyRate(self.dataset, resolution=self.model.resolution, seed=seed).comparisons(fakes)

    def neighbours(self, width: int, count: int) -> float:
        """Precision, recall, density and coverage of so many features of each set."""
        rows = min(count, _FEATURE_ROWS)
        a, b = _noise(rows, width), _noise(rows, width)
        return best_seconds(lambda: prdc(a, b)) * (count / rows) ** 2

    def kernel(self, width: int, size: int) -> float:
        """The kernel distance of one subset of that size."""
        rows = min(size, _FEATURE_ROWS)
        a, b = _noise(rows, width), _noise(rows, width)
        return best_seconds(lambda: squared_mmd(a, b)) * (size / rows) ** 2

    def frechet(self, width: int) -> float:
        """The Fréchet distance of two covariances of that width."""
        side = min(width, _COVARIANCE_SIDE)
        moments = Moments(side)
        moments.add(_noise(2 * side, side))
        mean, covariance = moments.mean, moments.covariance
        return best_seconds(lambda: frechet_terms(mean, covariance, mean, covariance)) * (width / side) ** 3

    @cached_property
    def _images(self) -> Tensor:
        return read_reals(self.dataset, self.model.resolution, self._rows)


def _noise(rows: int, width: int) -> Tensor:
    """Float32 normals [rows, width], the same each time."""
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(0))
