"""How much light reaches each point of a head from each direction, worked out once per haircut on the average head.

A table of visibilities over fixed directions, blended around a light's direction, gives soft shadows under brow, nose,
chin and hair at the price of one small weighted sum per head; a shadow map per head costs more and comes out blotchy.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from limner.heads.geometry import dot, normalised, rotate, vertex_normals
from limner.heads.pack import load_pack
from limner.heads.raster import FAR, rasterise
from limner.heads.wardrobe import average_head, garment, shown_skin

DIRECTIONS = 40
LOWEST_DIRECTION = -0.6  # no light comes from further below
MAP_SAMPLES = 80
MAP_HALF_WIDTH = 2.2  # decimetres of the head that the map reaches, from its middle
MAP_CENTRE = np.array([0.0, 7.2, 0.5], np.float32)
BIAS = 0.07  # decimetres a point may lie behind the map's surface and still count as lit
LIGHT_SHARPNESS = 16  # exponent of the cosine that blends directions around a light
HAIR_OPACITY = 0.75


@dataclass(frozen=True)
class Visibility:
    """Shares of light that arrive: head (d, n) and hair (d, v) by direction; openness (n,), (v,) to the whole sky."""

    directions: np.ndarray
    head: np.ndarray
    hair: np.ndarray
    head_openness: np.ndarray
    hair_openness: np.ndarray

    def towards(self, light: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Visibility (n,) of the head and (v,) of the hair from a unit direction `light` (3,) in the head's frame."""
        closeness = np.maximum(dot(self.directions, light), 0.0)
        weights = closeness**LIGHT_SHARPNESS
        weights = (weights / weights.sum()).astype(np.float32)
        return _weighted(weights, self.head), _weighted(weights, self.hair)


def _weighted(weights: np.ndarray, table: np.ndarray) -> np.ndarray:
    total = np.zeros(table.shape[1], np.float32)
    for direction in np.flatnonzero(weights > 0.01):
        total += weights[direction] * table[direction]
    return total


def light_directions() -> np.ndarray:
    """DIRECTIONS unit vectors (3, d) spread evenly over the sphere above LOWEST_DIRECTION."""
    steps = np.arange(DIRECTIONS) + 0.5
    height = 1 - steps / DIRECTIONS * (1 - LOWEST_DIRECTION)
    angle = steps * math.pi * (3 - math.sqrt(5))
    radius = np.sqrt(1 - height**2)
    return np.stack([radius * np.cos(angle), height, radius * np.sin(angle)]).astype(np.float32)


@lru_cache(maxsize=32)
def visibility(hair: str | None, hat: str | None) -> Visibility:
    """The table for a haircut and a hat (part names or None)."""
    pack, head = load_pack(), average_head()
    scale = pack.scale(head)
    worn = {name: garment(name, under_hat=name == hair and hat is not None).part for name in (hair, hat) if name}
    placed = {name: (part.place(head, scale), part.mesh.triangles) for name, part in worn.items()}
    strands = placed[hair][0] if hair else np.zeros((3, 0), np.float32)
    directions = light_directions()
    rows = [_visible_from(number, head, strands, [*placed.values()]) for number in range(DIRECTIONS)]
    head_rows, strand_rows = (np.stack(rows_of) for rows_of in zip(*rows, strict=True))
    return Visibility(
        directions=directions,
        head=head_rows,
        hair=strand_rows,
        head_openness=_openness(head_rows, directions, vertex_normals(head, shown_skin().triangles)),
        hair_openness=strand_rows.mean(0) if strands.size else np.zeros(0, np.float32),
    )


def _visible_from(
    number: int, head: np.ndarray, strands: np.ndarray, worn: list[tuple[np.ndarray, np.ndarray]]
) -> tuple[np.ndarray, np.ndarray]:
    """Visibility (n,) of the head's vertices and (v,) of the hair's from direction `number`."""
    frame = _map_frame(light_directions()[:, number])
    skin_map, past_skin = _past_skin(number)
    if not worn:
        return past_skin, np.zeros(0, np.float32)
    worn_map = _depth_map(frame, worn)
    past_worn = [_lit_share(worn_map, _to_map(frame, points)) for points in (head, strands)]
    head_lit, strands_lit = (1 - HAIR_OPACITY * (1 - share) for share in past_worn)
    return past_skin * head_lit, _lit_share(skin_map, _to_map(frame, strands)) * strands_lit


@lru_cache(maxsize=DIRECTIONS)
def _past_skin(number: int) -> tuple[np.ndarray, np.ndarray]:
    """The bare head's depth map from direction `number`, and how much light (n,) reaches its vertices past itself."""
    frame = _map_frame(light_directions()[:, number])
    skin_map = _depth_map(frame, [(average_head(), shown_skin().triangles)])
    return skin_map, _lit_share(skin_map, _to_map(frame, average_head()))


def _map_frame(direction: np.ndarray) -> np.ndarray:
    """Rows (3, 3): two axes across the light's direction, then the direction from the light to the head."""
    across = np.cross([0.0, 1.0, 0.0], direction)
    across /= np.linalg.norm(across)
    return np.stack([across, np.cross(direction, across), -direction]).astype(np.float32)


def _to_map(frame: np.ndarray, points: np.ndarray) -> np.ndarray:
    located = rotate(frame, points - MAP_CENTRE[:, None])
    located[:2] = (located[:2] / np.float32(MAP_HALF_WIDTH) + 1) * np.float32(MAP_SAMPLES / 2)
    return located


def _depth_map(frame: np.ndarray, surfaces: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    depths = np.full(MAP_SAMPLES**2, FAR, np.float32)
    for vertices, triangles in surfaces:
        fragments = rasterise(_to_map(frame, vertices), triangles, MAP_SAMPLES, cull=False)
        np.minimum.at(depths, fragments.sample, fragments.depth)
    return depths.reshape(MAP_SAMPLES, MAP_SAMPLES)


def _lit_share(depths: np.ndarray, located: np.ndarray) -> np.ndarray:
    """Share (n,) of a 3 × 3 neighbourhood of the map that is not nearer to the light than each point (3, n)."""
    column = np.clip(located[0], 1, MAP_SAMPLES - 2).astype(np.int32)
    row = np.clip(located[1], 1, MAP_SAMPLES - 2).astype(np.int32)
    middle = row * np.int32(MAP_SAMPLES) + column
    nearer = located[2] - np.float32(BIAS)
    lit = np.zeros(located.shape[1], np.int8)
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            lit += nearer <= depths.take(middle + np.int32(down * MAP_SAMPLES + right))
    return lit.astype(np.float32) / 9


def _openness(rows: np.ndarray, directions: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """Cosine-weighted mean visibility (n,): how much of the sky above each point is open."""
    seen = np.zeros(rows.shape[1], np.float32)
    possible = np.full(rows.shape[1], np.float32(1e-3))
    for row, direction in zip(rows, directions.T, strict=True):
        cosine = np.maximum(dot(normalised(normals), direction), 0)
        seen += cosine * row
        possible += cosine
    return seen / possible
