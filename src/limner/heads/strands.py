"""Which way hair runs, and a relief of fine strands along it, worked out once per haircut from its mesh and texture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from limner.heads.geometry import dot, normalised
from limner.heads.pack import Mesh, Texture
from limner.heads.raster import rasterise

SIDE = 256  # texels of a relief
FIELD_SIDE = 128
CROWN = np.array([[0.0], [8.45], [0.25]], np.float32)  # hair falls away from here
TEXTURE_TRUST = 1.5  # weight of a texture's own strands against the way hair would fall
STREAK_STEPS = 8  # double texels that a strand of the relief runs to either side
LOCK_SMOOTHINGS = 5
FINE, LOCKS = 0.18, 0.30  # how much strands and locks of strands lighten and darken
BASE_SMOOTHINGS = 3  # of the texture's own brightness, so that it does not sparkle in small pictures
BASE_LIMITS = (0.8, 1.25)


@dataclass(frozen=True)
class Strands:
    """relief: (1, SIDE, SIDE) factors on the colour; tangents: (3, v) unit vectors along the strands."""

    relief: np.ndarray
    tangents: np.ndarray


def comb(vertices: np.ndarray, normals: np.ndarray, mesh: Mesh, texture: Texture) -> Strands:
    """The strands of hair whose vertices (3, v) have unit `normals` (3, v)."""
    assert texture.opacity is not None  # every hair texture has one
    brightness = np.sqrt(texture.colour).mean(0)
    field = _smoothed_axis(_falling(vertices, normals, mesh) + TEXTURE_TRUST * _ridges(brightness, texture.opacity))
    streaks = np.exp(FINE * _streaks(field, 0, 1) + LOCKS * _streaks(field, LOCK_SMOOTHINGS, 2))
    relief = _twice(_base(brightness, texture.opacity)) * streaks
    return Strands(relief[None].astype(np.float32), _tangents(field, vertices, mesh))


def paint_texture(values: np.ndarray, mesh: Mesh, side: int) -> np.ndarray:
    """Vertex `values` (c, v) spread over the texture: (c, side, side); 0 where no triangle lies."""
    flat = np.zeros((len(values), side * side), np.float32)
    screen = np.stack([mesh.uv[0] * side, (1 - mesh.uv[1]) * side, np.zeros_like(mesh.uv[0])]).astype(np.float32)
    fragments = rasterise(screen, mesh.texture_triangles, side, cull=False)
    flat[:, fragments.sample] = fragments.interpolate(values, mesh.triangles)
    return flat.reshape(len(values), side, side)


def _axis(across: np.ndarray, down: np.ndarray) -> np.ndarray:
    """Directions as axes without a sense: (2, …) the doubled angle's cosine and sine times the squared length."""
    return np.stack([across**2 - down**2, 2 * across * down])


def _falling(vertices: np.ndarray, normals: np.ndarray, mesh: Mesh) -> np.ndarray:
    """Axes (2, FIELD_SIDE, FIELD_SIDE) in the texture along which hair falls from the crown."""
    along, _ = _texture_frame(vertices, mesh)
    away = vertices - CROWN
    down = away * np.array([[1.0], [1.6], [1.0]], np.float32)
    down = normalised(down - normals * dot(down, normals))
    fall = down[:, mesh.triangles].mean(1)
    across = dot(fall, along[0])
    lower = dot(fall, along[1])
    length = np.sqrt(across**2 + lower**2) + np.float32(1e-9)
    axis = _axis(across / length, lower / length)
    flat = np.zeros((2, FIELD_SIDE * FIELD_SIDE), np.float32)
    side = np.float32(FIELD_SIDE)
    screen = np.stack([mesh.uv[0] * side, (1 - mesh.uv[1]) * side, np.zeros_like(mesh.uv[0])]).astype(np.float32)
    fragments = rasterise(screen, mesh.texture_triangles, FIELD_SIDE, cull=False)
    flat[:, fragments.sample] = axis[:, fragments.triangle]
    return flat.reshape(2, FIELD_SIDE, FIELD_SIDE)


def _texture_frame(vertices: np.ndarray, mesh: Mesh) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
    """Per triangle, two rows (3, f): a step dotted with them gives texture steps across and down; and their inverse
    (2, 3, f): where one step across and one step down lead.
    """
    corners = vertices[:, mesh.triangles]
    edge_a, edge_b = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    places = np.stack([mesh.uv[0], 1 - mesh.uv[1]])[:, mesh.texture_triangles]
    step_a, step_b = places[:, 1] - places[:, 0], places[:, 2] - places[:, 0]
    aa, ab, bb = dot(edge_a, edge_a), dot(edge_a, edge_b), dot(edge_b, edge_b)
    area = np.maximum(aa * bb - ab * ab, np.float32(1e-12))
    to_a, to_b = (edge_a * bb - edge_b * ab) / area, (edge_b * aa - edge_a * ab) / area
    rows = (to_a * step_a[0] + to_b * step_b[0], to_a * step_a[1] + to_b * step_b[1])
    turn = step_a[0] * step_b[1] - step_a[1] * step_b[0]
    turn = np.where(np.abs(turn) < 1e-12, np.float32(1e-12), turn)
    inverse = np.stack(
        [(edge_a * step_b[1] - edge_b * step_a[1]) / turn, (edge_b * step_a[0] - edge_a * step_b[0]) / turn]
    )
    return rows, inverse


