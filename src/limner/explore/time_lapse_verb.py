"""The verb `limner timelapse`: a run's fixed latents as it learned to draw them, through all resolutions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tyro
from PIL import Image

from limner.arguments import FilePath
from limner.errors import DataError, LimnerError
from limner.explore.captions import captioned
from limner.explore.pictures import READABLE, Enlargement, enlarged, read_provenance, repeated_by, sheet
from limner.explore.time_lapse import time_lapse
from limner.explore.video import require_av, write_video
from limner.files import refuse_overwriting
from limner.training.run_folder import check_run

_SIDE_PIXELS = 800
"""a film's larger side is about this, or less: faces are enlarged and reduced by whole factors"""
_SHEETS = 240
"""taken of a run with more, where nobody says"""
_MOST_IN_MEMORY = 1000
_FASTEST_SECONDS, _SLOWEST_SECONDS, _FILM_SECONDS = 0.05, 0.5, 8.0


def timelapse(
    run: tyro.conf.Positional[FilePath],
    *,
    out: FilePath | None = None,
    faces: int = 16,
    every: int | None = None,
    seconds: float | None = None,
    hold: float = 2.0,
    enlarge: Enlargement = "lanczos",
    overwrite: bool = False,
) -> Path:
    """The same faces from a run's first sheet to its newest, each with its size and the images seen.

    It is made of the sheets in the run's samples/, so it needs neither the model nor the data. While a model grows, its
    small pictures are enlarged to the same side, and where a level is being faded in both sizes are said.

    Args:
        run: folder of a run.
        out: .gif, .webp or .mp4 (which needs limner[video]); by default timelapse.gif in the run.
        faces: how many of the sheet's faces are shown, from the first on.
        every: 2 takes every second sheet, and so on, and always the newest; by default at most about 240 are taken.
        seconds: how long it takes to the newest sheet; by default 8, and 0.05 to 0.5 for a sheet.
        hold: seconds that the newest stays longer.
        enlarge: how small faces are enlarged: smoothly (lanczos), or every pixel to a square (pixels).
        overwrite: replace what --out names, if it is there already.

    Returns:
        Where it is: `out`.
    """
    from limner.training.drawn import drawn_sheets

    run = Path(run)
    own, out = out is None, Path(out) if out is not None else run / "timelapse.gif"
    _check(run, out, faces, every, seconds, hold)
    refuse_overwriting([out], own or overwrite)
    drawn = drawn_sheets(run)
    if len(drawn) < 2:
        raise LimnerError(
            f"{run}: {len(drawn)} sheets in samples/, a time-lapse needs 2; one comes every --sample-kimg"
        )
    chosen = drawn[:: every or -(-len(drawn) // _SHEETS)]
    chosen += [] if chosen[-1] is drawn[-1] else drawn[-1:]
    pause = _pause(len(chosen), seconds)
    frames = (captioned(_grid(one.file, faces, enlarge), one.caption) for one in chosen)
    origin = read_provenance(chosen[-1].file) or {}
    facts = {**origin, "what": "time-lapse of fixed latents", "first_images_seen": chosen[0].images}
    if out.suffix.lower() == ".mp4":
        write_video(out, frames, frames_per_second=1 / pause, hold_last_seconds=hold, provenance=facts)
    else:
        _refuse_too_many(out, len(chosen))
        held = round(1000 * (pause + hold))
        time_lapse(list(frames), out, milliseconds=round(1000 * pause), hold_last=held, provenance=facts)
    print(f"{len(chosen)} of {len(drawn)} sheets, {chosen[0].caption} to {chosen[-1].caption}: {out}")
    return out


def _check(run: Path, out: Path, faces: int, every: int | None, seconds: float | None, hold: float) -> None:
    check_run(run)
    if out.suffix.lower() == ".mp4":
        require_av(out)
    elif out.suffix.lower() not in (".gif", ".webp"):
        raise LimnerError(f"{out}: a time-lapse is a .gif, .webp or .mp4, not {out.suffix or 'a file without suffix'}")
    if faces < 1:
        raise LimnerError(f"--faces {faces}: at least one face must be shown")
    if every is not None and every < 1:
        raise LimnerError(f"--every {every}: 1 takes every sheet, 2 each second one")
    if seconds is not None and not 0 < seconds <= 3600:
        raise LimnerError(f"--seconds {seconds:g}: expected more than 0, and 3600 at most")
    if not 0 <= hold <= 60:
        raise LimnerError(f"--hold {hold:g}: expected 0 to 60 seconds")


def _pause(count: int, seconds: float | None) -> float:
    """Seconds for which each of so many sheets is shown; a GIF knows hundredths."""
    if seconds is None:
        return round(min(max(_FILM_SECONDS / (count - 1), _FASTEST_SECONDS), _SLOWEST_SECONDS), 2)
    pause = seconds / (count - 1)
    if pause < 0.02:
        raise LimnerError(
            f"--seconds {seconds:g}: {count} sheets would pass at more than 50 a second; "
            f"take --seconds {count / 50:.0f} or a larger --every"
        )
    return pause


def _refuse_too_many(out: Path, count: int) -> None:
    if count > _MOST_IN_MEMORY:
        raise LimnerError(
            f"{out}: {count} frames of a {out.suffix} are held in memory, {_MOST_IN_MEMORY} at most; "
            f"take a larger --every, or an .mp4"
        )


def _grid(file: Path, count: int, enlarge: Enlargement) -> Image.Image:
    """The first `count` faces of a sheet, rearranged."""
    faces = _faces(file)
    if count > len(faces):
        raise LimnerError(f"--faces {count}: {file} has {len(faces)}")
    probe = sheet(np.zeros((count, 1, 1, 3), np.uint8), gap=0)  # how many columns and rows
    side = _side(faces[0].width, max(probe.size))
    made = _made_pixels(file)
    resized = [_resized(face, side, enlarge, made) for face in faces[:count]]
    return sheet(np.stack([np.asarray(face) for face in resized]))


def _faces(file: Path) -> list[Image.Image]:
    from limner.training.sheets import COLUMNS, GAP

    try:
        with Image.open(file, formats=READABLE) as opened:
            picture = opened.convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{file}: not a picture that can be read ({error}); remove it") from error
    step, odd = divmod(picture.width - GAP, COLUMNS)
    rows, over = divmod(picture.height - GAP, step) if step > GAP else (0, 1)
    if odd or over or not rows:
        raise DataError(f"{file}: {picture.width}×{picture.height} pixels are no sheet of {COLUMNS} columns; remove it")
    corners = [(GAP + column * step, GAP + row * step) for row in range(rows) for column in range(COLUMNS)]
    return [picture.crop((left, top, left + step - GAP, top + step - GAP)) for left, top in corners]


def _side(cell: int, across: int) -> int:
    """What a cell's side becomes, a multiple of it or a half, a quarter …, for so many of them beside each other."""
    room = max(_SIDE_PIXELS // across - 2, 1)
    if cell <= room:
        return cell * (room // cell)
    while cell > room:
        cell = -(-cell // 2)
    return cell


def _made_pixels(file: Path) -> int | None:
    """Return the side of the faces before the sheet enlarged them, as its record says; None where it does not."""
    value = (read_provenance(file) or {}).get("face_pixels")
    return value if type(value) is int and value > 0 else None


def _resized(face: Image.Image, side: int, enlarge: Enlargement, made: int | None) -> Image.Image:
    """Return a sheet's face at another side.

    It is reduced to the side that the model made first where it has to be enlarged in another way than its sheet did.

    Args:
        face: as on the sheet, enlarged in either way there.
        side: wanted, a multiple of the face's own or smaller.
        enlarge: the way wanted.
        made: side that the model made, where the sheet's record says so.
    """
    if face.width > side:
        return face.resize((side, side), Image.Resampling.BOX)
    pixels = np.asarray(face)
    repeated = repeated_by(pixels)
    if enlarge == "lanczos" or repeated > 1:
        small = pixels[::repeated, ::repeated]
    else:
        small = (
            np.asarray(face.resize((made, made), Image.Resampling.BOX)) if made and face.width % made == 0 else pixels
        )
    return Image.fromarray(enlarged(small, side // small.shape[1], enlarge))
