"""Points and directions of a posed head: normals, gaze, rotation, and the camera that sees it.

Points are (3, n) rows x, y, z. Everything here is elementwise, so that a head comes out the same to the last bit
whatever number of threads a linear-algebra library would use.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from limner.heads.shot import Shot

FRAME_HALF_HEIGHT = 1.32  # decimetres of the head's plane that reach from the picture's middle to its edge
EYES_ABOVE_MIDDLE = 0.14  # decimetres
AXIS_BEHIND_EYES = 0.75  # decimetres; the head turns about this axis
FACE_FOLLOWED = 0.5  # share of the face's sideways motion, as the head turns, that the camera follows
REFERENCE_HEAD_HEIGHT = 2.3542  # decimetres, crown to chin


def vertex_normals(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Unit normals (3, n) of a surface, each the area-weighted mean of its triangles' (outward)."""
    corners = [vertices.take(corner, 1) for corner in triangles]
    faces = cross(corners[1] - corners[0], corners[2] - corners[0])
    normals = [sum(np.bincount(corner, component, vertices.shape[1]) for corner in triangles) for component in faces]
    return normalised(np.stack(normals).astype(np.float32))


@dataclass(frozen=True)
class Rings:
    """Four of the neighbours of each vertex (4, n), evenly spread around it: the direction that their quadrangle faces
    is nearly the vertex's normal, and is worked out in a quarter of the time.
    """

    neighbours: np.ndarray

    @classmethod
    def of(cls, vertices: np.ndarray, triangles: np.ndarray) -> Rings:
        """The rings in triangles (3, f): such quadrangles as face most nearly along the normals of `vertices` (3, n).

        A vertex of no triangle has normal 0.
        """
        rings = _rings(triangles, vertices.shape[1])
        exact = vertex_normals(vertices, triangles)
        best, best_cosine = np.zeros((4, len(rings)), np.intp), np.full(len(rings), np.float32(-2))
        for turn in range(max(len(ring) for ring in rings)):
            corners = [
                [ring[((4 * turn + 2 + quarter * len(ring)) // 4) % len(ring)] for ring in rings]
                for quarter in range(4)
            ]
            cosine = dot(cls(np.array(corners)).normals(vertices), exact)
            better = cosine > best_cosine
            best[:, better], best_cosine[better] = np.array(corners)[:, better], cosine[better]
        return cls(best)

    def normals(self, vertices: np.ndarray) -> np.ndarray:
        """Unit normals (3, n) at `vertices` (3, n)."""
        first, second, third, fourth = (vertices.take(neighbour, 1) for neighbour in self.neighbours)
        return normalised(cross(third - first, fourth - second))


def _rings(triangles: np.ndarray, count: int) -> list[list[int]]:
    """The neighbours of each vertex in their order around it, and the vertex itself where the surface ends there."""
    following: list[dict[int, int]] = [{} for _ in range(count)]
    for first, second, third in triangles.T.tolist():
        for vertex, near, far in ((first, second, third), (second, third, first), (third, first, second)):
            following[vertex][near] = far
    return [_walk(vertex, links) for vertex, links in enumerate(following)]


def _walk(vertex: int, links: dict[int, int]) -> list[int]:
    """The ring of a vertex, each of whose neighbours leads to the next by `links`."""
    starts = links.keys() - links.values()
    ring = [min(starts or links, default=vertex)]
    while (after := links.get(ring[-1], ring[0])) != ring[0] and len(ring) <= len(links):
        ring.append(after)
    return [vertex, *ring] if starts else ring


def cross(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Cross products (3, n) of the columns of (3, n) and (3, n)."""
    product = np.empty_like(first)
    for row, (after, before) in enumerate(((1, 2), (2, 0), (0, 1))):
        np.multiply(first[after], second[before], out=product[row])
        product[row] -= first[before] * second[after]
    return product


def normalised(vectors: np.ndarray) -> np.ndarray:
    """Columns of (3, n) scaled to length 1; a zero column stays zero."""
    length = np.sqrt(dot(vectors, vectors))
    return vectors / np.maximum(length, np.float32(1e-9))


def dot(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Dot products (n,) of the columns of (3, n) and (3, n) or (3,)."""
    return first[0] * second[0] + first[1] * second[1] + first[2] * second[2]


def rotate(rotation: np.ndarray, points: np.ndarray) -> np.ndarray:
    """`rotation` (3, 3) applied to the columns of `points` (3, n)."""
    turned = rotation[:, :1] * points[0]
    turned += rotation[:, 1:2] * points[1]
    turned += rotation[:, 2:] * points[2]
    return turned


@lru_cache(maxsize=8)
def head_rotation(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """The rotation (3, 3) of a head, angles in radians.

    Positive yaw turns the face to the picture's right, positive pitch lifts it, positive roll tips it clockwise.
    Yaw is applied first, roll last.
    """
    (cos_y, sin_y), (cos_p, sin_p), (cos_r, sin_r) = ((math.cos(a), math.sin(a)) for a in (yaw, pitch, roll))
    turned = (cos_y, 0.0, sin_y)
    lifted = (-sin_p * sin_y, cos_p, sin_p * cos_y)
    towards = (-cos_p * sin_y, -sin_p, cos_p * cos_y)
    tipped = [cos_r * x + sin_r * y for x, y in zip(turned, lifted, strict=True)]
    upright = [cos_r * y - sin_r * x for x, y in zip(turned, lifted, strict=True)]
    rotation = np.array([tipped, upright, towards], np.float32)
    rotation.flags.writeable = False  # it is shared
    return rotation


def turn_eyes(eyes: np.ndarray, gaze: tuple[float, float]) -> np.ndarray:
    """Eyeballs (3, n) turned each about its own centre by gaze = (yaw, pitch) in radians; the left one (x above 0)
    comes first.
    """
    left = int(np.count_nonzero(eyes[0] > 0))
    centres = np.empty_like(eyes)
    for own, eye in ((centres[:, :left], eyes[:, :left]), (centres[:, left:], eyes[:, left:])):
        own[:] = ((eye.min(1) + eye.max(1)) / 2)[:, None]
    return rotate(head_rotation(gaze[0], gaze[1], 0.0), eyes - centres) + centres


@dataclass(frozen=True)
class Camera:
    """Where each point of a head lands in a picture of `samples` × `samples`."""

    rotation: np.ndarray
    pivot: np.ndarray
    magnification: float
    distance: float
    focal_length: float
    centre: tuple[float, float]

    def project(self, points: np.ndarray) -> np.ndarray:
        """Points (3, n) of the head → rows x, y (samples, y downwards) and distance from the camera (decimetres)."""
        located = rotate(self.rotation, (points - self.pivot[:, None]) * np.float32(self.magnification))
        column, row, depth = located
        np.subtract(np.float32(self.distance), depth, out=depth)
        per_distance = np.float32(self.focal_length) / depth
        column *= per_distance
        column += np.float32(self.centre[0])
        row *= -per_distance
        row += np.float32(self.centre[1])
        return located

    @property
    def view_direction(self) -> np.ndarray:
        """The direction (3,) from the head to the camera, in the head's frame."""
        return self.rotation[2]


def aim_camera(shot: Shot, eye_centre: np.ndarray, head_height: float, samples: int, frame: float = 1.0) -> Camera:
    """A camera that keeps the face in the middle: `eye_centre` (3,) between the eyes, `head_height` in decimetres.

    `frame` times as much is shown along each axis as in the standard picture, from the same distance.
    """
    rotation = head_rotation(shot.yaw, shot.pitch, shot.roll)
    pivot = np.array([0, eye_centre[1] - EYES_ABOVE_MIDDLE, eye_centre[2] - AXIS_BEHIND_EYES], np.float32)
    half_angle = shot.field_of_view / 2
    followed = FACE_FOLLOWED * AXIS_BEHIND_EYES * math.sin(shot.yaw) / (2 * FRAME_HALF_HEIGHT)
    return Camera(
        rotation=rotation,
        pivot=pivot,
        magnification=shot.zoom * REFERENCE_HEAD_HEIGHT / head_height,
        distance=FRAME_HALF_HEIGHT / math.tan(half_angle),
        focal_length=samples / 2 / math.tan(half_angle) / frame,
        centre=(samples * (0.5 + (shot.shift[0] - followed) / frame), samples * (0.5 + shot.shift[1] / frame)),
    )
