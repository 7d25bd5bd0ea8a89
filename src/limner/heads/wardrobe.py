"""Parts made fit to wear: fringes trimmed clear of the eyes, hair kept under a hat, teeth reduced to those that show."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np

from limner.heads.geometry import vertex_normals
from limner.heads.identity import average_weights
from limner.heads.pack import Mesh, Pack, Part, load_pack

FRINGE_HEIGHT = 7.47  # decimetres: hair before the face ends here, just above the brows
FRINGE_HALF_WIDTH = 0.50  # decimetres: full trimming out to here from the middle …
FRINGE_BLEND = 0.22  # … and none this much further out
FRINGE_REMAINDER = 0.10  # share of a strand's length below the fringe that is kept, so that ends do not line up
FACE_FRONT = 0.75  # decimetres: hair further back than this is not a fringe
HAT_BAND = 7.85  # decimetres: hair above this is inside the hat


@lru_cache(maxsize=1)
def average_head() -> np.ndarray:
    """The average young adult's vertices (3, n): parts are fitted and shadows are cast on this head."""
    pack = load_pack()
    return pack.morph(average_weights(pack))


@lru_cache(maxsize=64)
def fitted_part(name: str, under_hat: bool = False) -> Part:
    """The pack's part `name`, made fit to wear; hair may be worn under a hat."""
    pack = load_pack()
    part = pack.parts[name]
    if name.startswith("hair:"):
        part = _trim_fringe(pack, part)
        return _keep_triangles(pack, part, _below_hat) if under_hat else part
    if name == "teeth":
        return _keep_triangles(pack, part, _facing_front)
    return part


def _trim_fringe(pack: Pack, part: Part) -> Part:
    head = average_head()
    scale = pack.scale(head)
    x, y, z = part.place(head, scale)
    outwards = np.clip((np.abs(x) - FRINGE_HALF_WIDTH) / FRINGE_BLEND, 0, 1)
    excess = np.clip(FRINGE_HEIGHT - y, 0, None) * (z > FACE_FRONT)
    lift = excess * (1 - FRINGE_REMAINDER) * (1 - outwards) ** 2
    offsets = part.offsets.copy()
    offsets[1] += lift / scale[1]
    return replace(part, offsets=offsets)


def _keep_triangles(pack: Pack, part: Part, wanted) -> Part:  # type: ignore[no-untyped-def]
    head = average_head()
    vertices = part.place(head, pack.scale(head))
    kept = wanted(vertices, part.mesh.triangles)
    triangles, texture_triangles = part.mesh.triangles[:, kept], part.mesh.texture_triangles[:, kept]
    return replace(part, mesh=Mesh(triangles, texture_triangles, part.mesh.uv))


def _below_hat(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    return (vertices[1][triangles] < HAT_BAND).all(0)


def _facing_front(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    forwards = vertex_normals(vertices, triangles)[2]
    return (forwards[triangles] > 0.1).any(0)
