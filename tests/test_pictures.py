"""Sheets put every pixel in its place; saved pictures say they are synthetic, and are written whole or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from limner.errors import DataError, LimnerError, ResourceError
from limner.explore.pictures import (
    DIGITAL_SOURCE_TYPE,
    enlarged,
    read_provenance,
    repeated_by,
    save_picture,
    sheet,
    write_whole,
)
from limner.explore.time_lapse import time_lapse

HOSTILE = {"model": "pro\"gan<&'é\x00{x}", "checkpoint_sha256": "ab" * 32, "seeds": "0-63"}


def numbered(count: int, side: int = 2) -> np.ndarray:
    """Images whose every pixel has the image's number as its red."""
    images = np.zeros((count, side, side, 3), np.uint8)
    images[..., 0] = np.arange(count)[:, None, None]
    return images


def test_a_sheet_puts_each_face_in_its_cell() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (5, 3, 4, 3), dtype=np.uint8)
    picture = np.asarray(sheet(images, columns=2, scale=2, gap=1, background=(9, 9, 9), enlarge="pixels"))
    assert picture.shape == (3 * (6 + 1) + 1, 2 * (8 + 1) + 1, 3)
    covered = np.zeros(picture.shape[:2], bool)
    for index, image in enumerate(images):
        top, left = 1 + index // 2 * 7, 1 + index % 2 * 9
        assert (picture[top : top + 6, left : left + 8][::2, ::2] == image).all()
        assert (picture[top : top + 6, left : left + 8][1::2, 1::2] == image).all()
        covered[top : top + 6, left : left + 8] = True
    assert (picture[~covered] == 9).all()


def test_a_sheet_enlarges_smoothly_unless_pixels_are_asked_for() -> None:
    images = np.zeros((1, 8, 8, 3), np.uint8)
    images[:, :, 4:] = 200
    smooth = np.asarray(sheet(images, scale=3, gap=0))
    wanted = np.asarray(Image.fromarray(images[0]).resize((24, 24), Image.Resampling.LANCZOS))
    assert (smooth == wanted).all()
    assert len(np.unique(smooth)) > 2, "an edge becomes a slope"
    squares = np.asarray(sheet(images, scale=3, gap=0, enlarge="pixels"))
    assert (squares == images[0].repeat(3, 0).repeat(3, 1)).all()


def test_faces_of_different_cells_do_not_run_into_each_other() -> None:
    images = np.stack([np.zeros((4, 4, 3), np.uint8), np.full((4, 4, 3), 255, np.uint8)])
    picture = np.asarray(sheet(images, 2, scale=4, gap=0))
    assert (picture[:, :16] == 0).all()
    assert (picture[:, 16:] == 255).all()


