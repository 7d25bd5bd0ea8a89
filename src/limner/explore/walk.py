"""The verb `limner walk`: from face to face through a model's latents, along the geodesic of each part's prior."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro
from PIL import Image

from limner.arguments import FilePath, ModelChoice, Names, Seeds
from limner.errors import LimnerError
from limner.explore.pictures import Enlargement, check_suffix, enlarged, save_picture, sheet
from limner.explore.sample import (
    asked_attributes,
    chosen_seeds,
    default_sheet,
    latents_of_seed,
    load_with_origin,
    paint,
    spell_seeds,
    tracked,
)
from limner.explore.time_lapse import time_lapse
from limner.explore.video import require_av, write_video
from limner.files import refuse_overwriting

MOVING = (".webp", ".gif", ".mp4")
_CELL_PIXELS = 96
_FRAME_PIXELS = 384
"""smaller faces are enlarged to about this side"""
_MOST_FRAMES = 2000


def walk(
    run: tyro.conf.Positional[FilePath],
    *,
    seeds: Annotated[Seeds, tyro.conf.arg(metavar="1,5,9")],
    steps: int = 16,
    out: FilePath | None = None,
    loop: bool = False,
    frames_per_second: float = 15.0,
    enlarge: Enlargement = "lanczos",
    weights: Literal["ema", "raw"] = "ema",
    wanted: Annotated[Names, tyro.conf.arg(name="with", metavar="Male,Smiling")] = "",
    unwanted: Annotated[Names, tyro.conf.arg(name="without", metavar="Eyeglasses")] = "",
    device: str = "auto",
    overwrite: bool = False,
    model: ModelChoice | None = None,
) -> Path:
    """Walk from face to face: each part of the latents along its prior's geodesic, a great circle for a sphere.

    Says how even the steps are: their lengths' coefficient of variation (deviation over mean), beside that of a
    straight line brought back to the sphere, which hurries through its middle.

    Args:
        run: folder of a run, or one of its checkpoints.
        seeds: the faces to pass, in this order: 1,5,9 or 0-7.
        steps: steps from one face to the next.
        out: .png or .jpg for a sheet, one row for each two faces; .webp, .gif or .mp4 to see it move (.mp4 needs
            limner[video]); by default samples/walk-….png in the run.
        loop: back to the first face at the end.
        frames_per_second: of what moves.
        enlarge: how small faces are enlarged: smoothly (lanczos), or every pixel to a square (pixels).
        weights: the moving average of the generator's weights (ema), or the weights as trained (raw).
        wanted: attributes that every face is asked to have, with commas between them; of conditional models.
        unwanted: attributes that no face is to have.
        device: auto, cpu, cuda, cuda:N or mps.
        overwrite: replace what --out names, if it is there already.
        model: the class of a run whose model is not part of limner; that file is run, so name only one you trust.

    Returns:
        Where the picture or the pictures are: `out`.
    """
    run, chosen = Path(run), chosen_seeds(seeds)
    own, out = out is None, Path(out) if out is not None else default_sheet(run, "walk", ",".join(map(str, chosen)))
    _check(chosen, steps, frames_per_second, out, loop)
    refuse_overwriting([out], own or overwrite)
    loaded, origin = load_with_origin(run, weights, device, model)
    asked = asked_attributes(loaded, wanted, unwanted)
    ends = [latents_of_seed(loaded, seed, asked) for seed in chosen]
    ends += ends[:1] if loop else []
    legs = [path_between(loaded, a, b, steps) for a, b in itertools.pairwise(ends)]
    facts = {**origin, "seeds": spell_seeds(chosen), "steps": steps}
    if out.suffix.lower() in MOVING:
        _save_moving(loaded, legs, out, facts, frames_per_second, loop, enlarge)
    else:
        faces = np.stack(list(tracked((paint(loaded, row) for leg in legs for row in leg), len(legs) * (steps + 1))))
        scale = max(-(-_CELL_PIXELS // faces.shape[1]), 1)
        picture = sheet(faces, steps + 1, scale, enlarge=enlarge)
        save_picture(picture, out, facts)
    print(f"{len(legs) * steps} steps past {len(chosen)} faces: {out}")
    for line in evenness(loaded, legs):
        print(line)
    return out


def path_between(model: Any, start: Any, end: Any, steps: int) -> list[Any]:
    """The latents [1, d] of steps + 1 points from `start` to `end`, both included, along every part's geodesic."""
    between = [model.latents.interpolate(start, end, step / steps) for step in range(1, steps)]
    return [start, *between, end]  # the ends themselves: a line's last point would be off by a rounding


