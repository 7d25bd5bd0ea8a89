"""What is no folder or zip of photos is refused with advice that is true of it; labels are never passed over."""

from __future__ import annotations

import io
import json
import re
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from hostile import encode, photo
from limner.data.check import check
from limner.data.dataset import open_dataset
from limner.data.opening import open_source
from limner.data.prepare import prepare
from limner.errors import DataError, LimnerError

PICTURE = encode(photo(np.random.default_rng(0), 24, 24), "PNG")
FETCH = "fetch it again"


def npz() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, images=np.zeros((2, 4, 4, 3), dtype=np.uint8))
    return buffer.getvalue()


def tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = tarfile.TarInfo("a.png")
        entry.size = len(PICTURE)
        archive.addfile(entry, io.BytesIO(PICTURE))
    return buffer.getvalue()


def zipped(name: str, data: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, data)
    return buffer.getvalue()


UNREAD = {
    "train-00000-of-00002.parquet": (b"PAR1" + bytes(40), "a Parquet table"),
    "faces.tar": (tar(), "a tar archive"),
    "faces.tar.gz": (b"\x1f\x8b\x08" + bytes(40), "a file packed by gzip"),
    "faces.7z": (b"7z\xbc\xaf\x27\x1c" + bytes(40), "a 7z archive"),
    "faces.npz": (npz(), "a file of NumPy arrays"),
    "faces.npy": (b"\x93NUMPY\x01\0" + bytes(40), "a file of NumPy arrays"),
    "faces.h5": (b"\x89HDF\r\n\x1a\n" + bytes(40), "an HDF5 file"),
    "faces.mp4": (b"\0\0\0\x18ftypisom" + bytes(40), "a video"),
    "celeb_a-train.tfrecord-00000-of-00004": (bytes(40), "TFRecord"),
}


@pytest.mark.parametrize("name", UNREAD)
def test_a_file_that_is_not_read_is_named_for_what_it_is(tmp_path: Path, name: str) -> None:
    data, what = UNREAD[name]
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / name).write_bytes(data)
    for source in (tmp_path / "in" / name, tmp_path / "in"):
        with pytest.raises(DataError, match=what) as caught:
            prepare(source, tmp_path / "out", workers=1)
        message = str(caught.value)
        assert FETCH not in message
        assert "folder" in message.split(what, 1)[1]
        assert caught.value.exit_code == 3
    renamed = tmp_path / "renamed.zip"
    renamed.write_bytes(data)
    if data.strip(b"\0") and "tfrecord" not in name:  # told by the first bytes where the name says nothing
        with pytest.raises(DataError, match="NumPy" if name.endswith(".npz") else what):
            open_source(renamed)


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("one.jpg", PICTURE, r"is one picture \(PNG\).*name the folder that it is in"),
        ("faces.zip", b"<!DOCTYPE html><p>Quota exceeded", f"is a web page, saved in place of the download; {FETCH}"),
        ("faces.zip", b"", f"is empty; {FETCH}"),
        ("cut.zip", zipped("a.png", PICTURE)[:200], f"cannot be read as a zip .*; {FETCH}"),
        ("notes.txt", b"hello", "is neither a folder nor a zip of photos; name one"),
        ("twice.zip", zipped("faces.zip", zipped("a.png", PICTURE)), r"only 'faces\.zip' within it; unpack it"),
        ("texts.zip", zipped("a.txt", b"x"), r"no pictures \(1 other files, such as 'a\.txt'\); name the folder"),
    ],
)
def test_files_that_are_no_source(tmp_path: Path, name: str, data: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=said):
        open_source(tmp_path / name)


def test_a_folder_with_one_zip_names_the_zip(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "faces.zip").write_bytes(zipped("a.png", PICTURE))
    with pytest.raises(DataError, match=rf"name that zip \({tmp_path}/in/faces\.zip\)") as caught:
        open_source(tmp_path / "in")
    assert "not read" not in str(caught.value)
    assert open_source(tmp_path / "in" / "faces.zip").photos.names == ("a.png",)


def make_photos(folder: Path) -> Path:
    for k in range(4):
        path = folder / f"{k % 2:05d}" / f"img{k:08d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(photo(np.random.default_rng(k), 24, 24), "PNG"))
    return folder


def test_stylegan_s_labels_are_said_to_be_unused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its `dataset.json` once made the folder pass for a dataset of limner's."""
    source = make_photos(tmp_path / "in")
    labels = {"labels": [[f"{k % 2:05d}/img{k:08d}.png", k % 2] for k in range(4)]}
    (source / "dataset.json").write_text(json.dumps(labels))
    (source / "metadata.csv").write_text("file_name,smiling\n")
    (source / "00000" / "img00000000.txt").write_text("a caption")
    (source / "more.tar").write_bytes(tar())
    assert prepare(source, tmp_path / "out", resolution=16, workers=1, test_fraction=0.0).attributes() is None
    out = capsys.readouterr().out
    unused = "not read, so any labels in them are not used: 'dataset.json', 'metadata.csv', '00000/img00000000.txt'"
    folders = "the pictures lie in 2 folders, whose names are no labels or splits here: 00000, 00001"
    packed = "not looked into, though they may hold pictures: 'more.tar'"
    for line in (unused, folders, packed):
        assert line in out
    check(source, resolution=16, workers=1)
    assert unused in capsys.readouterr().out


