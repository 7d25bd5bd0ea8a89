"""What every metric here takes: bytes [n, r, r, 3], red green blue, r a power of two of at least 16 pixels.

Nothing is guessed. A float tensor could be in [-1, 1], [0, 1] or [0, 255], and a metric of the wrong one is a number
all the same, so anything but bytes with channels last is refused with the call that makes it right.
"""

from __future__ import annotations

import torch
from torch import Tensor

from limner.errors import LimnerError

SMALLEST_PIXELS = 16
"""side of the coarsest level of the pyramid of Karras et al. 2018, and what the five scales of MS-SSIM need at least"""


def check_images(images: object, name: str = "images") -> None:
    """Refuse all but uint8 [n, r, r, 3] with n ≥ 1 and r = 16, 32, 64, …

    Raises:
        LimnerError: saying what `images` is instead, and what to pass.
    """
    if not isinstance(images, Tensor):
        raise LimnerError(f"{name}: a {type(images).__name__}, not a torch tensor; use torch.from_numpy(array)")
    shape = list(images.shape)
    if images.dtype != torch.uint8:
        raise LimnerError(
            f"{name}: {images.dtype} {shape}, but metrics compare bytes as a file holds them; "
            "use limner.pixels.to_bytes for floats [n, 3, h, w] in [-1, 1], and scale any other range to that first"
        )
    if len(shape) != 4 or shape[3] != 3:
        raise LimnerError(f"{name}: shape {shape}, but [n, h, w, 3] is needed; {_remedy(shape)}")
    if shape[0] == 0:
        raise LimnerError(f"{name}: no images; pass at least one")
    check_resolution(shape[1], shape[2], name)


def _remedy(shape: list[int]) -> str:
    if len(shape) == 4 and shape[1] == 3:
        return "channels come last: use images.permute(0, 2, 3, 1)"
    if len(shape) == 4 and shape[3] == 1:
        return "for gray images repeat the channel: images.expand(-1, -1, -1, 3)"
    if len(shape) == 4 and shape[3] == 4:
        return "blend the alpha channel onto a background first, then pass images[..., :3]"
    if len(shape) == 3 and shape[2] == 3:
        return "one image is a batch of one: images[None]"
    if len(shape) == 3:
        return "for gray images repeat the channel: images[..., None].expand(-1, -1, -1, 3)"
    return "n images, rows, columns, and red, green, blue"


def check_resolution(height: int, width: int, name: str = "images") -> None:
    """Refuse what has no pyramid: sides that differ, are not a power of two, or are below 16 pixels."""
    if height != width:
        raise LimnerError(f"{name}: {height}×{width} pixels are not square; crop them first")
    if height < SMALLEST_PIXELS:
        raise LimnerError(
            f"{name}: {height}×{width} pixels, but the coarsest level is {SMALLEST_PIXELS}²; "
            f"compare images of at least {SMALLEST_PIXELS}²"
        )
    if height & (height - 1):
        raise LimnerError(
            f"{name}: {height}×{width} pixels cannot be halved down to {SMALLEST_PIXELS}²; use a power of two"
        )


def check_pair(reals: Tensor, fakes: Tensor) -> None:
    """Refuse two sets of unlike count or resolution: a distance at unequal counts is biased by the count."""
    check_images(reals, "reals")
    check_images(fakes, "fakes")
    if reals.shape[1] != fakes.shape[1]:
        raise LimnerError(
            f"reals are {reals.shape[1]}² and fakes {fakes.shape[1]}²; read the reals at the model's resolution"
        )
    if len(reals) != len(fakes):
        raise LimnerError(f"{len(reals)} reals and {len(fakes)} fakes; compare equal counts, the bias depends on them")
