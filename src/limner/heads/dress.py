"""Dress a head: place its skin, features, hair and hat, light them, and hand them over as surfaces to draw."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from limner.heads.geometry import REFERENCE_HEAD_HEIGHT, head_rotation, rotate, turn_eyes, vertex_normals
from limner.heads.pack import Pack, load_pack
from limner.heads.person import Person, Shot
from limner.heads.shadow import visibility
from limner.heads.surfaces import CLOTH, EYES, HAIR, SKIN, TEETH, Lamp, Paint, Surface
from limner.heads.wardrobe import garment, shown_skin, skin_fans

SHIRT_HEIGHT = 5.80  # decimetres on the neutral mesh
NECKLINE_DEPTH = 0.25  # decimetres that the shirt's neck is lower in the middle
BROW_DARKNESS = 0.6  # brows against hair
LASH_COLOUR = np.full((3, 1), 0.004, np.float32)
WHITE = np.ones((3, 1), np.float32)
THROUGH_HAIR = 0.35  # share of the light that strands let through to those behind them
DARKEST_CREASE = 0.2  # least share of the sky's light: mouth and nostrils are deep red, not black
MOUTH_LIGHT = 0.8  # the head that shadows were cast on keeps its mouth shut; this much light gets in
# The pack's skins differ more by file than by age; each is brought to its origin's own tone (sRGB of the median face).
SKIN_TONES = {"african": (0.40, 0.255, 0.19), "asian": (0.82, 0.60, 0.48), "caucasian": (0.85, 0.61, 0.51)}
SKIN_GAIN_LIMITS = (0.85, 1.7)


@dataclass(frozen=True)
class Outfit:
    """All surfaces of a head, and the two measures the camera is aimed by (decimetres)."""

    surfaces: list[Surface]
    eye_centre: np.ndarray
    head_height: float


@dataclass(frozen=True)
class Sitter:
    """A shaped head (3, n) under its lamp: `lit` and `openness` (n,) say how much light reaches its vertices."""

    pack: Pack
    person: Person
    head: np.ndarray
    scale: np.ndarray
    lamp: Lamp
    lit: np.ndarray
    openness: np.ndarray


def dress(pack: Pack, person: Person, shot: Shot) -> Outfit:
    """Place and light every surface of a person for a shot."""
    head = pack.morph(person.weights)
    shadows = visibility(person.looks.hair, person.looks.hat)
    lamp = Lamp.of(shot)
    lit, hair_lit = shadows.towards(lamp.direction)
    sitter = Sitter(pack, person, head, pack.scale(head), lamp, lit, shadows.head_openness)
    surfaces = [_skin(sitter), _eyes(sitter, shot), *_decals(sitter)]
    if person.shows_teeth:
        surfaces.append(_teeth(sitter))
    if person.looks.hair:
        surfaces.append(_hair(sitter, person.looks.hair, hair_lit, shadows.hair_openness))
    if person.looks.hat:
        surfaces.append(_hat(sitter, person.looks.hat))
    eye_centre = head[:, pack.parts["eyes"].anchors.ravel()].mean(1)
    return Outfit(surfaces, eye_centre, float(sitter.scale[1] * REFERENCE_HEAD_HEIGHT))


def _linear(colour: np.ndarray) -> np.ndarray:
    return np.square(colour).astype(np.float32)[:, None]


@lru_cache(maxsize=32)
def _skin_gain(name: str) -> np.ndarray:
    """Factors (3, 1), linear, that bring the skin texture `name` to the tone of its origin."""
    pack = load_pack()
    mesh = shown_skin()
    x, y, z = pack.vertices[:, mesh.triangles].mean(1)
    u, v = mesh.uv[:, mesh.texture_triangles].mean(1)
    face = np.flatnonzero((z > 1.15) & (y > 6.3) & (y < 7.9) & (np.abs(x) < 0.7) & (u > 0.68) & (v > 0.2))
    u, v = u[face], v[face]
    colour = pack.textures[name].colour
    rows, columns = ((1 - v) * (colour.shape[1] - 1)).astype(int), (u * (colour.shape[2] - 1)).astype(int)
    median = np.median(np.sqrt(colour[:, rows, columns]), 1)
    tone = np.array(SKIN_TONES[name.split("_")[1]])
    return _linear(np.clip(tone / median, *SKIN_GAIN_LIMITS))


def _skin(sitter: Sitter) -> Surface:
    looks, mesh = sitter.person.looks, shown_skin()
    textures = tuple((share * _skin_gain(name), sitter.pack.textures[name].colour) for name, share in looks.skins)
    x, y, _ = sitter.pack.vertices
    neckline = SHIRT_HEIGHT - NECKLINE_DEPTH * np.clip(1 - np.abs(x) / 0.9, 0, 1)
    openness = np.maximum(sitter.openness, np.float32(DARKEST_CREASE))
    share = np.clip((neckline - y) * 4 + 0.5, 0, 1).astype(np.float32)[None]
    normals = vertex_normals(sitter.head, mesh.triangles, skin_fans())
    lighting = sitter.lamp.fall_on(normals, sitter.lit, openness, SKIN)
    paint = Paint(share, _linear(looks.shirt_colour))
    return Surface(sitter.head, mesh, lighting, _linear(looks.skin_tint), textures, paint=paint, cull=True)


def _light_at(sitter: Sitter, anchors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return sitter.lit[anchors[0]], sitter.openness[anchors[0]]


def _eyes(sitter: Sitter, shot: Shot) -> Surface:
    worn = garment("eyes")
    vertices = turn_eyes(worn.part.place(sitter.head, sitter.scale), shot.gaze)
    normals = rotate(head_rotation(shot.gaze[0], shot.gaze[1], 0.0), worn.normals)
    lighting = sitter.lamp.fall_on(normals, *_light_at(sitter, worn.part.anchors), EYES)
    colour = sitter.pack.textures[sitter.person.looks.eyes].colour
    return Surface(vertices, worn.part.mesh, lighting, WHITE, ((WHITE, colour),), cull=True)


def _decals(sitter: Sitter) -> list[Surface]:
    looks = sitter.person.looks
    surfaces = []
    for name, colour in (("lash", LASH_COLOUR), (looks.brow, _linear(looks.hair_colour * BROW_DARKNESS))):
        worn = garment(name)
        vertices = worn.part.place(sitter.head, sitter.scale)
        lighting = sitter.lamp.fall_on(worn.normals, *_light_at(sitter, worn.part.anchors), HAIR)
        opacity = sitter.pack.textures[name].opacity
        surfaces.append(Surface(vertices, worn.part.mesh, lighting, colour, opacity=opacity, decal=True))
    return surfaces


def _teeth(sitter: Sitter) -> Surface:
    worn = garment("teeth")
    vertices = worn.part.place(sitter.head, sitter.scale)
    reached = np.full(vertices.shape[1], np.float32(MOUTH_LIGHT))
    lighting = sitter.lamp.fall_on(worn.normals, reached, reached, TEETH)
    colour = sitter.pack.textures["teeth"].colour
    return Surface(vertices, worn.part.mesh, lighting, WHITE, ((WHITE, colour),), cull=True)


def _hair(sitter: Sitter, name: str, lit: np.ndarray, openness: np.ndarray) -> Surface:
    looks = sitter.person.looks
    worn = garment(name, under_hat=looks.hat is not None)
    assert worn.relief is not None  # every hair has one
    vertices = worn.part.place(sitter.head, sitter.scale)
    lit = np.float32(THROUGH_HAIR) + np.float32(1 - THROUGH_HAIR) * lit
    lighting = sitter.lamp.fall_on(worn.normals, lit, openness, HAIR)
    textures = ((WHITE, worn.relief),)
    opacity = sitter.pack.textures[name].opacity
    return Surface(vertices, worn.part.mesh, lighting, _linear(looks.hair_colour), textures, opacity)


def _hat(sitter: Sitter, name: str) -> Surface:
    worn = garment(name)
    vertices = worn.part.place(sitter.head, sitter.scale)
    everywhere = np.ones(vertices.shape[1], np.float32)
    lighting = sitter.lamp.fall_on(worn.normals, everywhere, everywhere, CLOTH)
    tint = np.float32(2.5) * _linear(sitter.person.looks.hat_colour)  # the texture is a dark grey
    textures = ((WHITE, sitter.pack.textures["hat:fedora_texture_grey"].colour),)
    return Surface(vertices, worn.part.mesh, lighting, tint, textures)
