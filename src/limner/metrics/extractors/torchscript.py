"""`torchscript`: features of any network in a TorchScript file of the user's.

Such a file is a program that runs with the user's rights, unlike weights: only files from a source you trust. What it
is fed depends on its own signature:

- with a parameter `return_features` or `return_lpips`, as the detectors that NVIDIA publishes (inception, VGG16) have:
  images are float32 [n, 3, h, w] in [0, 255], and it is called with `return_features=True`;
- without: images are float32 [n, 3, h, w] in [-1, 1], and it is called with them alone.

Its output is float [n, d], or [n, d, 1, 1]; anything else is refused.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from limner.errors import CheckpointError, LimnerError
from limner.metrics.extractors.base import Extractor, Features
from limner.metrics.extractors.batches import features_in_pieces, find_device, full_float32
from limner.metrics.extractors.resize import ResizeRule, bytes_to_pixels, find_rule, floats_to_pixels
from limner.metrics.extractors.weights import first_line, load_torchscript
from limner.types import Images

_LARGEST_SIDE = 4096
_LPIPS_PIXELS = 256
"""side from which NVIDIA's path length averages images down before it asks for LPIPS features"""


class TorchScriptExtractor(Extractor):
    """A network of the user's.

    Args:
        weights: the file.
        resize: None: images come at their own size. "RULE:SIDE", such as "clean:224": at that side.
        device: where it runs.

    Raises:
        LimnerError: no file, or a resize that cannot be read; later, an output that is no [n, d].
        CheckpointError: no TorchScript file.
    """

    name = "torchscript"

    def __init__(self, weights: Path, resize: str | None = None, device: str = "cpu") -> None:
        self._rule, self._side = _read_resize(resize)
        self.resize = resize or "none"
        try:
            content = weights.read_bytes()
        except FileNotFoundError as error:
            raise LimnerError(f"{weights}: no such file; name the TorchScript file of the extractor") from error
        except OSError as error:
            raise CheckpointError(f"{weights}: cannot be read ({error.strerror})") from error
        self.sha256 = hashlib.sha256(content).hexdigest()
        self.device = find_device(device)
        self._path = weights
        self._module = load_torchscript(content, weights, self.device)
        schema = self._module.forward.schema  # type: ignore[attr-defined]
        self._parameters = tuple(argument.name for argument in schema.arguments[1:])
        self._takes_pixels = not {"return_features", "return_lpips"}.isdisjoint(self._parameters)
        self._width: int | None = None

    @property
    def width(self) -> int:  # type: ignore[override]
        """d, which only a call tells: that of the first images, or of a gray one of 256² if there were none."""
        if self._width is None:
            self.of_bytes(torch.full((1, 256, 256, 3), 128, dtype=torch.uint8))
        assert self._width is not None
        return self._width

    def of_bytes(self, images: UInt8[Tensor, "n r r 3"]) -> Features:
        return features_in_pieces(images, self._of_some_bytes)

    def of_floats(self, images: Images) -> Float[Tensor, "n d"]:
        """Features; where the network has `return_lpips`, those whose squared distance is LPIPS's, as for path length.

        For these NVIDIA's path length first takes means of whole pixels down to 256², and lets the network not resize.
        """
        pixels = floats_to_pixels(images.to(self.device))
        with full_float32():
            if "return_lpips" not in self._parameters:
                return self._features(self._resized(pixels))
            factor = pixels.shape[-1] // _LPIPS_PIXELS
            pixels = F.avg_pool2d(pixels, factor) if factor > 1 and self._rule is None else self._resized(pixels)
            own_size = {"resize_images": False} if "resize_images" in self._parameters else {}
            return self._call(pixels, return_lpips=True, **own_size)

    def _of_some_bytes(self, images: Tensor) -> Tensor:
        features = self._features(self._resized(bytes_to_pixels(images, self.device)))
        self._width = features.shape[1]
        return features

    def _features(self, pixels: Tensor) -> Tensor:
        if "return_features" in self._parameters:
            return self._call(pixels, return_features=True)
        return self._call(pixels if self._takes_pixels else pixels / 127.5 - 1)

    def _resized(self, pixels: Tensor) -> Tensor:
        return pixels if self._rule is None else self._rule.resize(pixels, self._side)

    def _call(self, inputs: Tensor, **options: bool) -> Tensor:
        try:
            found = self._module(inputs.contiguous(), **options)
        except RuntimeError as error:
            message = first_line(RuntimeError(str(error).strip().splitlines()[-1]))
            raise LimnerError(f"{self._path}: failed on images {list(inputs.shape)}: {message}") from error
        if isinstance(found, Tensor) and found.ndim == 4 and found.shape[2:] == (1, 1):
            found = found.flatten(1)
        if not isinstance(found, Tensor) or found.ndim != 2 or len(found) != len(inputs):
            was = list(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise LimnerError(f"{self._path}: gave {was} for {len(inputs)} images, not features [{len(inputs)}, d]")
        return found.float()


def _read_resize(resize: str | None) -> tuple[ResizeRule | None, int]:
    if resize is None:
        return None, 0
    name, _, side = resize.partition(":")
    rule = find_rule(name)
    if not side.isdecimal() or not 1 <= int(side) <= _LARGEST_SIDE:
        raise LimnerError(f"resize: {resize!r}: the side of a TorchScript network's images must follow: {name}:224")
    return rule, int(side)
