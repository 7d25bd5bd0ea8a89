"""Streaming moments and the Fréchet distance: closed forms, singular covariances, and other people's formulas."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from limner.errors import LimnerError
from limner.metrics.frechet import frechet_distance, frechet_distance_of_features, frechet_terms
from limner.metrics.moments import Moments, check_features


def normal(count: int, width: int, seed: int = 0) -> Tensor:
    """float64 standard normal [count, width]."""
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def random_covariance(width: int, seed: int, rank: int | None = None) -> Tensor:
    root = normal(width, rank or 2 * width, seed)
    return root @ root.T / root.shape[1]


# --- moments ---


@pytest.mark.parametrize("batch", [1, 3, 64, 1000, 1300])
def test_moments_are_numpys_and_do_not_depend_on_batches(batch: int) -> None:
    """Features far from zero, where Σ x x' - n m m' would lose half its digits."""
    features = (1000 + 3 * normal(1300, 7)).float()
    whole, parts = Moments.from_features(features), Moments(7)
    for some in features.split(batch):
        parts.add(some)
    assert parts.count == 1300
    assert torch.equal(parts.mean, whole.mean)
    assert torch.equal(parts.covariance, whole.covariance)
    rows = features.double().numpy()
    np.testing.assert_allclose(whole.mean, rows.mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose(whole.covariance, np.cov(rows, rowvar=False), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("cuts", [(0, 0), (1, 2), (500, 1200), (650, 650)])
def test_moments_of_parts_merge(cuts: tuple[int, int]) -> None:
    """As three processes would hold them, one of them without a single image."""
    features = 5 + normal(1300, 6)
    whole, merged = Moments.from_features(features), Moments(6)
    for start, stop in itertools.pairwise((0, *cuts, 1300)):
        part = Moments(6)
        if stop > start:
            part.add(features[start:stop])
        merged.merge(part)
        assert part.count == stop - start
    assert merged.count == 1300
    assert torch.allclose(merged.mean, whole.mean, rtol=1e-14, atol=0)
    assert torch.allclose(merged.covariance, whole.covariance, rtol=1e-12, atol=1e-14)


def test_asking_for_moments_half_way_changes_nothing_that_matters() -> None:
    features = normal(900, 5)
    moments = Moments(5)
    moments.add(features[:700])
    assert torch.allclose(moments.covariance, torch.cov(features[:700].T), atol=1e-13)
    moments.add(features[700:])
    assert torch.allclose(moments.covariance, torch.cov(features.T), atol=1e-13)


def test_memory_does_not_grow_with_images() -> None:
    moments = Moments(4)
    for seed in range(40):
        moments.add(normal(100, 4, seed))
    assert sum(rows.untyped_storage().nbytes() for rows in moments._waiting) < 512 * 4 * 8


def test_bad_features_are_refused_and_leave_nothing_behind() -> None:
    moments = Moments(3)
    moments.add(normal(4, 3))
    spoilt = normal(5, 3)
    spoilt[2, 1] = torch.nan
    with pytest.raises(LimnerError, match="row 2 is not finite"):
        moments.add(spoilt)
    with pytest.raises(LimnerError, match="expected 3"):
        moments.add(normal(4, 2))
    with pytest.raises(LimnerError, match="floats"):
        check_features(torch.zeros(4, 3, dtype=torch.int64))
    with pytest.raises(LimnerError, match="one row per image"):
        check_features(torch.zeros(3))
    assert moments.count == 4
    with pytest.raises(LimnerError, match="at least two"):
        _ = Moments.from_features(normal(1, 3)).covariance
    with pytest.raises(LimnerError, match="at least one"):
        _ = Moments(3).mean


# --- closed forms ---


@pytest.mark.parametrize("rank", [None, 1, 5])
def test_equal_gaussians_are_at_zero(rank: int | None) -> None:
    covariance = random_covariance(30, 0, rank)
    mean = normal(1, 30)[0]
    assert frechet_distance(mean, covariance, mean, covariance) < 1e-9 * float(covariance.trace())


def test_a_shift_costs_its_square() -> None:
    covariance, shift = random_covariance(12, 1), torch.linspace(-1, 2, 12).double()
    found = frechet_distance(torch.zeros(12), covariance, shift, covariance)
    assert found == pytest.approx(float(shift.square().sum()), rel=1e-9)


def test_a_scale_costs_the_trace_times_its_change_squared() -> None:
    """A and s²A: tr A (1 - s)²."""
    covariance = random_covariance(20, 2)
    found = frechet_distance(torch.zeros(20), covariance, torch.zeros(20), 9 * covariance)
    assert found == pytest.approx(4 * float(covariance.trace()), rel=1e-9)


def test_commuting_covariances() -> None:
    """Equal eigenvectors: Σ (√a - √b)², however the eigenvalues are paired; some of them zero."""
    axes = torch.linalg.qr(normal(15, 15)).Q
    a, b = torch.linspace(0, 5, 15).double(), torch.linspace(3, 0, 15).double() ** 2
    found = frechet_distance(
        torch.zeros(15), (axes * a) @ axes.T, torch.zeros(15), ((axes * b) @ axes.T).float().double()
    )
    assert found == pytest.approx(float((a.sqrt() - b.sqrt()).square().sum()), rel=1e-5)


def test_two_by_two_that_do_not_commute() -> None:
    """In the plane tr (AB)^½ = √(tr AB + 2 √(det A det B))."""
    a, b = torch.tensor([[2.0, 0.6], [0.6, 1.0]]).double(), torch.tensor([[1.0, -0.7], [-0.7, 3.0]]).double()
    cross = ((a @ b).trace() + 2 * (a.det() * b.det()).sqrt()).sqrt()
    expected = float(a.trace() + b.trace() - 2 * cross)
    assert frechet_distance(torch.zeros(2), a, torch.zeros(2), b) == pytest.approx(expected, abs=1e-12)
    assert frechet_distance(torch.zeros(2), b, torch.zeros(2), a) == pytest.approx(expected, abs=1e-12)


def test_orthogonal_supports_share_nothing() -> None:
    """AB = 0: the distance is tr A + tr B. A point set at one place is the extreme."""
    a, b = torch.diag(torch.tensor([1.0, 2, 0, 0])), torch.diag(torch.tensor([0, 0, 3.0, 0]))
    zero = torch.zeros(4)
    assert frechet_distance(zero, a, zero, b) == pytest.approx(6, abs=1e-12)
    assert frechet_distance(zero, a, zero, torch.zeros(4, 4)) == pytest.approx(3, abs=1e-12)
    assert frechet_distance(zero, torch.zeros(4, 4), zero, torch.zeros(4, 4)) == 0


def test_rounding_below_zero_is_no_variance() -> None:
    """Covariances from files are often singular with eigenvalues of -1e-17; a root of those would be NaN."""
    root = normal(40, 3)
    a = (root @ root.T).float().double()
    assert float(torch.linalg.eigvalsh(a)[0]) < 0
    found = frechet_distance(torch.zeros(40), a, torch.zeros(40), random_covariance(40, 5))
    assert np.isfinite(found)
    assert found > 0


# --- fewer images than features ---


@pytest.mark.parametrize(("count_a", "count_b"), [(20, 20), (20, 35), (50, 12), (20, 300), (2, 2), (50, 51)])
def test_both_ways_agree_where_covariances_are_singular(count_a: int, count_b: int) -> None:
    a, b = normal(count_a, 50, 1) + 0.5, 2 * normal(count_b, 50, 2)
    first, second = Moments.from_features(a), Moments.from_features(b)
    by_covariance = frechet_distance(first.mean, first.covariance, second.mean, second.covariance)
    assert frechet_distance_of_features(a, b) == pytest.approx(by_covariance, rel=1e-6)


@pytest.mark.parametrize("count", [2, 10, 49, 50, 51, 400])
def test_equal_sets_are_at_zero(count: int) -> None:
    features = normal(count, 50).float()
    moments = Moments.from_features(features)
    assert frechet_distance_of_features(features, features) < 1e-9
    assert frechet_distance(*[moments.mean, moments.covariance] * 2) < 1e-9


def test_the_terms_are_of_means_and_of_covariances() -> None:
    shift, one = torch.tensor([3.0, 4.0]), torch.eye(2)
    assert frechet_terms(torch.zeros(2), one, shift, 4 * one) == (25, pytest.approx(2))


def test_the_bias_falls_as_one_over_the_count() -> None:
    """Two samples of one Gaussian: the mean's part is 2 d/n on average, and all of it falls with n."""
    found = {}
    for count in (200, 400, 800):
        pairs = [(normal(count, 10, 2 * s), normal(count, 10, 2 * s + 1)) for s in range(40)]
        found[count] = float(np.mean([frechet_distance_of_features(a, b) for a, b in pairs]))
        means = [float((a.mean(0) - b.mean(0)).square().sum()) for a, b in pairs]
        assert np.mean(means) == pytest.approx(2 * 10 / count, rel=0.25)
    assert found[200] / found[400] == pytest.approx(2, rel=0.15)
    assert found[400] / found[800] == pytest.approx(2, rel=0.15)


