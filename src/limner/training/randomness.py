"""Streams of random numbers, and the global generators' states as tensors a checkpoint can hold.

Everything limner draws comes from a stream named by (seed, salt, purpose, images seen), so that it needs no state. The
global generators are kept all the same, for dropout and for models of others.
"""

from __future__ import annotations

import random
import struct
import zlib
from typing import Any

import numpy as np
import torch
from torch import Tensor

_GAUSS_MISSING = struct.unpack("<q", struct.pack("<d", float("nan")))[0]


def stream(seed: int, salt: int, purpose: str, images_seen: int) -> torch.Generator:
    """A CPU generator that depends on its name alone."""
    words = np.random.SeedSequence([seed, salt, zlib.crc32(purpose.encode()), images_seen]).generate_state(2, np.uint32)
    return torch.Generator().manual_seed(int(words[0]) << 31 ^ int(words[1]))


def seed_everything(seed: int, rank: int) -> None:
    """Start the global generators of this process."""
    random.seed(seed * 1009 + rank)
    np.random.seed((seed * 1009 + rank) % 2**32)
    torch.manual_seed(seed * 1009 + rank)


def capture_states(device: torch.device) -> dict[str, Tensor]:
    """The states of Python's, NumPy's and torch's global generators."""
    version, words, gauss = random.getstate()
    numpy_state: Any = np.random.get_state(legacy=True)
    _, keys, position, has_gauss, cached = numpy_state
    gauss_bits = _GAUSS_MISSING if gauss is None else _bits(gauss)
    states = {
        "python": torch.tensor([version, *words, gauss_bits], dtype=torch.int64),
        "numpy": torch.tensor([*keys.tolist(), position, has_gauss, _bits(cached)], dtype=torch.int64),
        "torch": torch.get_rng_state(),
    }
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def restore_states(states: dict[str, Tensor], device: torch.device) -> None:
    """The inverse of `capture_states`; a state of a device that is not here is left out."""
    version, *words, gauss = states["python"].tolist()
    random.setstate((version, tuple(words), None if gauss == _GAUSS_MISSING else _float(gauss)))
    *keys, position, has_gauss, cached = states["numpy"].tolist()
    np.random.set_state(("MT19937", np.array(keys, dtype=np.uint32), position, has_gauss, _float(cached)))
    torch.set_rng_state(states["torch"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)


def _bits(value: float) -> int:
    return int(struct.unpack("<q", struct.pack("<d", value))[0])


def _float(bits: int) -> float:
    return float(struct.unpack("<d", struct.pack("<q", bits))[0])
