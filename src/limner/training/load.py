"""A trained model from a run's folder or a checkpoint: `limner.load`."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from limner.checkpoint import Checkpoint, newest_checkpoint, read_checkpoint
from limner.errors import CheckpointError
from limner.latents import Labels
from limner.models import Model, choose_model
from limner.training.config import config_from_json
from limner.training.distributed import choose_device
from limner.training.run_folder import check_run
from limner.training.trainer import load_weights

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Origin:
    """Where a loaded model's weights came from."""

    path: Path
    sha256: str
    images_seen: int
    weights: Literal["ema", "raw"]
    run: Path | None
    """the folder of its run, where it was loaded from one"""


def load(
    run: str | Path,
    weights: Literal["ema", "raw"] = "ema",
    device: str = "cpu",
    *,
    model: str | type[Model] | None = None,
) -> Model:
    """A trained model, ready to generate.

    Args:
        run: a run's folder (its newest good checkpoint is taken) or one checkpoint file.
        weights: "ema", the average that makes the better pictures, or "raw", the weights last trained.
        device: cpu, cuda, cuda:N, mps or auto.
        model: of a run whose model is not part of limner, its class, or FILE.py:CLASS, which runs that file. Nothing
            that the run's folder names is ever run.

    Returns:
        The model in evaluation mode, with `.latents` to sample from, `.generate(latents)` or
        `.generate(seeds=[1, 2, 3])` → images [n, 3, r, r] in [-1, 1], and `.checkpoint`, which says where the weights
        came from.

    Raises:
        LimnerError: there is no such run.
        CheckpointError: there is no checkpoint, or none that can be read.
        LimnerError: the run's model is not known and `model` does not give it.
    """
    path = Path(run)
    checkpoint = _find(path)
    given = None if model is None else choose_model(model)
    model_class, config = config_from_json(checkpoint.facts["config"], checkpoint.path, given)
    labels = Labels.from_json(checkpoint.facts["labels"])
    loaded = model_class(config.model, int(checkpoint.facts["resolution"]), labels)
    load_weights(loaded, checkpoint.tensors, "average." if weights == "ema" else "model.")
    loaded.set_images_seen(checkpoint.images_seen)
    digest = hashlib.sha256(checkpoint.path.read_bytes()).hexdigest()
    origin = Origin(checkpoint.path, digest, checkpoint.images_seen, weights, path if path.is_dir() else None)
    object.__setattr__(loaded, "checkpoint", origin)
    return loaded.to(choose_device(device)).eval().requires_grad_(False)


def _find(path: Path) -> Checkpoint:
    if path.is_file():
        return read_checkpoint(path)
    check_run(path)
    found = newest_checkpoint(path / "checkpoints", lambda reason: _logger.warning("passed over %s", reason))
    if found is None:
        raise CheckpointError(f"{path}: no checkpoint in it; has the run begun?")
    return found
