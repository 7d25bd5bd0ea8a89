"""Moustache, beard, sideburns and stubble: where they grow, and the shells of hair drawn over the skin."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from limner.heads.ageing import distance_to
from limner.heads.face_map import bake, face_points, face_uv, lips, neutral_normals, noise, rising
from limner.heads.identity import Identity
from limner.heads.pack import Mesh, load_pack

STYLES = {
    "none": 0.36,
    "stubble": 0.17,
    "moustache": 0.13,
    "goatee": 0.07,
    "circle": 0.11,  # moustache and goatee
    "full": 0.16,
}
REGIONS = {
    "none": (),
    "stubble": ("moustache", "beard"),
    "moustache": ("moustache",),
    "goatee": ("goatee",),
    "circle": ("moustache", "goatee"),
    "full": ("moustache", "beard"),
}
SIDEBURNS_SHARE = 0.3  # of the men with neither beard nor stubble
HEIGHTS = (0.014, 0.034, 0.055)  # decimetres of the shells above the skin
DENSITIES = (1.1, 0.6, -0.05)  # standard deviations of the noise that are hair, shell by shell
DROOP = 0.5  # how much hairs hang down, against how far they stand out


@dataclass(frozen=True)
class FacialHair:
    """style: a key of STYLES; darkness: factor on the hair's colour (sRGB)."""

    style: str
    sideburns: bool
    darkness: float

    @property
    def regions(self) -> tuple[str, ...]:
        """Where hair is long enough to stand out."""
        long = () if self.style == "stubble" else REGIONS[self.style]
        return (*long, "sideburns") if self.sideburns else long


def sample_facial_hair(identity: Identity, rng: np.random.Generator) -> FacialHair:
    """Draw how a person is shaved; women have none."""
    style, sideburns, darkness = rng.random(), rng.random(), rng.uniform(0.7, 0.95)
    if not identity.male:
        return FacialHair("none", False, 1.0)
    ends = np.cumsum(list(STYLES.values()))
    chosen = list(STYLES)[int(np.searchsorted(ends, style * ends[-1], side="right"))]
    grown = chosen == "full" or (chosen != "stubble" and sideburns < SIDEBURNS_SHARE)
    return FacialHair(chosen, grown, darkness)


def label_facial_hair(facial_hair: FacialHair) -> dict[str, bool]:
    """The labels that facial hair decides."""
    regions = facial_hair.regions
    return {
        "5_o_Clock_Shadow": facial_hair.style == "stubble",
        "Goatee": "goatee" in regions,
        "Mustache": "moustache" in regions,
        "No_Beard": facial_hair.style == "none",
        "Sideburns": "sideburns" in regions,
    }


@dataclass(frozen=True)
class Shells:
    """Layers of one style of hair: the head's vertices (v,) under them, which way hairs grow there (3, v), one mesh,
    and each layer's height in decimetres with its opacity (h, w).
    """

    vertices: np.ndarray
    growth: np.ndarray
    mesh: Mesh
    layers: tuple[tuple[float, np.ndarray], ...]


@lru_cache(maxsize=16)
def shells(regions: tuple[str, ...]) -> Shells:
    """The layers of hair over `regions`."""
    covered = hair_on_vertices(regions) > 0.02
    triangles = load_pack().skin.triangles
    triangles = triangles[:, covered[triangles].any(0)]
    vertices, corners = np.unique(triangles, return_inverse=True)
    corners = corners.reshape(triangles.shape).astype(np.int32)
    mesh = Mesh(corners, corners, np.ascontiguousarray(face_uv()[:, vertices]))
    growth = neutral_normals()[:, vertices] - np.array([[0.0], [DROOP], [0.0]], np.float32)
    mask = hair_on_map(regions)
    strands = noise(7, 2, 7) + np.float32(0.6) * noise(8, 9, 15)
    layers = tuple(
        (height, mask * np.clip((strands + density) * np.float32(1.2) + np.float32(0.5), 0, 1))
        for height, density in zip(HEIGHTS, DENSITIES, strict=True)
    )
    return Shells(vertices, growth, mesh, layers)


@lru_cache(maxsize=16)
def hair_on_vertices(regions: tuple[str, ...]) -> np.ndarray:
    """How thickly hair grows on each vertex (n,), 0 to 1."""
    points = load_pack().vertices
    return _union(regions, points) * (1 - lips()) * rising(neutral_normals()[2], -0.75, -0.3)


@lru_cache(maxsize=16)
def hair_on_map(regions: tuple[str, ...]) -> np.ndarray:
    """How thickly hair grows at each texel (h, w) of the head's map, 0 to 1."""
    return _union(regions, face_points()) * (1 - rising(bake(lips()[None])[0], 0.2, 0.6))


def _union(regions: tuple[str, ...], points: np.ndarray) -> np.ndarray:
    thickness = np.zeros(points.shape[1:], np.float32)
    for region in regions:
        thickness = np.maximum(thickness, _GROWTH[region](np.abs(points[0]), points[1], points[2]))
    return thickness


def _moustache(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    away = distance_to(x, y, ((0.0, 6.765), (0.14, 6.775), (0.26, 6.715), (0.345, 6.60)))
    return rising(away, 0.075, 0.04) * rising(z, 1.0, 1.1)


def _goatee(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    chin = rising(np.hypot(x / 0.26, (y - 6.24) / 0.17), 1.1, 0.75)
    below_lip = rising(distance_to(x, y, ((0.0, 6.46), (0.0, 6.30))), 0.08, 0.04)
    return np.maximum(chin, below_lip) * rising(z, 0.9, 1.05)


def _beard(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    angle = np.degrees(np.arctan2(x, z - 0.35))
    top = np.interp(angle, (0, 9, 13, 17, 28, 44, 58, 66, 75), (6.46, 6.44, 6.48, 6.69, 6.67, 6.74, 6.94, 7.15, 7.2))
    jaw = y - 6.52 + 1.35 * (z - 0.55)  # above a line from the corner of the jaw to the throat
    return rising(top - y, -0.02, 0.05) * rising(jaw, 0.0, 0.1) * rising(z, 0.58, 0.68) * rising(y, 6.0, 6.1)


def _sideburns(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    front = 0.86 + 0.05 * (7.0 - y)
    return (
        rising(front - z, -0.03, 0.04)
        * rising(z, 0.6, 0.66)
        * rising(y, 6.70, 6.76)
        * rising(x, 0.45, 0.55)
        * rising(y, 7.65, 7.5)
    )


_GROWTH: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]] = {
    "moustache": _moustache,
    "goatee": _goatee,
    "beard": _beard,
    "sideburns": _sideburns,
}
