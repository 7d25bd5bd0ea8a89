"""Points and directions of a posed head: normals, gaze, rotation, and the camera that sees it.

Points are (3, n) rows x, y, z. Everything here is elementwise, so that a head comes out the same to the last bit
whatever number of threads a linear-algebra library would use.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from limner.heads.shot import Shot

FRAME_HALF_HEIGHT = 1.32  # decimetres of the head's plane that reach from the picture's middle to its edge
EYES_ABOVE_MIDDLE = 0.14  # decimetres
AXIS_BEHIND_EYES = 0.75  # decimetres; the head turns about this axis
FACE_FOLLOWED = 0.5  # share of the face's sideways motion, as the head turns, that the camera follows
REFERENCE_HEAD_HEIGHT = 2.3542  # decimetres, crown to chin


@dataclass(frozen=True)
class Fans:
    """Which triangles meet at each vertex: `faces` lists them vertex by vertex, each list beginning at `starts`."""

    vertices: np.ndarray
    faces: np.ndarray
    starts: np.ndarray

    @classmethod
    def of(cls, triangles: np.ndarray) -> Fans:
        """The fans of triangles (3, f)."""
        owners = triangles.ravel()
        order = np.argsort(owners, kind="stable")
        vertices, starts = np.unique(owners[order], return_index=True)
        return cls(vertices, order % triangles.shape[1], starts)


def vertex_normals(vertices: np.ndarray, triangles: np.ndarray, fans: Fans | None = None) -> np.ndarray:
    """Unit normals (3, n) of a surface, each the area-weighted mean of its triangles' (outward).

    `fans` of the triangles, where they are at hand, save time.
    """
    fans = fans or Fans.of(triangles)
    corners = [vertices.take(corner, 1) for corner in triangles]
    edge_a, edge_b = corners[1] - corners[0], corners[2] - corners[0]
    faces = np.stack(
        [
            edge_a[1] * edge_b[2] - edge_a[2] * edge_b[1],
            edge_a[2] * edge_b[0] - edge_a[0] * edge_b[2],
            edge_a[0] * edge_b[1] - edge_a[1] * edge_b[0],
        ]
    )
    normals = np.zeros_like(vertices)
    if triangles.size:
        sums = np.add.reduceat(faces.take(fans.faces, 1), fans.starts, axis=1)
        normals[:, fans.vertices] = normalised(sums)
    return normals


def normalised(vectors: np.ndarray) -> np.ndarray:
    """Columns of (3, n) scaled to length 1; a zero column stays zero."""
    length = np.sqrt(dot(vectors, vectors))
    return vectors / np.maximum(length, np.float32(1e-9))


def dot(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Dot products (n,) of the columns of (3, n) and (3, n) or (3,)."""
    return first[0] * second[0] + first[1] * second[1] + first[2] * second[2]


def rotate(rotation: np.ndarray, points: np.ndarray) -> np.ndarray:
    """`rotation` (3, 3) applied to the columns of `points` (3, n)."""
    return np.stack([dot(points, row) for row in rotation])


def head_rotation(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """The rotation (3, 3) of a head, angles in radians.

    Positive yaw turns the face to the picture's right, positive pitch lifts it, positive roll tips it clockwise.
    Yaw is applied first, roll last.
    """
    cos, sin = math.cos(yaw), math.sin(yaw)
    turn = np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])
    cos, sin = math.cos(pitch), math.sin(pitch)
    lift = np.array([[1, 0, 0], [0, cos, sin], [0, -sin, cos]])
    cos, sin = math.cos(roll), math.sin(roll)
    tip = np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])
    by_lift = np.einsum("ij,jk->ik", lift, turn)
    return np.einsum("ij,jk->ik", tip, by_lift).astype(np.float32)


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
        turned = rotate(self.rotation, (points - self.pivot[:, None]) * np.float32(self.magnification))
        depth = np.float32(self.distance) - turned[2]
        per_distance = np.float32(self.focal_length) / depth
        column = np.float32(self.centre[0]) + turned[0] * per_distance
        row = np.float32(self.centre[1]) - turned[1] * per_distance
        return np.stack([column, row, depth])

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
