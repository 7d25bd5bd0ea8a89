"""The surfaces of a dressed head: where they are, how light falls on their vertices, what colour they are between."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from limner.heads.geometry import dot, head_rotation, normalised, turn_eyes, vertex_normals
from limner.heads.pack import Mesh, Pack
from limner.heads.person import Person, Shot
from limner.heads.raster import Fragments
from limner.heads.shadow import Visibility, visibility
from limner.heads.wardrobe import fitted_part

SKIN_WRAP = np.array([0.34, 0.20, 0.15], np.float32)[:, None]  # light seeps round into shade, red the furthest
HAIR_WRAP = np.full((3, 1), 0.3, np.float32)
HARD_WRAP = np.zeros((3, 1), np.float32)
HAIR_CENTRE = np.array([0.0, 7.5, 0.45], np.float32)[:, None]
SHIRT_HEIGHT = 5.78  # decimetres on the neutral mesh


@dataclass(frozen=True)
class Material:
    """How a surface takes light: `wrap` (3, 1) softens the terminator; `gloss` is the strength of its highlight and
    `gloss_doublings` how narrow it is (the cosine is squared that often); `gain` scales all light.
    """

    wrap: np.ndarray
    gloss: float
    gloss_doublings: int
    gain: float = 1.0


SKIN = Material(SKIN_WRAP, 0.10, 4)
HAIR = Material(HAIR_WRAP, 0.05, 3)
EYES = Material(HARD_WRAP, 0.5, 6, 0.9)
TEETH = Material(HAIR_WRAP, 0.1, 4, 0.9)
CLOTH = Material(HAIR_WRAP, 0.0, 1)


@dataclass(frozen=True)
class Surface:
    """One surface, ready to be drawn.

    vertices: (3, v); lighting: (4, v) diffuse red, green, blue and highlight at the vertices; texture: (h, w, c) of
    linear colour, with opacity as the fourth channel where it has one; cut_out: its opacity decides what it covers;
    decal: it is painted over what lies behind.
    """

    vertices: np.ndarray
    mesh: Mesh
    lighting: np.ndarray
    texture: np.ndarray
    cull: bool = False
    cut_out: bool = False
    decal: bool = False
    painted: np.ndarray | None = None  # (1 + 3, v): share of and paint colour per vertex, over the texture

    def shade(self, fragments: Fragments) -> np.ndarray:
        """Linear light (3, k) that leaves the fragments towards the camera."""
        light = fragments.interpolate(self.lighting, self.mesh.triangles)
        colour = sample_texture(self.texture[..., :3], self._uv(fragments))
        if self.painted is not None:
            paint = fragments.interpolate(self.painted, self.mesh.triangles)
            share = np.clip((paint[0] - np.float32(0.5)) * 8 + np.float32(0.5), 0, 1)
            colour += (paint[1:] - colour) * share
        return colour * light[:3] + light[3]

    def opacity(self, fragments: Fragments) -> np.ndarray:
        """Opacity (k,) of a texture with a fourth channel."""
        return sample_texture(self.texture[..., 3:], self._uv(fragments))[0]

    def _uv(self, fragments: Fragments) -> np.ndarray:
        return fragments.interpolate(self.mesh.uv, self.mesh.texture_triangles)


def sample_texture(texture: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """Bilinear samples (c, k) of a texture (h, w, c) at uv (2, k), v upwards."""
    height, width, channels = texture.shape
    column = np.clip(uv[0], 0, 1) * np.float32(width - 1)
    row = (1 - np.clip(uv[1], 0, 1)) * np.float32(height - 1)
    left, top = column.astype(np.int32), row.astype(np.int32)
    right_share, low_share = column - left, row - top
    right, low = np.minimum(left + 1, width - 1), np.minimum(top + 1, height - 1)
    samples = np.empty((channels, len(column)), np.float32)
    for channel in range(channels):
        plane = texture[..., channel]
        upper = plane[top, left] * (1 - right_share) + plane[top, right] * right_share
        lower = plane[low, left] * (1 - right_share) + plane[low, right] * right_share
        samples[channel] = upper * (1 - low_share) + lower * low_share
    return samples


@dataclass(frozen=True)
class Outfit:
    """All surfaces of a head, and the two measures the camera is aimed by (decimetres)."""

    surfaces: list[Surface]
    eye_centre: np.ndarray
    head_height: float


@dataclass(frozen=True)
class Lamp:
    """The lights of a shot in the head's frame. direction, view: (3,); key, ambient: (3, 1) linear intensities."""

    direction: np.ndarray
    view: np.ndarray
    key: np.ndarray
    ambient: np.ndarray

    def fall_on(self, normals: np.ndarray, seen: np.ndarray, openness: np.ndarray, material: Material) -> np.ndarray:
        """Lighting (4, v) of vertices with unit `normals` (3, v), visibility `seen` (v,) and `openness` (v,)."""
        cosine = dot(normals, self.direction)
        diffuse = np.clip((cosine + material.wrap) / (1 + material.wrap), 0, None) * seen
        sky = openness * (np.float32(0.8) + np.float32(0.2) * normals[1])
        highlight = np.maximum(dot(normals, normalised((self.direction + self.view)[:, None])[:, 0]), 0)
        for _ in range(material.gloss_doublings):
            highlight = highlight * highlight
        light = (self.key * diffuse + self.ambient * sky) * np.float32(material.gain)
        return np.concatenate([light, (np.float32(material.gloss) * highlight * seen)[None]]).astype(np.float32)


