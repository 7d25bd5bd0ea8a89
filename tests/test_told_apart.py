"""Data sets as their publishers lay them out, masks, and second sizes: told apart, or refused with what to name."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hostile import encode, photo
from limner.data.celeba import LICENCE
from limner.data.check import check
from limner.data.dataset import Dataset
from limner.data.opening import open_source
from limner.data.prepare import prepare
from limner.data.same_names import find_companions
from limner.errors import DataError
from test_celeba import make_celeba

NAMES = [f"Attribute_{k}" for k in range(40)]


def face(k: int, side: int = 96) -> Image.Image:
    """Picture `k` at any size: the same scene, reduced from 192²."""
    return Image.fromarray(photo(np.random.default_rng(k), 192, 192)).resize((side, side), Image.Resampling.LANCZOS)


def save(image: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def mask(k: int, mode: str = "L") -> Image.Image:
    values = np.zeros((96, 96), dtype=np.uint8)
    values[20:70, 10 + k : 60 + k] = 255
    return Image.fromarray(values).convert(mode)


def pack(folder: Path, archive: Path) -> Path:
    with zipfile.ZipFile(archive, "w") as packed:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                packed.write(path, path.relative_to(folder).as_posix())
    return archive


def files_of(data: Dataset) -> list[str]:
    return [name for name, _ in data.sources() or []]


# CelebAMask-HQ


def make_celebamask_hq(folder: Path, count: int = 6) -> Path:
    """As unpacked: pictures, three masks for each, and the tables."""
    rows = []
    for k in range(count):
        save(face(k), folder / "CelebA-HQ-img" / f"{k}.jpg")
        rows.append(f"{k}.jpg  " + " ".join("1" if (k >> j) & 1 else "-1" for j in range(40)))
        for part in ("hair", "skin", "nose"):
            save(mask(k, "RGB"), folder / "CelebAMask-HQ-mask-anno" / "0" / f"{k:05d}_{part}.png")
    lines = [str(count), " ".join(NAMES), *rows]
    (folder / "CelebAMask-HQ-attribute-anno.txt").write_text("\n".join(lines) + "\n")
    (folder / "CelebAMask-HQ-pose-anno.txt").write_text("6\nYaw Pitch Raw\n")
    (folder / "CelebA-HQ-to-CelebA-mapping.txt").write_text("idx orig_idx orig_file\n")
    return folder


@pytest.mark.parametrize("named", ["", "CelebAMask-HQ", "CelebAMask-HQ/CelebA-HQ-img"])
def test_celebamask_hq_gives_its_pictures_with_attributes_and_no_mask(
    tmp_path: Path, named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    make_celebamask_hq(tmp_path / "in" / "CelebAMask-HQ")
    data = prepare(tmp_path / "in" / named, tmp_path / "out", resolution=32, workers=1, test_fraction=0.0)
    assert files_of(data) == [f"{k}.jpg" for k in range(6)]
    assert data.attribute_names == tuple(NAMES)
    expected = [[(k >> j) & 1 for j in range(40)] for k in range(6)]
    np.testing.assert_array_equal(data.attributes(), expected)
    assert data.source["kind"] == "celebamask-hq"
    assert "non-commercial" in data.source["licence"]
    out = capsys.readouterr().out
    for said in ("CelebAMask-HQ-mask-anno: masks", "pose-anno.txt: not read", "mapping.txt: not read"):
        assert said in out


def test_celebamask_hq_s_masks_are_refused_by_name(tmp_path: Path) -> None:
    folder = make_celebamask_hq(tmp_path / "CelebAMask-HQ")
    for named in ("CelebAMask-HQ-mask-anno", "CelebAMask-HQ-mask-anno/0"):
        with pytest.raises(DataError, match=r"masks, not faces; name the folder above .* or its CelebA-HQ-img"):
            open_source(folder / named)
    shutil.rmtree(folder / "CelebA-HQ-img")
    with pytest.raises(DataError, match="has CelebAMask-HQ's masks but no faces; put its CelebA-HQ-img beside"):
        open_source(folder)


def test_celebamask_hq_s_zip_is_to_be_unpacked(tmp_path: Path) -> None:
    make_celebamask_hq(tmp_path / "in" / "CelebAMask-HQ")
    archive = pack(tmp_path / "in", tmp_path / "CelebAMask-HQ.zip")
    with pytest.raises(DataError, match=r"holds CelebAMask-HQ, .*unpack the zip, and name the folder"):
        open_source(archive)


def test_celebamask_hq_s_attributes_follow_file_names(tmp_path: Path) -> None:
    folder = make_celebamask_hq(tmp_path / "CelebAMask-HQ")
    (folder / "CelebA-HQ-img" / "2.jpg").unlink()
    source = open_source(folder)
    assert {name: list(row[:3]) for name, row in source.attributes.items()} == {
        f"{k}.jpg": [k & 1, k >> 1 & 1, k >> 2 & 1] for k in (0, 1, 3, 4, 5)
    }
    save(face(9), folder / "CelebA-HQ-img" / "9.jpg")
    with pytest.raises(DataError, match=r"attribute-anno\.txt: has no row for '9\.jpg'"):
        open_source(folder)


# FFHQ


def make_ffhq(folder: Path, *sizes: str) -> Path:
    for size in sizes or ("images1024x1024", "thumbnails128x128"):
        for k in range(6):
            save(face(k, 96 if size == "images1024x1024" else 48), folder / size / "00000" / f"{k:05d}.png")
    (folder / "ffhq-dataset-v2.json").write_text("{}")
    return folder


@pytest.mark.parametrize("named", ["", "ffhq"])
def test_ffhq_in_two_sizes_is_refused_with_the_folders_to_name(tmp_path: Path, named: str) -> None:
    make_ffhq(tmp_path / "in" / "ffhq")
    with pytest.raises(DataError, match="every face of FFHQ more than once") as caught:
        prepare(tmp_path / "in" / named, tmp_path / "out", workers=1)
    for size in ("images1024x1024", "thumbnails128x128"):
        assert f"'{tmp_path / 'in' / 'ffhq' / size}' (6, " in str(caught.value)
    with pytest.raises(DataError, match=r"more than once .*; unpack it and name one of them"):
        open_source(pack(tmp_path / "in", tmp_path / "ffhq.zip"))


@pytest.mark.parametrize("named", ["images1024x1024", "thumbnails128x128"])
def test_one_size_of_ffhq_is_taken_with_its_licence(
    tmp_path: Path, named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data = prepare(make_ffhq(tmp_path / "ffhq") / named, tmp_path / "out", resolution=32, workers=1, test_fraction=0.0)
    assert data.count == 6
    assert "CC BY-NC-SA 4.0" in data.source["licence"]
    assert "ffhq-dataset-v2.json: not read, so not FFHQ's training and validation sets" in capsys.readouterr().out


# CelebA, one folder too high


def test_torchvision_s_root_is_celeba(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_celeba(tmp_path / "root" / "celeba")
    data = prepare(tmp_path / "root", tmp_path / "out", resolution=32, workers=1)
    assert data.crop == "celeba-pggan"
    assert len(data.attribute_names) == 40
    assert [len(data.indices(split)) for split in ("train", "valid", "test")] == [2, 2, 2]
    assert data.source["licence"] == LICENCE
    assert f"found in {tmp_path / 'root' / 'celeba'}" in capsys.readouterr().out
    shutil.copytree(tmp_path / "root" / "celeba", tmp_path / "parts" / "CelebA" / "Img")
    assert open_source(tmp_path / "parts").crop == "celeba-pggan"


def test_celeba_beside_other_pictures_is_refused_with_its_folder(tmp_path: Path) -> None:
    make_celeba(tmp_path / "root" / "celeba")
    save(face(0), tmp_path / "root" / "mnist" / "1.png")
    with pytest.raises(DataError, match=r"1 other pictures; name its folder, '.*root/celeba' \(CelebA\)"):
        open_source(tmp_path / "root")
    make_celeba(tmp_path / "root" / "copy")
    with pytest.raises(DataError, match=r"holds 2 data sets; name one of them: '.*celeba' \(CelebA\), '.*copy'"):
        open_source(tmp_path / "root")


def test_celeba_with_its_tables_in_a_zip_is_to_be_unpacked(tmp_path: Path) -> None:
    make_celeba(tmp_path / "celeba")
    with pytest.raises(DataError, match=r"holds CelebA, which is read from a folder .*unpack the zip"):
        open_source(pack(tmp_path / "celeba", tmp_path / "archive.zip"))


def test_records_one_folder_too_high_are_found(tmp_path: Path) -> None:
    (tmp_path / "in" / "faces").mkdir(parents=True)
    (tmp_path / "in" / "faces" / "faces-r02.tfrecords").write_bytes(b"")
    with pytest.raises(DataError, match=r"faces-r02\.tfrecords: the file is empty"):
        open_source(tmp_path / "in")


# Masks, in any folder


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGB", "RGBA"])
def test_masks_beside_photos_are_refused_before_all_are_decoded(tmp_path: Path, mode: str) -> None:
    for k in range(6):
        save(face(k), tmp_path / "in" / "photos" / f"{k}.jpg")
        save(mask(k, mode), tmp_path / "in" / "masks" / f"{k}.png")
    with pytest.raises(DataError, match=r"'masks/\d.png' is a mask of 'photos/\d.jpg'.*alone: '.*in/photos'"):
        prepare(tmp_path / "in", tmp_path / "out", workers=1)


def test_soft_masks_and_masks_of_many_parts(tmp_path: Path) -> None:
    soft = np.asarray(mask(0).resize((288, 288), Image.Resampling.BICUBIC))
    parts = Image.fromarray(np.random.default_rng(0).integers(0, 19, (96, 96), dtype=np.uint8))
    for name, image in {"soft": Image.fromarray(soft), "parts": parts}.items():
        save(face(0), tmp_path / name / "a" / "0.jpg")
        save(image, tmp_path / name / "b" / "0.png")
        with pytest.raises(DataError, match=r"'b/0\.png' is a mask of 'a/0\.jpg'"):
            open_source(tmp_path / name)


def test_masks_among_the_photos_are_listed_and_left_out(tmp_path: Path) -> None:
    for k in range(6):
        save(face(k), tmp_path / "in" / f"{k}.jpg")
        save(mask(k), tmp_path / "in" / f"{k}_hair.png")
    with pytest.raises(DataError, match="lists all masks: move them out"):
        prepare(tmp_path / "in", tmp_path / "out", workers=1)
    with pytest.raises(DataError, match="6 of 12 pictures cannot be used"):
        check(tmp_path / "in", resolution=32, list_bad=tmp_path / "bad", workers=1)
    assert (tmp_path / "bad").read_text().splitlines() == [f"{k}_hair.png" for k in range(6)]
    data = prepare(tmp_path / "in", tmp_path / "out", resolution=32, bad_files="50%", workers=2, test_fraction=0.0)
    assert files_of(data) == [f"{k}.jpg" for k in range(6)]
    assert {entry["fault"] for entry in data.source["skipped"]} == {"mask"}


def test_drawings_of_few_colours_are_no_masks_without_a_photo(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        for k in range(3):
            save(mask(k + 5 * (folder == "b")), tmp_path / "in" / folder / f"{k}.png")
    assert prepare(tmp_path / "in", tmp_path / "out", resolution=32, workers=1, test_fraction=0.0).count == 6


# Second sizes


def test_thumbnails_in_a_folder_of_their_own_are_refused(tmp_path: Path) -> None:
    for k in range(6):
        save(face(k), tmp_path / "side" / "large" / f"{k}.png")
        save(face(k, 48), tmp_path / "side" / "small" / f"{k}.jpg")
        save(face(k), tmp_path / "below" / f"{k}.png")
        save(face(k, 48), tmp_path / "below" / "thumbs" / f"{k}.jpg")
    with pytest.raises(DataError, match=r"are one photo.*name the one you want: '.*side/large' or '.*side/small'"):
        open_source(tmp_path / "side")
    with pytest.raises(DataError, match=r"are one photo.*move '.*below/thumbs' out of '.*below'"):
        open_source(tmp_path / "below")


def test_folders_of_people_with_equal_names_are_not_refused(tmp_path: Path) -> None:
    for k in range(12):
        save(face(k), tmp_path / "in" / f"s{k % 4}" / f"{k // 4}.png")
    assert prepare(tmp_path / "in", tmp_path / "out", resolution=32, workers=1, test_fraction=0.0).count == 12


def test_companions_are_found_by_name() -> None:
    names = ["p/a/7.jpg", "m/a/7.png", "m/a/7_hair.png", "7.x.jpg", "p/b/8.jpg", "p/IMG_2034.jpg"]
    found = find_companions(names)
    assert set(found) == {"p/a/7.jpg", "m/a/7.png", "m/a/7_hair.png"}
    assert found["p/a/7.jpg"] == ("m/a/7.png",)
    assert found["m/a/7_hair.png"] == ("m/a/7.png", "p/a/7.jpg")


def test_sizes_of_one_photo_never_straddle_the_splits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "in"
    for k in range(60):
        save(face(k), source / f"{k:02d}.png")
        save(face(k, 48), source / f"t{(k * 7) % 60:02d}-of-another-name.png")
        (source / f"{k:02d}.jpg").write_bytes(encode(np.asarray(face(k)), "JPEG", quality=90))
    data = prepare(source, tmp_path / "out", resolution=16, workers=1, valid_fraction=0.2, test_fraction=0.3)
    split = {files_of(data)[row]: s for s in ("train", "valid", "test") for row in data.indices(s)}
    for k in range(60):
        sizes = (f"{k:02d}.png", f"{k:02d}.jpg", f"t{(k * 7) % 60:02d}-of-another-name.png")
        assert len({split[name] for name in sizes}) == 1, sizes
    assert {split[f"{k:02d}.png"] for k in range(60)} == {"train", "valid", "test"}
    assert data.source["near_copies"] == 120
    assert "120 are another size, another encoding or a near copy of a photo" in capsys.readouterr().out


def test_a_photo_without_copies_keeps_its_split(tmp_path: Path) -> None:
    """Thumbnails go where their photos are: adding them moves no photo."""
    source = tmp_path / "in"
    for k in range(40):
        save(face(k), source / f"{k}.png")

    def test_files(dest: str) -> set[str]:
        data = prepare(source, tmp_path / dest, resolution=16, workers=1, test_fraction=0.4)
        return {files_of(data)[row] for row in data.indices("test")}

    alone = test_files("alone")
    for k in range(40):
        save(face(k, 40), source / f"small {k}.png")
    both = test_files("both")
    assert {name for name in both if not name.startswith("small")} == alone
    assert {name.removeprefix("small ") for name in both} == alone
