"""MP4: every frame, its colours, its time, and where it comes from; whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from limner.errors import LimnerError
from limner.explore.pictures import DIGITAL_SOURCE_TYPE, read_provenance
from limner.explore.video import write_video

av = pytest.importorskip("av")

COLOURS = [(250, 10, 10), (10, 250, 10), (10, 10, 250), (250, 250, 10), (128, 128, 128), (255, 255, 255), (0, 0, 0)]


def plain(size: tuple[int, int] = (64, 48)) -> Iterator[Image.Image]:
    return (Image.new("RGB", size, colour) for colour in COLOURS)


def bt_709(colour: tuple[int, int, int]) -> list[float]:
    """Y', Cb, Cr of 8 bits in studio range (ITU-R BT.709, 3.2 to 3.4)."""
    red, green, blue = (value / 255 for value in colour)
    luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return [16 + 219 * luma, 128 + 224 * (blue - luma) / 1.8556, 128 + 224 * (red - luma) / 1.5748]


def test_colours_are_what_the_file_says_they_are(tmp_path: Path) -> None:
    path = write_video(tmp_path / "x.mp4", plain(), frames_per_second=10.0)
    with av.open(str(path)) as container:
        stream = container.streams.video[0].codec_context
        said = stream.colorspace, stream.color_primaries, stream.color_trc, stream.color_range
        frames = [frame.to_ndarray() for frame in container.decode(video=0)]
    assert tuple(int(value) for value in said) == (1, 1, 1, 1)
    # A frame of 64 × 48 is 48 rows of luma, then a quarter of that of blue and of red.
    stored = [[frame[24, 32], frame[48 + 6, 10], frame[60 + 6, 10]] for frame in frames]
    assert np.abs(np.array(stored, dtype=float) - [bt_709(colour) for colour in COLOURS]).max() <= 2.5


@pytest.mark.parametrize("rate", [6.0, 20 / 3, 24.0])
def test_time_passes_as_asked(tmp_path: Path, rate: float) -> None:
    path = write_video(tmp_path / "x.mp4", plain(), frames_per_second=rate, hold_last_seconds=1.0)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        times = [float(frame.time) for frame in container.decode(video=0)]
    assert len(times) == len(COLOURS) + round(rate)
    assert times == pytest.approx([index / rate for index in range(len(times))], abs=2e-3)


def test_the_index_is_in_front_and_the_comment_says_what_it_is(tmp_path: Path) -> None:
    path = write_video(tmp_path / "x.mp4", plain(), frames_per_second=5.0, provenance={"model": 'dc"gan <é>'})
    data = path.read_bytes()
    record = read_provenance(path)
    assert record == {"model": 'dc"gan <é>', "digital_source_type": DIGITAL_SOURCE_TYPE}
    assert b'Iptc4xmpExt:DigitalSourceType="http://cv.iptc.org/newscodes/digitalsourcetype/trained' in data
    assert 0 < data.index(b"moov") < data.index(b"mdat")
    with av.open(str(path)) as container:
        assert DIGITAL_SOURCE_TYPE in container.metadata["comment"]
    unmarked = write_video(tmp_path / "y.mp4", plain(), frames_per_second=5.0)
    assert DIGITAL_SOURCE_TYPE.encode() not in unmarked.read_bytes()
    assert read_provenance(unmarked) is None


def test_damaged_videos_are_read_as_far_as_they_go(tmp_path: Path) -> None:
    whole = write_video(tmp_path / "x.mp4", plain(), frames_per_second=5.0, provenance={"model": "m"}).read_bytes()
    broken = tmp_path / "y.mp4"
    for content in (whole[:2000], whole[:40], whole[:33] + b"\xff" * 20, whole[:4] + b"ftyp" + bytes(40)):
        broken.write_bytes(content)
        assert read_provenance(broken) is None


def test_frames_that_end_in_an_error_leave_the_old_file(tmp_path: Path) -> None:
    def torn() -> Iterator[Image.Image]:
        yield Image.new("RGB", (16, 16))
        raise LimnerError("no more")

    path = tmp_path / "x.mp4"
    path.write_bytes(b"old")
    with pytest.raises(LimnerError, match="no more"):
        write_video(path, torn(), frames_per_second=5.0)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
