"""How images come to a network's input size: three rules in use, by name, as one kind of matrix product.

The rule changes a Fréchet distance by more than many papers do, so it has a name, and the name is on the card. Each
rule is separable: an image becomes `rows @ image @ columns.T` with a matrix of weights per side, in which an output
pixel sees a short band of input pixels. Bytes go in; nothing is rounded to bytes on the way.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from limner.errors import LimnerError
from limner.types import Images

_BLOCK = 64
"""output rows or columns made by one product: small enough that few weights in it are zero"""
_LARGEST_FLOAT = 16.0
"""untrained generators without a last tanh stray beyond [-1, 1], but not this far"""


@dataclass(frozen=True)
class ResizeRule:
    """One project's way to an image of another size, and to the range in which that project feeds the FID network."""

    name: str
    summary: str
    weights: Callable[[int, int], Float[Tensor, "out in"]]
    """(pixels of the input's side, of the output's) → float64 weights, each row summing to 1"""
    clips: bool
    """to [0, 255] afterwards, since bicubic weights overshoot at edges"""
    centre: float
    """in the FID network's input, pixel value p in [0, 255] is (p - centre) / centre"""

    def resize(self, pixels: Images, side: int) -> Float[Tensor, "n 3 s s"]:
        """Values in [0, 255] (not rounded) [n, 3, h, w] → [n, 3, side, side]. Differentiable."""
        height, width = pixels.shape[-2:]
        across = _multiply(pixels, _banded(self.name, width, side)).transpose(2, 3)
        resized = _multiply(across, _banded(self.name, height, side)).transpose(2, 3)
        return resized.clamp(0, 255) if self.clips else resized

    def to_inception_range(self, pixels: Images) -> Images:
        """Values in [0, 255] to about [-1, 1], as this rule's project does it."""
        return (pixels - self.centre) / self.centre


def bytes_to_pixels(images: Tensor, device: torch.device | str = "cpu") -> Images:
    """Bytes as a file holds them, uint8 [n, h, w, 3] → float32 [n, 3, h, w] in [0, 255].

    Raises:
        LimnerError: another type, layout or no image at all.
    """
    shape = list(images.shape)
    if images.dtype != torch.uint8 or len(shape) != 4 or shape[3] != 3 or 0 in shape:
        raise LimnerError(
            f"images: {images.dtype} {shape}, but an extractor takes bytes [n, h, w, 3]; use limner.pixels.to_bytes "
            "for floats in [-1, 1], or of_floats to keep them floats"
        )
    return images.to(device).permute(0, 3, 1, 2).float()


def floats_to_pixels(images: Tensor) -> Images:
    """Floats [n, 3, h, w] in [-1, 1] → [0, 255], not rounded. Values a little beyond [-1, 1] are kept.

    Raises:
        LimnerError: no floats, another layout, or values so far out that they are in [0, 255] rather.
    """
    shape = list(images.shape)
    if not images.is_floating_point() or len(shape) != 4 or shape[1] != 3 or 0 in shape:
        raise LimnerError(
            f"images: {images.dtype} {shape}, but floats [n, 3, h, w] in [-1, 1] are needed; "
            "use limner.pixels.to_floats for bytes [n, h, w, 3]"
        )
    largest = float(images.detach().abs().max())
    if largest > _LARGEST_FLOAT:
        raise LimnerError(f"images: floats up to {largest:.4g}, but [-1, 1] is needed; for [0, 255] use x / 127.5 - 1")
    return (images.float() + 1) * 127.5


