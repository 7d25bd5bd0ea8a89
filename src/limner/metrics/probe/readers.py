"""Pose and identity as a probe reads them, with how far it errs on photos it has never seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from limner.errors import LimnerError
from limner.metrics.probe.figures import Accuracy, IdentityFigure, PoseFigure
from limner.metrics.probe.network import Reading


@runtime_checkable
class Reads(Protocol):
    """Of `limner.metrics.extractors.probe.ProbeExtractor`, what metrics that read with it use."""

    @property
    def name(self) -> str: ...
    @property
    def sha256(self) -> str: ...
    @property
    def accuracy(self) -> Accuracy: ...
    def read(self, images: UInt8[Tensor, "n r r 3"]) -> Reading: ...


@dataclass(frozen=True)
class PoseReading:
    """Yaw, pitch, roll of n images in radians, and the probe's figures for them."""

    radians: Float[Tensor, "n 3"]
    figure: PoseFigure


@dataclass(frozen=True)
class IdentityReading:
    """How far apart n pairs of images are as persons, and the probe's figures for it."""

    distance: Float[Tensor, "n"]
    """1 - cos of the embeddings, 0 to 2; `figure` says what it is for one person and for two"""
    same: Bool[Tensor, "n"]
    """whether that is below the figure's threshold"""
    figure: IdentityFigure


def read_pose(probe: Reads, images: UInt8[Tensor, "n r r 3"]) -> PoseReading:
    """The pose of each image.

    Raises:
        LimnerError: the probe's dataset had no pose, or the images are of a size it cannot read.
    """
    radians, figure = probe.read(images).pose, probe.accuracy.pose
    if radians is None or figure is None:
        raise LimnerError("this probe reads no pose, since its dataset has none; train one on a dataset with pose.npy")
    return PoseReading(radians, figure)


def identity_consistency(
    probe: Reads, images: UInt8[Tensor, "n r r 3"], others: UInt8[Tensor, "n r r 3"]
) -> IdentityReading:
    """Whether image k of `images` and image k of `others` show one person.

    Raises:
        LimnerError: the probe cannot tell people apart, or the images are of a size it cannot read.
    """
    figure = probe.accuracy.identity
    first, second = probe.read(images).identity, probe.read(others).identity
    if first is None or second is None or figure is None:
        raise LimnerError(
            "this probe reads no identity, since its dataset has no two views of a person; "
            "train one on a dataset with several, such as `limner data heads --views 4`"
        )
    if len(first) != len(second):
        raise LimnerError(f"{len(first)} images and {len(second)} others; they are compared in pairs, so pass as many")
    distance = 1 - (first * second).sum(1)
    return IdentityReading(distance, distance < figure.threshold, figure)
