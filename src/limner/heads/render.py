"""Draw one head: place its parts, find what each sample sees, shade it, and average 2 × 2 samples into a pixel.

Light is added up in linear intensity (the square of the stored value, a gamma of 2) and stored as its square root.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from limner.errors import LimnerError
from limner.heads.backdrop import paint_backdrop
from limner.heads.dress import Outfit, dress
from limner.heads.geometry import Camera, aim_camera
from limner.heads.landmarks import landmark_points, picture_order
from limner.heads.pack import load_pack
from limner.heads.person import Person, sample_person
from limner.heads.scene import paint
from limner.heads.shot import Shot

SAMPLES_PER_PIXEL_SIDE = 2
SMALLEST_RESOLUTION, LARGEST_RESOLUTION = 16, 512


@dataclass(frozen=True)
class Head:
    """One picture of the set, and what is known of it.

    image: uint8 (r, r, 3) RGB; attributes by name; pose: yaw, pitch, roll in radians; identity: number of the person;
    view: number of this picture of them; landmarks: (5, 2) float32 in the order of `data.layout.LANDMARKS`, x right and
    y down as fractions of the side; light: (3,) float32 unit direction to the light, x right, y up, z to the camera.
    """

    image: np.ndarray
    attributes: dict[str, bool]
    pose: tuple[float, float, float]
    identity: int
    view: int
    landmarks: np.ndarray
    light: np.ndarray


@dataclass(frozen=True)
class Drawing:
    """A picture with what it was drawn from: image uint8 (r, r, 3) RGB, `camera` (in samples) and `outfit` as drawn,
    before the picture was turned round where `mirrored`.
    """

    image: np.ndarray
    camera: Camera
    outfit: Outfit
    mirrored: bool

    def locate(self, points: np.ndarray) -> np.ndarray:
        """Where points (3, n) of the head are in the picture: (n, 2), x right, y down, as fractions of its side."""
        column, row, _ = self.camera.project(points) / np.float32(len(self.image) * SAMPLES_PER_PIXEL_SIDE)
        return np.stack([1 - column if self.mirrored else column, row], 1)

    def landmarks(self) -> np.ndarray:
        """The five landmarks in the picture, (5, 2), as `Head.landmarks`."""
        points = landmark_points(load_pack(), self.outfit.head, self.outfit.scale)
        return picture_order(self.locate(points), self.mirrored)


def render_head(seed: int, index: int, resolution: int, yaw_range: float = 45.0, view: int = 0) -> Head:
    """Person number `index` of the set `seed`: the same bytes on every call.

    Args:
        seed: Number of the set, 0 or more.
        index: Number of the person within it, 0 or more.
        resolution: Side of the picture, 16 to 512 pixels.
        yaw_range: Degrees the head may be turned to either side, 0 to 90.
        view: Number of the picture of this person, 0 or more.

    Raises:
        LimnerError: A value is out of its range.
    """
    check_settings(seed, resolution, yaw_range)
    if index < 0 or view < 0:
        raise LimnerError(f"index {index}, view {view}: must be 0 or more")
    person = sample_person(load_pack(), seed, index, view, math.radians(yaw_range))
    shot = person.shot
    drawing = draw(person, resolution)
    return Head(
        image=drawing.image,
        attributes=person.attributes,
        pose=(shot.yaw, shot.pitch, shot.roll),
        identity=index,
        view=view,
        landmarks=drawing.landmarks(),
        light=shot.light_direction.astype(np.float32),
    )


def check_settings(seed: int, resolution: int, yaw_range: float) -> None:
    """Raise LimnerError unless every setting is in its range."""
    if not SMALLEST_RESOLUTION <= resolution <= LARGEST_RESOLUTION:
        raise LimnerError(
            f"resolution {resolution}: heads are drawn at {SMALLEST_RESOLUTION} to {LARGEST_RESOLUTION} pixels; "
            "choose one of those"
        )
    if not 0 <= yaw_range <= 90:
        raise LimnerError(f"yaw range {yaw_range}: must be 0 to 90 degrees")
    if seed < 0:
        raise LimnerError(f"seed {seed}: must be 0 or more")


def draw(person: Person, resolution: int, frame: float = 1.0) -> Drawing:
    """The picture of a person, and what it was drawn from.

    Args:
        person: Whom to draw.
        resolution: Side of the picture in pixels.
        frame: How many times as much is shown, along each axis, as in the standard picture around the same middle.
    """
    samples = resolution * SAMPLES_PER_PIXEL_SIDE
    shot = _mirrored(person.shot) if person.mirrored else person.shot
    outfit = dress(load_pack(), person, shot)
    camera = aim_camera(shot, outfit.eye_centre, outfit.head_height, samples, frame)
    light = _enlarged(paint_backdrop(shot.backdrop, resolution), resolution)
    paint(light, outfit.surfaces, camera, samples)
    image = _develop(light, resolution)
    if person.mirrored:
        image = np.ascontiguousarray(image[:, ::-1])
    return Drawing(image, camera, outfit, person.mirrored)


def _mirrored(shot: Shot) -> Shot:
    return replace(
        shot,
        yaw=-shot.yaw,
        roll=-shot.roll,
        gaze=(-shot.gaze[0], shot.gaze[1]),
        shift=(-shot.shift[0], shot.shift[1]),
        light_direction=shot.light_direction * np.array([-1, 1, 1]),
        backdrop=shot.backdrop.mirrored(),
    )


def _enlarged(light: np.ndarray, resolution: int) -> np.ndarray:
    """Light (3, r²) of pixels as that of their samples (3, s²): what is out of focus needs no more."""
    side = SAMPLES_PER_PIXEL_SIDE
    samples = np.empty((3, resolution, side, resolution, side), np.float32)
    for corner in np.ndindex(side, side):
        samples[:, :, corner[0], :, corner[1]] = light.reshape(3, resolution, resolution)
    return samples.reshape(3, -1)


def _develop(light: np.ndarray, resolution: int) -> np.ndarray:
    exposed = np.minimum(light, 1).reshape(3, resolution, SAMPLES_PER_PIXEL_SIDE, -1)
    rows = exposed[:, :, 0] + exposed[:, :, 1]
    pixels = rows[..., ::SAMPLES_PER_PIXEL_SIDE] + rows[..., 1::SAMPLES_PER_PIXEL_SIDE]
    stored = np.sqrt(pixels) * np.float32(255 / SAMPLES_PER_PIXEL_SIDE) + np.float32(0.5)
    return np.ascontiguousarray(stored.astype(np.uint8).transpose(1, 2, 0))
