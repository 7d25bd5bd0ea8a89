"""How one head is pictured: its pose, the lens, the light, and what is behind it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from limner.heads.looks import muted_colour


@dataclass(frozen=True)
class Shot:
    """How a head is pictured. Angles in radians; `light_direction` (3,) points from the head to the light in the
    camera's frame (x right, y up, z to the camera); `shift` is a fraction of the picture's side.
    """

    yaw: float
    pitch: float
    roll: float
    gaze: tuple[float, float]
    field_of_view: float
    zoom: float
    shift: tuple[float, float]
    light_direction: np.ndarray
    key_light: np.ndarray
    ambient_light: np.ndarray
    backdrop: tuple[np.ndarray, np.ndarray]
    glow: tuple[float, float]


def sample_shot(rng: np.random.Generator, yaw_range_radians: float) -> Shot:
    """Draw a pose, a lamp and a backdrop."""
    yaw = float(rng.uniform(-1, 1)) * yaw_range_radians
    pitch, roll = (float(angle) for angle in rng.normal(0, [math.radians(5), math.radians(2.5)]))
    sideways, height = rng.uniform(-1, 1), rng.uniform(0.1, 0.75)
    direction = np.array([sideways, height, 1.0])
    warmth = rng.normal(0, 0.03)
    base = muted_colour(rng, (0.32, 0.88))
    return Shot(
        yaw=yaw,
        pitch=pitch,
        roll=roll,
        gaze=(float(rng.normal(0, 0.08)), float(rng.normal(0, 0.04))),
        field_of_view=float(rng.uniform(math.radians(16), math.radians(24))),
        zoom=float(rng.uniform(0.96, 1.05)),
        shift=(float(rng.normal(0, 0.012)), float(rng.normal(0, 0.012))),
        light_direction=direction / np.linalg.norm(direction),
        key_light=rng.uniform(0.75, 1.05) * np.array([1 + warmth, 1.0, 1 - warmth]),
        ambient_light=rng.uniform(0.30, 0.42) * np.array([1 - warmth, 1.0, 1 + warmth]),
        backdrop=(base, base * rng.uniform(0.45, 0.85)),
        glow=(float(rng.uniform(0.2, 0.8)), float(rng.uniform(0.15, 0.6))),
    )