def evenness(model: Any, legs: Sequence[Sequence[Any]]) -> list[str]:
    """A line for every part of the latents that is walked along a great circle: how even the steps of the legs are.

    The lengths are angles, in the part's own columns; a leg between equal latents has none and is left out.
    """
    from limner.latents import Gaussian, Sphere

    lines = []
    for part in model.latents.parts:
        if not isinstance(part, Gaussian | Sphere):
            continue
        walked = [
            np.stack([model.latents.split(point)[part.name][0].double().numpy() for point in leg]) for leg in legs
        ]
        lengths = [(step_angles(points), step_angles(_straight(points))) for points in walked]
        shares = [(variation(own), variation(straight)) for own, straight in lengths if own.any()]
        if shares:
            own, straight = np.mean(shares, axis=0)
            lines.append(
                f"coefficient of variation of {part.name}'s steps: {own:.4f} along the great circle, "
                f"{straight:.4f} straight and back to the sphere"
            )
    return lines


def _straight(points: np.ndarray) -> np.ndarray:
    """As many points [k, d] on the straight line between the same ends."""
    shares = np.linspace(0, 1, len(points))[:, None]
    return (1 - shares) * points[0] + shares * points[-1]


def step_angles(points: np.ndarray) -> np.ndarray:
    """Angles between the directions of neighbouring points [k, d], radians [k - 1]."""
    units = points / np.linalg.norm(points, axis=1, keepdims=True).clip(1e-300)
    near, far = np.linalg.norm(units[1:] - units[:-1], axis=1), np.linalg.norm(units[1:] + units[:-1], axis=1)
    return 2 * np.arctan2(near, far)


def variation(lengths: np.ndarray) -> float:
    """Standard deviation over mean; 0 where nothing moves."""
    mean = float(lengths.mean())
    return float(lengths.std()) / mean if mean > 0 else 0.0


def _save_moving(
    model: Any,
    legs: Sequence[Sequence[Any]],
    out: Path,
    facts: dict[str, Any],
    rate: float,
    loop: bool,
    enlarge: Enlargement,
) -> None:
    points = [row for leg in legs for row in leg[:-1]]  # a leg's end is the next one's start
    points += [] if loop else [legs[-1][-1]]
    frames = (_frame(face, enlarge) for face in tracked((paint(model, row) for row in points), len(points)))
    if out.suffix.lower() == ".mp4":
        write_video(out, frames, frames_per_second=rate, hold_last_seconds=0.0 if loop else 1.0, provenance=facts)
        return
    pause = round(1000 / rate)
    time_lapse(list(frames), out, milliseconds=pause, hold_last=pause if loop else 1000, provenance=facts)


def _frame(face: np.ndarray, enlarge: Enlargement) -> Image.Image:
    return Image.fromarray(enlarged(face, max(_FRAME_PIXELS // face.shape[0], 1), enlarge))


def _check(seeds: Sequence[int], steps: int, rate: float, out: Path, loop: bool) -> None:
    if len(seeds) < 2:
        raise LimnerError(f"--seeds {spell_seeds(seeds)}: a walk needs two faces or more, such as --seeds 1,5,9")
    if steps < 2:
        raise LimnerError(f"--steps {steps}: there must be at least 2 from one face to the next")
    if (len(seeds) - (not loop)) * steps > _MOST_FRAMES:
        raise LimnerError(f"--steps {steps} past {len(seeds)} faces: more than {_MOST_FRAMES} pictures; take fewer")
    if not 0.1 <= rate <= 120:
        raise LimnerError(f"--frames-per-second {rate:g}: expected 0.1 to 120")
    if out.suffix.lower() == ".mp4":
        require_av(out)
    elif out.suffix.lower() not in MOVING:
        check_suffix(out)
