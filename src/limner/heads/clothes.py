"""Clothes as geometry: cloth a little off the shoulders' skin, cut out at the neckline; and a shirt's collar."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from limner.heads.attire import Attire
from limner.heads.fitting import LOWEST_SHOWN, average_head, fit, grid_mesh, keep, shown_skin
from limner.heads.geometry import vertex_normals
from limner.heads.pack import Mesh, Part, load_pack
from limner.heads.sitter import Sitter
from limner.heads.surfaces import CLOTH, Surface, linear

NECK_AXIS = 0.22  # decimetres: z of the line that angles around the neck are measured from
CLOTH_HEIGHT = 0.035  # decimetres above the skin
HIGHEST, JAW_SLOPE = 6.42, 0.5  # decimetres, and how much lower cloth may reach for each decimetre further forward
LOW, HIGH = 5.0, 6.5  # decimetres: heights at the texture's lower and upper edge
ROWS, COLUMNS = 96, 128
TRIM = 0.07  # decimetres
EDGE = 0.03  # decimetres over which cloth ends
STRIPES, HOOP, CHECK = 40, 0.16, 0.2  # stripes around the body; decimetres from hoop to hoop and check to check
COLLAR_COLUMNS, COLLAR_GAP = (
    33,
    0.16,
)  # vertices around the neck; radians that it stays open at either side of the front
COLLAR_ROWS = ((0.0, 0.04), (0.22, 0.07), (0.16, 0.13), (-0.10, 0.26))  # decimetres above its seam, off the neck


@dataclass(frozen=True)
class Cloth:
    """Cloth ready to wear, and its unit normals (3, v) on the average head."""

    part: Part
    normals: np.ndarray


def clothes_surfaces(sitter: Sitter, attire: Attire) -> list[Surface]:
    """What covers the shoulders, and a collar where there is one."""
    colours = linear(attire.colour), linear(attire.second_colour)
    share = _pattern(attire.pattern, attire.neckline)
    textures = ((colours[0], _ground(attire.pattern, attire.neckline)), (colours[1], share))
    surfaces = [_surface(sitter, _shirt(), textures, cut_out(attire.neckline))]
    if attire.neckline == "collar":
        surfaces.append(_surface(sitter, _collar(), ((colours[attire.pattern == "trimmed"], _plain()),), None))
    return surfaces


def _surface(
    sitter: Sitter, cloth: Cloth, textures: tuple[tuple[np.ndarray, np.ndarray], ...], opacity: np.ndarray | None
) -> Surface:
    anchors = cloth.part.anchors[0]
    lighting = sitter.lamp.fall_on(cloth.normals, sitter.lit[anchors], sitter.openness[anchors], CLOTH)
    vertices = cloth.part.place(sitter.head, sitter.scale)
    return Surface(vertices, cloth.part.mesh, lighting, np.ones((3, 1), np.float32), textures, opacity)


@lru_cache(maxsize=1)
def _shirt() -> Cloth:
    """The skin of shoulders and neck, lifted."""
    head, mesh = average_head(), load_pack().skin
    _, y, z = head
    below_jaw = y < HIGHEST - JAW_SLOPE * np.maximum(z - 0.1, 0)
    kept = keep(mesh, below_jaw[mesh.triangles].all(0) & (y > LOWEST_SHOWN)[mesh.triangles].any(0))
    used, triangles = np.unique(kept.triangles, return_inverse=True)
    triangles = triangles.reshape(3, -1).astype(np.int32)
    normals = vertex_normals(head, mesh.triangles)[:, used]
    lift = normals * np.float32(CLOTH_HEIGHT)
    count = len(used)
    anchors = np.stack([used] * 3).astype(np.int32)
    weights = np.stack([np.ones(count), np.zeros(count), np.zeros(count)]).astype(np.float32)
    part = Part(_wrapped(head[:, used], triangles), anchors, weights, lift / load_pack().scale(head)[:, None])
    return Cloth(part, normals)


def _wrapped(vertices: np.ndarray, triangles: np.ndarray) -> Mesh:
    """A mesh whose u goes around the neck, the front in the middle, and whose v is the height."""
    x, y, z = vertices[:, triangles]
    u = np.arctan2(x, z - NECK_AXIS) / (2 * np.pi) + 0.5
    behind = u.max(0) - u.min(0) > 0.5  # these triangles meet the seam
    u = np.where(behind & (u < 0.5), 1.0, u)
    v = np.clip((y - LOW) / (HIGH - LOW), 0, 1)
    uv = np.stack([u.ravel(), v.ravel()]).astype(np.float32)
    return Mesh(triangles, np.arange(triangles.size, dtype=np.int32).reshape(triangles.shape), uv)


@lru_cache(maxsize=1)
def _collar() -> Cloth:
    """A collar that stands around the neck and folds over."""
    angle = np.linspace(-np.pi + COLLAR_GAP, np.pi - COLLAR_GAP, COLLAR_COLUMNS) + np.pi
    front = 0.5 + 0.5 * np.cos(angle)
    rise, off = np.array(COLLAR_ROWS).T[:, :, None]
    tips = np.clip((front - 0.82) / 0.18, 0, 1)
    seam = 6.16 - 0.30 * front
    height = seam + rise * (1 - 0.4 * front) - 0.22 * tips * (rise < 0)
    radius = _neck_radius(angle, seam) + off
    points = np.stack([radius * np.sin(angle), height, NECK_AXIS + radius * np.cos(angle)])
    points = points.reshape(3, -1).astype(np.float32)
    part = fit(points, grid_mesh(len(COLLAR_ROWS), COLLAR_COLUMNS))
    return Cloth(part, vertex_normals(points, part.mesh.triangles))


def _neck_radius(angle: np.ndarray, height: np.ndarray) -> np.ndarray:
    """How far the average neck's skin is from its axis at angles and heights (n,)."""
    x, y, z = average_head()[:, np.unique(shown_skin().triangles)]
    around, reach = np.arctan2(x, z - NECK_AXIS), np.hypot(x, z - NECK_AXIS)
    turned = np.abs(np.angle(np.exp(1j * (around[:, None] - angle))))
    near = np.exp(-np.square(turned / 0.12) - np.square((y[:, None] - height) / 0.06)) * (reach < 1.0)[:, None]
    return (near * reach[:, None]).sum(0) / near.sum(0)