def _ridges(brightness: np.ndarray, opacity: np.ndarray) -> np.ndarray:
    """Axes (2, h, w) along the strands that a texture shows: across its steepest change."""
    across = (np.roll(brightness, -1, 1) - np.roll(brightness, 1, 1)) * opacity
    down = (np.roll(brightness, -1, 0) - np.roll(brightness, 1, 0)) * opacity
    axis = -_axis(across, down)
    energy = across**2 + down**2
    for _ in range(4):
        axis, energy = np.stack([spread(plane) for plane in axis]), spread(energy)
    return axis / (energy + np.float32(1e-4))


def _smoothed_axis(axis: np.ndarray) -> np.ndarray:
    """Unit directions (2, h, w), rows across and down, of a smoothed field of axes."""
    for _ in range(4):
        axis = np.stack([spread(plane) for plane in axis])
    angle = 0.5 * np.arctan2(axis[1], axis[0])
    return np.stack([np.cos(angle), np.sin(angle)]).astype(np.float32)


def _streaks(field: np.ndarray, smoothings: int, seed: int) -> np.ndarray:
    """Noise (SIDE, SIDE) of standard deviation 1, drawn out along the field."""
    noise = np.random.default_rng(seed).standard_normal((SIDE, SIDE)).astype(np.float32)
    for _ in range(smoothings):
        noise = spread(noise)
    total, flat = noise.copy(), noise.ravel()
    strides = 2 * field.repeat(SIDE // FIELD_SIDE, 1).repeat(SIDE // FIELD_SIDE, 2)
    across, down = strides.reshape(2, -1)
    start_row, start_column = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    for sense in (1.0, -1.0):
        row, column = start_row, start_column
        right, low = np.float32(sense) * strides
        for _ in range(STREAK_STEPS):
            row, column = row + low, column + right
            place = np.clip(row, 0, SIDE - 1).astype(np.int32) * SIDE + np.clip(column, 0, SIDE - 1).astype(np.int32)
            total += flat.take(place)
            ahead_right, ahead_low = across.take(place), down.take(place)
            turn = np.where(ahead_right * right + ahead_low * low < 0, np.float32(-1), np.float32(1))
            right, low = ahead_right * turn, ahead_low * turn
    return (total - total.mean()) / total.std()


def _tangents(field: np.ndarray, vertices: np.ndarray, mesh: Mesh) -> np.ndarray:
    """Unit vectors (3, v) along the strands, pointing away from the crown."""
    middle = mesh.uv[:, mesh.texture_triangles].mean(1) * FIELD_SIDE
    column, row = np.clip(middle[0], 0, FIELD_SIDE - 1), np.clip(FIELD_SIDE - middle[1], 0, FIELD_SIDE - 1)
    across, down = field[:, row.astype(np.int32), column.astype(np.int32)]
    _, (one_across, one_down) = _texture_frame(vertices, mesh)
    along = normalised(one_across * across + one_down * down)
    away = (vertices - CROWN)[:, mesh.triangles].mean(1)
    along = along * np.where(dot(along, away) < 0, np.float32(-1), np.float32(1))
    total = np.zeros_like(vertices)
    for row, along_row in zip(total, along, strict=True):
        for corner in mesh.triangles:
            np.add.at(row, corner, along_row)
    return normalised(total)


def _base(brightness: np.ndarray, opacity: np.ndarray) -> np.ndarray:
    """How much lighter or darker than its mean a hair texture is: (h, w), smoothed over what is opaque."""
    mean = brightness[opacity > 0.5].mean()
    share = opacity + np.float32(1e-3)
    weighted = brightness * share
    for _ in range(BASE_SMOOTHINGS):
        weighted, share = spread(weighted), spread(share)
    return np.square(np.clip(0.4 + 0.6 * weighted / share / mean, *BASE_LIMITS))


def spread(plane: np.ndarray) -> np.ndarray:
    """A quarter of each texel of (h, w) moved to either neighbour, along both axes."""
    for axis in (0, 1):
        plane = (np.roll(plane, 1, axis) + 2 * plane + np.roll(plane, -1, axis)) / 4
    return plane


def _twice(plane: np.ndarray) -> np.ndarray:
    factor = SIDE // len(plane)
    return spread(spread(plane.repeat(factor, 0).repeat(factor, 1)))
