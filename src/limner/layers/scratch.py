"""Memory that a computation needs for a moment, kept for the next time.

A tensor of many megabytes is new to the process every time it is made, and the system hands its pages out one by one,
full of zeros: for what is filled, read once and thrown away, that costs as much as the computing.
"""

from __future__ import annotations

import math
import threading

import torch
from torch import Tensor


class Scratch(threading.local):
    """A tensor for each name, in every thread its own; as large as the largest that was asked for."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, torch.dtype], Tensor] = {}

    def room(self, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """On the CPU, filled with anything; what was returned for this name before is overwritten."""
        size = math.prod(shape)
        kept = self._kept.get((name, dtype))
        if kept is None or len(kept) < size:
            # Made in inference mode, it could not be written to outside.
            with torch.inference_mode(False):
                kept = self._kept[name, dtype] = torch.empty(size, dtype=dtype)
        return kept[:size].view(shape)
