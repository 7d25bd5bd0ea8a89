"""What a probe's readings are worth: figures from pictures that had no part in its training."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

_MOST_PAIRS = 5_000


@dataclass(frozen=True)
class AttributeFigure:
    """How well one attribute is read. `majority` is the accuracy of always giving the commoner answer."""

    name: str
    accuracy: float
    majority: float
    balanced: float | None
    """mean of the accuracies on those that have it and those that do not; None where all are alike"""

    @property
    def way(self) -> float:
        """How far the accuracy got from the majority share (0) to certainty (1); below 0 where it is worse."""
        return (self.accuracy - self.majority) / (1 - self.majority) if self.majority < 1 else 0.0

    @property
    def reads_well(self) -> bool:
        """At least half of the way: what is read worse is hardly worth building on."""
        return self.way >= 0.5

    @property
    def told_share(self) -> float:
        """How much of what it reads the truth tells: the information of both, over the larger of their entropies.

        1 for a probe that never errs, 0 for one that guesses or always says the same. The accuracies on either class
        follow from the two that are known; where both classes are as common these are one, and taken to be equal.
        """
        if self.balanced is None:
            return 0.0
        tilt = self.majority - 0.5
        apart = (self.accuracy - self.balanced) / tilt / 2 if tilt > 1e-9 else 0.0
        common, rare = (min(max(self.balanced + side * apart, 0.0), 1.0) for side in (1, -1))
        shares = torch.tensor([self.majority, 1 - self.majority], dtype=torch.float64)
        right = torch.tensor([[common, 1 - common], [1 - rare, rare]], dtype=torch.float64)  # [truth, reading]
        joint = shares[:, None] * right
        read = -torch.xlogy(joint.sum(0), joint.sum(0)).sum()
        both = -torch.xlogy(joint, joint).sum()
        truth = -torch.xlogy(shares, shares).sum()
        return float((truth + read - both) / torch.maximum(truth, read)) if truth > 0 else 0.0

    @property
    def entropy(self) -> float:
        """Of the attribute among the pictures that it was judged on, nats."""
        return -sum(share * math.log(share) for share in (self.majority, 1 - self.majority) if share > 0)


@dataclass(frozen=True)
class PoseFigure:
    """Mean absolute errors of (yaw, pitch, roll) in radians: the probe's, and of always answering the mean."""

    error_radians: tuple[float, float, float]
    guess_radians: tuple[float, float, float]


@dataclass(frozen=True)
class IdentityFigure:
    """Whether two pictures show one person, told by the distance 1 - cos of their embeddings."""

    accuracy: float
    """of "closer than `threshold`" on equally many pairs of one person and of two"""
    auc: float
    """chance that a pair of one person is closer than a pair of two"""
    threshold: float
    """distance, chosen on the validation split"""
    same_distance: float
    different_distance: float
    pairs: int
    """of each kind"""


@dataclass(frozen=True)
class Accuracy:
    """All held-out figures of a probe."""

    attributes: tuple[AttributeFigure, ...]
    pose: PoseFigure | None
    identity: IdentityFigure | None

    def of(self, name: str) -> AttributeFigure:
        """The figure of an attribute; KeyError where it is not read."""
        for figure in self.attributes:
            if figure.name == name:
                return figure
        raise KeyError(name)


def judge_attribute(name: str, said: Bool[Tensor, "n"], truth: Bool[Tensor, "n"]) -> AttributeFigure:
    """Compare what was said of n pictures with the truth."""
    right = (said == truth).double()
    share = float(truth.double().mean())
    balanced = float((right[truth].mean() + right[~truth].mean()) / 2) if 0 < share < 1 else None
    return AttributeFigure(name, float(right.mean()), max(share, 1 - share), balanced)


def judge_pose(said: Float[Tensor, "n 3"], truth: Float[Tensor, "n 3"], guess: Float[Tensor, "3"]) -> PoseFigure:
    """Compare angles, radians, with the truth; `guess` is the mean of the pictures trained on."""
    error, guessed = (said - truth).abs().double().mean(0), (guess - truth).abs().double().mean(0)
    return PoseFigure(tuple(error.tolist()), tuple(guessed.tolist()))


def judge_identity(
    chosen_on: tuple[Float[Tensor, "v e"], Int64[Tensor, "v"]],
    embedding: Float[Tensor, "n e"],
    identity: Int64[Tensor, "n"],
    generator: torch.Generator,
) -> IdentityFigure:
    """Tell pairs of one person from pairs of two; the threshold comes from the pictures and identities `chosen_on`.

    Both need two pictures of somebody and pictures of two people.
    """
    threshold = _best_threshold(*_distances(*chosen_on, generator))
    same, different = _distances(embedding, identity, generator)
    right = (same < threshold).double().mean() + (different >= threshold).double().mean()
    auc = chance_below(same, different)
    return IdentityFigure(float(right / 2), auc, threshold, float(same.mean()), float(different.mean()), len(same))


def chance_below(low: Float[Tensor, "p"], high: Float[Tensor, "q"]) -> float:
    """How often one of `low` is below one of `high`; a tie counts half."""
    ordered = high.sort().values
    not_above = torch.searchsorted(ordered, low) + torch.searchsorted(ordered, low, right=True)
    return 1 - float(not_above.double().mean()) / 2 / len(high)


def has_pairs(identity: Int64[Tensor, "n"]) -> bool:
    """Whether somebody is there twice, and somebody else too."""
    people = len(identity.unique())
    return 1 < people < len(identity)


def _distances(
    embedding: Float[Tensor, "n e"], identity: Int64[Tensor, "n"], generator: torch.Generator
) -> tuple[Float[Tensor, "p"], Float[Tensor, "p"]]:
    """Distances of seeded pairs of one person, each pair once, and of as many pairs of two people."""
    order = torch.randperm(len(identity), generator=generator)
    order = order[identity[order].argsort(stable=True)]
    same = _pairs_of_one(identity[order])
    same = order[same[torch.randperm(len(same), generator=generator)[:_MOST_PAIRS]]]
    near, far = (
        1 - (embedding[pair[:, 0]].double() * embedding[pair[:, 1]]).sum(1)
        for pair in (same, _pairs_of_two(identity, len(same), generator))
    )
    return near, far


def _pairs_of_one(identity: Int64[Tensor, "n"]) -> Int64[Tensor, "p 2"]:
    """All places (i, j) of equal identities at most three apart, in a list sorted by identity: memory stays linear."""
    places = torch.arange(len(identity))
    pairs = [torch.stack([places[:-step], places[step:]], 1) for step in range(1, min(4, len(identity)))]
    every = torch.cat(pairs)
    return every[identity[every[:, 0]] == identity[every[:, 1]]]


def _pairs_of_two(identity: Int64[Tensor, "n"], count: int, generator: torch.Generator) -> Int64[Tensor, "p 2"]:
    pairs = torch.randint(len(identity), (count, 2), generator=generator)
    while (alike := identity[pairs[:, 0]] == identity[pairs[:, 1]]).any():
        pairs[alike] = torch.randint(len(identity), (int(alike.sum()), 2), generator=generator)
    return pairs


def _best_threshold(same: Float[Tensor, "p"], different: Float[Tensor, "p"]) -> float:
    """Half-way between two neighbouring distances, where most pairs are told right."""
    every = torch.cat([same, different]).sort().values
    between = (every[1:] + every[:-1]) / 2
    right = torch.searchsorted(same.sort().values, between) - torch.searchsorted(different.sort().values, between)
    return float(between[right.argmax()])
