"""What a head can wear, fitted once on the average head, only the triangles that can show."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from limner.heads.fitting import LOWEST_SHOWN, keep
from limner.heads.fitting import average_head as average_head
from limner.heads.fitting import shown_skin as shown_skin
from limner.heads.geometry import Rings, vertex_normals
from limner.heads.hair import cut_hair
from limner.heads.hats import hat
from limner.heads.looks import Cut
from limner.heads.pack import Part, load_pack

JAW_MOTION = 0.02  # decimetres: teeth that an open jaw moves further are the lower ones


@dataclass(frozen=True)
class Garment:
    """A part ready to wear, and its unit normals (3, v) on the average head."""

    part: Part
    normals: np.ndarray


@lru_cache(maxsize=1)
def skin_rings() -> Rings:
    """The rings of `shown_skin`."""
    return Rings.of(average_head(), shown_skin().triangles)


@lru_cache(maxsize=64)
def garment(name: str, under_hat: bool = False) -> Garment:
    """The part `name`, fitted; hair may be worn under a hat."""
    if name.startswith("hair:"):
        hair = cut_hair(name, Cut(), under_hat)
        return Garment(hair.part, hair.normals)
    if name.startswith("hat:"):
        return Garment(hat(name).part, hat(name).normals)
    part = _keep_triangles(load_pack().parts[name], _reaching_up)
    if name == "teeth":
        part = _keep_upper_front_teeth(part).compact()
    return Garment(part, vertex_normals(_on_average_head(part), part.mesh.triangles))


def _on_average_head(part: Part) -> np.ndarray:
    return part.place(average_head(), load_pack().scale(average_head()))


def _keep_triangles(part: Part, wanted: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Part:
    return replace(part, mesh=keep(part.mesh, wanted(_on_average_head(part), part.mesh.triangles)))


def _reaching_up(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    return (vertices[1][triangles] > LOWEST_SHOWN).any(0)


def _keep_upper_front_teeth(part: Part) -> Part:
    """The teeth that a smile shows; those that move with the jaw stay out of sight."""
    pack = load_pack()
    with_jaw = replace(part, offsets=np.zeros_like(part.offsets)).place(
        pack.targets[pack.target_index["fu/jawOpen"]], np.ones(3, np.float32)
    )
    fixed = np.abs(with_jaw[1]) < JAW_MOTION
    forwards = vertex_normals(_on_average_head(part), part.mesh.triangles)[2] > 0.1
    kept = fixed[part.mesh.triangles].all(0) & forwards[part.mesh.triangles].any(0)
    return replace(part, mesh=keep(part.mesh, kept))
