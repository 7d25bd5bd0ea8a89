"""Haircuts: the pack's hair with its forehead covered or free, waves, receding temples, and pressed under a hat."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from limner.heads.fitting import LOWEST_SHOWN, above_skull, average_head, fit, from_skull, grid_mesh, keep
from limner.heads.geometry import dot, normalised, vertex_normals
from limner.heads.looks import Cut
from limner.heads.pack import Part, load_pack
from limner.heads.strands import comb, paint_texture
from limner.heads.surfaces import Lamp

FRINGE_HEIGHT = 7.60  # decimetres: hair before the face ends here, just above the brows …
FREE_HEIGHT = 7.98  # … or here, where the forehead is free
FRINGE_HALF_WIDTH = 0.52  # decimetres: full trimming out to here from the middle …
FRINGE_BLEND = 0.30  # … and none this much further out
FRINGE_REMAINDER = 0.06  # share of a strand's length below the fringe that is kept, so that ends do not line up
FACE_FRONT = (0.5, 0.9)  # decimetres: hair further back than this is not a fringe, hair further forward is
SWEPT_HEIGHT, SWEPT_SLOPE = 0.05, 0.55  # decimetres that hair combed off the forehead stands above it, and its rise
HAIR_CENTRE = np.array([[0.0], [7.5], [0.45]], np.float32)
SHEEN_DOUBLINGS = 4
WAVE_LENGTH, WAVE_DEPTH = 0.54, 0.075  # decimetres
WAVE_SHADE, WAVE_GLOSS = 0.55, 1.3  # how much crests and troughs differ from the mean in colour and in sheen
WAVES_FROM = 8.25  # decimetres: hair is smooth above this
BAND_FRONT, BAND_BACK = 7.86, 7.62  # decimetres: hats sit on the head from here up
PRESSED_HEIGHT = -0.09  # decimetres that hair in a hat stands above the skull: out of sight
RECEDED = 0.19  # share of the way from hairline to crown that a receding hairline has moved, and at the temples more


@dataclass(frozen=True)
class Hair:
    """Hair ready to wear: unit normals and tangents along its strands (3, v) on the average head, the relief
    (1, h, w) that its colour is multiplied by, its opacity (h, w), and how strongly (v,) it shines.
    """

    part: Part
    normals: np.ndarray
    tangents: np.ndarray
    relief: np.ndarray
    opacity: np.ndarray
    gloss: np.ndarray

    def sheen(self, lamp: Lamp) -> np.ndarray:
        """The band of light (v,) that strands show where they lie across the direction halfway from lamp to eye."""
        halfway = normalised((lamp.direction + lamp.view)[:, None])[:, 0]
        along = dot(self.tangents, halfway)
        band = np.maximum(1 - along * along, np.float32(0))
        for _ in range(SHEEN_DOUBLINGS):
            band *= band
        return self.gloss * band * np.maximum(dot(self.normals, halfway), np.float32(0))


@lru_cache(maxsize=96)
def cut_hair(name: str, cut: Cut, under_hat: bool) -> Hair:
    """The pack's hair `name`; vertices keep their number and order whatever the cut."""
    part = load_pack().parts[name]
    start = _on_average_head(part)
    placed = _clear_face(start, FRINGE_HEIGHT if cut.fringe else FREE_HEIGHT)
    if cut.receding:
        placed = _recede(placed)
    relief, tangents = _combed(name)
    gloss = np.ones(start.shape[1], np.float32)
    if cut.waves:
        gloss = _wave_gloss(start)
        relief = relief * _wave_shading(name)
        placed = _wave(placed)
    kept = (placed[1][part.mesh.triangles] > LOWEST_SHOWN).any(0)
    if under_hat:
        kept &= (placed[1] < _hat_band(placed) + 0.06)[part.mesh.triangles].any(0)
        placed = _press(placed)
    scale = load_pack().scale(average_head())[:, None]
    moved = replace(part, mesh=keep(part.mesh, kept), offsets=part.offsets + (placed - start) / scale)
    normals = _rounded(placed, vertex_normals(placed, moved.mesh.triangles))
    opacity = load_pack().textures[name].opacity
    assert opacity is not None  # every hair texture has one
    return Hair(moved, normals, tangents, relief, opacity, gloss)