def find_rule(name: str) -> ResizeRule:
    """The rule of that name; LimnerError with the nearest name otherwise."""
    if name not in RESIZE_RULES:
        near = difflib.get_close_matches(name.lower().replace("_", "-"), RESIZE_RULES, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise LimnerError(f"resize: {name!r} is not a rule; {hint}there are {', '.join(RESIZE_RULES)}")
    return RESIZE_RULES[name]


def bicubic_antialiased(size: int, out: int) -> Float[Tensor, "out in"]:
    """Pillow's bicubic on floats: Keys' kernel with a = -1/2, widened by the scale where the image shrinks."""
    scale = size / out
    stretch = max(scale, 1.0)
    centres = (torch.arange(out, dtype=torch.float64) + 0.5) * scale
    pixels = torch.arange(size, dtype=torch.float64)
    first = (centres - 2 * stretch + 0.5).floor().clamp(min=0)  # the band is cut to whole pixels, then to the image
    last = (centres + 2 * stretch + 0.5).floor().clamp(max=size)
    weights = _keys((pixels - centres[:, None] + 0.5) / stretch)
    weights = weights * ((pixels >= first[:, None]) & (pixels < last[:, None]))
    return weights / weights.sum(1, keepdim=True)


def _keys(x: Tensor) -> Tensor:
    a, x = -0.5, x.abs()
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return torch.where(x < 1, near, torch.where(x < 2, far, torch.zeros_like(x)))


def bilinear_half_pixel(size: int, out: int) -> Float[Tensor, "out in"]:
    """Two neighbours whatever the scale (no antialiasing), pixels' centres at halves; PyTorch's align_corners=False.

    Positions are float32 as there, which at 1024² moves some by 1e-4 of a pixel.
    """
    positions = (torch.arange(out, dtype=torch.float32) + 0.5) * torch.tensor(size / out) - 0.5
    return _bilinear(positions.clamp(min=0).double(), size)


def bilinear_corner(size: int, out: int) -> Float[Tensor, "out in"]:
    """Two neighbours whatever the scale, output i at input i × scale in float32: TensorFlow 1's, which shifts an image
    by up to half a pixel."""
    return _bilinear((torch.arange(out, dtype=torch.float32) * torch.tensor(size / out)).double(), size)


def _bilinear(positions: Tensor, size: int) -> Tensor:
    low = positions.floor().clamp(max=size - 1)
    share = positions - low
    weights = torch.zeros(len(positions), size, dtype=torch.float64)
    rows = torch.arange(len(positions))
    weights.index_put_((rows, low.long()), 1 - share)
    weights.index_put_((rows, (low.long() + 1).clamp(max=size - 1)), share, accumulate=True)
    return weights


@lru_cache(maxsize=32)
def _banded(rule: str, size: int, out: int) -> tuple[tuple[int, int, Tensor], ...]:
    """For each block of outputs: the first input it sees, the one past the last, and weights [inputs, outputs]."""
    with torch.inference_mode(False):  # they are kept, and tensors made in that mode would take no gradients later
        return tuple(_blocks(RESIZE_RULES[rule].weights(size, out)))


def _blocks(weights: Tensor) -> list[tuple[int, int, Tensor]]:
    out, blocks = len(weights), []
    for rows in weights.split(min(_BLOCK, max(8, math.ceil(out / 4)))):
        seen = rows.ne(0).any(0).nonzero()
        start, stop = int(seen.min()), int(seen.max()) + 1
        blocks.append((start, stop, rows[:, start:stop].T.float().contiguous()))
    return blocks


def _multiply(images: Tensor, blocks: tuple[tuple[int, int, Tensor], ...]) -> Tensor:
    """[n, 3, h, w] → [n, 3, h, out], along the last axis."""
    parts = [images[..., start:stop] @ weights.to(images.device) for start, stop, weights in blocks]
    return torch.cat(parts, -1)


RESIZE_RULES: Mapping[str, ResizeRule] = {
    rule.name: rule
    for rule in (
        ResizeRule("clean", "Pillow's bicubic with antialiasing, on floats", bicubic_antialiased, True, 128.0),
        ResizeRule("pytorch-fid", "bilinear without antialiasing", bilinear_half_pixel, False, 127.5),
        ResizeRule("torch-fidelity", "TensorFlow 1's bilinear", bilinear_corner, False, 128.0),
    )
}
"""name → rule, the first being what is used unless another is asked for"""
