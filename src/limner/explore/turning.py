"""Poses to turn a face through, and pictures of many faces at many angles."""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from limner.errors import LimnerError
from limner.explore.captions import captioned
from limner.explore.pictures import Enlargement, sheet

AXES = ("yaw", "pitch", "roll")
"""columns of the latents' part `pose`"""
_LARGEST_DEGREES = 360.0


@dataclass(frozen=True)
class Span:
    """The angles of one axis, degrees, from `low` to `high`; equal where it is held still."""

    axis: str
    low: float
    high: float

    @property
    def middle(self) -> float:
        return (self.low + self.high) / 2

    @property
    def turns(self) -> bool:
        return self.high > self.low

    @property
    def goes_round(self) -> bool:
        return self.high - self.low == _LARGEST_DEGREES

    def __str__(self) -> str:
        return f"{self.axis} {self.low:g} to {self.high:g}°" if self.turns else f"{self.axis} {self.low:g}°"


def parse_angles(axis: str, text: str) -> Span:
    """The span that "-60:60", or "10" for an angle held still, names.

    Raises:
        LimnerError: the text has another form, the second angle is below the first, or they are more than a turn apart.
    """
    number = r"[+-]?(?:\d+\.?\d*|\.\d+)"
    found = re.fullmatch(rf"\s*({number})\s*(?::\s*({number})\s*)?", text, re.ASCII)
    if found is None:
        raise LimnerError(f"--{axis} {text!r}: expected degrees, such as -60:60, or 10 to hold it there")
    low = float(found[1])
    high = low if found[2] is None else float(found[2])
    if high < low or high - low > _LARGEST_DEGREES or max(abs(low), abs(high)) > _LARGEST_DEGREES:
        raise LimnerError(f"--{axis} {text!r}: expected the smaller angle first, and at most 360° between them")
    return Span(axis, low, high)


def turns(model: Any) -> bool:
    """Whether a model was trained to turn what it makes: its latents have a pose that is not always the same."""
    pose = model.latents.pose
    return pose is not None and pose.low != pose.high


def trained_spans(model: Any) -> tuple[Span, Span, Span]:
    """The ranges of yaw, pitch and roll that a model was trained on.

    Raises:
        LimnerError: its latents have no pose.
    """
    pose = model.latents.pose
    if pose is None:
        name = getattr(model, "name", type(model).__name__)
        raise LimnerError(f"{name} has no pose, so it cannot turn what it makes; hologan can")
    low, high = (tuple(round(math.degrees(angle), 4) for angle in ends) for ends in (pose.low, pose.high))
    yaw, pitch, roll = (Span(*each) for each in zip(AXES, low, high, strict=True))
    return yaw, pitch, roll


def spans_to_turn(model: Any, asked: Mapping[str, Span]) -> tuple[Span, Span, Span]:
    """What each axis does: as asked; else held in the middle of the range trained on.

    Where nothing is asked to turn, the first axis does that was trained on a range and is not held: yaw, if it was.
    """
    trained = trained_spans(model)
    spans = {span.axis: asked.get(span.axis, Span(span.axis, span.middle, span.middle)) for span in trained}
    if not any(span.turns for span in spans.values()):
        free = next((span for span in trained if span.turns and span.axis not in asked), None)
        if free is not None:
            spans[free.axis] = free
    return spans["yaw"], spans["pitch"], spans["roll"]


def beyond_training(model: Any, spans: Sequence[Span]) -> list[str]:
    """A line for every span that goes beyond what the model was trained on."""
    lines = []
    for asked, trained in zip(spans, trained_spans(model), strict=True):
        if asked.low < trained.low - 0.01 or asked.high > trained.high + 0.01:
            learned = f"{trained.low:g} to {trained.high:g}°" if trained.turns else f"{trained.low:g}°"
            lines.append(f"{asked}: trained on {learned}; what it makes beyond that, nobody has judged")
    return lines


def strips(spans: Sequence[Span], steps: int) -> list[tuple[str, list[tuple[float, ...]]]]:
    """For a sheet: for every axis that turns, its name and `steps` poses in degrees, the other axes in their middle.

    One pose, and no name, where nothing turns.
    """
    middle = tuple(span.middle for span in spans)
    found = []
    for place, span in enumerate(spans):
        if span.turns:
            angles = np.linspace(span.low, span.high, steps)
            found.append((span.axis, [(*middle[:place], float(angle), *middle[place + 1 :]) for angle in angles]))
    return found or [("", [middle])]


