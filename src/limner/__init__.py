"""limner: train, measure and explore generative models of faces.

    import limner
    run = limner.train("dcgan", data="faces", kimg=100)      # the run's folder
    model = limner.load(run)
    images = model.generate(seeds=[1, 2, 3])                 # [3, 3, r, r] in [-1, 1]
    cards = limner.evaluate(run)

The verbs of the command line are functions here under the same names. Folders and files may be text or `pathlib.Path`.
Names are imported when first used, so that `limner --help` need not wait for PyTorch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from limner.compare.verb import compare
    from limner.data.dataset import Dataset, open_dataset
    from limner.data.prepare import prepare
    from limner.errors import LimnerError
    from limner.explore.pictures import sheet
    from limner.explore.sample import sample
    from limner.explore.time_lapse_verb import timelapse
    from limner.explore.turn import turn
    from limner.explore.walk import walk
    from limner.heads.make import make_heads
    from limner.metrics.probe.verb import probe
    from limner.models import MODELS, Model
    from limner.pixels import to_bytes, to_floats
    from limner.training.command import report
    from limner.training.config import TrainConfig
    from limner.training.evaluate import evaluate
    from limner.training.load import load
    from limner.training.run import resume, train

__version__ = "0.1.0"
__all__ = [
    "MODELS",
    "Dataset",
    "LimnerError",
    "Model",
    "TrainConfig",
    "compare",
    "evaluate",
    "load",
    "make_heads",
    "open_dataset",
    "prepare",
    "probe",
    "report",
    "resume",
    "sample",
    "sheet",
    "timelapse",
    "to_bytes",
    "to_floats",
    "train",
    "turn",
    "walk",
]

_HOMES = {
    "MODELS": "limner.models",
    "Dataset": "limner.data.dataset",
    "LimnerError": "limner.errors",
    "Model": "limner.models",
    "TrainConfig": "limner.training.config",
    "evaluate": "limner.training.evaluate",
    "load": "limner.training.load",
    "make_heads": "limner.heads.make",
    "open_dataset": "limner.data.dataset",
    "prepare": "limner.data.prepare",
    "probe": "limner.metrics.probe.verb",
    "report": "limner.training.command",
    "resume": "limner.training.run",
    "sample": "limner.explore.sample",
    "sheet": "limner.explore.pictures",
    "timelapse": "limner.explore.time_lapse_verb",
    "to_bytes": "limner.pixels",
    "to_floats": "limner.pixels",
    "train": "limner.training.run",
    "turn": "limner.explore.turn",
    "walk": "limner.explore.walk",
}


def __getattr__(name: str) -> Any:
    if name == "compare":  # the package of that name can be called: see limner/compare/__init__.py
        return importlib.import_module("limner.compare")
    if name not in _HOMES:
        raise AttributeError(f"module 'limner' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