# --- others ---


def test_torchmetrics_formula_agrees() -> None:
    from torchmetrics.image.fid import _compute_fid

    a, b = normal(500, 30, 1) @ normal(30, 30, 3), normal(500, 30, 2) + 0.3
    first, second = Moments.from_features(a), Moments.from_features(b)
    theirs = float(_compute_fid(first.mean, first.covariance, second.mean, second.covariance))
    found = frechet_distance(first.mean, first.covariance, second.mean, second.covariance)
    assert found == pytest.approx(theirs, rel=1e-9)


def test_what_is_no_covariance_is_refused() -> None:
    zero, one = torch.zeros(3), torch.eye(3)
    bad = one.clone()
    bad[0, 1] = 1
    with pytest.raises(LimnerError, match="not symmetric"):
        frechet_distance(zero, one, zero, bad)
    with pytest.raises(LimnerError, match="negative variance"):
        frechet_distance(zero, -one, zero, one)
    with pytest.raises(LimnerError, match="not finite"):
        frechet_distance(zero, one, zero, one * torch.nan)
    with pytest.raises(LimnerError, match="in the mean"):
        frechet_distance(zero, one, zero, torch.eye(4))
    with pytest.raises(LimnerError, match="at least two"):
        frechet_distance_of_features(normal(1, 3), normal(5, 3))
