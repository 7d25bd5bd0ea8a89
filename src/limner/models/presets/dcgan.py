"""DCGAN's named settings."""

from __future__ import annotations

from limner.models.base import Preset

PRESETS = {
    "laptop": Preset(
        summary="half as wide, for 64² on two cores: faces in less than an hour, better ones after a few",
        model={"width": 64, "learning_rate": 4e-4},
        run={
            "kimg": 250.0,
            "batch_size": 64,
            "decay": "cosine",
            "decay_start_kimg": 0.0,
            "sample_kimg": 10.0,
            "checkpoint_kimg": 10.0,
        },
    ),
}
