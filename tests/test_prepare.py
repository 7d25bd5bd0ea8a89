"""Photos to a dataset: crops, splits, bad files, zips with bad intentions, and interruptions."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from PIL import Image

from hostile import encode, photo
from limner.data import tally as tally_module
from limner.data.check import check
from limner.data.crops import CELEBA_BOXES, Crop, cut, fit
from limner.data.dataset import open_dataset
from limner.data.decoding import Recipe, squares
from limner.data.faults import PictureError
from limner.data.folder import open_folder, open_zip
from limner.data.info import info
from limner.data.prepare import prepare
from limner.errors import DataError, LimnerError, ResourceError


def picture(k: int, width: int = 40, height: int = 32) -> np.ndarray:
    return photo(np.random.default_rng(k), width, height)


def make_photos(folder: Path, count: int = 8) -> Path:
    """PNGs of 40×32, nested, so that pixels can be compared exactly."""
    for k in range(count):
        path = folder / ("b/deep" if k % 2 else "a") / f"{k:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(picture(k), "PNG"))
    return folder


def make_zip(path: Path, count: int = 4) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for k in range(count):
            archive.writestr(f"faces/{k}.png", encode(picture(k), "PNG"))
    return path


def content(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir())}


def test_a_nested_folder(tmp_path: Path) -> None:
    source = make_photos(tmp_path / "photos")
    (source / "notes.txt").write_text("x")
    (source / ".DS_Store").write_bytes(b"x")
    data = prepare(source, tmp_path / "out", resolution=32, workers=1)
    order = [0, 2, 4, 6, 1, 3, 5, 7]
    sources = data.sources()
    assert sources is not None
    assert [name for name, _ in sources] == [f"{'b/deep' if k % 2 else 'a'}/{k:02d}.png" for k in order]
    for row, k in enumerate(order):
        np.testing.assert_array_equal(data.images(32)[row], picture(k)[:, 4:36])
    assert data.crop == "center"
    assert data.resize == "pillow-lanczos"
    assert data.attributes() is None
    open_dataset(tmp_path / "out", verify=True)


def test_every_number_of_processes_gives_the_same_bytes(tmp_path: Path) -> None:
    source = make_photos(tmp_path / "photos", 40)
    one = prepare(source, tmp_path / "one", resolution=16, workers=1)
    three = prepare(source, tmp_path / "three", resolution=16, workers=3, name="photos")
    assert content(one.folder) == content(three.folder)


def test_a_zip_gives_the_same_images_as_its_folder(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "faces.zip")
    with zipfile.ZipFile(archive) as unpacked:
        unpacked.extractall(tmp_path / "folder")
    zipped = prepare(archive, tmp_path / "a", resolution=16, workers=2)
    plain = prepare(tmp_path / "folder", tmp_path / "b", resolution=16, workers=1)
    np.testing.assert_array_equal(zipped.images(16), plain.images(16))
    assert zipped.sources() == plain.sources()


def test_a_split_depends_on_the_file_alone(tmp_path: Path) -> None:
    source = make_photos(tmp_path / "photos", 120)
    shutil.copy(source / "a" / "00.png", source / "zz-copy-of-00.png")
    whole = prepare(source, tmp_path / "whole", resolution=4, valid_fraction=0.2, test_fraction=0.3, workers=1)
    for path in sorted(source.rglob("*.png"))[::3]:
        path.unlink()
    for path in source.rglob("*.png"):
        path.rename(path.with_name("renamed-" + path.name))
    part = prepare(source, tmp_path / "part", resolution=4, valid_fraction=0.2, test_fraction=0.3, workers=1)

    def split_of(data) -> dict[str, str]:  # type: ignore[no-untyped-def]
        return {data.sources()[k][1]: s for s in ("train", "valid", "test") for k in data.indices(s)}

    assert split_of(part).items() <= split_of(whole).items()
    shares = [len(whole.indices(s)) / whole.count for s in ("train", "valid", "test")]
    np.testing.assert_allclose(shares, [0.5, 0.2, 0.3], atol=0.1)
    assert whole.source["duplicates"] == 1


@pytest.mark.parametrize("fractions", [(-0.1, 0.0), (0.5, 0.5), (0.0, 1.5), (float("nan"), 0.0)])
def test_impossible_fractions(tmp_path: Path, fractions: tuple[float, float]) -> None:
    with pytest.raises(LimnerError, match="together below 1"):
        prepare(tmp_path, tmp_path / "out", valid_fraction=fractions[0], test_fraction=fractions[1])


def test_one_picture_in_the_test_split_is_no_dataset(tmp_path: Path) -> None:
    source = make_photos(tmp_path / "photos", 1)
    with pytest.raises(DataError, match="no image is in the train split"):
        prepare(source, tmp_path / "out", resolution=16, test_fraction=0.99999, workers=1)
    assert [p.name for p in tmp_path.iterdir()] == ["photos"]


def test_the_first_bad_file_stops_and_leaves_nothing(tmp_path: Path) -> None:
    source = make_photos(tmp_path / "photos")
    (source / "b" / "bad.jpg").write_bytes(b"<html>")
    for workers in (1, 2):
        with pytest.raises(DataError, match=r"b/bad\.jpg: html: .*limner data check") as caught:
            prepare(source, tmp_path / "out", resolution=16, workers=workers)
        assert caught.value.exit_code == 3
        assert [p.name for p in tmp_path.iterdir()] == ["photos"]


def test_one_bad_file_is_skipped_and_listed_a_second_is_too_many(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = make_photos(tmp_path / "photos")
    (source / "a" / "01-bad.png").write_bytes(b"")
    data = prepare(source, tmp_path / "out", resolution=32, bad_files="skip", workers=1)
    assert data.count == 8
    np.testing.assert_array_equal(data.images(32)[1], picture(2)[:, 4:36])
    assert data.source["skipped"] == [{"file": "a/01-bad.png", "fault": "zero-byte"}]
    assert "left out: a/01-bad.png: zero-byte" in capsys.readouterr().out
    (source / "a" / "03-bad.png").write_bytes(b"GIF89a")
    with pytest.raises(DataError, match=r"more than 1 of 10 files .*01-bad\.png \(zero-byte\); a/03-bad\.png \(trunc"):
        prepare(source, tmp_path / "out2", resolution=32, bad_files="skip", workers=1)
    assert not (tmp_path / "out2").exists()


def test_the_cap_is_one_in_a_thousand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = make_photos(tmp_path / "photos", 20)
    for k in range(3):
        (source / f"bad{k}.png").write_bytes(b"")
    monkeypatch.setattr(tally_module, "SKIPPED_PER_MILLE", 131)  # 3 of 23
    assert prepare(source, tmp_path / "out", resolution=4, bad_files="skip", workers=1).count == 20
    monkeypatch.setattr(tally_module, "SKIPPED_PER_MILLE", 130)  # 2 of 23
    with pytest.raises(DataError, match="more than 2 of 23"):
        prepare(source, tmp_path / "out2", resolution=4, bad_files="skip", workers=1)


def test_only_bad_files(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"")
    with pytest.raises(DataError, match="no picture could be used"):
        prepare(tmp_path / "photos", tmp_path / "out", bad_files="skip", workers=1)


def test_sources_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("x")
    (tmp_path / "file.zip").write_bytes(b"PK no zip")
    for name, message in {
        "nowhere": "no such folder or zip",
        "empty": "is empty",
        "texts": r"no pictures \(1 other files, such as 'a\.txt'\)",
        "file.zip": "cannot be read as a zip",
    }.items():
        with pytest.raises(DataError, match=message):
            prepare(tmp_path / name, tmp_path / "out", workers=1)
    make_photos(tmp_path / "photos")
    prepare(tmp_path / "photos", tmp_path / "out", resolution=4, workers=1)
    with pytest.raises(DataError, match="is a dataset already"):
        prepare(tmp_path / "out", tmp_path / "again", workers=1)


def test_pgm_faces_are_read(tmp_path: Path) -> None:
    """The ORL faces: 40 folders of ten 92×112 PGMs, named alike."""
    source, faces = tmp_path / "orl", {}
    for person in (1, 2):
        for k in (1, 2):
            path = source / f"s{person}" / f"{k}.pgm"
            path.parent.mkdir(parents=True, exist_ok=True)
            faces[path] = picture(10 * person + k, 92, 112)[:, :, 0]
            path.write_bytes(b"P5\n92 112\n255\n" + faces[path].tobytes())
    data = prepare(source, tmp_path / "out", resolution=64, workers=1, test_fraction=0.0)
    assert [name for name, _ in data.sources() or []] == ["s1/1.pgm", "s1/2.pgm", "s2/1.pgm", "s2/2.pgm"]
    assert data.source["notes"] == {"grey": 4}
    for row, grey in enumerate(faces.values()):
        expected, _ = fit(Image.fromarray(grey).convert("RGB"), "center", 64, "lanczos", "x")
        np.testing.assert_array_equal(data.images(64)[row], expected)


def test_links_loops_and_files_that_vanish(tmp_path: Path) -> None:
    source = make_photos(tmp_path / "photos", 2)
    (source / "loop").symlink_to(source)
    (source / "link.png").symlink_to(source / "a" / "00.png")
    photos = open_folder(source)
    assert photos.names == ("a/00.png", "b/deep/01.png", "link.png")
    (source / "a" / "00.png").unlink()
    for name in ("link.png", "a/00.png"):
        with pytest.raises(PictureError, match="unreadable: No such file"):
            photos.read(name)


def test_avif_is_reported_not_passed_over(tmp_path: Path) -> None:
    source = make_photos(tmp_path / "photos")
    (source / "x.AVIF").write_bytes(b"\0\0\0\x18ftypavif" + bytes(12))
    with pytest.raises(DataError, match=r"x\.AVIF: unsupported-format: AVIF"):
        prepare(source, tmp_path / "out", resolution=16, workers=1)


def test_names_that_are_odd(tmp_path: Path) -> None:
    source = tmp_path / "photos"
    source.mkdir()
    names = ["ä,\n\x1b[31m.png", "'; drop.png", "-rf.png", os.fsdecode(b"latin-\xe9.png")]
    for k, name in enumerate(names):
        (source / name).write_bytes(encode(picture(k), "PNG"))
    data = prepare(source, tmp_path / "out", resolution=16, workers=2, test_fraction=0.0)
    assert [name for name, _ in data.sources() or []] == sorted(names)
    check(source, resolution=16, dataset=tmp_path / "out", workers=1)


# Crops and sizes


def test_each_celeba_crop_takes_the_rows_and_columns_it_is_known_for() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (218, 178, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    expected = {
        "celeba-pggan": pixels[57:185, 25:153],
        "celeba-collection": pixels[45:173, 25:153],
        "celeba-178": pixels[20:198],
        "celeba-108": pixels[55:163, 35:143],
        "center": pixels[20:198],
    }
    for crop, square in expected.items():
        np.testing.assert_array_equal(cut(image, crop, "x"), square)  # type: ignore[arg-type]
    assert set(get_args(Crop)) == {*expected, "whole"}
    assert set(CELEBA_BOXES) < set(expected)


def test_whole_pads_with_white() -> None:
    pixels = picture(0, 10, 4)
    square = np.asarray(cut(Image.fromarray(pixels), "whole", "x"))
    np.testing.assert_array_equal(square[3:7], pixels)
    assert (square[:3] == 255).all()
    assert (square[7:] == 255).all()


@pytest.mark.parametrize("resize", ["lanczos", "box"])
def test_resizing_averages_and_does_not_alias(resize: str) -> None:
    checkers = np.indices((256, 256)).sum(axis=0) % 2 * 255
    image = Image.fromarray(np.repeat(checkers[:, :, None], 3, axis=2).astype(np.uint8))
    small, enlarged = fit(image, "center", 32, resize, "x")  # type: ignore[arg-type]
    assert not enlarged
    assert np.abs(small[2:-2, 2:-2].astype(int) - 127.5).max() < 3


def test_box_is_the_mean_to_one_grey_step() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    small, _ = fit(Image.fromarray(pixels), "center", 16, "box", "x")
    expected = pixels.reshape(16, 4, 16, 4, 3).mean(axis=(1, 3))
    assert np.abs(small - expected).max() <= 1  # Pillow rounds after rows and again after columns


def test_small_pictures_are_enlarged_tiny_ones_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = make_photos(tmp_path / "photos", 3)
    data = prepare(source, tmp_path / "out", resolution=64, workers=1, test_fraction=0.0)
    assert data.source["notes"] == {"upscaled": 3}
    assert "3 smaller than the resolution, enlarged" in capsys.readouterr().out
    with pytest.raises(DataError, match="too-small: 40×32, crop 'center' shows 32 pixels, fewer than half of 128"):
        prepare(source, tmp_path / "out2", resolution=128, workers=1)
    strip = Image.fromarray(picture(0, 500, 1))
    for crop in ("center", "whole"):
        with pytest.raises(PictureError, match="too-small"):
            fit(strip, crop, 64, "lanczos", "x")  # type: ignore[arg-type]


def test_above_256_pixels(tmp_path: Path) -> None:
    source = tmp_path / "photos"
    source.mkdir()
    for k in range(3):
        (source / f"{k}.png").write_bytes(encode(picture(k, 512, 512), "PNG"))
    data = prepare(source, tmp_path / "out", resolution=512, workers=2, test_fraction=0.0)
    np.testing.assert_array_equal(data.read(512, np.array([2, 0])), [picture(2, 512, 512), picture(0, 512, 512)])


# Checking


def test_check_lists_every_bad_file_by_class(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = make_photos(tmp_path / "photos")
    good = encode(picture(0), "PNG")
    bad = {
        "a.jpg": b"",
        "b.jpg": b"<html>",
        "c.png": good[:90],
        "d.png": b"%PDF-1.7",
        "e.png": encode(picture(0)[:2], "PNG"),
    }
    for name, data in bad.items():
        (source / name).write_bytes(data)
    shutil.copy(source / "a" / "00.png", source / "copy.png")
    with pytest.raises(DataError, match="5 of 14 pictures cannot be used") as caught:
        check(source, resolution=32, workers=2)
    assert caught.value.exit_code == 3
    out = capsys.readouterr().out
    for fault in ("a.jpg: zero-byte", "b.jpg: html", "c.png: truncated", "d.png: unsupported-format", "e.png: too-sm"):
        assert fault in out
    assert "copies of another" in out


def test_check_compares_with_the_dataset_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = make_photos(tmp_path / "photos")
    prepare(source, tmp_path / "out", resolution=16, workers=1)
    check(source, resolution=16, dataset=tmp_path / "out", workers=1)
    assert "made from exactly these files" in capsys.readouterr().out
    (source / "a" / "00.png").unlink()
    (source / "a" / "02.png").write_bytes(encode(picture(50), "PNG"))
    (source / "a" / "04.png").rename(source / "new.png")
    expected = r"a/00\.png is gone, a/04\.png is gone, new\.png is new, a/02\.png changed"
    with pytest.raises(DataError, match=expected):
        check(source, resolution=16, dataset=tmp_path / "out", workers=1)


def test_check_verifies_a_dataset(tmp_path: Path) -> None:
    data = prepare(make_photos(tmp_path / "photos"), tmp_path / "out", resolution=16, workers=1)
    check(data.folder)
    path = data.folder / "images-0008.npy"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    with pytest.raises(DataError, match=r"images-0008\.npy: changed"):
        check(data.folder)


def test_info_names_what_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = prepare(make_photos(tmp_path / "photos"), tmp_path / "out", resolution=16, workers=1)
    info(data.folder)
    out = capsys.readouterr().out
    for word in ("photos", "4, 8, 16", "center", "pillow-lanczos", data.manifest_hash[:8]):
        assert word in out


# Zips with bad intentions


def entry(name: str, **fields: int) -> zipfile.ZipInfo:
    made = zipfile.ZipInfo(name)
    made.filename = name
    for key, value in fields.items():
        setattr(made, key, value)
    return made


BAD_ZIPS = {
    "traversal": ([(entry("../x.png"), b"1")], "leads out of the zip"),
    "nested-traversal": ([(entry("a/../../x.png"), b"1")], "leads out of the zip"),
    "absolute": ([(entry("/etc/x.png"), b"1")], "has an absolute name"),
    "drive": ([(entry("C:/x.png"), b"1")], "has an absolute name"),
    "backslash": ([(entry("..\\x.png"), b"1")], "a backslash in its name"),
    "symlink": ([(entry("x.png", external_attr=(stat.S_IFLNK | 0o777) << 16), b"/etc/passwd")], "is a link"),
    "device": ([(entry("x.png", external_attr=(stat.S_IFCHR | 0o777) << 16), b"")], "is a link or a device"),
    "twice": ([(entry("x.png"), b"1"), (entry("x.png"), b"2")], "is there twice"),
    "case": ([(entry("x.png"), b"1"), (entry("X.png"), b"2")], "'X.png' differs from 'x.png' only by case"),
    "bomb": ([(entry("x.png", compress_type=zipfile.ZIP_DEFLATED), bytes(4 << 20))], "unpacks from .* as bombs do"),
    "lzma": ([(entry("x.png", compress_type=zipfile.ZIP_LZMA), b"1")], "packed by method 14"),
    "no-pictures": ([(entry("x.txt"), b"1")], "no pictures"),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("kind", BAD_ZIPS)
def test_a_bad_zip_is_refused_by_entry(tmp_path: Path, kind: str) -> None:
    entries, message = BAD_ZIPS[kind]
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        for made, data in entries:
            archive.writestr(made, data)
    with pytest.raises(DataError, match=message) as caught:
        prepare(tmp_path / "bad.zip", tmp_path / "out", workers=1)
    assert caught.value.exit_code == 3
    assert [p.name for p in tmp_path.iterdir()] == ["bad.zip"]


def patched_zip(path: Path, offset: int, value: int) -> Path:
    """A good zip, one byte of the central directory's first entry changed."""
    data = bytearray(make_zip(path).read_bytes())
    data[data.index(b"PK\x01\x02") + offset] = value
    path.write_bytes(data)
    return path


