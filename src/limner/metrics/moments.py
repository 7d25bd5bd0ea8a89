"""Mean and covariance of features that arrive in batches: float64, linear in images, flat in memory, mergeable.

Chan, Golub, LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances", 1979: two sets of
n_a and n_b rows with means m_a, m_b and scatters S_a, S_b (sums of (x - m)(x - m)') are together

    m = m_a + δ n_b / n,   S = S_a + S_b + δ δ' n_a n_b / n,   δ = m_b - m_a,   n = n_a + n_b           (1)

Nothing large is ever subtracted from something large, as it is in Σ x x' - n m m'.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from limner.errors import LimnerError

_ROWS_AT_ONCE = 512
"""rows of one product x' x; filled up over batches, so that how rows came in batches does not change the result"""


def check_features(features: object, name: str = "features", *, width: int | None = None) -> None:
    """Refuse all but a tensor of finite floats [n, d], n ≥ 1.

    Raises:
        LimnerError: saying what it is instead, or which row is not finite.
    """
    if not isinstance(features, Tensor) or not features.is_floating_point():
        what = features.dtype if isinstance(features, Tensor) else type(features).__name__
        raise LimnerError(f"{name}: {what}, but floats [n, d] are needed; pass what an extractor returns")
    if features.ndim != 2 or 0 in features.shape:
        raise LimnerError(f"{name}: shape {list(features.shape)}, but [n, d] is needed, one row per image")
    if width is not None and features.shape[1] != width:
        raise LimnerError(f"{name}: {features.shape[1]} per image, expected {width}; use one extractor for both sets")
    if not bool(torch.isfinite(features).all()):
        row = int((~torch.isfinite(features)).any(dim=1).nonzero()[0])
        raise LimnerError(f"{name}: row {row} is not finite; look at that image, or at the extractor's weights")


class Moments:
    """Count, mean and covariance of the rows added so far; memory is that of two d×d matrices.

    Results are a function of the rows and their order alone, to the last bit, however they were split into batches.
    Merged parts (one per process) agree with one pass over all rows to about 1e-15.
    """

    def __init__(self, width: int) -> None:
        self.width = width
        self._count = 0
        self._mean = torch.zeros(width, dtype=torch.float64)
        self._scatter = torch.zeros(width, width, dtype=torch.float64)
        self._waiting: list[Tensor] = []

    @classmethod
    def from_features(cls, features: Float[Tensor, "n d"]) -> Moments:
        """The moments of one set that is at hand as a whole."""
        check_features(features)
        moments = cls(features.shape[1])
        moments.add(features)
        return moments

    def add(self, features: Float[Tensor, "n d"]) -> None:
        """Add rows, on any device.

        Raises:
            LimnerError: a wrong shape or type, or a value that is not finite; nothing is added then.
        """
        check_features(features, width=self.width)
        rows = torch.cat([*self._waiting, features.detach().to("cpu")])
        full = len(rows) - len(rows) % _ROWS_AT_ONCE
        for block in rows[:full].split(_ROWS_AT_ONCE):
            self._add_block(block)
        self._waiting = [rows[full:].clone()] if full < len(rows) else []  # a view would keep all rows in memory

    def merge(self, other: Moments) -> None:
        """Add the rows that another one has seen, such as another process's. `other` keeps its own."""
        if other.width != self.width:
            raise LimnerError(f"moments: {other.width} features and {self.width}; use one extractor for both")
        self._settle()
        other._settle()
        self._merge(other._count, other._mean, other._scatter)

    @property
    def count(self) -> int:
        """Rows added."""
        return self._count + sum(len(rows) for rows in self._waiting)

    @property
    def mean(self) -> Float[Tensor, "d"]:
        """float64 [d].

        Raises:
            LimnerError: no rows yet.
        """
        self._settle()
        if self._count < 1:
            raise LimnerError("moments: no images yet; add at least one before asking for the mean")
        return self._mean.clone()

    @property
    def covariance(self) -> Float[Tensor, "d d"]:
        """float64 [d, d], divided by n - 1; exactly symmetric.

        Raises:
            LimnerError: fewer than two rows.
        """
        self._settle()
        if self._count < 2:
            raise LimnerError(f"moments: {self._count} images have no covariance; use at least two")
        return (self._scatter + self._scatter.T) / (2 * (self._count - 1))

    def _settle(self) -> None:
        if self._waiting:
            (rows,) = self._waiting
            self._waiting = []
            self._add_block(rows)

    def _add_block(self, rows: Tensor) -> None:
        rows = rows.double()
        mean = rows.mean(dim=0)
        centred = rows - mean
        self._merge(len(rows), mean, centred.T @ centred)

    def _merge(self, count: int, mean: Tensor, scatter: Tensor) -> None:
        if count == 0:
            return
        total = self._count + count
        delta = mean - self._mean
        self._scatter += scatter
        self._scatter.addr_(delta, delta, alpha=self._count * count / total)  # (1)
        self._mean += delta * (count / total)
        self._count = total
