"""Glasses as geometry: rims before the eyes, a bridge over the nose, temples to the ears, lenses.

They are laid out flat on the average head once per shape, and set on each head rigidly: at the height of its eyes, as
wide as these are apart, clear of brows, cheeks and nose, with temples bent around the head's sides.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from limner.heads.eyewear import Eyewear
from limner.heads.fitting import average_head, grid_mesh, joined, shown_skin
from limner.heads.geometry import normalised, vertex_normals
from limner.heads.pack import Mesh, load_pack
from limner.heads.sitter import Sitter
from limner.heads.surfaces import Material, Surface, linear

# Half width, half height, exponent of the superellipse, how far the lower half is drawn inwards, centre above the eye.
OUTLINES = {
    "round": (0.215, 0.205, 2.0, 0.0, -0.01),
    "rectangular": (0.245, 0.155, 4.0, 0.0, -0.005),
    "aviator": (0.255, 0.215, 2.4, 0.28, -0.035),
    "wide": (0.255, 0.205, 3.0, 0.10, -0.01),
}
CORNERS = 22  # of an outline
EYE_HALF_DISTANCE = 0.289  # decimetres on the average head
EYE_HEIGHT = 7.337
WRAP = 0.22  # how much the front bends back: decimetres per square decimetre from the middle
DEPTH = 0.05  # decimetres of a rim from front to back
CLEARANCE = 0.035  # decimetres between the middle of a rim and the nearest skin
EYE_CLEARANCE = 0.09  # decimetres between lens and eyeball
NOSE_HALF_WIDTH = 0.13  # decimetres: skin this near the middle is under the bridge
BRIDGE_HEIGHT, HINGE_HEIGHT = 0.05, 0.07  # decimetres above the eyes
HINGE_REACH = 0.25  # decimetres from an eye's middle out to the hinge
EAR = (0.74, 7.42, 0.42)  # where a temple rests on the average head
BRIDGE_POINTS, TEMPLE_POINTS = 5, 6
TEMPLE_WIDTH = 0.07  # decimetres
FRAME = Material(np.full((3, 1), 0.25, np.float32), 0.25, 5)
LENS = Material(np.full((3, 1), 0.6, np.float32), 0.12, 5)
DARK_LENS = np.full((3, 1), 0.012, np.float32)
CLEAR_LENS = np.array([[0.75], [0.85], [0.95]], np.float32)
WHITE = np.ones((3, 1), np.float32)


@dataclass(frozen=True)
class Layout:
    """One shape of glasses: the outline (2, c) of the left lens, from the eye's middle; the skin vertices `near` its
    rims on the average head; the frame's and the lenses' meshes.
    """

    outline: np.ndarray
    near: np.ndarray
    mesh: Mesh
    lens_mesh: Mesh


def glasses_surfaces(sitter: Sitter, eyewear: Eyewear) -> list[Surface]:
    """The frame, and the lenses that are painted over what lies behind them."""
    layout = layout_of(eyewear.shape)
    seat = Seat.on(sitter.head, layout)
    frame = seat.frame(layout, eyewear.thickness)
    normals = vertex_normals(frame, layout.mesh.triangles)
    full = np.full(frame.shape[1], np.float32(0.9))
    lighting = sitter.lamp.fall_on(normals, full, full, FRAME)
    lenses = seat.lenses(layout)
    facing = normalised(np.stack([0.5 * lenses[0], 0.1 + 0 * lenses[0], 1 + 0 * lenses[0]]))
    full = np.ones(lenses.shape[1], np.float32)
    lens_light = sitter.lamp.fall_on(facing, full, full, LENS)
    colour = DARK_LENS if eyewear.dark else CLEAR_LENS
    opacity = _lens_opacity(eyewear.dark, round(eyewear.glint, 1))
    return [
        Surface(frame, layout.mesh, lighting, linear(eyewear.colour)),
        Surface(lenses, layout.lens_mesh, lens_light, colour, opacity=opacity, decal=True),
    ]


@dataclass(frozen=True)
class Seat:
    """Where glasses sit on one head: middle between the eyes (x, y), `plane` z of the lenses at the middle, size
    against the average head, `bridge` z, and the temples' points (2 sides, 3, TEMPLE_POINTS).
    """

    middle: tuple[float, float]
    plane: float
    size: float
    bridge: float
    temples: np.ndarray

    @classmethod
    def on(cls, head: np.ndarray, layout: Layout) -> Seat:
        """The seat on a head (3, n)."""
        eyes = head[:, _eyeballs()]
        left, right = (eyes[:, eyes[0] > 0], eyes[:, eyes[0] <= 0])
        middle = (left.mean(1) + right.mean(1)) / 2
        size = float(left[0].mean() - right[0].mean()) / (2 * EYE_HALF_DISTANCE)
        x, _, z = head[:, layout.near]
        clear = float((z + WRAP * (x - middle[0]) ** 2).max()) + CLEARANCE + DEPTH / 2
        plane = max(clear, float((eyes[2] + WRAP * (eyes[0] - middle[0]) ** 2).max()) + EYE_CLEARANCE)
        bridge = max(plane, float(head[2, _under_bridge()].max()) + DEPTH)
        width = (EYE_HALF_DISTANCE + HINGE_REACH) * size
        temples = [_temple(head, side, middle, width, plane - WRAP * width**2) for side in (1, -1)]
        return cls((float(middle[0]), float(middle[1])), plane, size, bridge, np.stack(temples))

    def frame(self, layout: Layout, thickness: float) -> np.ndarray:
        """Vertices (3, v) of rims, bridge and temples."""
        rims = [self._rim(layout.outline * np.array([[side], [1]], np.float32), thickness) for side in (1, -1)]
        forwards, up = np.array([[0], [0], [1]], np.float32), np.array([[0], [1], [0]], np.float32)
        inner = (EYE_HALF_DISTANCE + float(layout.outline[0].min())) * self.size
        across = np.linspace(-1, 1, BRIDGE_POINTS, dtype=np.float32)
        arc = self.plane - WRAP * inner**2
        rise = np.float32(self.bridge - arc) * (1 - across**2)
        height = np.float32(self.middle[1] + BRIDGE_HEIGHT * self.size) + np.float32(0.02) * (1 - across**2)
        bridge = np.stack([across * inner + self.middle[0], height, arc + rise])
        sides = [np.array([[side], [0], [0]], np.float32) for side in (1, -1)]
        arms = [
            _tube(points, up * TEMPLE_WIDTH, side * DEPTH) for points, side in zip(self.temples, sides, strict=True)
        ]
        return np.concatenate([*rims, _tube(bridge, up * thickness, forwards * DEPTH), *arms], 1).astype(np.float32)

    def lenses(self, layout: Layout) -> np.ndarray:
        """Vertices (3, 2 (c + 1)): each lens's middle, then its outline."""
        flat = np.concatenate([np.zeros((2, 1), np.float32), layout.outline[:, :-1]], 1)
        sides = [self._on_plane(flat * np.array([[side], [1]], np.float32), side) for side in (1, -1)]
        return np.concatenate(sides, 1).astype(np.float32)

    def _on_plane(self, outline: np.ndarray, side: int) -> np.ndarray:
        x = (outline[0] + side * EYE_HALF_DISTANCE) * self.size
        return np.stack([x + self.middle[0], outline[1] * self.size + self.middle[1], self.plane - WRAP * x * x])

    def _rim(self, outline: np.ndarray, thickness: float) -> np.ndarray:
        side = 1 if outline[0, 0] > 0 else -1
        path = self._on_plane(outline, side)
        outwards = normalised(np.concatenate([outline, np.zeros_like(outline[:1])]))
        return _tube(path, outwards * thickness, np.array([[0], [0], [DEPTH]], np.float32))