@pytest.mark.parametrize("factor", [1, 2, 3, 6])
def test_repeated_pixels_are_found(factor: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (12 // factor, 24 // factor, 3), dtype=np.uint8)
    assert repeated_by(enlarged(image, factor, "pixels")) == factor
    assert repeated_by(np.asarray(enlarged(image, 2, "lanczos"))) == 1


@pytest.mark.parametrize(("count", "columns"), [(1, 1), (2, 2), (7, 3), (8, 4), (10, 4), (16, 4), (18, 6), (64, 8)])
def test_a_sheet_is_nearly_square_and_without_holes_where_it_can_be(count: int, columns: int) -> None:
    assert sheet(numbered(count), gap=0).width == columns * 2


def test_a_sheet_of_nothing_is_a_picture_all_the_same() -> None:
    assert sheet(numbered(0)).size == (6, 6)


@pytest.mark.parametrize(
    "images",
    [np.zeros((2, 4, 4, 3), np.float32), np.zeros((4, 4, 3), np.uint8), np.zeros((2, 3, 4, 4), np.uint8)],
)
def test_a_sheet_refuses_other_arrays(images: np.ndarray) -> None:
    with pytest.raises(LimnerError, match=r"uint8 images \[n, h, w, 3\], not"):
        sheet(images)


@pytest.mark.parametrize("wrong", [{"columns": 0}, {"scale": 0}, {"gap": -1}])
def test_a_sheet_refuses_numbers_out_of_range(wrong: dict[str, int]) -> None:
    with pytest.raises(LimnerError, match="needs scale"):
        sheet(numbered(2), **wrong)


@pytest.mark.parametrize("suffix", [".png", ".webp", ".jpg", ".JPEG"])
def test_a_saved_picture_is_marked_as_synthetic(tmp_path: Path, suffix: str) -> None:
    path = save_picture(sheet(numbered(4)), tmp_path / "new" / f"faces{suffix}", HOSTILE)
    assert read_provenance(path) == {**HOSTILE, "digital_source_type": DIGITAL_SOURCE_TYPE}
    content = path.read_bytes()
    assert b'Iptc4xmpExt:DigitalSourceType="http://cv.iptc.org/newscodes/digitalsourcetype/trained' in content
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_the_xmp_packet_is_well_formed(tmp_path: Path) -> None:
    from xml.etree import ElementTree

    path = save_picture(sheet(numbered(1)), tmp_path / "face.png", HOSTILE)
    with Image.open(path) as image:
        packet = image.info["XML:com.adobe.xmp"]
        assert "limner" in image.info
    (description,) = ElementTree.fromstring(packet.lstrip("\ufeff")).iter(
        "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}Description"
    )
    assert description.get("{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType") == DIGITAL_SOURCE_TYPE


@pytest.mark.parametrize("suffix", [".png", ".webp"])
def test_marking_changes_no_pixel(tmp_path: Path, suffix: str) -> None:
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
    path = save_picture(sheet(images), tmp_path / f"faces{suffix}", HOSTILE)
    with Image.open(path) as saved:
        assert (np.asarray(saved.convert("RGB")) == np.asarray(sheet(images))).all()


@pytest.mark.parametrize("suffix", [".png", ".webp", ".jpg"])
def test_a_picture_of_photos_is_not_marked(tmp_path: Path, suffix: str) -> None:
    path = save_picture(sheet(numbered(1)), tmp_path / f"photos{suffix}", None)
    assert read_provenance(path) is None
    assert b"trainedAlgorithmicMedia" not in path.read_bytes()


def test_a_record_cannot_pretend_another_source_type(tmp_path: Path) -> None:
    path = save_picture(sheet(numbered(1)), tmp_path / "face.png", {"digital_source_type": "digitalCapture"})
    assert read_provenance(path) == {"digital_source_type": DIGITAL_SOURCE_TYPE}


@pytest.mark.parametrize("name", ["faces.bmp", "faces", "faces.png.exe"])
def test_an_unknown_suffix_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(LimnerError, match=r"use \.png, \.webp or \.jpg"):
        save_picture(sheet(numbered(1)), tmp_path / name, None)
    assert not list(tmp_path.iterdir())


def test_a_picture_too_large_for_its_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LimnerError, match="do not fit this format"):
        save_picture(Image.new("RGB", (16384, 1)), tmp_path / "faces.webp", None)
    with pytest.raises(LimnerError, match="characters long"):
        save_picture(Image.new("RGB", (1, 1)), tmp_path / "faces.jpg", {"seeds": "1," * 40_000})
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_whole(tmp_path / "x.png", b"old")

    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(ResourceError, match=r"x\.png: cannot be written \(No space left"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_no_picture_has_no_provenance(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"<html>")
    with pytest.raises(DataError, match=r"x\.png: not a PNG"):
        read_provenance(tmp_path / "x.png")


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_a_time_lapse_shows_every_frame_in_order(tmp_path: Path, suffix: str) -> None:
    colours = [(250, 10, 10), (10, 250, 10), (10, 10, 250)]
    files = []
    for index, colour in enumerate(colours):
        Image.new("RGB", (32, 32), colour).save(tmp_path / f"{index}.png")
        files.append(tmp_path / f"{index}.png")
    path = time_lapse(files, tmp_path / f"film{suffix}", milliseconds=100, hold_last=1500, provenance=HOSTILE)
    with Image.open(path) as film:
        assert film.n_frames == 3
        assert film.info["loop"] == 0
        times = []
        for index, colour in enumerate(colours):
            film.seek(index)
            film.load()
            times.append(film.info["duration"])
            assert np.abs(np.asarray(film.convert("RGB"))[16, 16].astype(int) - colour).max() < 12
    assert times == [100, 100, 1500]
    assert read_provenance(path) == {**HOSTILE, "digital_source_type": DIGITAL_SOURCE_TYPE}
    assert b"trainedAlgorithmicMedia" in path.read_bytes()


def test_captions_stand_under_the_frames(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (96, 96), (40, 40, 200)) for _ in range(2)]
    path = time_lapse(frames, tmp_path / "film.gif", captions=["0 kimg", "12.3 kimg"])
    with Image.open(path) as film:
        assert film.n_frames == 2  # the faces are equal, the captions are not
        assert film.width == 96
        strips = []
        for index in range(2):
            film.seek(index)
            strips.append(np.asarray(film.convert("L"))[96:].astype(int))
    assert min(strip.max() for strip in strips) > 150  # light letters …
    assert np.median(strips[0]) < 40  # … on a dark strip
    assert np.abs(strips[0] - strips[1]).max() > 100


def test_early_small_sheets_are_enlarged_and_large_ones_reduced(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), (200, 0, 0)), Image.new("RGB", (64, 32), (0, 200, 0))]
    with Image.open(time_lapse(frames, tmp_path / "film.gif", max_side_pixels=40)) as film:
        assert film.size == (40, 20)


def test_the_palette_is_found_once_for_all_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    frames = [Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)) for _ in range(4)]
    searches = []
    quantize = Image.Image.quantize

    def counted(self: Image.Image, *arguments: object, **options: object) -> Image.Image:
        searches.append(options.get("palette") is None)
        return quantize(self, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Image.Image, "quantize", counted)
    time_lapse(frames, tmp_path / "film.gif")
    assert searches.count(True) == 1
    assert searches.count(False) == 4


def test_a_time_lapse_names_what_it_cannot_do(tmp_path: Path) -> None:
    frame = Image.new("RGB", (4, 4))
    with pytest.raises(LimnerError, match=r"is a \.gif or \.webp, not \.mp4"):
        time_lapse([frame], tmp_path / "film.mp4")
    with pytest.raises(LimnerError, match="at least one frame"):
        time_lapse([], tmp_path / "film.gif")
    with pytest.raises(LimnerError, match="1 captions for 2 frames"):
        time_lapse([frame, frame], tmp_path / "film.gif", captions=["a"])
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(DataError, match=r"bad\.png: not a picture"):
        time_lapse([tmp_path / "bad.png"], tmp_path / "film.gif")
    assert [file.name for file in tmp_path.iterdir()] == ["bad.png"]
