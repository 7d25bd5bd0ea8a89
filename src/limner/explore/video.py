"""Moving pictures as MP4: H.264, which every browser and phone plays. Needs PyAV (`pip install 'limner[video]'`)."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

from PIL import Image

from limner.errors import LimnerError
from limner.explore.pictures import provenance_record, write_whole, xmp_box

_QUALITY = "16"  # H.264's constant rate factor: 0 is lossless, 23 usual, and pixels of faces are few
_BT_709 = 1


def require_av(path: Path) -> Any:
    """PyAV; asked for before the work is done.

    Raises:
        LimnerError: it is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise LimnerError(
            f"{path}: an .mp4 needs PyAV ({error}); `pip install 'limner[video]'`, or take .webp or .gif"
        ) from error
    return av


def write_video(
    path: Path,
    frames: Iterable[Image.Image],
    *,
    frames_per_second: float,
    hold_last_seconds: float = 0.0,
    provenance: Mapping[str, object] | None = None,
) -> Path:
    """An MP4 of frames of one size; the file appears whole or not at all.

    Args:
        path: an .mp4.
        frames: pictures, taken one after another, so that they need not all be in memory; an odd row or column is
            repeated, as H.264 takes even sides.
        frames_per_second: how many are shown in a second.
        hold_last_seconds: how much longer the last one is shown.
        provenance: as for `save_picture`: XMP in a box of its own, and the file's comment.

    Raises:
        LimnerError: PyAV is missing, or there is no frame.
        ResourceError: the file cannot be written.
    """
    av = require_av(path)
    rate = Fraction(frames_per_second).limit_denominator(1000)
    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder) / "draft.mp4"
        # The index goes in front, so that a page can begin to show it at once; for that the file is written twice.
        with av.open(str(draft), "w", options={"movflags": "faststart"}) as container:
            if provenance is not None:
                container.metadata["comment"] = provenance_record(provenance)
            _encode(av, container, path, frames, rate, round(hold_last_seconds * rate))
        box = b"" if provenance is None else xmp_box(provenance)
        return write_whole(path, draft.read_bytes() + box)


def _encode(av: Any, container: Any, path: Path, frames: Iterable[Image.Image], rate: Fraction, held: int) -> None:
    stream = container.add_stream("libx264", rate=rate, options={"crf": _QUALITY})
    stream.pix_fmt = "yuv420p"
    _say_colours(stream.codec_context)
    last = None
    for frame in frames:
        first, last = last is None, _even(frame)
        if first:
            stream.width, stream.height = last.size
        container.mux(stream.encode(_frame(av, last)))
    if last is None:
        raise LimnerError(f"{path}: a video needs at least one frame")
    for _ in range(held):
        container.mux(stream.encode(_frame(av, last)))
    container.mux(stream.encode(None))


def _say_colours(context: Any) -> None:
    """BT.709 in studio range (H.264's table E-3 to E-5: 1): where nothing is said, players guess by the size."""
    context.colorspace = context.color_primaries = context.color_trc = _BT_709
    context.color_range = 1


def _frame(av: Any, picture: Image.Image) -> Any:
    return av.VideoFrame.from_image(picture).reformat(format="yuv420p", dst_colorspace=_BT_709, dst_color_range=1)


def _even(frame: Image.Image) -> Image.Image:
    """RGB of even sides."""
    frame = frame.convert("RGB")
    width, height = frame.width + frame.width % 2, frame.height + frame.height % 2
    if (width, height) == frame.size:
        return frame
    larger = Image.new("RGB", (width, height))
    for left in (width - frame.width, 0):
        for top in (height - frame.height, 0):
            larger.paste(frame, (left, top))
    return larger
