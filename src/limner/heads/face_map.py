"""The head spread out flat, once: where each texel lies on the neutral head, masks of its regions, and fine noise.

The map is a sphere's: angle round the head to the left and right, angle up and down, seen from a point inside.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from limner.heads.geometry import vertex_normals
from limner.heads.pack import load_pack
from limner.heads.raster import FAR, nearest, rasterise

CENTRE = np.array([[0.0], [7.1], [0.35]], np.float32)  # decimetres on the neutral head
SIDE = 384  # texels of the map, along both axes
ANGLES_ACROSS, ANGLES_DOWN = math.radians(110), math.radians(80)  # that it reaches, to either side


@lru_cache(maxsize=1)
def face_uv() -> np.ndarray:
    """Where the head's vertices are in the map: (2, n) in [0, 1], v upwards."""
    x, y, z = load_pack().vertices - CENTRE
    across = np.arctan2(x, z) / ANGLES_ACROSS
    down = np.arctan2(y, np.hypot(x, z)) / ANGLES_DOWN
    return np.clip(np.stack([across, down]) / 2 + 0.5, 0, 1).astype(np.float32)


@lru_cache(maxsize=1)
def face_points() -> np.ndarray:
    """Where on the neutral head each texel lies: (3, h, w) decimetres, 0 where there is none."""
    return bake(load_pack().vertices)


def bake(values: np.ndarray) -> np.ndarray:
    """Vertex values (c, n) spread over the map: (c, h, w), those of the outermost surface."""
    pack = load_pack()
    uv = face_uv()
    outwards = -np.sqrt(np.square(pack.vertices - CENTRE).sum(0))
    screen = np.stack([uv[0] * (SIDE - 1) + 0.5, (1 - uv[1]) * (SIDE - 1) + 0.5, outwards]).astype(np.float32)
    whole = (np.ptp(uv[0][pack.skin.triangles], 0) < 0.5) & (np.abs(uv[0][pack.skin.triangles] - 0.5) < 0.5).all(0)
    triangles = pack.skin.triangles[:, whole]
    fragments = rasterise(screen, triangles, SIDE, cull=False)
    fragments = fragments.select(nearest(fragments, np.full(SIDE * SIDE, FAR, np.float32)))
    baked = np.zeros((len(values), SIDE * SIDE), np.float32)
    baked[:, fragments.sample] = fragments.interpolate(values, triangles)
    return baked.reshape(-1, SIDE, SIDE)


@lru_cache(maxsize=1)
def neutral_normals() -> np.ndarray:
    """Unit normals (3, n) of the neutral head."""
    return vertex_normals(load_pack().vertices, load_pack().skin.triangles)


@lru_cache(maxsize=1)
def lips() -> np.ndarray:
    """How far each vertex (n,) belongs to the lips, 0 to 1: those that the lips' own shape targets move."""
    pack = load_pack()
    moved = [
        np.abs(pack.targets[pack.target_index[f"mouth/mouth-{lip}-volume-incr"]]).sum(0)
        for lip in ("upperlip", "lowerlip")
    ]
    share = np.maximum(*(amount / amount.max() for amount in moved))
    return rising(share, 0.10, 0.30)


def rising(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """0 below `low`, 1 above `high`, smooth between; falling where `low` is the larger."""
    share = np.clip((values - low) / (high - low), 0, 1)
    return (share * share * (3 - 2 * share)).astype(np.float32)


@lru_cache(maxsize=8)
def noise(seed: int, across: int, down: int) -> np.ndarray:
    """Noise (h, w) of mean 0 and standard deviation 1, its features about `across` × `down` texels."""
    plane: np.ndarray = np.random.default_rng([SIDE, seed]).normal(size=(SIDE, SIDE))
    for axis, size in ((1, across), (0, down)):
        for _ in range(2):
            plane = np.sum([np.roll(plane, step - size // 2, axis) for step in range(size)], 0) / size
    return ((plane - plane.mean()) / plane.std()).astype(np.float32)
