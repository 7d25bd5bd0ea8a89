"""What a labelled dataset has to teach: pictures to learn from, choose on and judge on, and their truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from limner.data.dataset import Dataset
from limner.errors import DataError, LimnerError
from limner.metrics.probe.figures import has_pairs
from limner.metrics.probe.network import LARGEST, SMALLEST

_VALID, _TEST = 0.05, 0.15
"""shares held back where the dataset holds back none"""
_FEWEST = 20
_SHIFT = 1 / 32
"""of the side: pictures are moved this far at most while training"""


@dataclass(frozen=True)
class Truth:
    """What is known of n pictures: attributes [n, a] of 0 and 1, pose in radians, who it is."""

    attributes: Float[Tensor, "n a"]
    pose: Float[Tensor, "n 3"] | None
    identity: Int64[Tensor, "n"] | None

    def of(self, rows: Int64[Tensor, "k"]) -> Truth:
        """The truth of some of the pictures, in their order."""
        pose = None if self.pose is None else self.pose[rows]
        return Truth(self.attributes[rows], pose, None if self.identity is None else self.identity[rows])

    def to(self, device: torch.device) -> Truth:
        """The same on a device."""
        pose = None if self.pose is None else self.pose.to(device)
        return Truth(self.attributes.to(device), pose, None if self.identity is None else self.identity.to(device))

    def mirrored(self, which: Tensor) -> Truth:
        """The truth once the pictures of `which`, bool [n], are mirrored: yaw and roll change sign, nothing else."""
        if self.pose is None:
            return self
        signs = torch.where(which[:, None], torch.tensor([-1.0, 1.0, -1.0]), 1.0)
        return Truth(self.attributes, self.pose * signs, self.identity)


@dataclass(frozen=True)
class Lessons:
    """A labelled dataset at one resolution, in three parts of which no picture (nor known person) is in two."""

    dataset: Dataset
    resolution: int
    truth: Truth
    rows: dict[str, Int64[Tensor, "k"]]
    """rows of the dataset by split: "train", "valid", "test" """
    rule: str
    """how the splits were made"""

    @property
    def names(self) -> tuple[str, ...]:
        """Of the attributes, in the order of their columns."""
        return self.dataset.attribute_names if self.truth.attributes.shape[1] else ()

    def images(self, rows: Int64[Tensor, "k"]) -> UInt8[Tensor, "k r r 3"]:
        """The pictures of these rows."""
        return torch.from_numpy(self.dataset.read(self.resolution, rows.numpy()))

    def varied(
        self, rows: Int64[Tensor, "k"], mirror: bool, generator: torch.Generator
    ) -> tuple[UInt8[Tensor, "k r r 3"], Truth]:
        """The pictures of these rows moved a little, half of them mirrored if so wished, and what is then true."""
        reach, count, side = round(self.resolution * _SHIFT), len(rows), torch.arange(self.resolution)
        moves = torch.randint(-reach, reach + 1, (2, count, 1), generator=generator)
        flips = torch.rand(count, generator=generator) < (0.5 if mirror else 0.0)
        down, across = (side + moves).clamp(0, self.resolution - 1)
        across = torch.where(flips[:, None], across.flip(1), across)
        images = self.images(rows)[torch.arange(count)[:, None, None], down[:, :, None], across[:, None]]
        return images, self.truth.of(rows).mirrored(flips)


def open_lessons(dataset: Dataset, resolution: int | None, seed: int) -> Lessons:
    """Gather what there is to learn.

    Raises:
        DataError: nothing is labelled, the labels are not what they should be, or there are too few pictures.
        LimnerError: a resolution that the dataset lacks or a probe cannot have.
    """
    resolution = _choose_resolution(dataset, resolution)
    if dataset.count < _FEWEST:
        raise DataError(f"{dataset.folder}: {dataset.count} images; a probe needs at least {_FEWEST}, better thousands")
    truth = _truth(dataset)
    generator = torch.Generator().manual_seed(seed)
    rows, rule = _split(dataset, truth.identity, generator)
    if truth.identity is not None and not all(has_pairs(truth.identity[part]) for part in rows.values()):
        truth = Truth(truth.attributes, truth.pose, None)  # one view of everybody teaches nothing of identity
    if not truth.attributes.shape[1] and truth.pose is None and truth.identity is None:
        raise DataError(
            f"{dataset.folder}: has neither attributes nor pose nor several views of a person, so there is nothing to "
            "learn; prepare it from a labelled source (CelebA, `limner data heads`)"
        )
    return Lessons(dataset, resolution, truth, rows, rule)


def _choose_resolution(dataset: Dataset, wanted: int | None) -> int:
    can = [side for side in dataset.resolutions if SMALLEST <= side <= LARGEST]
    if not can:
        raise LimnerError(f"{dataset.folder}: images of {dataset.resolutions[-1]}²; a probe reads {SMALLEST}² or more")
    if wanted is None:
        return min(64, can[-1])
    if wanted not in can:
        raise LimnerError(f"resolution {wanted}: {dataset.folder} has {', '.join(map(str, can))} for a probe")
    return wanted


def _truth(dataset: Dataset) -> Truth:
    attributes, pose = dataset.attributes(), dataset.pose()
    identity = getattr(dataset, "identity", lambda: None)()
    if attributes is None:
        attributes = np.zeros((dataset.count, 0), np.uint8)
    if attributes.size and attributes.max() > 1:
        raise DataError(
            f"{dataset.folder}/attributes.npy: holds {attributes.max()}, expected 0 and 1; prepare it again"
        )
    if pose is not None and not np.isfinite(pose).all():
        raise DataError(f"{dataset.folder}/pose.npy: holds values that are not finite; prepare the dataset again")
    return Truth(
        torch.from_numpy(attributes.astype(np.float32)),
        None if pose is None else torch.from_numpy(np.array(pose)),
        None if identity is None else torch.from_numpy(np.array(identity)),
    )


def _split(
    dataset: Dataset, identity: Tensor | None, generator: torch.Generator
) -> tuple[dict[str, Int64[Tensor, "k"]], str]:
    """The dataset's splits; what it does not hold back is drawn from its training split, whole people at a time."""
    rows = {split: torch.from_numpy(dataset.indices(split)) for split in ("train", "valid", "test")}
    missing = [(split, share) for split, share in (("valid", _VALID), ("test", _TEST)) if not len(rows[split])]
    people = torch.arange(dataset.count) if identity is None else identity
    for split, share in missing:
        rows["train"], rows[split] = _draw(rows["train"], people, round(dataset.count * share), generator)
    for split, part in rows.items():
        if not len(part):
            raise DataError(f"{dataset.folder}: no image is left for split '{split}'; prepare it with larger splits")
    if not missing:
        return rows, "the dataset's"
    by = "image" if identity is None else "person"
    return rows, f"the dataset's, {' and '.join(split for split, _ in missing)} drawn from train by {by}"


def _draw(
    rows: Int64[Tensor, "k"], people: Int64[Tensor, "n"], count: int, generator: torch.Generator
) -> tuple[Int64[Tensor, "k1"], Int64[Tensor, "k2"]]:
    """Part off whole people, until they have about `count` pictures: (the rest, those)."""
    if not len(rows):
        return rows, rows
    _, person, pictures = people[rows].unique(return_inverse=True, return_counts=True)
    order = torch.randperm(len(pictures), generator=generator)
    before = pictures[order].cumsum(0) - pictures[order]
    chosen = torch.zeros(len(pictures), dtype=torch.bool)
    chosen[order[before < max(count, 1)]] = True
    return rows[~chosen[person]], rows[chosen[person]]
