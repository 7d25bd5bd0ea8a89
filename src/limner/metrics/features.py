"""The features of both sets, kept once for all the metrics that need them.

A Fréchet distance needs only mean and covariance, which stream in float64; the others need the features themselves,
4·d bytes an image. What two metrics both need is computed once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar, cast

import torch
from jaxtyping import Float
from torch import Tensor

from limner.errors import LimnerError
from limner.metrics.moments import Moments
from limner.metrics.rows import Rows

T = TypeVar("T")


@dataclass(frozen=True)
class KnownMoments:
    """Mean and covariance of a set whose images need not be looked at."""

    mean: Float[Tensor, "d"]
    covariance: Float[Tensor, "d d"]
    count: int | None
    """of images; None where a file does not say"""


class FeatureSet:
    """One set's moments, and its features and logits where they are to be kept."""

    def __init__(self, *, moments: bool, keep: bool, keep_logits: bool) -> None:
        self._streams, self._keeps, self._keeps_logits = moments, keep, keep_logits
        self.moments: Moments | None = None
        self.known: KnownMoments | None = None
        """instead of `moments`, where these are known already"""
        self._kept: list[Tensor] = []
        self._logits: list[Tensor] = []

    def add(self, rows: Rows) -> None:
        """Take in a batch's "features" [n, d], and its "logits" [n, k]."""
        features = rows["features"]
        if self._streams:
            self.moments = self.moments or Moments(features.shape[1])
            self.moments.add(features)
        if self._keeps:
            self._kept.append(features)
        if self._keeps_logits:
            self._logits.append(rows["logits"])

    def summed_up(self) -> KnownMoments:
        """Mean and covariance, known or of what was added.

        Raises:
            LimnerError: of fewer than two images.
        """
        if self.known is not None:
            return self.known
        if self.moments is None or self.moments.count < 2:
            raise LimnerError("a Fréchet distance needs at least 2 images of each set; raise the count")
        return KnownMoments(self.moments.mean, self.moments.covariance, self.moments.count)

    @property
    def features(self) -> Float[Tensor, "n d"]:
        """All of them, in the order added."""
        self._kept = [torch.cat(self._kept)]
        return self._kept[0]

    @property
    def logits(self) -> Float[Tensor, "n k"]:
        """All of them, in the order added."""
        self._logits = [torch.cat(self._logits)]
        return self._logits[0]


class FeatureSets:
    """Reals and fakes; `once` remembers what was computed of both."""

    def __init__(self, *, moments: bool, keep: bool, keep_logits: bool) -> None:
        self.reals, self.fakes = (
            FeatureSet(moments=moments, keep=keep, keep_logits=keep_logits) for _ in ("reals", "fakes")
        )
        self._known: dict[str, object] = {}

    def once(self, name: str, compute: Callable[[], T]) -> T:
        """What `compute` makes of these sets, computed the first time somebody asks for this name."""
        if name not in self._known:
            self._known[name] = compute()
        return cast(T, self._known[name])