@lru_cache(maxsize=1)
def _grid() -> tuple[np.ndarray, np.ndarray]:
    """Angles (1, COLUMNS) from the front and heights (ROWS, 1) of the texture's texels."""
    angle = (np.linspace(0, 1, COLUMNS) - 0.5) * 2 * np.pi
    return angle[None, :], np.linspace(HIGH, LOW, ROWS)[:, None]


def _neckline(name: str) -> np.ndarray:
    """How high cloth reaches (1, COLUMNS), in decimetres."""
    angle, _ = _grid()
    front = 0.5 + 0.5 * np.cos(angle)
    if name == "v":
        return 6.04 - 0.66 * np.clip(1 - np.abs(angle) / 1.1, 0, 1)
    if name == "scoop":
        return 5.94 - 0.34 * front**2
    if name == "roll":
        return 6.34 - 0.30 * front
    if name == "collar":
        return 6.14 - 0.22 * front - 0.5 * np.clip(1 - np.abs(angle) / 0.34, 0, 1)
    return 6.04 - 0.20 * front


@lru_cache(maxsize=8)
def cut_out(neckline: str) -> np.ndarray:
    """Opacity (ROWS, COLUMNS): 1 below the neckline."""
    _, height = _grid()
    return np.clip((_neckline(neckline) - height) / EDGE + 0.5, 0, 1).astype(np.float32)


@lru_cache(maxsize=32)
def _pattern(name: str, neckline: str) -> np.ndarray:
    """Share (1, ROWS, COLUMNS) of the second colour."""
    angle, height = _grid()
    if name == "trimmed":
        share = (height > _neckline(neckline) - TRIM) * 1.0
    elif name == "hoops":
        share = _wave(height / HOOP) + 0 * angle
    elif name == "stripes":
        share = _wave(angle / (2 * np.pi) * STRIPES) * 0.8 + 0 * height
    elif name == "checks":
        share = 0.5 * _wave(height / CHECK) + 0.5 * _wave(angle / (2 * np.pi) * STRIPES / 1.6)
    else:
        share = 0 * (angle + height)
    return share[None].astype(np.float32)


@lru_cache(maxsize=32)
def _ground(name: str, neckline: str) -> np.ndarray:
    """Share (1, ROWS, COLUMNS) of the first colour."""
    return 1 - _pattern(name, neckline)


def _wave(place: np.ndarray) -> np.ndarray:
    """0 and 1 by turns, once per unit, softly."""
    return np.clip(0.5 + 1.5 * np.sin(2 * np.pi * place), 0, 1)


@lru_cache(maxsize=1)
def _plain() -> np.ndarray:
    return np.ones((1, 2, 2), np.float32)
