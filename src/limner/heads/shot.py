"""How one head is pictured: its pose, the lens, the light, and what is behind it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from limner.heads.backdrop import Backdrop, sample_backdrop

FURTHEST_ASIDE = math.radians(62)  # that the lamp stands from the camera's side of the head
HEIGHTS = (math.radians(2), math.radians(48))  # of the lamp
EXPOSURES = (1.0, 1.25)  # light that falls on what faces the lamp
SOFTNESSES = (0.24, 0.5)  # share of it that comes from all sides
WARMTH_SPREAD = 0.045


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
    backdrop: Backdrop


def sample_shot(rng: np.random.Generator, yaw_range_radians: float) -> Shot:
    """Draw a pose, a lamp and a backdrop."""
    yaw = float(rng.uniform(-1, 1)) * yaw_range_radians
    pitch, roll = (float(angle) for angle in rng.normal(0, [math.radians(5), math.radians(2.5)]))
    direction, key, ambient = _sample_light(rng)
    return Shot(
        yaw=yaw,
        pitch=pitch,
        roll=roll,
        gaze=(float(rng.normal(0, 0.08)), float(rng.normal(0, 0.04))),
        field_of_view=float(rng.uniform(math.radians(16), math.radians(24))),
        zoom=float(rng.uniform(0.96, 1.05)),
        shift=(float(rng.normal(0, 0.012)), float(rng.normal(0, 0.012))),
        light_direction=direction,
        key_light=key,
        ambient_light=ambient,
        backdrop=sample_backdrop(rng),
    )


def _sample_light(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A lamp: its direction (3,), its light (3,) and that of the room (3,); from the side or above, hard or soft."""
    aside, above = rng.uniform(-1, 1) * FURTHEST_ASIDE, rng.uniform(*HEIGHTS)
    direction = np.array([math.sin(aside) * math.cos(above), math.sin(above), math.cos(aside) * math.cos(above)])
    exposure, softness, warmth = rng.uniform(*EXPOSURES), rng.uniform(*SOFTNESSES), rng.normal(0, WARMTH_SPREAD)
    warm, cool = np.array([1 + warmth, 1.0, 1 - warmth]), np.array([1 - warmth, 1.0, 1 + warmth])
    return direction, exposure * (1 - softness) * warm, exposure * softness * cool
