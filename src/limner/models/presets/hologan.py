"""HoloGAN's named settings: the authors' code, a re-implementation, and one of limner's own.

What a re-implementation does that is not a setting here is in `docs/reproduce.md`.
"""

from __future__ import annotations

from limner.models.base import Preset

_CELEBA_IMAGES = 202_599
_NO_AVERAGE = {"ema_half_life_kimg": 0.0}

PRESETS = {
    "authors": Preset(
        summary="the authors' code as it is configured for CelebA at 64²: neither identity nor style losses",
        model={"identity_weight": 0.0, "style_weight": 0.0},
        run={
            "kimg": 2 * 50 * _CELEBA_IMAGES / 1000,  # 50 epochs; both of G's updates look at images of their own here
            "mirror": False,
            **_NO_AVERAGE,
        },
    ),
    "s0": Preset(
        summary="Beckham's re-implementation as its example runs: residual networks, angles read, yaw of ±90°",
        model={
            "networks": "residual",
            "latents": "gaussian",
            "yaw": (-90.0, 90.0),
            "pitch": (0.0, 0.0),
            "identity_weight": 25.0,
            "angle_weight": 25.0,
            "style_weight": 0.0,
            "generator_steps": 1,
            "learning_rate": 2e-4,
        },
        run={"kimg": 200 * _CELEBA_IMAGES / 1000, "mirror": False, **_NO_AVERAGE},
    ),
    "laptop": Preset(
        summary="the paper's networks, a quarter as wide, for 32²: heads that turn, in about an hour on two cores",
        model={
            "width": 16,
            "discriminator_width": 32,
            # Less than the heads' ±45°: asked for all of it, faces turn back and forth within the quarter of a turn
            # (benchmarks/results/hologan_turns.md).
            "yaw": (-30.0, 30.0),
            "pitch": (0.0, 0.0),
            "generator_steps": 1,
            "learning_rate": 2e-4,
        },
        run={"kimg": 150.0, "sample_kimg": 10.0, "checkpoint_kimg": 10.0},
    ),
}
