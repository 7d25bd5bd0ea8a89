"""HoloGAN's named settings."""

from __future__ import annotations

from limner.models.base import Preset

PRESETS = {
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
    ),
}
