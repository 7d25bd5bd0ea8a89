"""Precision, recall, density, coverage: hand-made points, brute force, expectations, ties and blocks."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from limner.errors import LimnerError
from limner.metrics import neighbours
from limner.metrics.neighbours import density_coverage, measurements, prdc, precision_recall, squared_radii


def normal(count: int, width: int, seed: int = 0) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def line(*places: float) -> Tensor:
    """Points on a line."""
    return torch.tensor([float(place) for place in places])[:, None]


def brute_force(reals: Tensor, fakes: Tensor, k: int, density_k: int) -> tuple[float, float, float, float]:
    """The definitions as loops over single distances."""
    a, b = reals.double(), fakes.double()

    def radius(points: Tensor, i: int, k: int) -> float:
        return sorted(float((points[i] - p).norm()) for j, p in enumerate(points) if j != i)[k - 1]

    wide, narrow = ([radius(a, i, k) for i in range(len(a))] for k in (k, density_k))
    fake_radii = [radius(b, j, k) for j in range(len(b))]
    far = [[float((x - y).norm()) for y in b] for x in a]
    n, m = range(len(a)), range(len(b))
    precision = sum(any(far[i][j] <= wide[i] for i in n) for j in m) / len(b)
    recall = sum(any(far[i][j] <= fake_radii[j] for j in m) for i in n) / len(a)
    density = sum(far[i][j] < narrow[i] for i in n for j in m) / (density_k * len(b))
    coverage = sum(any(far[i][j] < narrow[i] for j in m) for i in n) / len(a)
    return precision, recall, density, coverage


def test_radii_on_a_line() -> None:
    first, second = squared_radii(line(0, 1, 3, 7).double(), (1, 2))
    assert first.tolist() == [1, 1, 4, 16]
    assert second.tolist() == [9, 4, 9, 36]


def test_hand_made_points() -> None:
    """Reals 0 1 2 10, k = 1: balls 1, 1, 1, 8. Fakes 2.5, 11, 100, 101: balls 8.5, 8.5, 1, 1."""
    reals, fakes = line(0, 1, 2, 10), line(2.5, 11, 100, 101)
    assert precision_recall(reals, fakes, k=1) == (0.5, 1.0)
    found = density_coverage(reals, fakes, k=1)
    assert found.density == pytest.approx((2 + 1) / 4)  # 2.5 lies in the balls of 2 and 10, 11 in that of 10
    assert found.coverage == 0.5  # of 2 and 10


def test_one_outlier_holds_all_fakes_for_precision_but_not_for_density() -> None:
    """What density was made for: an outlier among the reals makes a huge ball."""
    reals = torch.cat([normal(200, 2), torch.tensor([[50.0, 50.0]])])
    fakes = torch.tensor([30.0, 30.0]) + normal(100, 2, 1)
    assert precision_recall(reals, fakes).precision == 1
    assert density_coverage(reals, fakes).density == pytest.approx(1 / 5)
    assert density_coverage(reals, fakes).coverage == pytest.approx(1 / 201)


@pytest.mark.parametrize("counts", [(40, 40), (25, 60), (60, 25)])
@pytest.mark.parametrize("block", [1, 70, 1 << 21])
def test_brute_force(counts: tuple[int, int], block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "_DISTANCES_AT_ONCE", block)
    reals, fakes = 1000 + normal(counts[0], 3, 1), 1000.3 + 1.2 * normal(counts[1], 3, 2)
    expected = brute_force(reals, fakes, 3, 5)
    assert prdc(reals, fakes) == pytest.approx(expected, abs=1e-12)
    assert precision_recall(reals, fakes) == pytest.approx(expected[:2], abs=1e-12)
    assert density_coverage(reals, fakes) == pytest.approx(expected[2:], abs=1e-12)


def test_a_set_and_itself() -> None:
    """Every distance is a tie with a radius; rounding must not break one."""
    reals = (1e3 + normal(500, 64)).contiguous()
    assert prdc(reals, reals.clone()) == (1, 1, 1, 1)


def test_far_apart_sets_share_nothing() -> None:
    assert prdc(normal(50, 4), 1e3 + normal(50, 4, 1)) == (0, 0, 0, 0)


def test_one_image_repeated_has_precision_and_no_recall() -> None:
    """Its ball has no radius: exact duplicates are at distance 0, whatever the products round to."""
    reals = 100 + normal(300, 512)
    fakes = reals[7:8].repeat(300, 1)
    found = prdc(reals, fakes)
    assert found.precision == 1
    assert found.recall == pytest.approx(1 / 300)
    assert found.coverage < 0.1


def test_half_of_the_modes_are_half_covered() -> None:
    centres = 100.0 * torch.eye(2)
    reals = torch.cat([centres[0] + normal(300, 2, 1), centres[1] + normal(300, 2, 2)])
    fakes = centres[0] + normal(600, 2, 3)
    found = prdc(reals, fakes)
    assert found.precision > 0.97
    assert found.recall == pytest.approx(0.5, abs=0.03)
    assert found.coverage == pytest.approx(0.5, abs=0.03)
    assert found.density == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("k", [1, 5])
def test_expectations_for_equal_distributions(k: int) -> None:
    """Density 1 and coverage 1 - Π_{j=1..k} (n - j)/(n + m - j) (Naeem et al.), in any distribution."""
    n, m, repeats = 60, 60, 60
    found = [density_coverage(normal(n, 8, 2 * i), normal(m, 8, 2 * i + 1), k) for i in range(repeats)]
    expected = 1 - math.prod((n - j) / (n + m - j) for j in range(1, k + 1))
    assert sum(f.coverage for f in found) / repeats == pytest.approx(expected, abs=0.02)
    assert sum(f.density for f in found) / repeats == pytest.approx(1, abs=0.05)


def test_settings_polls_and_refusals() -> None:
    reals, fakes = normal(50, 2), normal(50, 2, 1)
    calls = []
    found = measurements(prdc(reals, fakes, poll=lambda: calls.append(1)))
    assert len(calls) == 3
    assert list(found) == ["precision", "recall", "density", "coverage"]
    assert found["coverage"].settings["neighbours"] == 5
    with pytest.raises(LimnerError, match="fakes: 3 images have no 3-th"):
        precision_recall(reals, fakes[:3])
    with pytest.raises(LimnerError, match="reals: 5 images"):
        density_coverage(reals[:5], fakes)
    with pytest.raises(LimnerError, match="lower k"):
        precision_recall(reals, fakes, k=0)
    with pytest.raises(LimnerError, match="expected 2"):
        prdc(reals, normal(50, 3))
