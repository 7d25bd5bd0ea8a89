"""Own geometry for heads: where the average head's surface lies, and parts that are made to follow every other head."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from limner.heads.geometry import normalised
from limner.heads.identity import average_weights
from limner.heads.pack import Mesh, Part, load_pack

LOWEST_SHOWN = 4.0  # decimetres: below this is outside every picture, the wider ones of a CelebA tree too
LOWEST_BARE = 5.2  # decimetres: clothes cover what is below this
SKULL_CENTRE = np.array([[0.0], [7.5], [0.45]], np.float32)
SKULL_LOWEST = 6.9  # decimetres: what is below is no skull
SKULL_HALF_WIDTH = 0.72  # decimetres: what is further out are ears
SKULL_SHARPNESS = 128  # exponent of the cosine that weighs vertices by how near their direction is
SKULL_ROWS, SKULL_COLUMNS = 41, 81
ANCHORS = 3


@lru_cache(maxsize=1)
def average_head() -> np.ndarray:
    """The average young adult's vertices (3, n): parts are fitted and shadows are cast on this head."""
    pack = load_pack()
    return pack.morph(average_weights(pack))


@lru_cache(maxsize=1)
def shown_skin() -> Mesh:
    """The skin's triangles that a picture can show: not those that every neckline covers."""
    mesh = load_pack().skin
    return keep(mesh, (average_head()[1][mesh.triangles] > LOWEST_BARE).any(0))


def keep(mesh: Mesh, kept: np.ndarray) -> Mesh:
    """The mesh with the triangles at an index or truth array only."""
    return Mesh(
        np.ascontiguousarray(mesh.triangles[:, kept]), np.ascontiguousarray(mesh.texture_triangles[:, kept]), mesh.uv
    )


def skull_radius(directions: np.ndarray) -> np.ndarray:
    """Distance (n,) from SKULL_CENTRE to the average skull's skin along unit `directions` (3, n)."""
    x, y, z = directions
    column = (np.arctan2(x, z) / (2 * math.pi) + 0.5) * (SKULL_COLUMNS - 1)
    row = np.arccos(np.clip(y, -1, 1)) / math.pi * (SKULL_ROWS - 1)
    left, top = np.clip(column.astype(int), 0, SKULL_COLUMNS - 2), np.clip(row.astype(int), 0, SKULL_ROWS - 2)
    right, low = column - left, row - top
    table = _skull_table()
    upper = table[top, left] * (1 - right) + table[top, left + 1] * right
    lower = table[top + 1, left] * (1 - right) + table[top + 1, left + 1] * right
    return (upper * (1 - low) + lower * low).astype(np.float32)


@lru_cache(maxsize=1)
def _skull_table() -> np.ndarray:
    """Radii (SKULL_ROWS, SKULL_COLUMNS) by polar angle from the crown and azimuth from behind, smoothed."""
    polar, azimuth = np.meshgrid(
        np.linspace(0, math.pi, SKULL_ROWS), np.linspace(-math.pi, math.pi, SKULL_COLUMNS), indexing="ij"
    )
    towards = np.stack([np.sin(polar) * np.sin(azimuth), np.cos(polar), np.sin(polar) * np.cos(azimuth)])
    x, y, z = average_head()[:, np.unique(shown_skin().triangles)]
    of_skull = (y > SKULL_LOWEST) & (np.abs(x) < SKULL_HALF_WIDTH)
    spokes = np.stack([x, y, z])[:, of_skull] - SKULL_CENTRE
    lengths = np.sqrt((spokes**2).sum(0))
    radius = np.empty(polar.shape, np.float32)
    for row in range(SKULL_ROWS):
        closeness = sum(towards[axis, row, :, None] * (spokes[axis] / lengths) for axis in range(3))
        share = np.maximum(closeness, 0) ** SKULL_SHARPNESS
        radius[row] = (share * lengths).sum(1) / share.sum(1)
    return radius


def above_skull(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Directions (3, n) of `points` (3, n) from SKULL_CENTRE, and how far (n,) each is above the average skull."""
    spokes = points - SKULL_CENTRE
    directions = normalised(spokes)
    return directions, np.sqrt((spokes**2).sum(0)) - skull_radius(directions)


def from_skull(directions: np.ndarray, height: np.ndarray) -> np.ndarray:
    """The points (3, n) at `height` (n,) above the average skull along unit `directions` (3, n)."""
    return SKULL_CENTRE + directions * (skull_radius(directions) + height)


def fit(points: np.ndarray, mesh: Mesh) -> Part:
    """A part whose vertices are `points` (3, v) on the average head and follow the nearest skin on any other."""
    head = average_head()
    candidates = np.unique(shown_skin().triangles)
    anchors = np.empty((ANCHORS, points.shape[1]), np.int32)
    weights = np.empty((ANCHORS, points.shape[1]), np.float32)
    for vertex, point in enumerate(points.T):
        distance = ((head[:, candidates] - point[:, None]) ** 2).sum(0)
        nearest = np.argsort(distance, kind="stable")[:ANCHORS]
        share = 1 / (distance[nearest] + np.float32(0.01))
        anchors[:, vertex], weights[:, vertex] = candidates[nearest], share / share.sum()
    held = sum(head[:, anchor] * weight for anchor, weight in zip(anchors, weights, strict=True))
    return Part(mesh, anchors, weights, ((points - held) / load_pack().scale(head)[:, None]).astype(np.float32))


def grid_mesh(rows: int, columns: int, *, closed: bool = False) -> Mesh:
    """A mesh of rows × columns vertices in row-major order, u along a row, v upwards from the last row.

    Seen from where rows run downwards and columns to the right, triangles face the viewer; `closed` joins each
    row's end to its beginning.
    """
    across = columns if closed else columns - 1
    row, column = np.mgrid[: rows - 1, :across].astype(np.int32)
    corner = (row * columns + column).ravel()
    right = (row * columns + (column + 1) % columns).ravel()
    quads = np.stack([corner, corner + columns, right + columns, right])
    u_row, u_column = np.mgrid[: rows - 1, :across].astype(np.int32)
    texture_corner = (u_row * (across + 1) + u_column).ravel()
    texture_quads = np.stack(
        [texture_corner, texture_corner + across + 1, texture_corner + across + 2, texture_corner + 1]
    )
    v, u = np.mgrid[0:rows, 0 : across + 1].astype(np.float32)
    uv = np.stack([u.ravel() / across, 1 - v.ravel() / (rows - 1)])
    return Mesh(_halves(quads), _halves(texture_quads), np.ascontiguousarray(uv, np.float32))


def joined(meshes: list[Mesh]) -> Mesh:
    """One mesh of several whose vertices follow each other; every vertex of each is used by its triangles."""
    triangles, texture_triangles, vertices, corners = [], [], 0, 0
    for mesh in meshes:
        triangles.append(mesh.triangles + np.int32(vertices))
        texture_triangles.append(mesh.texture_triangles + np.int32(corners))
        vertices, corners = vertices + int(mesh.triangles.max()) + 1, corners + mesh.uv.shape[1]
    uv = np.concatenate([mesh.uv for mesh in meshes], 1)
    return Mesh(np.concatenate(triangles, 1), np.concatenate(texture_triangles, 1), uv)


def _halves(quads: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.concatenate([quads[[0, 1, 2]], quads[[0, 2, 3]]], 1), np.int32)
