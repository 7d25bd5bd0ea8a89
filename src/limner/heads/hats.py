"""Hats: a knitted cap and a cap with a visor shaped on the average skull, and the pack's fedora a size larger."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from limner.heads.fitting import average_head, fit, from_skull, grid_mesh, joined
from limner.heads.geometry import vertex_normals
from limner.heads.pack import Part, load_pack

COLUMNS = 36  # around the head
FEDORA_EASE = 1.06  # the fedora is as narrow as the skull; it is widened by this, so that skull and hair stay inside
FEDORA_LOWERED = 0.03  # decimetres
FEDORA_GAIN = 2.5  # its texture is a dark grey
RIBS, RIB_SHADE = 30, 0.14
# Rows of a knitted cap from its folded edge up: share of the way to the crown, height above the skull in decimetres.
KNITTED_ROWS = (
    (0.0, 0.02),
    (-0.01, 0.11),
    (0.08, 0.145),
    (0.26, 0.145),
    (0.29, 0.10),
    (0.45, 0.11),
    (0.62, 0.13),
    (0.80, 0.16),
    (0.93, 0.18),
    (1.0, 0.18),
)
VISOR_CAP_ROWS = (
    (0.0, 0.03),
    (0.0, 0.06),
    (0.15, 0.085),
    (0.35, 0.10),
    (0.55, 0.10),
    (0.75, 0.09),
    (0.92, 0.08),
    (1.0, 0.08),
)
EDGE_LIFTS = {"hat:knitted": (19.0, -6.0), "hat:visor": (22.0, -1.0)}  # degrees above SKULL_CENTRE, front and back
VISOR_HALF_ANGLE, VISOR_LENGTH, VISOR_DROP = 64.0, 0.72, 0.24  # degrees, decimetres, decimetres


@dataclass(frozen=True)
class Hat:
    """A hat ready to wear: unit normals (3, v) on the average head; texture (1 or 3, h, w), factors on its colour."""

    part: Part
    normals: np.ndarray
    texture: np.ndarray


@lru_cache(maxsize=8)
def hat(name: str) -> Hat:
    """The hat `name`: hat:fedora, hat:knitted or hat:visor."""
    if name == "hat:fedora":
        return _fedora()
    crown = _crown(name, KNITTED_ROWS if name == "hat:knitted" else VISOR_CAP_ROWS)
    parts = [crown] if name == "hat:knitted" else [crown, _visor(EDGE_LIFTS[name])]
    points = np.concatenate([points for points, _ in parts], 1)
    mesh = joined([grid_mesh(*shape, closed=shape[1] == COLUMNS) for _, shape in parts])
    part = fit(points, mesh)
    return Hat(part, vertex_normals(points, mesh.triangles), _ribs() if name == "hat:knitted" else _panels())


def _fedora() -> Hat:
    part = load_pack().parts["hat:fedora"]
    scale = load_pack().scale(average_head())
    placed = part.place(average_head(), scale)
    middle = np.array([[0.0], [0.0], [0.45]], np.float32)
    eased = (placed - middle) * np.array([[FEDORA_EASE], [1.0], [FEDORA_EASE]], np.float32) + middle
    eased[1] -= np.float32(FEDORA_LOWERED)
    moved = replace(part, offsets=part.offsets + (eased - placed) / scale[:, None])
    texture = np.float32(FEDORA_GAIN) * load_pack().textures["hat:fedora_texture_grey"].colour
    return Hat(moved, vertex_normals(eased, part.mesh.triangles), texture)


def _edge_lift(azimuth: np.ndarray, lifts: tuple[float, float]) -> np.ndarray:
    """Radians above SKULL_CENTRE of a hat's edge: the higher in front."""
    front, back = np.radians(lifts)
    return back + (front - back) * (0.5 + 0.5 * np.cos(azimuth))


def _directions(azimuth: np.ndarray, lift: np.ndarray) -> np.ndarray:
    towards = np.stack([np.sin(azimuth) * np.cos(lift), np.sin(lift), np.cos(azimuth) * np.cos(lift)])
    return towards.reshape(3, -1).astype(np.float32)


def _crown(name: str, rows: tuple[tuple[float, float], ...]) -> tuple[np.ndarray, tuple[int, int]]:
    """Points (3, v), rows from the crown down, and the numbers of rows and columns."""
    share, height = np.array(rows[::-1], np.float32).T[:, :, None]
    azimuth = (np.arange(COLUMNS) / COLUMNS * 2 * np.pi - np.pi).astype(np.float32)[None]
    edge = _edge_lift(azimuth, EDGE_LIFTS[name])
    lift = edge + (np.pi / 2 - edge) * share
    azimuth, height = np.broadcast_to(azimuth, lift.shape), np.broadcast_to(height, lift.shape)
    return from_skull(_directions(azimuth, lift), height.ravel().astype(np.float32)), lift.shape


def _visor(lifts: tuple[float, float]) -> tuple[np.ndarray, tuple[int, int]]:
    """Points (3, v), rows from the cap outwards, and the numbers of rows and columns."""
    rows, columns = 4, 15
    azimuth = np.radians(np.linspace(-VISOR_HALF_ANGLE, VISOR_HALF_ANGLE, columns))
    edge = from_skull(_directions(azimuth, _edge_lift(azimuth, lifts)), np.full(columns, np.float32(0.06)))
    out = np.linspace(0, 1, rows)[:, None]
    across = azimuth / np.radians(VISOR_HALF_ANGLE)
    reach = VISOR_LENGTH * (1 - across**2) * out
    x, y, z = edge[0] + 0 * out, edge[1] + 0.01 - VISOR_DROP * out * (0.4 + across**2), edge[2] + reach
    return np.stack([x, y, z]).reshape(3, -1).astype(np.float32), (rows, columns)


def _ribs() -> np.ndarray:
    """Knitted ribs (1, h, w) around a cap, and the shade under its fold."""
    down, across = np.mgrid[0:1:48j, 0:1:256j]
    ribs = 1 + RIB_SHADE * np.cos(2 * np.pi * RIBS * across) * np.clip(4 * down, 0, 1)
    fold = 1 - 0.3 * np.exp(-np.square((down - 0.56) / 0.03))
    return (ribs * fold)[None].astype(np.float32)


def _panels() -> np.ndarray:
    """Six panels (1, h, w) of cloth with seams between them."""
    down, across = np.mgrid[0:1:32j, 0:1:192j]
    seam = np.abs((6 * across) % 1 - 0.5) * 2
    return (1 - 0.22 * np.exp(-np.square((1 - seam) / 0.08)) * np.clip(1.2 - down, 0, 1))[None].astype(np.float32)