def _temple(head: np.ndarray, side: int, middle: np.ndarray, width: float, hinge_z: float) -> np.ndarray:
    """Points (3, TEMPLE_POINTS) from hinge to ear, outside the skin they pass."""
    share = np.linspace(0, 1, TEMPLE_POINTS, dtype=np.float32)
    ear = head[:, _ear(side)]
    hinge = np.array([middle[0] + side * width, middle[1] + HINGE_HEIGHT, hinge_z], np.float32)
    end = ear + np.array([side * 0.02, 0.03, 0], np.float32)
    points = hinge[:, None] + (end - hinge)[:, None] * share
    for point, passed in enumerate(_beside(side)):
        skin = float((side * head[0, passed]).max()) + CLEARANCE if passed.size else 0.0
        points[0, point] = side * max(side * float(points[0, point]), skin)
    return points


def _tube(path: np.ndarray, across: np.ndarray, through: np.ndarray) -> np.ndarray:
    """Vertices (3, 4 n), four around each point of `path` (3, n), half of `across` and `through` (3, n or 1) away."""
    corners = [path + 0.5 * (a * across + b * through) for a, b in ((1, 1), (-1, 1), (-1, -1), (1, -1))]
    return np.stack(corners, 2).reshape(3, -1)


@lru_cache(maxsize=8)
def layout_of(shape: str) -> Layout:
    """The glasses of a shape, a key of OUTLINES."""
    half_width, half_height, exponent, drawn_in, above = OUTLINES[shape]
    angle = np.linspace(0, 2 * np.pi, CORNERS + 1)
    cos, sin = np.cos(angle), np.sin(angle)
    x = half_width * np.sign(cos) * np.abs(cos) ** (2 / exponent)
    y = half_height * np.sign(sin) * np.abs(sin) ** (2 / exponent)
    x = x * (1 - drawn_in * np.clip(-y / half_height, 0, 1) ** 2)
    outline = np.stack([x, y + above]).astype(np.float32)
    rim, bar, arm = (grid_mesh(points, 4, closed=True) for points in (CORNERS + 1, BRIDGE_POINTS, TEMPLE_POINTS))
    return Layout(outline, _passed_by(outline), joined([rim, rim, bar, arm, arm]), _lens_mesh(outline))


