"""Features of many images, a few at a time: in float32 proper, without gradients, and checked to be finite."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import torch
from jaxtyping import UInt8
from torch import Tensor, nn

from limner.errors import LimnerError, ResourceError
from limner.metrics.extractors.base import Features
from limner.metrics.extractors.weights import first_line

_PIECE = 32
"""images at once: an Inception of this many needs about 0.4 GB, and more are no faster on a CPU"""


def features_in_pieces(
    images: UInt8[Tensor, "n r r 3"],
    features_of: Callable[[Tensor], Tensor],
    logits_of: Callable[[Tensor], Tensor] | None = None,
) -> Features:
    """Features of bytes, float32 on the CPU; logits are computed of the features, there too.

    Raises:
        LimnerError: features that are not finite.
    """
    with torch.inference_mode(), full_float32():
        pieces = [features_of(some).float().cpu() for some in images.split(_PIECE)]
        features = torch.cat(pieces)
        logits = None if logits_of is None else logits_of(features)
    check_finite(features)
    # copies, since tensors of inference mode may not be changed in place outside of it
    return Features(features.clone(), None if logits is None else logits.clone())


def find_device(name: str) -> torch.device:
    """The device of that name, if something can be put there; ResourceError otherwise."""
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:  # which of them depends on how torch was built
        raise ResourceError(f"device {name!r}: cannot be used here ({first_line(error)}); use cpu") from error


def place(network: nn.Module, device: torch.device) -> None:
    """Move a network to its device, weights laid out for channels-last images: a third faster on a CPU."""
    network.to(device=device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def check_finite(features: Tensor) -> None:
    """LimnerError where a feature is infinite or NaN: one would spoil every distance."""
    bad = int((~torch.isfinite(features)).any(1).sum())
    if bad:
        raise LimnerError(
            f"features of {bad} of {len(features)} images are not finite; the extractor's weights are damaged, or it "
            "does not take images like these"
        )


@contextlib.contextmanager
def full_float32() -> Iterator[None]:
    """Convolutions and products in float32 on GPUs that would round their factors to 10 bits (TF32)."""
    products, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn.conv  # type: ignore[attr-defined]
    before = products.fp32_precision, convolutions.fp32_precision
    products.fp32_precision = convolutions.fp32_precision = "ieee"
    try:
        yield
    finally:
        products.fp32_precision, convolutions.fp32_precision = before
