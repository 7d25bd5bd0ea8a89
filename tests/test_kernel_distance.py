"""Kernel distance and Inception score: expectations in closed form, brute force, and torchmetrics' formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from limner.errors import LimnerError
from limner.metrics.inception_score import inception_score, score
from limner.metrics.kernel import kernel, kernel_distance, squared_mmd


def normal(count: int, width: int, seed: int = 0) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# --- kernel distance ---


def test_brute_force() -> None:
    x, y = normal(7, 4, 1), normal(7, 4, 2) + 0.3

    def k(a: Tensor, b: Tensor) -> float:
        return (float(a @ b) / 4 + 1) ** 3

    pairs = [(i, j) for i in range(7) for j in range(7)]
    within = np.mean([k(x[i], x[j]) + k(y[i], y[j]) for i, j in pairs if i != j])
    expected = within - 2 * np.mean([k(x[i], y[j]) for i, j in pairs])
    assert squared_mmd(x, y) == pytest.approx(float(expected), rel=1e-12)


@pytest.mark.parametrize("width", [3, 20])
@pytest.mark.parametrize("size", [0.0, 0.7])
def test_shifted_gaussians_have_the_expectation_of_the_polynomial(width: int, size: float) -> None:
    """N(0, I) and N(μ, I), s = ‖μ‖²: MMD² = (s³ + 6s² + (3d + 6)s)/d³ + 3s²/d² + 3s/d, at any count."""
    shift = torch.full((width,), size / math.sqrt(width)).double()
    s, d = size**2, width
    expected = (s**3 + 6 * s**2 + (3 * d + 6) * s) / d**3 + 3 * s**2 / d**2 + 3 * s / d
    for count in (5, 200):
        repeats = 20000 // count
        values = [squared_mmd(normal(count, d, 2 * i), normal(count, d, 2 * i + 1) + shift) for i in range(repeats)]
        error = np.std(values) / math.sqrt(repeats)
        assert np.mean(values) == pytest.approx(expected, abs=3.5 * error)


def test_the_unbiased_estimate_of_a_set_with_itself() -> None:
    """The cross term holds the diagonal, the inner ones do not: 2 (off-diagonal mean - mean), which is below 0."""
    x = normal(50, 6)
    gram = (x @ x.T / 6 + 1) ** 3
    off = (gram.sum() - gram.trace()) / (50 * 49)
    assert kernel_distance(x, x) == (pytest.approx(2 * float(off - gram.mean()), rel=1e-9), 0.0)


def test_the_seed_and_the_features_decide_alone() -> None:
    a, b = normal(300, 5, 1).float(), normal(300, 5, 2).float()
    first = kernel_distance(a, b, subsets=10, subset_size=50, seed=3)
    assert kernel_distance(a, b, subsets=10, subset_size=50, seed=3) == first
    assert kernel_distance(a, b, subsets=10, subset_size=50, seed=4) != first
    torch.manual_seed(0)
    before = torch.get_rng_state()
    kernel_distance(a, b, subsets=2, subset_size=50)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_settings_say_which_subsets_were_used() -> None:
    a, b = normal(300, 5, 1), normal(80, 5, 2)
    assert kernel(a, b, subsets=4, subset_size=50).settings["subset_size"] == 50
    fewer = kernel(a, b, subsets=4).settings
    assert (fewer["subset_size"], fewer["subsets"]) == (80, 4)
    whole = kernel(b, b + 1)
    assert (whole.settings["subset_size"], whole.settings["subsets"]) == (80, 1)
    assert whole.values["deviation"] == 0
    assert whole.value == pytest.approx(squared_mmd(b, b + 1), rel=1e-9)


def test_torchmetrics_formula_agrees() -> None:
    from torchmetrics.image.kid import poly_mmd

    a, b = normal(60, 9, 1), normal(60, 9, 2) * 1.2
    assert squared_mmd(a, b) == pytest.approx(float(poly_mmd(a, b)), rel=1e-9)


def test_polls_and_refusals() -> None:
    calls = []
    kernel_distance(normal(30, 2, 1), normal(30, 2, 2), subsets=7, subset_size=9, poll=lambda: calls.append(1))
    assert len(calls) == 7
    with pytest.raises(LimnerError, match="at least one of two images"):
        kernel_distance(normal(1, 2), normal(30, 2))
    with pytest.raises(LimnerError, match="at least one of two images"):
        kernel_distance(normal(30, 2), normal(30, 2), subsets=0)
    with pytest.raises(LimnerError, match="expected 2"):
        kernel_distance(normal(30, 2), normal(30, 3))
    with pytest.raises(LimnerError, match="not finite"):
        kernel_distance(normal(30, 2), normal(30, 2) / 0)


# --- Inception score ---


def test_undecided_images_score_one() -> None:
    assert inception_score(torch.zeros(100, 7)) == (pytest.approx(1, abs=1e-12), pytest.approx(0, abs=1e-12))


def test_alike_images_score_one_however_certain() -> None:
    assert inception_score(20 * normal(1, 7).expand(100, 7))[0] == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("present", [1, 3, 8])
def test_certain_images_score_the_number_of_classes_present(present: int) -> None:
    """Even counts of each class, one split: exp(log k) = k. Certain means probabilities of 0 and 1, without NaN."""
    logits = 1000 * torch.eye(8)[torch.arange(240) % present]
    assert inception_score(logits, splits=1)[0] == pytest.approx(present, rel=1e-9)


def test_two_classes_in_closed_form() -> None:
    """Half the images (p, 1-p), half the reverse: log 2 minus the entropy of p."""
    p = 0.8
    logits = torch.tensor([[p, 1 - p], [1 - p, p]]).double().log().repeat(50, 1)
    entropy = -p * math.log(p) - (1 - p) * math.log(1 - p)
    assert inception_score(logits, splits=1)[0] == pytest.approx(math.exp(math.log(2) - entropy), rel=1e-12)


def test_split_scores_are_of_disjoint_parts() -> None:
    """As many splits as images: each part is one image, whose marginal is itself."""
    assert inception_score(5 * normal(12, 4), splits=12) == (pytest.approx(1), pytest.approx(0, abs=1e-9))
    sorted_classes = 100 * torch.eye(5).repeat_interleave(20, dim=0)
    assert inception_score(sorted_classes, splits=5)[0] > 3  # 1 if parts were taken in the order given


def test_the_order_is_seeded() -> None:
    logits = 3 * normal(90, 5)
    assert inception_score(logits, seed=1) == inception_score(logits, seed=1)
    assert inception_score(logits, seed=1) != inception_score(logits, seed=2)


@pytest.mark.filterwarnings("ignore")
def test_torchmetrics_agrees_with_one_split() -> None:
    from torchmetrics.image.inception import InceptionScore

    logits = (2 * normal(64, 6)).float()
    theirs = InceptionScore(feature=torch.nn.Identity(), splits=1)
    theirs.features = [logits]
    value, _ = theirs.compute()
    assert inception_score(logits, splits=1)[0] == pytest.approx(float(value), rel=1e-5)


def test_score_refusals() -> None:
    with pytest.raises(LimnerError, match="fewer splits"):
        inception_score(torch.zeros(5, 3))
    with pytest.raises(LimnerError, match="not finite"):
        inception_score(torch.full((20, 3), -math.inf))
    assert score(torch.zeros(20, 3)).settings["classes"] == 3
