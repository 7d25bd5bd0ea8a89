"""Fréchet distance of two Gaussians that have the means and covariances of two sets of features.

    d² = ‖μ_a - μ_b‖² + tr A + tr B - 2 tr (AB)^½                                                   (1)

Dowson, Landau, "The Fréchet distance between multivariate normal distributions", Journal of Multivariate Analysis 12,
1982; Heusel et al. 2017, arXiv 1706.08500, take it of Inception features and call it FID. It is d² that both print.

AB is not symmetric and a general matrix square root of it may be complex or not exist. With A = R R' the same trace is
that of (R'BR)^½, whose eigenvalues are real and at least 0. Where fewer images than features make A and B singular,

    tr (AB)^½ = ‖X_a X_b'‖_* / √((n_a - 1)(n_b - 1))   (nuclear norm, X: centred features)          (2)

is exact and smaller. The distance is biased upwards by 1/n: compare equal counts only. With fewer images than features
it says little more than how many there were.
"""

from __future__ import annotations

import torch
from torch import Tensor

from limner.errors import LimnerError
from limner.metrics.moments import Moments, check_features

_SYMMETRY = 1e-6
"""relative; files hold covariances that are symmetric up to rounding"""


def check_covariance(covariance: Tensor, name: str) -> None:
    """Refuse what no covariance can be: not square, not finite, not symmetric, or with a negative variance."""
    if covariance.ndim != 2 or covariance.shape[0] != covariance.shape[1]:
        raise LimnerError(f"{name}: shape {list(covariance.shape)} of a covariance; it must be [d, d]")
    if not bool(torch.isfinite(covariance).all()):
        raise LimnerError(f"{name}: a covariance with values that are not finite; compute it again")
    scale = float(covariance.abs().max())
    if float((covariance - covariance.T).abs().max()) > _SYMMETRY * scale:
        raise LimnerError(f"{name}: a covariance that is not symmetric; it must be divided sums of (x - m)(x - m)'")
    if float(covariance.diagonal().min()) < -_SYMMETRY * scale:
        raise LimnerError(f"{name}: a covariance with a negative variance; compute it again")


def frechet_distance(mean_a: Tensor, covariance_a: Tensor, mean_b: Tensor, covariance_b: Tensor) -> float:
    """Equation (1) of means [d] and covariances [d, d]: at least 0 and finite, for singular covariances too.

    Computed in float64 on the CPU: one eigendecomposition and one set of eigenvalues of d×d matrices.

    Raises:
        LimnerError: shapes that do not fit, values that are not finite, covariances that are none.
    """
    mean_term, covariance_term = frechet_terms(mean_a, covariance_a, mean_b, covariance_b)
    return mean_term + covariance_term


def frechet_terms(mean_a: Tensor, covariance_a: Tensor, mean_b: Tensor, covariance_b: Tensor) -> tuple[float, float]:
    """The two terms of (1): ‖μ_a - μ_b‖², and what the covariances add. Both at least 0."""
    means = _check_means(mean_a, mean_b)
    for name, covariance in (("first", covariance_a), ("second", covariance_b)):
        check_covariance(covariance, name)
        if len(covariance) != len(means[0]):
            raise LimnerError(f"{name}: {len(covariance)} features in the covariance, {len(means[0])} in the mean")
    a, b = covariance_a.double().cpu(), covariance_b.double().cpu()
    root = _root(a)
    eigenvalues = torch.linalg.eigvalsh(_symmetric(root.T @ b @ root)) if root.shape[1] else torch.zeros(1).double()
    cross = float(eigenvalues.clamp_min(0).sqrt().sum())
    return float((means[0] - means[1]).square().sum()), max(float(a.trace() + b.trace()) - 2 * cross, 0.0)


def frechet_distance_of_features(a: Tensor, b: Tensor) -> float:
    """Equation (1) of two sets of features [n, d] and [m, d]; by (2) where either set has no more rows than features.

    Raises:
        LimnerError: fewer than two rows, unequal widths, values that are not finite.
    """
    check_features(a, "first")
    check_features(b, "second", width=a.shape[1])
    if min(len(a), len(b)) < 2:
        raise LimnerError(f"{len(a)} and {len(b)} images have no covariances; use at least two of each")
    if min(len(a), len(b)) > a.shape[1]:
        first, second = Moments.from_features(a), Moments.from_features(b)
        return frechet_distance(first.mean, first.covariance, second.mean, second.covariance)
    mean_a, centred_a = _centre(a)
    mean_b, centred_b = _centre(b)
    cross = float(torch.linalg.svdvals(centred_a @ centred_b.T).sum())  # (2)
    traces = float(centred_a.square().sum() + centred_b.square().sum())
    return float((mean_a - mean_b).square().sum()) + max(traces - 2 * cross, 0.0)


def _check_means(mean_a: Tensor, mean_b: Tensor) -> tuple[Tensor, Tensor]:
    if mean_a.ndim != 1 or mean_a.shape != mean_b.shape:
        raise LimnerError(f"means of shapes {list(mean_a.shape)} and {list(mean_b.shape)}; both must be [d]")
    if not bool(torch.isfinite(mean_a).all() and torch.isfinite(mean_b).all()):
        raise LimnerError("a mean with values that are not finite; compute it again")
    return mean_a.double().cpu(), mean_b.double().cpu()


def _root(covariance: Tensor) -> Tensor:
    """R [d, r] with R R' = the covariance, r its rank to rounding.

    Directions without variance are left out: their eigenvalues of 1e-16 would count as 1e-8 each after the root.
    """
    values, vectors = torch.linalg.eigh(_symmetric(covariance))
    smallest = float(values[-1].clamp_min(0)) * len(values) * torch.finfo(torch.float64).eps
    kept = values > smallest
    return vectors[:, kept] * values[kept].sqrt()


def _symmetric(matrix: Tensor) -> Tensor:
    return (matrix + matrix.T) / 2


def _centre(features: Tensor) -> tuple[Tensor, Tensor]:
    rows = features.double().cpu()
    mean = rows.mean(dim=0)
    return mean, (rows - mean) / (len(rows) - 1) ** 0.5
