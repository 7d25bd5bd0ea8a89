"""Dress a head: place its skin, features, hair and hat, light them, and hand them over as surfaces to draw."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from limner.heads.brows import brow_surface
from limner.heads.clothes import clothes_surfaces
from limner.heads.geometry import (
    FRAME_HALF_HEIGHT,
    REFERENCE_HEAD_HEIGHT,
    aim_camera,
    head_rotation,
    rotate,
    turn_eyes,
)
from limner.heads.glasses import glasses_surfaces
from limner.heads.hair import Hair, cut_hair, fringe
from limner.heads.hats import hat
from limner.heads.pack import Pack
from limner.heads.person import Person
from limner.heads.shadow import visibility
from limner.heads.shot import Shot
from limner.heads.sitter import Sitter
from limner.heads.skin import beard_surfaces, skin_surface
from limner.heads.surfaces import CLOTH, EYES, HAIR, TEETH, Lamp, Surface, linear
from limner.heads.wardrobe import garment

LASH_COLOUR = np.full((3, 1), 0.004, np.float32)
WHITE = np.ones((3, 1), np.float32)
THROUGH_HAIR = 0.35  # share of the light that strands let through to those behind them
SHEEN, GLINT = 0.22, 0.04  # strength of the band of light across strands: in the hair's colour, and white
FRINGE_OPENNESS = np.float32(0.85)
HIGH_ABOVE_EYES = 0.95  # decimetres above the eyes that hair and hats may be cut off from
UPPER_MARGIN = 0.012  # share of the picture's side that stays free above them
LOOKING_UP, MOST_RAISED = 0.5, 0.1  # share of what is too high that the camera follows, up to so many decimetres
MOUTH_LIGHT = 0.8  # the head that shadows were cast on keeps its mouth shut; this much light gets in


@dataclass(frozen=True)
class Outfit:
    """All surfaces of a head, the two measures the camera is aimed by (decimetres), and the shaped `head` (3, n) itself
    with its `scale` (3,).
    """

    surfaces: list[Surface]
    eye_centre: np.ndarray
    head_height: float
    head: np.ndarray
    scale: np.ndarray


def dress(pack: Pack, person: Person, shot: Shot) -> Outfit:
    """Place and light every surface of a person for a shot."""
    head = pack.morph(person.weights)
    shadows = visibility(person.looks.hair, person.looks.hat)
    lamp = Lamp.of(shot)
    lit, hair_lit = shadows.towards(lamp.direction)
    openness = shadows.head_openness
    if person.looks.cut.receding:  # the table is of a full head of hair
        bare = visibility(None, person.looks.hat)
        lit, openness = bare.towards(lamp.direction)[0], bare.head_openness
    sitter = Sitter(pack, person, head, pack.scale(head), lamp, lit, openness)
    surfaces = [
        skin_surface(sitter),
        *clothes_surfaces(sitter, person.looks.attire),
        _eyes(sitter, shot),
        *beard_surfaces(sitter),
        _lashes(sitter),
        brow_surface(sitter),
    ]
    if person.shows_teeth:
        surfaces.append(_teeth(sitter))
    if person.looks.hair:
        surfaces += _hair(sitter, person.looks.hair, hair_lit, shadows.hair_openness)
    if person.looks.hat:
        surfaces.append(_hat(sitter, person.looks.hat))
    if person.looks.eyewear:
        surfaces += glasses_surfaces(sitter, person.looks.eyewear)
    eye_centre, height = _framing(sitter, surfaces, shot)
    return Outfit(surfaces, eye_centre, height, head, sitter.scale)


def _framing(sitter: Sitter, surfaces: list[Surface], shot: Shot) -> tuple[np.ndarray, float]:
    """What the camera takes for the eyes' middle and the head's height: for high hair and hats, so that none is cut
    off, it looks a little further up and from further away.
    """
    eye_centre = sitter.head.take(sitter.pack.parts["eyes"].anchors.ravel(), 1).mean(1)
    height = float(sitter.scale[1] * REFERENCE_HEAD_HEIGHT)
    high = np.float32(eye_centre[1] + HIGH_ABOVE_EYES * sitter.scale[1])
    tops = np.concatenate([s.vertices.take(np.flatnonzero(s.vertices[1] > high), 1) for s in surfaces], 1)
    if not tops.size:
        return eye_centre, height
    rows = aim_camera(shot, eye_centre, height, 1).project(tops)[1]
    missing = UPPER_MARGIN - float(rows.min())
    if missing > 0:
        tops = tops.take(np.flatnonzero(rows < rows.min() + np.float32(UPPER_MARGIN)), 1)
        eye_centre[1] += np.float32(min(LOOKING_UP * missing * 2 * FRAME_HALF_HEIGHT, MOST_RAISED))
        middle = 0.5 + shot.shift[1]
        highest = float(aim_camera(shot, eye_centre, height, 1).project(tops)[1].min())
        height *= max((middle - highest) / (middle - UPPER_MARGIN), 1.0)
    return eye_centre, height


def _light_at(sitter: Sitter, anchors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return sitter.lit[anchors[0]], sitter.openness[anchors[0]]


def _eyes(sitter: Sitter, shot: Shot) -> Surface:
    worn = garment("eyes")
    vertices = turn_eyes(worn.part.place(sitter.head, sitter.scale), shot.gaze)
    normals = rotate(head_rotation(shot.gaze[0], shot.gaze[1], 0.0), worn.normals)
    lighting = sitter.lamp.fall_on(normals, *_light_at(sitter, worn.part.anchors), EYES)
    colour = sitter.pack.textures[sitter.person.looks.eyes].colour
    return Surface(vertices, worn.part.mesh, lighting, WHITE, ((WHITE, colour),), cull=True)


def _lashes(sitter: Sitter) -> Surface:
    worn = garment("lash")
    vertices = worn.part.place(sitter.head, sitter.scale)
    lighting = sitter.lamp.fall_on(worn.normals, *_light_at(sitter, worn.part.anchors), HAIR)
    opacity = sitter.pack.textures["lash"].opacity
    return Surface(vertices, worn.part.mesh, lighting, LASH_COLOUR, opacity=opacity, decal=True)


def _teeth(sitter: Sitter) -> Surface:
    worn = garment("teeth")
    vertices = worn.part.place(sitter.head, sitter.scale)
    reached = np.full(vertices.shape[1], np.float32(MOUTH_LIGHT))
    lighting = sitter.lamp.fall_on(worn.normals, reached, reached, TEETH)
    colour = sitter.pack.textures["teeth"].colour
    return Surface(vertices, worn.part.mesh, lighting, WHITE, ((WHITE, colour),), cull=True)


def _hair(sitter: Sitter, name: str, lit: np.ndarray, openness: np.ndarray) -> list[Surface]:
    looks = sitter.person.looks
    hair = cut_hair(name, looks.cut, looks.hat is not None)
    surfaces = [_strands(sitter, hair, lit, openness)]
    if looks.cut.fringe:
        patch = fringe()
        free = np.ones(patch.normals.shape[1], np.float32)
        surfaces.append(_strands(sitter, patch, free, FRINGE_OPENNESS * free))
    return surfaces


def _strands(sitter: Sitter, hair: Hair, lit: np.ndarray, openness: np.ndarray) -> Surface:
    lit = np.float32(THROUGH_HAIR) + np.float32(1 - THROUGH_HAIR) * lit
    lighting = sitter.lamp.fall_on(hair.normals, lit, openness, HAIR)
    sheen = hair.sheen(sitter.lamp) * lit
    lighting[:3] += np.float32(SHEEN) * sitter.lamp.key * sheen
    lighting[3] += np.float32(GLINT) * sheen
    vertices = hair.part.place(sitter.head, sitter.scale)
    colour = linear(sitter.person.looks.hair_colour)
    return Surface(vertices, hair.part.mesh, lighting, colour, ((WHITE, hair.relief),), hair.opacity)


def _hat(sitter: Sitter, name: str) -> Surface:
    worn = hat(name)
    vertices = worn.part.place(sitter.head, sitter.scale)
    everywhere = np.ones(vertices.shape[1], np.float32)
    lighting = sitter.lamp.fall_on(worn.normals, everywhere, everywhere, CLOTH)
    return Surface(vertices, worn.part.mesh, lighting, linear(sitter.person.looks.hat_colour), ((WHITE, worn.texture),))
