"""What a head can wear, fitted once on the average head: fringes trimmed clear of the eyes, hair kept under a hat,
only the triangles that can show.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from limner.heads.geometry import Fans, dot, normalised, vertex_normals
from limner.heads.identity import average_weights
from limner.heads.pack import Mesh, Part, load_pack

LOWEST_SHOWN = 5.4  # decimetres: below this is outside every picture
FRINGE_HEIGHT = 7.58  # decimetres: hair before the face ends here, just above the brows
FRINGE_HALF_WIDTH = 0.52  # decimetres: full trimming out to here from the middle …
FRINGE_BLEND = 0.30  # … and none this much further out
FRINGE_REMAINDER = 0.06  # share of a strand's length below the fringe that is kept, so that ends do not line up
FACE_FRONT = 0.75  # decimetres: hair further back than this is not a fringe
HAT_BAND = 7.85  # decimetres: hair above this is inside the hat
JAW_MOTION = 0.02  # decimetres: teeth that an open jaw moves further are the lower ones
HAIR_CENTRE = np.array([[0.0], [7.5], [0.45]], np.float32)
RELIEF_SMOOTHINGS = 3  # so that strands do not sparkle in small pictures
RELIEF_LIMITS = (0.75, 1.35)


@dataclass(frozen=True)
class Garment:
    """A part ready to wear: its unit normals (3, v) on the average head, and for hair the relief (1, h, w) that its
    colour is multiplied by.
    """

    part: Part
    normals: np.ndarray
    relief: np.ndarray | None = None


@lru_cache(maxsize=1)
def average_head() -> np.ndarray:
    """The average young adult's vertices (3, n): parts are fitted and shadows are cast on this head."""
    pack = load_pack()
    return pack.morph(average_weights(pack))


@lru_cache(maxsize=1)
def shown_skin() -> Mesh:
    """The skin's triangles that a picture can show."""
    return _keep(load_pack().skin, _reaching_up(average_head(), load_pack().skin.triangles))


@lru_cache(maxsize=1)
def skin_fans() -> Fans:
    """The fans of `shown_skin`."""
    return Fans.of(shown_skin().triangles)


@lru_cache(maxsize=64)
def garment(name: str, under_hat: bool = False) -> Garment:
    """The pack's part `name`, fitted; hair may be worn under a hat."""
    part = load_pack().parts[name]
    if name.startswith("hair:"):
        part = _trim_fringe(part)
    part = _keep_triangles(part, _reaching_up)
    if under_hat:
        part = _keep_triangles(part, _below_hat)
    if name == "teeth":
        part = _keep_upper_front_teeth(part)
    vertices = _on_average_head(part)
    normals = vertex_normals(vertices, part.mesh.triangles)
    if name.startswith("hair:"):
        return Garment(part, _rounded(vertices, normals), _relief(name))
    return Garment(part, normals)


def _on_average_head(part: Part) -> np.ndarray:
    return part.place(average_head(), load_pack().scale(average_head()))


def _trim_fringe(part: Part) -> Part:
    x, y, z = _on_average_head(part)
    outwards = np.clip((np.abs(x) - FRINGE_HALF_WIDTH) / FRINGE_BLEND, 0, 1)
    excess = np.clip(FRINGE_HEIGHT - y, 0, None) * (z > FACE_FRONT)
    lift = excess * (1 - FRINGE_REMAINDER) * (1 - outwards) ** 2
    offsets = part.offsets.copy()
    offsets[1] += lift / load_pack().scale(average_head())[1]
    return replace(part, offsets=offsets)


def _keep(mesh: Mesh, kept: np.ndarray) -> Mesh:
    return Mesh(
        np.ascontiguousarray(mesh.triangles[:, kept]), np.ascontiguousarray(mesh.texture_triangles[:, kept]), mesh.uv
    )


def _keep_triangles(part: Part, wanted: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Part:
    return replace(part, mesh=_keep(part.mesh, wanted(_on_average_head(part), part.mesh.triangles)))


def _reaching_up(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    return (vertices[1][triangles] > LOWEST_SHOWN).any(0)


def _below_hat(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    return (vertices[1][triangles] < HAT_BAND).all(0)


def _keep_upper_front_teeth(part: Part) -> Part:
    """The teeth that a smile shows; those that move with the jaw stay out of sight."""
    pack = load_pack()
    with_jaw = replace(part, offsets=np.zeros_like(part.offsets)).place(
        pack.targets[pack.target_index["fu/jawOpen"]], np.ones(3, np.float32)
    )
    fixed = np.abs(with_jaw[1]) < JAW_MOTION
    forwards = vertex_normals(_on_average_head(part), part.mesh.triangles)[2] > 0.1
    kept = fixed[part.mesh.triangles].all(0) & forwards[part.mesh.triangles].any(0)
    return replace(part, mesh=_keep(part.mesh, kept))


def _rounded(vertices: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """Normals for hair: mostly outwards from the head's middle, whichever side of a strand is seen."""
    outwards = normalised(vertices - HAIR_CENTRE)
    facing = np.where(dot(normals, outwards) < 0, np.float32(-1), np.float32(1))
    return normalised(outwards + np.float32(0.6) * normals * facing)


def _relief(name: str) -> np.ndarray:
    """How much lighter or darker than its mean a hair texture is: (1, h, w), smoothed."""
    texture = load_pack().textures[name]
    assert texture.opacity is not None  # every hair texture has one
    brightness = np.sqrt(texture.colour).mean(0)
    mean = brightness[texture.opacity > 0.5].mean()
    relief = np.square(np.clip(0.4 + 0.6 * _smoothed(brightness, texture.opacity) / mean, *RELIEF_LIMITS))
    return np.ascontiguousarray(relief[None], np.float32)


def _smoothed(brightness: np.ndarray, opacity: np.ndarray) -> np.ndarray:
    """Means over a soft neighbourhood of each texel, those that are opaque counting most."""
    share = opacity + np.float32(1e-3)
    weighted = brightness * share
    for _ in range(RELIEF_SMOOTHINGS):
        weighted, share = _spread(weighted), _spread(share)
    return weighted / share


def _spread(plane: np.ndarray) -> np.ndarray:
    """A quarter of each texel moved to either neighbour, along both axes."""
    for axis in (0, 1):
        plane = (np.roll(plane, 1, axis) + 2 * plane + np.roll(plane, -1, axis)) / 4
    return plane
