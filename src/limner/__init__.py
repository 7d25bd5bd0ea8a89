"""limner: train, measure and explore generative models of faces.

    import limner
    model = limner.load("runs/my-run")
    images = model.generate(model.latents.sample_seeds([1, 2, 3]))   # [3, 3, r, r] in [-1, 1]

Names are imported when first used, so that `limner --help` need not wait for PyTorch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from limner.data.dataset import open_dataset
    from limner.explore.pictures import sheet
    from limner.models import MODELS
    from limner.pixels import to_bytes, to_floats
    from limner.training.load import load
    from limner.training.run import resume, train

__version__ = "0.1.0"
__all__ = ["MODELS", "load", "open_dataset", "resume", "sheet", "to_bytes", "to_floats", "train"]

_HOMES = {
    "MODELS": "limner.models",
    "load": "limner.training.load",
    "open_dataset": "limner.data.dataset",
    "resume": "limner.training.run",
    "sheet": "limner.explore.pictures",
    "to_bytes": "limner.pixels",
    "to_floats": "limner.pixels",
    "train": "limner.training.run",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'limner' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
