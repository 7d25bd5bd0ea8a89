"""Five points of a head: the fronts of the eyeballs, the tip of the nose, the corners of the mouth.

They are points of the mesh, so they follow the head's shape and its expression, and are known where hair, glasses or
the head itself hides them.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from limner.heads.pack import Pack, load_pack

NOSE_TIP = 297
"""vertex of the head that is furthest forward in the middle of the neutral face"""
MOUTH_CORNERS = 422, 2979
"""vertices of the head where the lips meet: of its right side (x below 0), of its left; found by looking"""
_FRONT = 1e-3  # decimetres behind its foremost point that still belong to an eye's front
_MIRRORED_ORDER = [1, 0, 2, 4, 3]


def landmark_points(pack: Pack, head: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """The points (3, 5) of a head (3, n), `scale` from `Pack.scale`: right eye, left eye, nose tip, right and left
    corner of the mouth; right and left are the head's own.
    """
    eyes = pack.parts["eyes"].place(head, scale)
    corners = [head[:, corner] for corner in MOUTH_CORNERS]
    return np.stack([*(eyes[:, front].mean(1) for front in _eye_fronts()), head[:, NOSE_TIP], *corners], 1)


def picture_order(points: np.ndarray, mirrored: bool) -> np.ndarray:
    """Located landmarks (5, 2) as CelebA orders them: left and right as seen in the picture of somebody who faces the
    camera. There the head's right is on the left, unless the picture was mirrored.
    """
    return points[_MIRRORED_ORDER] if mirrored else points


@lru_cache(maxsize=1)
def _eye_fronts() -> tuple[np.ndarray, np.ndarray]:
    """Vertices of the eyes about the pupils: of the right eye (x below 0), of the left."""
    pack = load_pack()
    eyes = pack.parts["eyes"]
    x, _, z = eyes.place(pack.vertices, pack.scale(pack.vertices))
    right, left = (np.flatnonzero((z > z.max() - _FRONT) & (x * side > 0)) for side in (-1, 1))
    return right, left
