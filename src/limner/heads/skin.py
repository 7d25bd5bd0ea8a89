"""The skin of a head: whose texture it has, and what is painted on it."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from limner.heads.geometry import vertex_normals
from limner.heads.pack import load_pack
from limner.heads.sitter import Sitter
from limner.heads.surfaces import SKIN, Paint, Surface, linear
from limner.heads.wardrobe import shown_skin, skin_fans

SHIRT_HEIGHT = 5.80  # decimetres on the neutral mesh
NECKLINE_DEPTH = 0.25  # decimetres that the shirt's neck is lower in the middle
DARKEST_CREASE = 0.2  # least share of the sky's light: mouth and nostrils are deep red, not black
# The pack's skins differ more by file than by age; each is brought to its origin's own tone (sRGB of the median face).
SKIN_TONES = {"african": (0.40, 0.255, 0.19), "asian": (0.82, 0.60, 0.48), "caucasian": (0.85, 0.61, 0.51)}
SKIN_GAIN_LIMITS = (0.85, 1.7)


def skin_surface(sitter: Sitter) -> Surface:
    """The skin of head, neck and shoulders, a shirt painted on."""
    complexion, mesh = sitter.person.complexion, shown_skin()
    textures = tuple((share * _skin_gain(name), sitter.pack.textures[name].colour) for name, share in complexion.skins)
    x, y, _ = sitter.pack.vertices
    neckline = SHIRT_HEIGHT - NECKLINE_DEPTH * np.clip(1 - np.abs(x) / 0.9, 0, 1)
    openness = np.maximum(sitter.openness, np.float32(DARKEST_CREASE))
    share = np.clip((neckline - y) * 4 + 0.5, 0, 1).astype(np.float32)[None]
    normals = vertex_normals(sitter.head, mesh.triangles, skin_fans())
    lighting = sitter.lamp.fall_on(normals, sitter.lit, openness, SKIN)
    paint = Paint(share, linear(sitter.person.looks.shirt_colour))
    return Surface(sitter.head, mesh, lighting, linear(complexion.tint), textures, paint=paint, cull=True)


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
    return linear(np.clip(tone / median, *SKIN_GAIN_LIMITS))
