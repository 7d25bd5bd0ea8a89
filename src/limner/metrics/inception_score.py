"""Inception score: are single images of one class for certain, and are all classes there?

Salimans et al., "Improved Techniques for Training GANs", 2016, arXiv 1606.03498, section 4:

    IS = exp( mean_i KL( p(y|x_i) ‖ p(y) ) ),   p(y) = mean_i p(y|x_i)                              (1)

From 1 (every image alike to the classifier) to the number of classes. The classes are ImageNet's, which has no faces:
on faces it says nearly nothing. It never sees a real image.
"""

from __future__ import annotations

import itertools

import torch
from jaxtyping import Float
from torch import Tensor

from limner.errors import LimnerError
from limner.metrics.card import Measurement
from limner.metrics.moments import check_features

SPLITS = 10


def inception_score(logits: Float[Tensor, "n k"], *, splits: int = SPLITS, seed: int = 0) -> tuple[float, float]:
    """Mean and standard deviation of (1) over `splits` equal parts of the images in a random order.

    Args:
        logits: class scores before the softmax.
        splits: parts; each has its own p(y), so that more of them make the score smaller.
        seed: of the order, drawn on the CPU.

    Raises:
        LimnerError: fewer images than splits, values that are not finite.
    """
    check_features(logits, "logits")
    if not 1 <= splits <= len(logits):
        raise LimnerError(f"inception_score: {splits} splits of {len(logits)} images; use fewer splits or more images")
    order = torch.randperm(len(logits), generator=torch.Generator().manual_seed(seed))
    shuffled = logits.cpu()[order].double().log_softmax(dim=1)
    bounds = [part * len(logits) // splits for part in range(splits + 1)]
    scores = [_score(shuffled[start:stop]) for start, stop in itertools.pairwise(bounds)]
    values = torch.stack(scores)
    return float(values.mean()), float(values.std(correction=0))


def score(logits: Tensor, *, splits: int = SPLITS, seed: int = 0) -> Measurement:
    """`inception_score`, with its settings."""
    mean, deviation = inception_score(logits, splits=splits, seed=seed)
    return Measurement(
        value=mean,
        values={"deviation": deviation},
        settings={"splits": splits, "classes": logits.shape[1], "order": "random"},
    )


def _score(log_probabilities: Tensor) -> Tensor:
    probabilities = log_probabilities.exp()
    marginal = probabilities.mean(dim=0)
    entropy_of_all = -torch.xlogy(marginal, marginal).sum()
    entropy_of_each = -(probabilities * log_probabilities).sum(dim=1).mean()
    return (entropy_of_all - entropy_of_each).clamp_min(0).exp()  # (1), the KL's mean as a difference of entropies
