"""The skin of a head: whose texture it has, what is painted on it, and the hair of a beard over it."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from limner.heads.ageing import grain, wrinkles
from limner.heads.complexion import complexion_tint
from limner.heads.face_map import face_uv, lips
from limner.heads.facial_hair import REGIONS, hair_on_map, hair_on_vertices, shells
from limner.heads.make_up import lip_gloss, make_up_tint
from limner.heads.pack import load_pack
from limner.heads.person import Person
from limner.heads.sitter import Sitter
from limner.heads.surfaces import HAIR, SKIN, Detail, Surface, linear
from limner.heads.wardrobe import shown_skin, skin_rings

DARKEST_CREASE = 0.2  # least share of the sky's light: mouth and nostrils are deep red, not black
CONTRAST = 0.75  # exponent that evens out the blotches of the pack's skins
ROOTS = 0.8  # share of the skin's colour that dense hair hides
STUBBLE = 0.5  # … and stubble
STUBBLE_COLOUR = np.array([[0.012], [0.014], [0.017]], np.float32)
STUBBLE_GRAIN = 0.5


def skin_surface(sitter: Sitter) -> Surface:
    """The skin of head, neck and shoulders."""
    person, mesh = sitter.person, shown_skin()
    textures = tuple((np.full((3, 1), share, np.float32), _evened_out(name)) for name, share in person.complexion.skins)
    openness = np.maximum(sitter.openness, np.float32(DARKEST_CREASE))
    normals = skin_rings().normals(sitter.head)
    lighting = sitter.lamp.fall_on(normals, sitter.lit, openness, SKIN)
    lighting[:3] *= _painted(person)
    lighting[3] *= lip_gloss(person.make_up)
    return Surface(
        sitter.head,
        mesh,
        lighting,
        linear(person.complexion.tone),
        textures,
        detail=_detail(person),
        cull=True,
    )


def beard_surfaces(sitter: Sitter) -> list[Surface]:
    """The layers of hair of moustache, beard and sideburns, the lowest first."""
    facial_hair = sitter.person.facial_hair
    if not facial_hair.regions:
        return []
    worn = shells(facial_hair.regions)
    skin = sitter.head[:, worn.vertices]
    lighting = sitter.lamp.fall_on(worn.growth, sitter.lit[worn.vertices], sitter.openness[worn.vertices], HAIR)
    colour = beard_colour(sitter.person)
    surfaces = []
    for level, (height, opacity) in enumerate(worn.layers):
        shade = np.float32(0.7 + 0.3 * level / (len(worn.layers) - 1))  # roots lie in the shade of tips
        vertices = skin + worn.growth * np.float32(height)
        surfaces.append(Surface(vertices, worn.mesh, lighting, shade * colour, opacity=opacity))
    return surfaces


def beard_colour(person: Person) -> np.ndarray:
    """The colour of facial hair as linear light (3, 1): the hair's, darker."""
    return linear(person.looks.hair_colour * person.facial_hair.darkness)


def _painted(person: Person) -> np.ndarray:
    """Linear factors (3, n) on the colour of the head's vertices: make-up, flush, the roots of a beard."""
    skin = linear(person.complexion.tone)
    tint = complexion_tint(person.complexion) * make_up_tint(person.make_up, skin, _bare_lips(person, skin))
    if person.facial_hair.regions:
        roots = np.minimum(beard_colour(person) / skin, 1)
        tint *= 1 + np.float32(ROOTS) * hair_on_vertices(person.facial_hair.regions) * (roots - 1)
    if person.facial_hair.style == "stubble":
        shaved = np.minimum(STUBBLE_COLOUR / skin, 1)
        tint *= 1 + np.float32(STUBBLE) * hair_on_vertices(REGIONS["stubble"]) * (shaved - 1)
    return tint


def _detail(person: Person) -> Detail | None:
    """The lines of age and the grain of stubble."""
    old, stubbly = person.complexion.wrinkles, person.facial_hair.style == "stubble"
    if not old and not stubbly:
        return None
    shades = ((float(old), wrinkles()), (STUBBLE_GRAIN * stubbly, _stubble()))
    return Detail(face_uv(), tuple((strength, plane) for strength, plane in shades if strength))


@lru_cache(maxsize=1)
def _stubble() -> np.ndarray:
    return grain() * hair_on_map(REGIONS["stubble"])


def _bare_lips(person: Person, skin: np.ndarray) -> np.ndarray:
    return skin * sum(share * _lips_of(name) for name, share in person.complexion.skins)


@lru_cache(maxsize=32)
def _lips_of(name: str) -> np.ndarray:
    """The colour of lips in the evened-out skin texture `name`: (3, 1)."""
    mesh = load_pack().skin
    painted = np.flatnonzero((lips()[mesh.triangles] > 0.9).all(0))
    return _texels(_evened_out(name), mesh.uv[:, mesh.texture_triangles[:, painted]].mean(1))


def _texels(colour: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """The median (c, 1) of the texels of `colour` (c, h, w) at uv (2, k)."""
    _, height, width = colour.shape
    rows, columns = ((1 - uv[1]) * (height - 1)).astype(int), (uv[0] * (width - 1)).astype(int)
    return np.median(colour[:, rows, columns], 1)[:, None]


@lru_cache(maxsize=32)
def _evened_out(name: str) -> np.ndarray:
    """The skin texture `name` (3, h, w) over the colour of its median face, its blotches softened."""
    pack = load_pack()
    mesh = shown_skin()
    x, y, z = pack.vertices[:, mesh.triangles].mean(1)
    u, v = mesh.uv[:, mesh.texture_triangles].mean(1)
    face = np.flatnonzero((z > 1.15) & (y > 6.3) & (y < 7.9) & (np.abs(x) < 0.7) & (u > 0.68) & (v > 0.2))
    colour = pack.textures[name].colour
    median = _texels(colour, np.stack([u[face], v[face]]))
    return np.power(colour / median[:, None], np.float32(CONTRAST)).astype(np.float32)