@lru_cache(maxsize=1)
def fringe() -> Hair:
    """A straight fringe from the hairline down to the brows, to be worn with any hair."""
    rows, columns = 7, 19
    across = np.linspace(-1, 1, columns, dtype=np.float32)
    down = np.linspace(0, 1, rows, dtype=np.float32)[:, None]
    turn = np.radians(54) * across
    lift = np.radians(42 - (37 + 7 * across**2) * down)
    turn, lift = np.broadcast_arrays(turn, lift)
    directions = np.stack([np.sin(turn) * np.cos(lift), np.sin(lift), np.cos(turn) * np.cos(lift)])
    height = np.broadcast_to(0.04 + 0.09 * np.sin(0.75 * np.pi * down) + 0 * across, turn.shape)
    points = from_skull(directions.reshape(3, -1).astype(np.float32), height.ravel().astype(np.float32))
    part = fit(points, grid_mesh(rows, columns))
    normals = _rounded(points, vertex_normals(points, part.mesh.triangles))
    tangents = np.gradient(points.reshape(3, rows, columns), axis=1).reshape(3, -1).astype(np.float32)
    relief, opacity = _fringe_texture()
    return Hair(part, normals, normalised(tangents), relief, opacity, np.ones(points.shape[1], np.float32))


def _fringe_texture() -> tuple[np.ndarray, np.ndarray]:
    """Relief (1, h, w) and opacity (h, w) of locks that hang down and end unevenly."""
    height, width = 64, 128
    rng = np.random.default_rng(11)
    locks = _blurred_row(rng.standard_normal(width), 3)
    strands = _blurred_row(rng.standard_normal(width), 1)
    ends = 0.90 + 0.035 * _blurred_row(rng.standard_normal(width), 4) + 0.025 * strands
    down = (np.arange(height)[:, None] + 0.5) / height
    opacity = np.clip((ends - down) * 24 + 0.5, 0, 1)
    edge = np.minimum(np.arange(width) + 1, width - np.arange(width)) / 5
    relief = np.exp(0.22 * locks + 0.14 * strands) * (1.08 - 0.2 * down)
    return relief[None].astype(np.float32), (opacity * np.clip(edge, 0, 1)).astype(np.float32)


def _blurred_row(noise: np.ndarray, times: int) -> np.ndarray:
    for _ in range(times):
        noise = (np.roll(noise, 1) + 2 * noise + np.roll(noise, -1)) / 4
    return noise / noise.std()


def _on_average_head(part: Part) -> np.ndarray:
    return part.place(average_head(), load_pack().scale(average_head()))


@lru_cache(maxsize=16)
def _combed(name: str) -> tuple[np.ndarray, np.ndarray]:
    part = load_pack().parts[name]
    vertices = _on_average_head(part)
    normals = _rounded(vertices, vertex_normals(vertices, part.mesh.triangles))
    strands = comb(vertices, normals, part.mesh, load_pack().textures[name])
    return strands.relief, strands.tangents


def _clear_face(placed: np.ndarray, lowest: float) -> np.ndarray:
    """Hair before the face lifted to `lowest`, and combed back from there where that is on the forehead."""
    x, y, z = placed
    outwards = np.clip((np.abs(x) - FRINGE_HALF_WIDTH) / FRINGE_BLEND, 0, 1)
    share = (1 - outwards) ** 2 * _smooth(z, *FACE_FRONT)
    lift = np.clip(lowest - y, 0, None) * (1 - FRINGE_REMAINDER) * share
    lifted = np.stack([x, y + lift, z])
    if lowest < FREE_HEIGHT:
        return lifted
    directions, height = above_skull(lifted)
    allowed = SWEPT_HEIGHT + SWEPT_SLOPE * np.maximum(lifted[1] - lowest, 0)
    combed = from_skull(directions, np.minimum(height, allowed))
    return np.asarray(lifted + (combed - lifted) * share, np.float32)


