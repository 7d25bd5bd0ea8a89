"""The verb `limner turn`: the same faces from one angle after another, as a sheet or moving."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from PIL import Image

from limner.arguments import FilePath, ModelChoice, Names, Seeds
from limner.errors import LimnerError
from limner.explore.pictures import Enlargement, check_suffix, save_picture, sheet
from limner.explore.sample import (
    asked_attributes,
    chosen_seeds,
    default_sheet,
    latents_of_seed,
    load_with_origin,
    spell_seeds,
    tracked,
)
from limner.explore.time_lapse import time_lapse
from limner.explore.turning import (
    AXES,
    Span,
    beyond_training,
    orbit,
    parse_angles,
    spans_to_turn,
    strip_sheet,
    strips,
    turning_faces,
)
from limner.explore.video import require_av, write_video
from limner.files import refuse_overwriting

MOVING = (".webp", ".gif", ".mp4")
_CELL_PIXELS = 96
_MOVING_CELL_PIXELS = 160
_MOST_FACES = 64
_MOST_PICTURES = 2000
_COLUMNS, _FRAMES = 9, 48


def turn(
    run: tyro.conf.Positional[FilePath],
    *,
    seeds: Annotated[Seeds, tyro.conf.arg(metavar="0-7|1,5,9")] = "0-7",
    yaw: Annotated[str, tyro.conf.arg(metavar="-60:60|DEGREES")] = "",
    pitch: Annotated[str, tyro.conf.arg(metavar="-20:20|DEGREES")] = "",
    roll: Annotated[str, tyro.conf.arg(metavar="-10:10|DEGREES")] = "",
    steps: int | None = None,
    out: FilePath | None = None,
    loop: bool = True,
    frames_per_second: float = 24.0,
    enlarge: Enlargement = "lanczos",
    weights: Literal["ema", "raw"] = "ema",
    wanted: Annotated[Names, tyro.conf.arg(name="with", metavar="Male,Smiling")] = "",
    unwanted: Annotated[Names, tyro.conf.arg(name="without", metavar="Eyeglasses")] = "",
    device: str = "auto",
    overwrite: bool = False,
    model: ModelChoice | None = None,
) -> Path:
    """Turn faces: a seed is the person that `limner sample` draws for it, looked at from one angle after another.

    Without angles, by yaw, through the range that the model was trained on. An axis that is not named is held in the
    middle of its range.

    Args:
        run: folder of a run, or one of its checkpoints.
        seeds: the faces: 0-7 or 1,5,9.
        yaw: to the left and right, degrees: -60:60 turns, 20 holds; positive is asked to be to the picture's right, but
            a model that was told no angles may have it the other way (`limner evaluate --metrics pose_control` says).
        pitch: down and up.
        roll: tipped to the left and right.
        steps: angles of a sheet (9), or frames of a moving picture (48).
        out: .png or .jpg for a sheet, a row a face; .webp, .gif or .mp4 to see them turn (.mp4 needs limner[video]); by
            default samples/turn-….png in the run.
        loop: of what moves, there and back without a jerk, or round where the range is 360°; --no-loop goes there only.
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
    asked = {axis: parse_angles(axis, text) for axis, text in zip(AXES, (yaw, pitch, roll), strict=True) if text}
    own, out = out is None, Path(out) if out is not None else default_sheet(run, "turn", spell_seeds(chosen))
    moving = out.suffix.lower() in MOVING
    steps = (_FRAMES if moving else _COLUMNS) if steps is None else steps
    _check(len(chosen), steps, frames_per_second, out)
    refuse_overwriting([out], own or overwrite)
    loaded, origin = load_with_origin(run, weights, device, model)
    spans = spans_to_turn(loaded, asked)
    if moving and not any(span.turns for span in spans):
        said = ", ".join(map(str, spans))
        raise LimnerError(f"{out}: nothing moves at {said}; give an axis a range, such as --yaw -60:60")
    attributes = asked_attributes(loaded, wanted, unwanted)
    faces = [latents_of_seed(loaded, seed, attributes) for seed in chosen]
    facts = {**origin, "seeds": spell_seeds(chosen), "angles": ", ".join(map(str, spans))}
    if moving:
        _save_moving(loaded, faces, spans, steps, out, facts, frames_per_second, loop, enlarge)
    else:
        save_picture(_sheet(loaded, faces, spans, steps, enlarge), out, facts)
    print(f"{len(chosen)} {'face' if len(chosen) == 1 else 'faces'}, {', '.join(map(str, spans))}: {out}")
    for line in beyond_training(loaded, spans):
        print(line)
    return out


def _sheet(model: Any, faces: list[Any], spans: tuple[Span, ...], steps: int, enlarge: Enlargement) -> Image.Image:
    found = strips(spans, steps)
    poses = [pose for _, strip in found for pose in strip]
    columns = list(tracked(turning_faces(model, faces, poses), len(poses)))
    scale = max(-(-_CELL_PIXELS // model.resolution), 1)
    return strip_sheet(found, columns, scale, enlarge=enlarge)


def _save_moving(
    model: Any,
    faces: list[Any],
    spans: tuple[Span, ...],
    frames: int,
    out: Path,
    facts: dict[str, Any],
    rate: float,
    loop: bool,
    enlarge: Enlargement = "lanczos",
) -> None:
    scale = max(_MOVING_CELL_PIXELS // model.resolution, 1)
    poses = orbit(spans, frames, loop)
    pictures = (
        sheet(each, scale=scale, enlarge=enlarge) for each in tracked(turning_faces(model, faces, poses), frames)
    )
    if out.suffix.lower() == ".mp4":
        write_video(out, pictures, frames_per_second=rate, hold_last_seconds=0.0 if loop else 1.0, provenance=facts)
        return
    pause = max(round(1000 / rate), 1)
    frames_held, held = list(pictures), pause if loop else 1000
    largest = max(frames_held[0].size)
    time_lapse(frames_held, out, milliseconds=pause, hold_last=held, max_side_pixels=largest, provenance=facts)


def _check(faces: int, steps: int, rate: float, out: Path) -> None:
    moving = out.suffix.lower() in MOVING
    if steps < 2:
        raise LimnerError(f"--steps {steps}: a turn needs at least 2 angles")
    if faces > _MOST_FACES:
        raise LimnerError(f"--seeds: {faces} faces in one picture; take at most {_MOST_FACES}")
    if faces * steps > _MOST_PICTURES * (_MOST_FACES if moving else 1) or steps > _MOST_PICTURES:
        raise LimnerError(f"--steps {steps} of {faces} faces: too many pictures; take fewer")
    if not 0.1 <= rate <= 120:
        raise LimnerError(f"--frames-per-second {rate:g}: expected 0.1 to 120")
    if out.suffix.lower() == ".mp4":
        require_av(out)
    elif not moving:
        check_suffix(out)
