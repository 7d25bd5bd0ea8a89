"""Eyebrows: plainly thick and dark, or thin."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from limner.heads.pack import load_pack
from limner.heads.sitter import Sitter
from limner.heads.strands import spread
from limner.heads.surfaces import HAIR, Surface, linear
from limner.heads.wardrobe import garment

STRETCH = {"brow:09": 1.05, "brow:12": 1.3, "brow:03": 1.6, "brow:08": 1.6}  # of their height, where they are bushy
BUSHY_DARKNESS, THIN_DARKNESS = 0.38, 0.75  # against hair, in sRGB
BUSHY_DENSITY, THIN_DENSITY = 3.0, 0.8  # layers of the texture's hairs


def brow_surface(sitter: Sitter) -> Surface:
    """Both eyebrows."""
    looks = sitter.person.looks
    worn = garment(looks.brow)
    vertices = worn.part.place(sitter.head, sitter.scale)
    if looks.bushy:
        for side in (vertices[0] > 0, vertices[0] <= 0):
            height = vertices[1, side]
            vertices[1, side] = height + np.float32(STRETCH[looks.brow] - 1) * (height - height.mean())
    anchors = worn.part.anchors[0]
    lighting = sitter.lamp.fall_on(worn.normals, sitter.lit[anchors], sitter.openness[anchors], HAIR)
    colour = linear(looks.hair_colour * (BUSHY_DARKNESS if looks.bushy else THIN_DARKNESS))
    opacity = brow_opacity(looks.brow, looks.bushy)
    return Surface(vertices, worn.part.mesh, lighting, colour, opacity=opacity, decal=True)


@lru_cache(maxsize=24)
def brow_opacity(name: str, bushy: bool) -> np.ndarray:
    """Opacity (h, w) of the brow's hairs, several layers of them where it is bushy."""
    opacity = load_pack().textures[name].opacity
    assert opacity is not None  # every brow has one
    if not bushy:
        return (np.float32(THIN_DENSITY) * opacity).astype(np.float32)
    return (1 - (1 - spread(opacity)) ** BUSHY_DENSITY).astype(np.float32)