def _recede(placed: np.ndarray) -> np.ndarray:
    """Hair at the front drawn back towards the crown, furthest above the temples."""
    directions, height = above_skull(placed)
    crown = normalised(np.array([[0.0], [1.0], [-0.2]], np.float32))
    upward = np.clip(dot(directions, crown[:, 0]), -1, 1)
    sideways = directions - crown * upward
    azimuth = np.abs(np.arctan2(sideways[0], sideways[2] + 1e-6))
    front = 1 - _smooth(azimuth, 0.9, 1.5)
    temples = np.exp(-np.square((azimuth - 0.62) / 0.3))
    angle = np.arccos(upward) * (1 - (RECEDED + 0.16 * temples) * front)
    turned = crown * np.cos(angle) + normalised(sideways) * np.sin(angle)
    flat = np.minimum(height, np.float32(0.10))
    return from_skull(turned.astype(np.float32), height + (flat - height) * front)


def _wave_phase(placed: np.ndarray) -> np.ndarray:
    """Where (v,) along its waves each point is, in radians; neighbouring locks are a little out of step."""
    x, y, z = placed - HAIR_CENTRE
    around = np.arctan2(x, z)
    return (2 * np.pi / WAVE_LENGTH) * y + 1.1 * np.sin(3 * around) + 0.7 * np.sin(7 * around + 1)


def _wave(placed: np.ndarray) -> np.ndarray:
    phase = _wave_phase(placed)
    depth = WAVE_DEPTH * _smooth(WAVES_FROM - placed[1], 0.0, 0.8)
    outwards = normalised((placed - HAIR_CENTRE) * np.array([[1.0], [0.0], [1.0]], np.float32))
    beside = np.stack([outwards[2], np.zeros_like(phase), -outwards[0]])
    moved = placed + outwards * (depth * np.sin(phase)) + beside * (depth * np.cos(phase))
    return np.asarray(moved, np.float32)


def _wave_gloss(placed: np.ndarray) -> np.ndarray:
    """How strongly (v,) waves shine: crests more than troughs, so that they show in black hair too."""
    strength = _smooth(WAVES_FROM - placed[1], -0.1, 0.5)
    return np.maximum(1 + WAVE_GLOSS * strength * np.sin(_wave_phase(placed)), 0).astype(np.float32)


@lru_cache(maxsize=16)
def _wave_shading(name: str) -> np.ndarray:
    """Light crests and dark troughs (1, h, w) of waves in the texture of the hair `name`."""
    part = load_pack().parts[name]
    placed = _on_average_head(part)
    phase = _wave_phase(placed)
    strength = _smooth(WAVES_FROM - placed[1], -0.1, 0.5)
    values = np.stack([np.sin(phase) * strength, np.cos(phase) * strength]).astype(np.float32)
    side = _combed(name)[0].shape[-1]
    wave = paint_texture(values, part.mesh, side)[0]
    return (1 + np.float32(WAVE_SHADE) * wave)[None]


def _hat_band(placed: np.ndarray) -> np.ndarray:
    forwards = _smooth(placed[2], -0.4, 1.2)
    return BAND_BACK + (BAND_FRONT - BAND_BACK) * forwards


def _press(placed: np.ndarray) -> np.ndarray:
    """Hair kept inside a hat, and from its band down widening to its own volume."""
    directions, height = above_skull(placed)
    allowed = PRESSED_HEIGHT + 0.8 * np.maximum(_hat_band(placed) - 0.12 - placed[1], 0)
    return np.where(height > allowed, from_skull(directions, np.minimum(height, allowed)), placed).astype(np.float32)


def _rounded(vertices: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """Normals for hair: mostly outwards from the head's middle, whichever side of a strand is seen."""
    outwards = normalised(vertices - HAIR_CENTRE)
    facing = np.where(dot(normals, outwards) < 0, np.float32(-1), np.float32(1))
    return normalised(outwards + np.float32(0.6) * normals * facing)


def _smooth(values: np.ndarray, low: float, high: float) -> np.ndarray:
    share = np.clip((values - low) / (high - low), 0, 1)
    return share * share * (3 - 2 * share)
