"""The probe as an extractor: its features for distances, and what it reads for the metrics of conditions."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from limner.errors import LimnerError
from limner.metrics.extractors.base import Extractor, Features
from limner.metrics.images import check_images
from limner.metrics.probe.figures import Accuracy
from limner.metrics.probe.file import Record, load_probe
from limner.metrics.probe.network import WIDTH, Reading, join_readings
from limner.pixels import to_floats
from limner.types import Images

_BATCH = 256


class ProbeExtractor(Extractor):
    """A trained probe. Larger pictures come to its size by the mean of boxes, as a dataset's own levels do.

    Smaller ones are refused: enlarged, they lack what it learnt to look at, and its held-out accuracy would be a lie.

    Args:
        path: a file that `limner data probe` wrote.
        device: where to compute.

    Raises:
        DataError: there is no such file.
        CheckpointError: it is damaged, or not a probe.
    """

    name = "probe"
    width = WIDTH

    def __init__(self, path: Path, device: torch.device | str = "cpu") -> None:
        network, self.record, self.sha256 = load_probe(path)
        self.device = torch.device(device)
        self.network = network.to(self.device).requires_grad_(False)
        self.resize = f"box mean to {self.record.resolution}², not rounded"

    record: Record

    @property
    def accuracy(self) -> Accuracy:
        """How well it reads pictures it has never seen."""
        return self.record.accuracy

    @property
    def attribute_names(self) -> tuple[str, ...]:
        """What it reads, in the order of a reading's columns."""
        return tuple(figure.name for figure in self.accuracy.attributes)

    def read(self, images: UInt8[Tensor, "n r r 3"]) -> Reading:
        """What it reads from images as a file holds them; on the CPU.

        Raises:
            LimnerError: images of a size it cannot read.
        """
        check_images(images)
        with torch.no_grad():
            parts = [self.network(self._fit(to_floats(part.to(self.device)))) for part in images.split(_BATCH)]
        return join_readings(parts)

    def of_bytes(self, images: UInt8[Tensor, "n r r 3"]) -> Features:
        return Features(self.read(images).features)

    def of_floats(self, images: Images) -> Float[Tensor, "n d"]:
        features: Tensor = self.network(self._fit(images.to(self.device, torch.float32))).features
        return features

    def _fit(self, images: Images) -> Float[Tensor, "n 3 s s"]:
        side, wanted = images.shape[-1], self.record.resolution
        if images.shape[-2] != side or side % wanted:
            raise LimnerError(
                f"images of {images.shape[-2]}×{side} pixels, but this probe reads {wanted}² (or a multiple); "
                "train one of their size with `limner data probe --resolution`"
            )
        return images if side == wanted else F.avg_pool2d(images, side // wanted)