def test_an_encrypted_zip(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"faces/0\.png' is encrypted"):
        open_zip(patched_zip(tmp_path / "a.zip", 8, 1))


def test_a_zip_whose_entries_overlap(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("0000000.png", bytes(1 << 20))
    data = path.read_bytes()
    start, end = data.index(b"PK\x01\x02"), data.index(b"PK\x05\x06")
    many = b"".join(data[start:end].replace(b"0000000", b"%07d" % k) for k in range(1000))
    tail = data[end : end + 8] + (1000).to_bytes(2, "little") * 2
    tail += len(many).to_bytes(4, "little") + start.to_bytes(4, "little") + b"\0\0"
    path.write_bytes(data[:start] + many + tail)
    with pytest.raises(DataError, match="refused as a zip bomb"):
        open_zip(path)


def test_damage_inside_a_zip_is_named_by_entry(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip")
    data = bytearray(path.read_bytes())
    data[200] ^= 255
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"faces/0\.png: (unreadable|damaged): in a\.zip"):
        prepare(path, tmp_path / "out", resolution=16, workers=1)


# Interruptions

SLOW = """
import sys, time
from pathlib import Path
from limner.data import decoding, prepare
make = decoding.make_square
def slow(*arguments):
    time.sleep(0.05)
    return make(*arguments)
decoding.make_square = slow
print("started", flush=True)
prepare.prepare(Path(sys.argv[1]), Path(sys.argv[2]), resolution=16, workers=2)
"""


def started(source: Path, dest: Path) -> subprocess.Popen[bytes]:
    """A slow preparation, caught with its first rows on the disk."""
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, str(source), str(dest)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while not dest.with_name(dest.name + ".partial").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(0.3)
    return process


def children(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in listed.split()]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_signal_leaves_nothing_half_written_and_no_process(tmp_path: Path, number: signal.Signals) -> None:
    source = make_photos(tmp_path / "photos", 200)
    process = started(source, tmp_path / "out")
    workers = children(process.pid)
    assert workers
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode != 0
    assert not (tmp_path / "out").exists()
    if number != signal.SIGKILL:
        assert not (tmp_path / "out.partial").exists()
        assert (b"KeyboardInterrupt" if number == signal.SIGINT else b"nothing was kept") in errors
    deadline = time.monotonic() + 30
    while any(alive(worker) for worker in workers):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    prepare(source, tmp_path / "out", resolution=4, workers=1)
    assert {p.name for p in tmp_path.iterdir()} == {"photos", "out"}


def die(*_: object) -> None:
    os._exit(9)


@pytest.mark.skipif(sys.platform != "linux", reason="patches what forked processes inherit")
def test_a_worker_that_dies_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = make_photos(tmp_path / "photos", 40)
    monkeypatch.setattr("limner.data.decoding.make_square", die)
    with pytest.raises(ResourceError, match="a decoding process died"):
        prepare(source, tmp_path / "out", resolution=16, workers=2)
    assert [p.name for p in tmp_path.iterdir()] == ["photos"]


def test_a_consumer_that_stops_ends_the_workers(tmp_path: Path) -> None:
    source = make_photos(tmp_path / "photos", 200)
    done = squares(Recipe(open_folder(source), "center", 16, "box"), workers=2)
    assert [square.name for square in next(done)] == list(open_folder(source).names[:16])
    done.close()
    with pytest.raises(StopIteration):
        next(done)


def test_the_manifest_does_not_name_the_machine(tmp_path: Path) -> None:
    data = prepare(make_photos(tmp_path / "photos"), tmp_path / "out", resolution=16, workers=1)
    text = (data.folder / "dataset.json").read_text()
    assert str(tmp_path) not in text
    assert json.loads(text)["source"]["name"] == "photos"
