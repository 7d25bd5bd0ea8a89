"""Weighted sums of a matrix's rows, k for every row of the outcome: what interpolation is.

    y[p] = sum over k of w[p, k] x[i[p, k]]            gathered
    x'[m] = sum over all p, k with i[p, k] = m of w[p, k] y'[p]        scattered, the gradient in x
    w'[p, k] = <y'[p], x[i[p, k]]>                     paired, the gradient in w

Each one's derivatives are the other two, so that there are derivatives of every order. Sums run in one order, sorted by
rows, on every device: outcomes repeat exactly, which scattering by atomic additions does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

RADIX_ROWS = 2**16
"""of a part, below which NumPy sorts in a few milliseconds what takes torch four times as long"""


@dataclass(frozen=True)
class Rows:
    """Which rows of x go to a row of y. Both have `parts` of equally many rows, and no sum is over two parts."""

    index: Int64[Tensor, "parts rows k"]
    """of rows of x, counted from the beginning of the part"""
    rows_of_part: int
    """of x"""

    @cached_property
    def flat(self) -> Int64[Tensor, "p k"]:
        """Rows of x, counted from the beginning of x."""
        first = torch.arange(len(self.index), device=self.index.device) * self.rows_of_part
        return (self.index + first[:, None, None]).flatten(0, 1)

    @cached_property
    def by_source(self) -> tuple[Int64[Tensor, "pk"], Int64[Tensor, "m"]]:
        """Places in `flat`, sorted by the rows of x that they name, and where each of these rows' places begin."""
        places = self._sorted() + torch.arange(len(self.index), device=self.index.device)[:, None] * self._per_part
        counts = torch.bincount(self.flat.flatten(), minlength=len(self.index) * self.rows_of_part)
        return places.flatten(), counts.cumsum(0) - counts

    def _sorted(self) -> Int64[Tensor, "parts rowsk"]:
        index = self.index.flatten(1)
        if index.device.type != "cpu" or self.rows_of_part > RADIX_ROWS:
            return index.argsort(dim=1, stable=True)
        return torch.from_numpy(np.argsort(index.numpy().astype(np.uint16), axis=1, kind="stable"))

    @property
    def _per_part(self) -> int:
        return self.index.shape[1] * self.index.shape[2]


def gathered(x: Float[Tensor, "m c"], weights: Float[Tensor, "p k"], rows: Rows) -> Float[Tensor, "p c"]:
    """Sums of rows of x, times their weights."""
    return _Gather.apply(x, weights, rows)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, x: Tensor, weights: Tensor, rows: Rows) -> Tensor:
        context.save_for_backward(x, weights)
        context.rows = rows
        return F.embedding_bag(rows.flat, x, mode="sum", per_sample_weights=weights)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        (y,), (x, weights) = gradients, context.saved_tensors
        return (
            _Scatter.apply(y, weights, context.rows) if context.needs_input_grad[0] else None,
            _Pair.apply(y, x, context.rows) if context.needs_input_grad[1] else None,
            None,
        )


class _Scatter(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, y: Tensor, weights: Tensor, rows: Rows) -> Tensor:
        context.save_for_backward(y, weights)
        context.rows = rows
        places, starts = rows.by_source
        of_places = places // weights.shape[1], weights.flatten()[places]
        return F.embedding_bag(of_places[0], y.contiguous(), starts, mode="sum", per_sample_weights=of_places[1])

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        (x,), (y, weights) = gradients, context.saved_tensors
        return (
            _Gather.apply(x, weights, context.rows) if context.needs_input_grad[0] else None,
            _Pair.apply(y, x, context.rows) if context.needs_input_grad[1] else None,
            None,
        )


class _Pair(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, y: Tensor, x: Tensor, rows: Rows) -> Tensor:
        context.save_for_backward(y, x)
        context.rows = rows
        return torch.stack([(y * x[of_k]).sum(dim=1) for of_k in rows.flat.unbind(1)], dim=1)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        (weights,), (y, x) = gradients, context.saved_tensors
        return (
            _Gather.apply(x, weights, context.rows) if context.needs_input_grad[0] else None,
            _Scatter.apply(y, weights, context.rows) if context.needs_input_grad[1] else None,
            None,
        )
