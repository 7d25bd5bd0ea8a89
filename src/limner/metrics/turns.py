"""A model's faces turned: some seeded faces, each at evenly spaced angles of its pose, and what a probe reads of them.

Everything in the latents but the pose stays as it was drawn for a face. An axis goes from one end of the model's own
range to the other while the other two stand in the middle of theirs; an axis without a range is not turned. Latents
depend on (seed, count, axes) alone, so batches and processes change nothing but a reading's rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from limner.errors import LimnerError
from limner.latents import LatentSpace, Pose
from limner.metrics.probe.readers import Reads
from limner.metrics.rows import Rows, Team, deal
from limner.metrics.subject import Generates, generate_fakes, pose_part
from limner.types import Latents

AXES = ("yaw", "pitch", "roll")
"""columns of a pose"""
YAWS = 11
"""frames of a turn: an odd number, so that one is in the middle"""
OTHERS = 7
"""frames along pitch, and along roll"""
LEAST_TURNS = 8
IMAGES_PER_TURN = 40
"""images of each set in an evaluation for one face that is turned"""


def turns_for(count: int) -> int:
    """How many faces are turned in an evaluation of so many images."""
    return max(LEAST_TURNS, count // IMAGES_PER_TURN)


@dataclass(frozen=True)
class Axis:
    """One axis that is turned: its column in a pose, and the angles asked for, degrees [k], from low to high."""

    name: str
    column: int
    degrees: Float[Tensor, "k"]


@dataclass(frozen=True)
class Turns:
    """What the model is asked for: of face after face all frames of the first axis, then those of the next."""

    axes: tuple[Axis, ...]
    count: int
    """of faces"""
    latents: Latents

    @property
    def frames(self) -> int:
        """Images of one face."""
        return sum(len(axis.degrees) for axis in self.axes)


def ask_turns(latents: LatentSpace, count: int, seed: int, axes: Sequence[str] = AXES) -> Turns:
    """Latents [count · frames, d] of `count` faces from the prior, each at all angles of these axes that have a range.

    Raises:
        LimnerError: no pose among the latents, or no range of yaw.
    """
    part = pose_part(latents)
    if part is None:
        raise LimnerError(
            "turns: this model's latents have no pose with a range of yaw; only models that turn have one"
        )
    turned = _axes(part, axes)
    middle = (torch.tensor(part.low, dtype=torch.float64) + torch.tensor(part.high, dtype=torch.float64)) / 2
    poses = []
    for axis in turned:
        rows = middle.repeat(len(axis.degrees), 1)
        rows[:, axis.column] = axis.degrees.deg2rad()
        poses.append(rows)
    frames = torch.cat(poses)
    faces = latents.sample(count, torch.Generator().manual_seed(seed)).repeat_interleave(len(frames), dim=0)
    return Turns(turned, count, latents.replace(faces, **{part.name: frames.repeat(count, 1)}))


def frames_of(latents: LatentSpace, axes: Collection[str] = AXES) -> int:
    """Return how many images `ask_turns` asks for of one face; 0 where the latents have no pose with a range of yaw."""
    part = pose_part(latents)
    return 0 if part is None else sum(len(axis.degrees) for axis in _axes(part, axes))


def _axes(part: Pose, names: Collection[str]) -> tuple[Axis, ...]:
    return tuple(
        Axis(name, column, _angles(part, column, YAWS if name == "yaw" else OTHERS))
        for column, name in enumerate(AXES)
        if name in names and part.high[column] > part.low[column]
    )


def _angles(part: Pose, column: int, count: int) -> Float[Tensor, "k"]:
    low, high = (math.degrees(end[column]) for end in (part.low, part.high))
    return torch.linspace(low, high, count, dtype=torch.float64)


class TurnReadings:
    """What a probe has read of all frames, fed in their order."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns
        self._poses: list[Float[Tensor, "n 3"]] = []
        self._identities: list[Float[Tensor, "n e"]] = []

    def feed(self, batches: Iterable[Rows]) -> None:
        """Rows with "pose", "identity" or both."""
        for rows in batches:
            if "pose" in rows:
                self._poses.append(rows["pose"])
            if "identity" in rows:
                self._identities.append(rows["identity"])

    def degrees(self, axis: Axis) -> Float[Tensor, "n k"]:
        """The angle read of every frame of an axis, in float64.

        Raises:
            LimnerError: the probe reads no pose, or not all frames have been read.
        """
        return self._of(axis, self._poses, "pose")[:, :, axis.column].rad2deg()

    def embeddings(self, axis: Axis) -> Float[Tensor, "n k e"]:
        """The identity read of every frame of an axis: unit vectors, in float64.

        Raises:
            LimnerError: the probe reads no identity, or not all frames have been read.
        """
        return self._of(axis, self._identities, "identity")

    def _of(self, axis: Axis, parts: Sequence[Tensor], what: str) -> Float[Tensor, "n k w"]:
        turns = self.turns
        if sum(map(len, parts)) != turns.count * turns.frames:
            raise LimnerError(
                f"turns: the {what} of {sum(map(len, parts))} frames was read, not of {turns.count * turns.frames}; "
                "use a probe that reads it, and feed every frame once"
            )
        place = turns.axes.index(axis)
        start = sum(len(other.degrees) for other in turns.axes[:place])
        every = torch.cat(list(parts)).double().unflatten(0, (turns.count, turns.frames))
        return every[:, start : start + len(axis.degrees)]


def read_turns(
    model: Generates, probe: Reads, turns: Turns, batch_size: int, team: Team, poll: Callable[[], None]
) -> Iterator[Rows]:
    """Generate every frame and read it: rows "pose" [n, 3] and "identity" [n, e], where the probe reads them.

    Raises:
        LimnerError: images of a size that the probe cannot read.
        DivergedError: images that are not finite.
    """

    def work(some: slice) -> Rows:
        reading = probe.read(generate_fakes(model, turns.latents[some]))
        found = {"pose": reading.pose, "identity": reading.identity}
        return {name: rows.cpu() for name, rows in found.items() if rows is not None}

    batches = [slice(start, start + batch_size) for start in range(0, len(turns.latents), batch_size)]
    yield from deal(batches, work, team, poll)