def test_a_plain_folder_has_nothing_said_of_labels(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(PICTURE)
    (tmp_path / "in" / "README.txt").write_text("x")
    assert open_source(tmp_path / "in").notes == ()


def test_pictures_not_named_so_are_not_passed_over(tmp_path: Path) -> None:
    """The Yale faces are GIFs with names such as subject01.glasses."""
    folder = tmp_path / "yalefaces"
    folder.mkdir()
    for name in ("subject01.glasses", "subject01.happy", "Readme"):
        (folder / name).write_bytes(encode(photo(np.random.default_rng(0), 24, 24), "GIF") if "." in name else b"x")
    said = r"pictures that are not named so, such as 'subject01\.glasses' \(GIF\): 3 files .*extension .*\(\.gif\)"
    with pytest.raises(DataError, match=said):
        open_source(folder)
    (folder / "subject01.gif").write_bytes((folder / "subject01.happy").read_bytes())
    (note,) = open_source(folder).notes
    assert re.search(said, note)


# What was meant


def test_the_destination_named_first(tmp_path: Path) -> None:
    source = make_photos(tmp_path / "photos")
    with pytest.raises(DataError, match=r"out: does not exist, but '.*photos' is there: name the photos first"):
        prepare(tmp_path / "out", source, workers=1)
    data = prepare(source, tmp_path / "out", resolution=16, workers=1)
    with pytest.raises(DataError, match=r"out: is a dataset already, but '.*photos' is there: name the photos first"):
        prepare(data.folder, source, workers=1)


def test_a_destination_that_is_photos_is_not_to_be_removed(tmp_path: Path) -> None:
    source, other = make_photos(tmp_path / "photos"), make_photos(tmp_path / "others")
    for dest in (source, other, other / "00000" / "img00000000.png"):
        with pytest.raises(LimnerError, match="already exists and is no dataset; name a folder that") as caught:
            prepare(source, dest, workers=1)
        assert "remove" not in str(caught.value)


@pytest.mark.parametrize("resolution", [0, -4, 100, 2048])
def test_a_resolution_that_no_dataset_has(tmp_path: Path, resolution: int) -> None:
    source = make_photos(tmp_path / "photos")
    for verb in (lambda: check(source, resolution=resolution), lambda: prepare(source, tmp_path / "out", resolution=0)):
        with pytest.raises(LimnerError, match=r"resolution .*: choose a power of two from 4 to 1024"):
            verb()
    with pytest.raises(LimnerError, match="--workers -1: at least 1"):
        check(source, resolution=16, workers=-1)


def test_a_name_misspelled(tmp_path: Path) -> None:
    make_photos(tmp_path / "photos")
    with pytest.raises(DataError, match=r"phtos: no such folder or zip; did you mean '.*/photos'\?"):
        open_source(tmp_path / "phtos")


def test_datasets_and_runs_are_not_photos(tmp_path: Path) -> None:
    data = prepare(make_photos(tmp_path / "photos"), tmp_path / "made" / "faces", resolution=16, workers=1)
    with pytest.raises(DataError, match=r"is a dataset already: train on it \(limner train --data .*faces\)"):
        open_source(data.folder)
    with pytest.raises(DataError, match=r"has no photos but a dataset already, .*made/faces; train on that"):
        open_source(tmp_path / "made")
    (tmp_path / "photos" / "dataset.json").write_text('{"labels": null}')
    with pytest.raises(
        DataError, match=r"is not limner's; make a dataset of the photos with `limner data prepare .*photos DEST`"
    ):
        open_dataset(tmp_path / "photos")
    (data.folder / "dataset.json").write_text("{")  # damaged, but a dataset still
    with pytest.raises(DataError, match="is a dataset already"):
        open_source(data.folder)
    run = tmp_path / "run"
    (run / "samples").mkdir(parents=True)
    (run / "samples" / "000000.png").write_bytes(PICTURE)
    for name in ("config.json", "log.jsonl"):
        (run / name).write_text("{}")
    with pytest.raises(DataError, match="is a run of limner's, whose pictures are sample sheets"):
        open_source(run)


def test_damage_in_a_zip_is_to_be_fetched_again(tmp_path: Path) -> None:
    data = bytearray(zipped("a.png", PICTURE))
    data[60] ^= 255
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(DataError, match=r"a\.png: damaged: in a\.zip: .*; fetch it again"):
        prepare(tmp_path / "a.zip", tmp_path / "out", resolution=16, workers=1)