def _passed_by(outline: np.ndarray) -> np.ndarray:
    """Skin vertices of the average head that the rims pass close by, those under the bridge left out."""
    x, y, z = average_head()
    candidates = np.unique(shown_skin().triangles)
    front = candidates[(z[candidates] > 1.0) & (np.abs(x[candidates]) > NOSE_HALF_WIDTH)]
    across = np.abs(x[front])[:, None] - EYE_HALF_DISTANCE - outline[0]
    above = (y[front] - EYE_HEIGHT)[:, None] - outline[1]
    return front[np.sqrt(across**2 + above**2).min(1) < 0.07]


@lru_cache(maxsize=1)
def _eyeballs() -> np.ndarray:
    return np.unique(load_pack().parts["eyes"].anchors)


@lru_cache(maxsize=1)
def _under_bridge() -> np.ndarray:
    x, y, z = average_head()
    candidates = np.unique(shown_skin().triangles)
    low, high = EYE_HEIGHT - 0.02, EYE_HEIGHT + BRIDGE_HEIGHT + 0.09
    near = (np.abs(x) < NOSE_HALF_WIDTH) & (y > low) & (y < high) & (z > 1.2)
    return candidates[near[candidates]]


@lru_cache(maxsize=2)
def _ear(side: int) -> int:
    """The vertex that a temple rests on."""
    candidates = np.unique(shown_skin().triangles)
    place = np.array([[side * EAR[0]], [EAR[1]], [EAR[2]]])
    return int(candidates[((average_head()[:, candidates] - place) ** 2).sum(0).argmin()])


@lru_cache(maxsize=2)
def _beside(side: int) -> list[np.ndarray]:
    """For each point of a temple on the average head, the skin vertices that it passes."""
    x, y, z = average_head()
    candidates = np.unique(shown_skin().triangles)
    share = np.linspace(0, 1, TEMPLE_POINTS)
    of_head = (side * x > 0.3) & (np.abs(x) < EAR[0] - 0.02) & (np.abs(y - EYE_HEIGHT - HINGE_HEIGHT) < 0.1)
    return [candidates[(of_head & (np.abs(z - (1.3 + (EAR[2] - 1.3) * s)) < 0.13))[candidates]] for s in share]


def _lens_mesh(outline: np.ndarray) -> Mesh:
    """Fans of two lenses around their middles; uv from 0 to 1 across each."""
    flat = np.concatenate([np.zeros((2, 1), np.float32), outline[:, :-1]], 1)
    reach = np.abs(flat).max(1, keepdims=True)
    corner = np.arange(CORNERS)
    fan = np.stack([np.zeros(CORNERS, int), 1 + corner, 1 + (corner + 1) % CORNERS])
    triangles = np.concatenate([fan, fan + CORNERS + 1], 1).astype(np.int32)
    left = 0.5 + 0.5 * flat / reach
    right = 0.5 + 0.5 * flat * np.array([[-1], [1]], np.float32) / reach
    return Mesh(triangles, triangles, np.concatenate([left, right], 1).astype(np.float32))


@lru_cache(maxsize=32)
def _lens_opacity(dark: bool, glint: float) -> np.ndarray:
    """Opacity (h, w) of a lens: dark ones lighter towards the cheek, clear ones with a slanted glint."""
    down, across = np.mgrid[0:1:24j, 0:1:24j].astype(np.float32)
    if dark:
        return 0.97 - np.float32(0.12) * down
    slant = across + np.float32(0.6) * down
    streaks = np.exp(-np.square((slant - 0.55) / 0.12)) + np.exp(-np.square((slant - 0.9) / 0.05))
    return (0.04 + 0.28 * glint * streaks).astype(np.float32)