def dress(pack: Pack, person: Person, shot: Shot) -> Outfit:
    """Place and light every surface of a person for a shot."""
    head = pack.morph(person.weights)
    scale = pack.scale(head)
    shadows = visibility(person.looks.hair, person.looks.hat)
    lamp = _hang_lamp(shot)
    seen, hair_seen = shadows.towards(lamp.direction)
    surfaces = [_skin(pack, person, head, seen, shadows, lamp)]
    surfaces += _features(pack, person, shot, head, seen, shadows, lamp)
    if person.looks.hair:
        surfaces.append(_hair(pack, person, head, hair_seen, shadows, lamp))
    if person.looks.hat:
        surfaces.append(_hat(pack, person, head, lamp))
    eye_anchors = pack.parts["eyes"].anchors
    return Outfit(surfaces, head[:, eye_anchors.ravel()].mean(1), float(scale[1] * 2.3542))


def _hang_lamp(shot: Shot) -> Lamp:
    rotation = head_rotation(shot.yaw, shot.pitch, shot.roll)
    direction = sum(rotation[axis] * np.float32(shot.light_direction[axis]) for axis in range(3))
    return Lamp(
        direction=np.asarray(direction, np.float32),
        view=rotation[2],
        key=shot.key_light.astype(np.float32)[:, None],
        ambient=shot.ambient_light.astype(np.float32)[:, None],
    )


def _skin(pack: Pack, person: Person, head: np.ndarray, seen: np.ndarray, shadows: Visibility, lamp: Lamp) -> Surface:
    normals = vertex_normals(head, pack.skin.triangles)
    texture = sum(np.float32(share) * pack.textures[name] for name, share in person.looks.skins)
    texture = np.square(texture * person.looks.skin_tint.astype(np.float32))
    shirt = np.square(person.looks.shirt_colour).astype(np.float32)
    neckline = np.float32(SHIRT_HEIGHT) - np.float32(0.25) * np.clip(
        1 - np.abs(pack.vertices[0]) / np.float32(0.9), 0, 1
    )
    worn = np.clip((neckline - pack.vertices[1]) * 4 + np.float32(0.5), 0, 1)
    painted = np.concatenate([worn[None], np.broadcast_to(shirt[:, None], (3, len(worn)))])
    lighting = lamp.fall_on(normals, seen, shadows.head_openness, SKIN)
    return Surface(head, pack.skin, lighting, texture, cull=True, painted=painted)


def _features(
    pack: Pack, person: Person, shot: Shot, head: np.ndarray, seen: np.ndarray, shadows: Visibility, lamp: Lamp
) -> list[Surface]:
    scale = pack.scale(head)
    surfaces = []
    brow_colour = np.square(person.looks.hair_colour * 0.6).astype(np.float32)
    wanted = [
        ("eyes", EYES, None),
        ("lash", HAIR, np.full(3, 0.002, np.float32)),
        (person.looks.brow, HAIR, brow_colour),
    ]
    if person.shows_teeth:
        wanted.append(("teeth", TEETH, None))
    for name, material, colour in wanted:
        part = fitted_part(name)
        vertices = part.place(head, scale)
        if name == "eyes":
            vertices = turn_eyes(vertices, shot.gaze)
        normals = vertex_normals(vertices, part.mesh.triangles)
        lit, openness = seen[part.anchors[0]], shadows.head_openness[part.anchors[0]]
        if name == "teeth":  # the head the shadows were cast on keeps its mouth shut
            lit, openness = np.full_like(lit, 0.6), np.full_like(lit, 0.6)
        lighting = lamp.fall_on(normals, lit, openness, material)
        texture = pack.textures[person.looks.eyes if name == "eyes" else name]
        texture = np.concatenate([np.square(texture[..., :3]), texture[..., 3:]], 2)
        if colour is not None:
            texture = np.concatenate([np.broadcast_to(colour, texture[..., :3].shape), texture[..., 3:]], 2)
        decal = colour is not None
        surfaces.append(Surface(vertices, part.mesh, lighting, texture, cull=not decal, decal=decal))
    return surfaces


def _hair(pack: Pack, person: Person, head: np.ndarray, seen: np.ndarray, shadows: Visibility, lamp: Lamp) -> Surface:
    name = person.looks.hair
    assert name is not None
    part = fitted_part(name, under_hat=person.looks.hat is not None)
    vertices = part.place(head, pack.scale(head))
    outwards = normalised(vertices - HAIR_CENTRE)
    mesh_normals = vertex_normals(vertices, part.mesh.triangles)
    facing = np.where(dot(mesh_normals, outwards) < 0, np.float32(-1), np.float32(1))
    normals = normalised(outwards + np.float32(0.6) * mesh_normals * facing)
    lighting = lamp.fall_on(normals, seen, shadows.hair_openness, HAIR)
    texture = pack.textures[name]
    brightness = texture[..., :3].mean(2)
    covered = texture[..., 3] > 0.5
    relief = np.clip(0.45 + 0.55 * brightness / brightness[covered].mean(), 0.6, 1.35)[..., None]
    colour = np.square(relief * person.looks.hair_colour.astype(np.float32))
    return Surface(vertices, part.mesh, lighting, np.concatenate([colour, texture[..., 3:]], 2), cut_out=True)


def _hat(pack: Pack, person: Person, head: np.ndarray, lamp: Lamp) -> Surface:
    part = fitted_part("hat:fedora")
    vertices = part.place(head, pack.scale(head))
    normals = vertex_normals(vertices, part.mesh.triangles)
    everywhere = np.ones(vertices.shape[1], np.float32)
    texture = np.square(pack.textures["hat:fedora_texture_grey"][..., :3] * 1.6 * person.looks.hat_colour).astype(
        np.float32
    )
    return Surface(vertices, part.mesh, lamp.fall_on(normals, everywhere, everywhere, CLOTH), texture)