def orbit(spans: Sequence[Span], frames: int, loop: bool = True) -> list[tuple[float, float, float]]:
    """For a moving picture: poses in degrees, one a frame.

    A loop goes there and back as a pendulum does, slowing down at its ends, and passes each end once; a second axis
    that turns is a quarter behind, so that two go round an ellipse. A range of 360° goes round evenly. Without `loop`,
    every axis goes evenly from its first angle to its last.
    """
    poses = []
    turning = [span for span in spans if span.turns]
    for frame in range(frames):
        share = frame / frames if loop else frame / max(frames - 1, 1)
        pose = []
        for span in spans:
            if not span.turns:
                where = 0.5
            elif not loop or span.goes_round:
                where = share
            else:
                where = (1 - math.cos(2 * math.pi * (share - turning.index(span) / 4))) / 2
            pose.append(span.low + (span.high - span.low) * where)
        poses.append((pose[0], pose[1], pose[2]))
    return poses


def posed(model: Any, latents: Any, degrees: Sequence[float]) -> Any:
    """Latents [n, d], all with the pose of these yaw, pitch and roll, and everything else as it was."""
    import torch

    pose = torch.tensor([[math.radians(angle) for angle in degrees]], dtype=latents.dtype).expand(len(latents), -1)
    return model.latents.replace(latents, pose=pose)


def turning_faces(
    model: Any, faces: Sequence[Any], poses: Sequence[Sequence[float]]
) -> Iterator[UInt8[np.ndarray, "n r r 3"]]:
    """For every pose (degrees), the picture of every face, whose latents are [1, d]; one picture is computed at a time.

    Computed together, a picture's last bits would depend on how many are. What a pose that comes again shows, as on the
    way back, is kept until then.
    """
    from limner.explore.sample import paint

    keys = [tuple(round(angle, 9) for angle in pose) for pose in poses]
    to_come = Counter(keys)
    kept: dict[tuple[float, ...], np.ndarray] = {}
    for key, pose in zip(keys, poses, strict=True):
        shown = kept.pop(key, None)
        if shown is None:
            shown = np.stack([paint(model, posed(model, face, pose)) for face in faces])
        to_come[key] -= 1
        if to_come[key]:
            kept[key] = shown
        yield shown


def turn_sheet(
    columns: Sequence[UInt8[np.ndarray, "n r r 3"]],
    captions: Sequence[str],
    scale: int,
    gap: int = 2,
    enlarge: Enlargement = "lanczos",
) -> Image.Image:
    """Faces × angles: a row a face, a column an angle with its caption under it."""
    letters = min(max(columns[0].shape[2] * scale // 7, 10), 20)
    pictures = [
        captioned(sheet(faces, 1, scale, gap, enlarge=enlarge), text, letters)
        for faces, text in zip(columns, captions, strict=True)
    ]
    step = pictures[0].width - gap  # two columns share the gap between them
    whole = Image.new("RGB", (step * len(pictures) + gap, pictures[0].height))
    for place, picture in enumerate(pictures):
        whole.paste(picture, (place * step, 0))
    return whole


def strip_sheet(
    found: Sequence[tuple[str, list[tuple[float, ...]]]],
    columns: Sequence[UInt8[np.ndarray, "_ r r 3"]],
    scale: int,
    gap: int = 2,
    enlarge: Enlargement = "lanczos",
) -> Image.Image:
    """A `turn_sheet` of each of the `strips` below the one before; `columns` are the faces at their poses, in order."""
    rest = iter(columns)
    pictures = [
        turn_sheet(list(itertools.islice(rest, len(poses))), angle_captions(axis, poses), scale, gap, enlarge)
        for axis, poses in found
    ]
    whole = Image.new("RGB", (max(picture.width for picture in pictures), sum(each.height for each in pictures)))
    tops = itertools.accumulate((picture.height for picture in pictures), initial=0)
    for picture, top in zip(pictures, tops, strict=False):
        whole.paste(picture, (0, top))
    return whole


def angle_captions(axis: str, poses: Sequence[Sequence[float]]) -> list[str]:
    """For the columns of one of the `strips`: "yaw -45°", the name where there is one, and every angle of its axis."""
    if not axis:
        return ["  ".join(f"{name} {angle:g}°" for name, angle in zip(AXES, poses[0], strict=True) if angle) or "0°"]
    return [f"{axis} {round(pose[AXES.index(axis)], 1):g}°" for pose in poses]
