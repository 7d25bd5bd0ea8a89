"""Precision, recall, density and coverage: fidelity and variety apart, from k-th nearest neighbours of features.

Kynkäänniemi et al., "Improved Precision and Recall Metric for Assessing Generative Models", 2019, arXiv 1904.06991:
a set's manifold is the union of balls around its points, each reaching to its point's k-th nearest neighbour.

    precision = share of fakes within the manifold of the reals                                     (1)
    recall    = share of reals within the manifold of the fakes                                     (2)

Naeem, Oh, Uh, Choi, Yoo, "Reliable Fidelity and Diversity Metrics for Generative Models", 2020, arXiv 2002.09797:

    density  = how many real balls a fake lies in, on average over fakes, / k                       (3)
    coverage = share of real balls in which a fake lies                                             (4)

One real outlier's ball can hold most fakes, hence (3); an outlier among the fakes can hold most reals, hence (4).
Density may exceed 1. On the border counts as within for (1) and (2), as in that paper, and as outside for (3) and (4),
as in that paper's code: so a set compared with itself has precision, recall, density and coverage of exactly 1.

Distances are float64 and in blocks of rows, 16 MB each: memory beyond that is linear in the counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from limner.errors import LimnerError
from limner.metrics.card import Measurement
from limner.metrics.moments import check_features

PRECISION_RECALL_K = 3
DENSITY_COVERAGE_K = 5

_DISTANCES_AT_ONCE = 1 << 21
_SAME = 1e-13
"""Squared distances below this share of the squared norms are rounding, so 0; float32 features that differ at all in a
coordinate that matters are further apart."""


class PrecisionRecall(NamedTuple):
    precision: float
    recall: float


class DensityCoverage(NamedTuple):
    density: float
    coverage: float


class PRDC(NamedTuple):
    precision: float
    recall: float
    density: float
    coverage: float


def precision_recall(reals: Tensor, fakes: Tensor, k: int = PRECISION_RECALL_K) -> PrecisionRecall:
    """Equations (1) and (2) of features [n, d] and [m, d].

    Raises:
        LimnerError: k not below both counts, unequal widths, values that are not finite.
    """
    return PrecisionRecall(*prdc(reals, fakes, k=k, density_k=k)[:2])


def density_coverage(reals: Tensor, fakes: Tensor, k: int = DENSITY_COVERAGE_K) -> DensityCoverage:
    """Equations (3) and (4) of features [n, d] and [m, d].

    Raises:
        LimnerError: k not below the count of reals, unequal widths, values that are not finite.
    """
    points, others = _prepare(reals, fakes)
    (radii,) = squared_radii(points, (k,), name="reals")
    counts, covered = torch.zeros(len(others)), []
    for rows, distances in _blocks(points, others):
        inside = distances < radii[rows, None]
        counts += inside.sum(dim=0)
        covered.append(inside.any(dim=1))
    return DensityCoverage(float(counts.double().mean()) / k, float(torch.cat(covered).double().mean()))


def prdc(
    reals: Tensor,
    fakes: Tensor,
    *,
    k: int = PRECISION_RECALL_K,
    density_k: int = DENSITY_COVERAGE_K,
    poll: Callable[[], None] = lambda: None,
) -> PRDC:
    """All four from one pass over each pair of sets, which costs 2 (n² + m² + n m) d operations.

    Args:
        reals: features [n, d].
        fakes: features [m, d].
        k: neighbours that make a ball for precision and recall.
        density_k: the same for density and coverage.
        poll: called between blocks; may raise, to stop.

    Raises:
        LimnerError: k not below both counts, unequal widths, values that are not finite.
    """
    points, others = _prepare(reals, fakes)
    wide, narrow = squared_radii(points, (k, density_k), name="reals", poll=poll)
    (fake_radii,) = squared_radii(others, (k,), name="fakes", poll=poll)
    precise, counts = torch.zeros(len(others), dtype=torch.bool), torch.zeros(len(others), dtype=torch.int64)
    recalled, covered = [], []
    for rows, distances in _blocks(points, others, poll):
        precise |= (distances <= wide[rows, None]).any(dim=0)  # (1)
        recalled.append((distances <= fake_radii).any(dim=1))  # (2)
        inside = distances < narrow[rows, None]
        counts += inside.sum(dim=0)  # (3)
        covered.append(inside.any(dim=1))  # (4)
    shares = [float(some.double().mean()) for some in (precise, torch.cat(recalled), counts, torch.cat(covered))]
    return PRDC(shares[0], shares[1], shares[2] / density_k, shares[3])


def measurements(
    found: PRDC, *, k: int = PRECISION_RECALL_K, density_k: int = DENSITY_COVERAGE_K
) -> dict[str, Measurement]:
    """One measurement each: "precision", "recall", "density", "coverage"."""
    neighbours = {"precision": k, "recall": k, "density": density_k, "coverage": density_k}
    return {
        name: Measurement(value=value, settings={"neighbours": neighbours[name], "distance": "Euclidean, float64"})
        for name, value in found._asdict().items()
    }


def squared_radii(
    points: Float[Tensor, "n d"], ks: tuple[int, ...], *, name: str = "points", poll: Callable[[], None] = lambda: None
) -> list[Float[Tensor, "n"]]:
    """For each k, every point's squared distance to its k-th nearest other point, float64.

    Raises:
        LimnerError: a k below 1, or not below the number of points.
    """
    if min(ks) < 1 or max(ks) >= len(points):
        raise LimnerError(f"{name}: {len(points)} images have no {max(ks)}-th neighbours; use more images or a lower k")
    nearest = []
    for rows, distances in _blocks(points, points, poll):
        distances[torch.arange(len(distances)), torch.arange(len(points))[rows]] = torch.inf  # a point is no neighbour
        nearest.append(distances.topk(max(ks), dim=1, largest=False).values)
    table = torch.cat(nearest)
    return [table[:, k - 1].contiguous() for k in ks]


def _prepare(reals: Tensor, fakes: Tensor) -> tuple[Tensor, Tensor]:
    check_features(reals, "reals")
    check_features(fakes, "fakes", width=reals.shape[1])
    # Distances do not feel a shift, but their rounding errors grow with the norms that it leaves.
    shift = reals.double().mean(dim=0)
    return reals.cpu().double() - shift.cpu(), fakes.cpu().double() - shift.cpu()


def _blocks(
    points: Tensor, others: Tensor, poll: Callable[[], None] = lambda: None
) -> Iterator[tuple[slice, Float[Tensor, "b m"]]]:
    """Rows of `points`, and their squared distances to all `others`."""
    step = max(1, _DISTANCES_AT_ONCE // len(others))
    norms, other_norms = points.square().sum(dim=1), others.square().sum(dim=1)
    for start in range(0, len(points), step):
        poll()
        rows = slice(start, start + step)
        sums = norms[rows, None] + other_norms
        distances = torch.addmm(sums, points[rows], others.T, alpha=-2)
        yield rows, distances.where(distances > _SAME * sums, 0.0)
