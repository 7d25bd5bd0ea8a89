"""Kernel distance: the squared maximum mean discrepancy of two sets of features under a cubic polynomial kernel.

Bińkowski, Sutherland, Arbel, Gretton, "Demystifying MMD GANs", ICLR 2018, arXiv 1801.01401, who take Inception features
and call it KID:

    k(x, y) = (x·y / d + 1)³                                                                        (1)
    MMD² = mean_{i≠j} k(x_i, x_j) + mean_{i≠j} k(y_i, y_j) - 2 mean_{i,j} k(x_i, y_j)                 (2)

(2) is unbiased: its expectation does not depend on the count, is 0 for equal distributions, and single values may be
negative. It is averaged over random subsets, and the deviation over the subsets says how sure it is.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from limner.errors import LimnerError
from limner.metrics.card import Measurement
from limner.metrics.moments import check_features

SUBSETS = 100
SUBSET_SIZE = 1000


def squared_mmd(x: Float[Tensor, "m d"], y: Float[Tensor, "m d"]) -> float:
    """Equation (2) of two sets of m ≥ 2 rows each, in float64."""
    m = len(x)
    x64, y64 = x.double(), y.double()
    within_x, within_y = (_kernel(z, z) for z in (x64, y64))
    within = within_x.sum() - within_x.trace() + within_y.sum() - within_y.trace()
    return float(within / (m * (m - 1)) - 2 * _kernel(x64, y64).mean())


def kernel_distance(
    a: Tensor,
    b: Tensor,
    *,
    subsets: int = SUBSETS,
    subset_size: int = SUBSET_SIZE,
    seed: int = 0,
    poll: Callable[[], None] = lambda: None,
) -> tuple[float, float]:
    """Mean and standard deviation of (2) over random subsets, each drawn without replacement.

    Where a set has fewer than `subset_size` rows, subsets have as many as the smaller set. Where both sets have no
    more than that, the only subset is everything, and the deviation is 0: it says nothing then.

    Args:
        a: features of one set [n, d], on any device.
        b: features of the other [m, d].
        subsets: how many.
        subset_size: rows of a subset.
        seed: of the subsets, drawn on the CPU.
        poll: called between subsets; may raise, to stop.

    Raises:
        LimnerError: fewer than two rows, unequal widths, values that are not finite, subsets below 1.
    """
    check_features(a, "first")
    check_features(b, "second", width=a.shape[1])
    size, subsets = _plan(len(a), len(b), subsets, subset_size)
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(subsets):
        poll()
        rows_a, rows_b = (torch.randperm(len(rows), generator=generator)[:size].to(rows.device) for rows in (a, b))
        found.append(squared_mmd(a[rows_a], b[rows_b]))
    values = torch.tensor(found, dtype=torch.float64)
    return float(values.mean()), float(values.std(correction=0))


def kernel(
    reals: Tensor,
    fakes: Tensor,
    *,
    subsets: int = SUBSETS,
    subset_size: int = SUBSET_SIZE,
    seed: int = 0,
    poll: Callable[[], None] = lambda: None,
) -> Measurement:
    """`kernel_distance`, with the subsets that were really used."""
    mean, deviation = kernel_distance(reals, fakes, subsets=subsets, subset_size=subset_size, seed=seed, poll=poll)
    size, used = _plan(len(reals), len(fakes), subsets, subset_size)
    return Measurement(
        value=mean,
        values={"deviation": deviation},
        settings={"kernel": "(x·y/d + 1)³", "estimator": "unbiased", "subsets": used, "subset_size": size},
    )


def _plan(count_a: int, count_b: int, subsets: int, subset_size: int) -> tuple[int, int]:
    """Rows of a subset, and how many subsets."""
    size = min(subset_size, count_a, count_b)
    if size < 2 or subsets < 1:
        raise LimnerError(f"{subsets} subsets of {size} images; at least one of two images is needed")
    return size, 1 if size == max(count_a, count_b) else subsets


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    return (x @ y.T).div_(x.shape[1]).add_(1).pow_(3)  # (1)
